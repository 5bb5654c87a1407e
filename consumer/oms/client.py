"""Refresh requests: coalesced, encoded and sent on worker threads. Each submission gets exactly one answer.

There may be more submissions than worker threads. Those that had to queue are for an OMS that works: once a request has
failed, they are handed back unsent (NOT_SENT) until the loop has taken the failure in and decided. A failing OMS
therefore never gets more requests than there are threads, and the circuit breaker's probe is alone.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import httpx
import polars as pl

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.errors import InvariantError, OmsRefusedError
from consumer.oms.answers import classify, classify_error
from consumer.oms.apis import APIS, TENANT_HEADER, Api
from consumer.oms.body import encode, in_body_order, items_of_request
from consumer.oms.body_room import BodyRoom
from consumer.oms.clock_skew import ClockSkew
from consumer.oms.http import REPLY_BYTES_MAX, Endpoint, open_http
from consumer.oms.job_client import THREADS, HttpJobClient
from consumer.oms.named_items import find_named
from consumer.oms.probe import ProbeAnswer, RefreshProbe
from consumer.oms.smart_reply import read_smart_reply, smart_answer
from consumer.oms.token import Credentials, Token, TokenOptions, Tokens
from consumer.oms.transport import open_transports
from consumer.ports import Answered, Submission
from consumer.settings import OmsSettings, is_secret
from consumer.settings.memory import DEFAULT_SHARES
from consumer.workers import Workers

CLOSE_SECONDS_MAX: Final = 5.0
"""How long ``close`` waits for requests in flight. Their answers are not used any more."""

REQUEST_ID_HEADER: Final = "X-Request-Id"
"""By this header, people at the OMS and at its gateways find a request of our log."""
_CONTENT_TYPE: Final = (b"Content-Type", b"application/json")
_ENCODING_FACTOR: Final = 4
"""Memory for a body while it is made, in sizes of its items' frame. Measured: 3.2 to 4.1; afterwards about 2."""
_SENDS_MAX: Final = 2
"""A body is sent at most twice: the second time only after a 401, with a new token."""
_RESULT_BYTES_MAX: Final = 1_024
"""Of the result of an item, in an answer of smart refresh."""
_LET_IN: Final = frozenset({AnswerKind.ACCEPTED, AnswerKind.APPLIED, AnswerKind.REFUSED})
"""Answers that only a valid token gets."""
_ACCEPTING: Final = frozenset({AnswerKind.ACCEPTED, AnswerKind.APPLIED})
_REFUSED_WHOLE: Final = frozenset({AnswerKind.FORBIDDEN, AnswerKind.WRONG_ADDRESS, AnswerKind.GATEWAY_PAGE})
"""Refusals that are not about the request's content. They may be about the token, the location or the address."""
_SIZED: Final = frozenset({AnswerKind.ACCEPTED, AnswerKind.APPLIED, AnswerKind.TOO_LARGE})
"""Answers that say something about the size of a body."""
_NO_FAILURES: Final = frozenset(
    {
        AnswerKind.ACCEPTED,
        AnswerKind.APPLIED,
        AnswerKind.REFUSED,
        AnswerKind.GATEWAY_PAGE,
        AnswerKind.TOO_LARGE,
        AnswerKind.NOT_SENT,
    }
)
"""Answers that are about the request itself: others may well be accepted."""

HIDDEN_CHARACTERS_MIN: Final = 6
"""Shorter values of ``oms.headers`` are not masked in answers: they are no secrets, and may be part of any word."""

_HANDED_BACK: Final = (
    Answer(AnswerKind.NOT_SENT, detail="another request failed while this one was queued for a free thread"),
    0,
)


class FenceClosedError(Exception):
    """The commit that covers a request is too old: the request may not be sent any more."""


@dataclass(frozen=True, slots=True)
class _Task:
    """``failures_known``: the failed requests that the loop had heard of; None if a thread was free at submission."""

    submission: Submission
    submitted_at: float
    failures_known: int | None


@dataclass(frozen=True, slots=True)
class Target:
    """Where refresh requests go, and by which API."""

    endpoint: Endpoint
    api: Api
    smart_endpoint: Endpoint | None = None
    """Where requests for smart refresh go; None: there are none."""


class HttpRefreshClient:
    """``ports.RefreshClient`` over HTTP; ``build_client`` builds one from the settings."""

    def __init__(
        self,
        opened: Sequence[httpx.Client],
        tokens: Tokens,
        target: Target,
        item_key: Sequence[str],
        *,
        max_in_flight: int,
        timeout_seconds: float,
        fence_seconds: float,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        jobs: HttpJobClient | None = None,
        bodies_bytes: int = DEFAULT_SHARES.bodies_bytes,
    ) -> None:
        """``opened`` are closed with this client, and so is ``jobs``, which shares the connections.

        ``bodies_bytes`` is what all bodies may take; a request for which there is no room waits on its thread.
        """
        self.jobs = jobs
        self._room = BodyRoom(bodies_bytes)
        self._opened = opened
        self._tokens = tokens
        self._target = target
        self._item_key = tuple(item_key)
        self._timeout_seconds = timeout_seconds
        self._fence_seconds = fence_seconds
        self._monotonic = monotonic
        self._wall = wall
        self._clock_skew = ClockSkew()
        self._threads = max_in_flight
        self._failing = threading.Lock()
        self._failures = 0
        """Requests that failed, counted by the workers before their answers are delivered."""
        self._failures_taken = 0
        """As many of them as ``answers`` has returned."""
        self._workers = Workers("oms", self._work, count=max_in_flight, monotonic=monotonic)

    @property
    def tokens_fetched(self) -> int:
        """Number of tokens that this process has received: the first one and each renewal."""
        return self._tokens.fetched

    @property
    def clock_skew_seconds(self) -> float | None:
        """How far the OMS's clock is ahead of ours; None before an answer with a date."""
        return self._clock_skew.seconds

    def check_credentials(self) -> str | None:
        """Get the first token. Returns None on success, or one line that says why there is no token yet.

        Raises OmsRefusedError if waiting would not help: the credentials or the address are wrong.
        """
        token = self._tokens.get()
        if isinstance(token, Token):
            return None
        match token.kind:
            case AnswerKind.UNAUTHORISED:
                settings = token.setting or "oms.api_key and oms.api_secret"
                raise OmsRefusedError(f"correct {settings}: HTTP {token.status}, {token.detail}")
            case AnswerKind.WRONG_ADDRESS:
                raise OmsRefusedError(f"correct oms.token_url: HTTP {token.status}, {token.detail}")
            case _:
                return token.detail

    def probe(self, sleep: Callable[[float], None] = time.sleep, *, smart: bool = False) -> ProbeAnswer:
        """Post a body that changes nothing, on the caller's thread; see ``RefreshProbe``.

        It goes to refresh, or with ``smart`` to smart refresh.
        """
        target = self._target
        return RefreshProbe(
            self._smart_endpoint() if smart else target.endpoint,
            self._tokens,
            target.api,
            self._clock_skew,
            self._timeout_seconds,
            self._monotonic,
            self._wall,
            sleep,
        ).send()

    # ports.RefreshClient

    def submit(self, submission: Submission) -> None:
        """Hand over a request. Its rows must not change any more. Raises InvariantError after ``close``.

        Without a free thread it queues. It is then answered NOT_SENT if a request fails before a thread takes it.
        """
        must_queue = self._workers.pending >= self._threads
        self._workers.submit(_Task(submission, self._monotonic(), self._failures_taken if must_queue else None))

    def answers(self) -> list[Answered]:
        """The answers that have come, without waiting.

        Raises the unexpected exception of a worker, which is a bug, once all answers before it are taken.
        """
        answers = self._workers.take()
        self._failures_taken += sum(_is_failure(answered.answer) for answered in answers)
        return answers

    def wait(self, timeout_seconds: float) -> None:
        """Wait until ``answers`` has something to return or to raise, at most this long."""
        self._workers.wait(timeout_seconds)

    def close(self) -> None:
        """Send no further requests. Waits a few seconds for those in flight, then abandons them."""
        if self.jobs:
            self.jobs.close()
        self._workers.close(CLOSE_SECONDS_MAX)
        for http in self._opened:
            http.close()

    # On a worker's thread

    def _work(self, workers: Workers[_Task, Answered]) -> None:
        while (task := workers.receive()) is not None:
            submission = task.submission
            answer, bytes_sent = _HANDED_BACK if self._is_called_off(task) else self._refresh(submission)
            if _is_failure(answer):
                with self._failing:
                    self._failures += 1
            workers.deliver(Answered(submission.request_id, answer, self._monotonic() - task.submitted_at, bytes_sent))

    def _is_called_off(self, task: _Task) -> bool:
        """Whether a request has failed that the loop did not know of when it let this one queue."""
        return task.failures_known is not None and self._failures > task.failures_known

    def _refresh(self, submission: Submission) -> tuple[Answer, int]:
        """Send a submission. Returns the answer, and how many bytes of request bodies were sent for it."""
        items = items_of_request(submission.taken, self._item_key)
        items_bytes = int(items.estimated_size())
        with self._room.claim(_ENCODING_FACTOR * items_bytes) as claim:
            body = encode(submission.location, items, field_names=self._target.api.field_names)
            claim.shrink(items_bytes + len(body))
            if submission.bytes_max is not None and len(body) > submission.bytes_max:  # rule 25
                return _too_large(len(body), submission.bytes_max), 0
            answer, bytes_sent = self._deliver(submission, items, body)
            return replace(answer, body_bytes=len(body)) if answer.kind in _SIZED else answer, bytes_sent

    def _deliver(self, submission: Submission, items: pl.DataFrame, body: bytes) -> tuple[Answer, int]:
        """Send a body, with a new token if the first is refused."""
        answer = Answer(AnswerKind.NOT_SENT)
        for sends in range(_SENDS_MAX):
            token = self._tokens.get()
            if isinstance(token, Answer):
                return token, sends * len(body)
            answer = self._send(submission, items, body, token)
            if answer.kind is AnswerKind.NOT_SENT:
                return answer, sends * len(body)
            if answer.kind is not AnswerKind.UNAUTHORISED:
                return self._recorded(answer, token), (sends + 1) * len(body)
            refused = self._tokens.refused(token, answer)
            if refused:
                return refused, (sends + 1) * len(body)
        # Two tokens that had worked were refused: they are revoked as fast as they are issued. Nothing was queued.
        return replace(answer, kind=AnswerKind.UNAVAILABLE), _SENDS_MAX * len(body)

    def _send(self, submission: Submission, items: pl.DataFrame, body: bytes, token: Token) -> Answer:
        open_until = submission.commit_started_at + self._fence_seconds
        headers = [token.header, _CONTENT_TYPE]
        if submission.x_request_id is not None:
            headers.append((REQUEST_ID_HEADER.encode(), submission.x_request_id.encode()))
        endpoint, reply_bytes_max = self._endpoint_of(submission, items.height)

        def check_fence() -> None:
            if self._monotonic() > open_until:
                raise FenceClosedError

        try:
            check_fence()  # rule 13: saves a connection, and is the only check if the transport has no trace events
            reply = endpoint.call(
                "POST",
                headers=headers,
                body=body,
                seconds_max=self._timeout_seconds,
                monotonic=self._monotonic,
                before_first_byte=check_fence,
                reply_bytes_max=reply_bytes_max,
            )
        except FenceClosedError:
            return Answer(AnswerKind.NOT_SENT, detail="the commit that covers the request is too old")
        except httpx.HTTPError as error:
            return classify_error(error)
        reply = reply.without(token.value, *self._target.endpoint.secrets)
        self._clock_skew.observe(reply.headers, self._wall())
        if submission.is_smart and 200 <= reply.status <= 299:
            return smart_answer(reply.status, read_smart_reply(reply.body, items, self._item_key), items.height)
        answer = classify(reply.status, reply.headers, reply.body, wall=self._wall(), is_own=self._target.api.is_own)
        if answer.kind is AnswerKind.REFUSED and items.height > 1:
            return replace(answer, named=find_named(reply.body, in_body_order(items), self._item_key))
        return answer

    def _endpoint_of(self, submission: Submission, items: int) -> tuple[Endpoint, int]:
        """Where it goes, and how much of the answer is read."""
        if not submission.is_smart:
            return self._target.endpoint, REPLY_BYTES_MAX
        return self._smart_endpoint(), REPLY_BYTES_MAX + items * _RESULT_BYTES_MAX

    def _smart_endpoint(self) -> Endpoint:
        if self._target.smart_endpoint is None:
            raise InvariantError("a request for smart refresh, which the settings do not name")
        return self._target.smart_endpoint

    def _recorded(self, answer: Answer, token: Token) -> Answer:
        """The answer, after recording what it says about the token."""
        if answer.kind in _LET_IN:
            self._tokens.record_let_in(token)
        if answer.kind in _ACCEPTING:
            self._tokens.record_accepted()
        if answer.kind in _REFUSED_WHOLE:
            return replace(answer, repeated=self._tokens.record_refused_whole(token))
        return answer


def _is_failure(answer: Answer) -> bool:
    """Whether it says that the OMS does not work, or not for us."""
    return answer.kind not in _NO_FAILURES


def _too_large(body_bytes: int, bytes_max: int) -> Answer:
    detail = f"a body of {body_bytes} bytes, which is more than {bytes_max}"
    return Answer(AnswerKind.TOO_LARGE, detail=detail, body_bytes=body_bytes)


def build_client(
    settings: OmsSettings,
    item_key: Sequence[str],
    *,
    monotonic: Callable[[], float],
    wall: Callable[[], float],
    fence_seconds: float,
    credentials: Credentials | None = None,
    transport: httpx.BaseTransport | None = None,
    bodies_bytes: int = DEFAULT_SHARES.bodies_bytes,
) -> HttpRefreshClient:
    """Build the client that the settings describe.

    A request is sent only while its covering commit is at most ``fence_seconds`` old. ``credentials`` returns API key
    and secret at each renewal of the token (default: those of the settings); ``transport`` replaces real connections.
    ``bodies_bytes`` is what bodies in flight may take. With ``track_jobs``, ``jobs`` of the client is a
    ``ports.JobClient``, closed with it.

    Raises SettingsError if a certificate file cannot be used.
    """
    api = APIS[settings.api]
    base_url = settings.base_url.rstrip("/")
    headers = dict(settings.headers) | ({TENANT_HEADER: str(settings.tenant)} if api.has_tenants else {})
    # One connection for each worker thread, and one for check_credentials on the caller's thread.
    threads = settings.max_in_flight + (THREADS if settings.track_jobs else 0)
    if transport:
        connections = token_connections = transport
    else:
        connections, token_connections = open_transports(settings, connections_max=threads + 1, monotonic=monotonic)
    http = open_http(timeout_seconds=settings.timeout, connections_max=threads + 1, transport=connections)
    token_http = http
    if token_connections is not connections:
        token_http = open_http(timeout_seconds=settings.timeout, connections_max=1, transport=token_connections)
    secrets = tuple(value for value in settings.headers.values() if len(value) >= HIDDEN_CHARACTERS_MIN)

    def endpoint(path: str) -> Endpoint:
        return Endpoint(http, connections, base_url + path, headers, secrets=secrets)

    options = token_options(settings)
    tokens = Tokens(
        token_http,
        settings.token_url,
        credentials or (lambda: (settings.api_key.get_secret_value(), settings.api_secret.get_secret_value())),
        timeout_seconds=settings.timeout,
        monotonic=monotonic,
        wall=wall,
        request=lambda key, secret: api.token_request(key, secret, options),
    )
    smart_path = api.smart_refresh_path if settings.endpoint == "smart-refresh" else None
    jobs = None
    if settings.track_jobs:
        lists = endpoint(api.job_list_path) if api.job_list_path else None
        seconds = settings.timeout
        jobs = HttpJobClient(
            endpoint(api.job_path), tokens, timeout_seconds=seconds, monotonic=monotonic, wall=wall, lists=lists
        )
    return HttpRefreshClient(
        [http] if token_http is http else [http, token_http],
        tokens,
        Target(endpoint(api.refresh_path), api, endpoint(smart_path) if smart_path else None),
        item_key,
        max_in_flight=settings.max_in_flight,
        timeout_seconds=settings.timeout,
        fence_seconds=fence_seconds,
        monotonic=monotonic,
        wall=wall,
        jobs=jobs,
        bodies_bytes=bodies_bytes,
    )


def token_options(settings: OmsSettings) -> TokenOptions:
    """What the settings say about the token request.

    The headers of ``oms.headers`` are those of a gateway: they go to the token endpoint only if it is behind the same
    one, and not to an identity provider elsewhere.
    """
    named = {"scope": settings.token_scope, "audience": settings.token_audience}
    is_same_host = httpx.URL(settings.token_url).netloc == httpx.URL(settings.base_url).netloc
    headers = dict(settings.headers) if is_same_host else {}
    secret_fields = [value for name, value in settings.token_fields.items() if is_secret("oms", "token_fields", name)]
    return TokenOptions(
        {**{name: value for name, value in named.items() if value}, **settings.token_fields},
        credentials_in_body=settings.token_auth == "body",  # noqa: S105 - a setting's name
        headers=headers,
        secrets=(*secret_fields, *(value for value in headers.values() if len(value) >= HIDDEN_CHARACTERS_MIN)),
    )
