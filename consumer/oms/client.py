"""Refresh requests: coalesced, encoded and sent on worker threads. Each submission gets exactly one answer.

There may be more submissions than worker threads. Those that had to queue are for an OMS that works: once a request has
failed, they are handed back unsent (NOT_SENT) until the loop has taken the failure in and decided. A failing OMS
therefore never gets more requests than there are threads, and the circuit breaker's probe is alone.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import httpx
import polars as pl

from consumer.core.changes.coalesce import coalesce, items_of
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.errors import OmsRefusedError
from consumer.oms.answers import classify, classify_error
from consumer.oms.apis import APIS, TENANT_HEADER
from consumer.oms.body import encode, in_body_order
from consumer.oms.body_room import BodyRoom
from consumer.oms.certificates import load_certificates
from consumer.oms.http import Endpoint, open_http, open_transport
from consumer.oms.job_client import THREADS, HttpJobClient
from consumer.oms.named_items import find_named
from consumer.oms.token import Credentials, Token, Tokens
from consumer.ports import Answered, Submission
from consumer.settings import OmsSettings
from consumer.settings.memory import DEFAULT_SHARES
from consumer.workers import Workers

CLOSE_SECONDS_MAX: Final = 5.0
"""How long ``close`` waits for requests in flight. Their answers are not used any more."""

_CONTENT_TYPE: Final = (b"Content-Type", b"application/json")
_ENCODING_FACTOR: Final = 4
"""Memory for a body while it is made, in sizes of its items' frame. Measured: 3.2 to 4.1; afterwards about 2."""
_SENDS_MAX: Final = 2
"""A body is sent at most twice: the second time only after a 401, with a new token."""


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
    """Where refresh requests go, and the API's name for the location."""

    endpoint: Endpoint
    location_field: str


class HttpRefreshClient:
    """``ports.RefreshClient`` over HTTP; ``build_client`` builds one from the settings."""

    def __init__(
        self,
        http: httpx.Client,
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
        """``jobs`` shares the connections, so it is closed with this client.

        ``bodies_bytes`` is what all bodies may take; a request for which there is no room waits on its thread.
        """
        self.jobs = jobs
        self._room = BodyRoom(bodies_bytes)
        self._http = http
        self._tokens = tokens
        self._target = target
        self._item_key = tuple(item_key)
        self._timeout_seconds = timeout_seconds
        self._fence_seconds = fence_seconds
        self._monotonic = monotonic
        self._wall = wall
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

    def check_credentials(self) -> str | None:
        """Get the first token. Returns None on success, or one line that says why there is no token yet.

        Raises OmsRefusedError if waiting would not help: the credentials or the address are wrong.
        """
        token = self._tokens.get()
        if isinstance(token, Token):
            return None
        match token.kind:
            case AnswerKind.UNAUTHORISED:
                raise OmsRefusedError(f"correct oms.api_key and oms.api_secret: HTTP {token.status}, {token.detail}")
            case AnswerKind.WRONG_ADDRESS:
                raise OmsRefusedError(f"correct oms.token_url: HTTP {token.status}, {token.detail}")
            case _:
                return token.detail

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
        self._http.close()

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
        taken = submission.taken
        items = items_of(taken.present) if taken.is_distinct else coalesce(taken.body, self._item_key)
        items_bytes = int(items.estimated_size())
        with self._room.claim(_ENCODING_FACTOR * items_bytes) as claim:
            body = encode(submission.location, items, location_field=self._target.location_field)
            claim.shrink(items_bytes + len(body))
            return self._deliver(submission, items, body)

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
            self._tokens.drop(token)
        return answer, _SENDS_MAX * len(body)

    def _send(self, submission: Submission, items: pl.DataFrame, body: bytes, token: Token) -> Answer:
        def check_fence() -> None:
            if self._monotonic() - submission.commit_started_at > self._fence_seconds:
                raise FenceClosedError

        try:
            check_fence()  # rule 13: saves a connection, and is the only check if the transport has no trace events
            reply = self._target.endpoint.call(
                "POST",
                headers=[token.header, _CONTENT_TYPE],
                body=body,
                seconds_max=self._timeout_seconds,
                monotonic=self._monotonic,
                before_first_byte=check_fence,
            )
        except FenceClosedError:
            return Answer(AnswerKind.NOT_SENT, detail="the commit that covers the request is too old")
        except httpx.HTTPError as error:
            return classify_error(error)
        reply = reply.without(token.value)
        answer = classify(reply.status, reply.headers, reply.body, wall=self._wall())
        if answer.kind is AnswerKind.REFUSED and items.height > 1:
            return replace(answer, named=find_named(reply.body, in_body_order(items), self._item_key))
        return answer

    def _recorded(self, answer: Answer, token: Token) -> Answer:
        """The answer, after recording what it says about the token."""
        if answer.kind is AnswerKind.ACCEPTED:
            self._tokens.record_accepted()
        if answer.kind is AnswerKind.FORBIDDEN:
            return replace(answer, repeated=self._tokens.record_forbidden(token))
        return answer


def _is_failure(answer: Answer) -> bool:
    """Whether it says that the OMS does not work, or not for us. A refusal is about the request's own items."""
    return answer.kind not in (AnswerKind.ACCEPTED, AnswerKind.REFUSED, AnswerKind.NOT_SENT)


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
    headers = {TENANT_HEADER: str(settings.tenant)} if api.has_tenants else {}
    # One connection for each worker thread, and one for check_credentials on the caller's thread.
    threads = settings.max_in_flight + (THREADS if settings.track_jobs else 0)
    connections = transport or open_transport(connections_max=threads + 1, certificates=load_certificates(settings))
    http = open_http(timeout_seconds=settings.timeout, connections_max=threads + 1, transport=connections)
    tokens = Tokens(
        http,
        settings.token_url,
        credentials or (lambda: (settings.api_key.get_secret_value(), settings.api_secret.get_secret_value())),
        timeout_seconds=settings.timeout,
        monotonic=monotonic,
        wall=wall,
        request=api.token_request,
    )
    jobs = None
    if settings.track_jobs:
        jobs = HttpJobClient(
            Endpoint(http, connections, base_url + api.job_path, headers),
            tokens,
            timeout_seconds=settings.timeout,
            monotonic=monotonic,
            wall=wall,
        )
    return HttpRefreshClient(
        http,
        tokens,
        Target(Endpoint(http, connections, base_url + api.refresh_path, headers), api.location_field),
        item_key,
        max_in_flight=settings.max_in_flight,
        timeout_seconds=settings.timeout,
        fence_seconds=fence_seconds,
        monotonic=monotonic,
        wall=wall,
        jobs=jobs,
        bodies_bytes=bodies_bytes,
    )
