"""Refresh requests, beside the loop: coalesced, encoded and sent by worker threads, each answered exactly once."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Final

import httpx
import polars as pl

from consumer.core.changes.coalesce import coalesce
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.errors import OmsRefusedError
from consumer.oms.answers import classify, classify_error
from consumer.oms.apis import APIS, TENANT_HEADER
from consumer.oms.body import encode, in_body_order
from consumer.oms.certificates import load_certificates
from consumer.oms.http import call, open_http
from consumer.oms.job_client import WORKERS, HttpJobs
from consumer.oms.named_items import find_named
from consumer.oms.token import Credentials, Token, Tokens
from consumer.ports import Answered, Submission
from consumer.settings import OmsSettings

CLOSE_SECONDS_MAX: Final = 5.0
"""Closing waits so long for requests under way; their answers nobody reads any more."""

_SENDS_MAX: Final = 2
"""A body goes out twice at most: again only after a 401, with a new token."""


class FenceClosedError(Exception):
    """The commit that covers a request is too old: it may not be sent any more."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, what the API there calls the location, and the headers that it wants with each call."""

    url: str
    location_field: str
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpRefreshClient:
    """``ports.RefreshClient`` over HTTP. Make it with ``build_client``."""

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
        jobs: HttpJobs | None = None,
    ) -> None:
        """``jobs`` uses the same connections, so it is closed with this client."""
        self.jobs = jobs
        self._http = http
        self._tokens = tokens
        self._target = target
        self._item_key = tuple(item_key)
        self._timeout_seconds = timeout_seconds
        self._fence_seconds = fence_seconds
        self._monotonic = monotonic
        self._wall = wall
        self._submitted: SimpleQueue[tuple[Submission, float] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._answered: list[Answered] = []
        self._failure: BaseException | None = None
        self._closed = False
        self._workers = [
            threading.Thread(target=self._work, name=f"oms-{number}", daemon=True)
            for number in range(1, max_in_flight + 1)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def tokens_fetched(self) -> int:
        """How many tokens this process has had: the first, and each renewal."""
        return self._tokens.fetched

    def check_credentials(self) -> str:
        """Get a first token. Returns "" if there is one, or in a line why it could not be had yet.

        Raises OmsRefusedError if waiting would not help: wrong credentials or address.
        """
        token = self._tokens.get()
        if isinstance(token, Token):
            return ""
        match token.kind:
            case AnswerKind.UNAUTHORISED:
                raise OmsRefusedError(f"correct oms.api_key and oms.api_secret: HTTP {token.status}, {token.detail}")
            case AnswerKind.WRONG_ADDRESS:
                raise OmsRefusedError(f"correct oms.token_url: HTTP {token.status}, {token.detail}")
            case _:
                return token.detail

    # ports.RefreshClient

    def submit(self, submission: Submission) -> None:
        """Hand over a request. Its rows must not change any more."""
        if self._closed:
            raise RuntimeError("the client is closed")
        self._submitted.put((submission, self._monotonic()))

    def answers(self) -> list[Answered]:
        """The answers that have come, without waiting.

        Raises what a worker met and nobody foresaw, in place of that submission's answer: a bug, as by ``ports``.
        """
        with self._changed:
            answered, self._answered = self._answered, []
            if not answered and self._failure:
                raise self._failure
            return answered

    def wait(self, timeout_seconds: float) -> None:
        """Wait until ``answers`` has something to give or to raise, at most this long."""
        with self._changed:
            self._changed.wait_for(lambda: self._answered or self._failure, timeout_seconds)

    def close(self) -> None:
        """Send nothing more, and wait a few seconds for what is under way; a request left then is abandoned."""
        self._closed = True
        if self.jobs:
            self.jobs.close()
        for _ in self._workers:
            self._submitted.put(None)
        deadline = self._monotonic() + CLOSE_SECONDS_MAX
        for worker in self._workers:
            worker.join(max(deadline - self._monotonic(), 0.0))
        self._http.close()

    # In a worker's thread

    def _work(self) -> None:
        while (taken := self._submitted.get()) and not self._closed:
            submission, submitted_at = taken
            try:
                answer, bytes_sent = self._refresh(submission)
            except BaseException as error:  # noqa: BLE001 - raised again by answers(), on the loop's thread
                with self._changed:
                    self._failure = self._failure or error
                    self._changed.notify_all()
                continue
            seconds = self._monotonic() - submitted_at
            with self._changed:
                self._answered.append(Answered(submission.request_id, answer, seconds, bytes_sent))
                self._changed.notify_all()

    def _refresh(self, submission: Submission) -> tuple[Answer, int]:
        """Send a submission; returns the answer, and how many bytes of bodies went out for it."""
        items = coalesce(submission.taken.body, self._item_key)
        body = encode(submission.location, items, location_field=self._target.location_field)
        answer = Answer(AnswerKind.NOT_SENT)
        for sends in range(_SENDS_MAX):
            token = self._tokens.get()
            if isinstance(token, Answer):
                return token, sends * len(body)
            answer = self._send(submission, items, body, token)
            if answer.kind is AnswerKind.NOT_SENT:
                return answer, sends * len(body)
            if answer.kind is not AnswerKind.UNAUTHORISED:
                return self._noted(answer, token), (sends + 1) * len(body)
            self._tokens.drop(token)
        return answer, _SENDS_MAX * len(body)

    def _send(self, submission: Submission, items: pl.DataFrame, body: bytes, token: Token) -> Answer:
        def check_fence() -> None:
            if self._monotonic() - submission.covered_at > self._fence_seconds:
                raise FenceClosedError

        try:
            check_fence()  # rule 13; spares a connection, and stands alone where a transport has no trace
            reply = call(
                self._http,
                "POST",
                self._target.url,
                headers={
                    **self._target.headers,
                    "Authorization": f"Bearer {token.value}",
                    "Content-Type": "application/json",
                },
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

    def _noted(self, answer: Answer, token: Token) -> Answer:
        """Let the tokens know of what the answer says about this one."""
        if answer.kind is AnswerKind.ACCEPTED:
            self._tokens.accepted()
        if answer.kind is AnswerKind.FORBIDDEN:
            return replace(answer, repeated=self._tokens.forbidden(token))
        return answer


def build_client(
    settings: OmsSettings,
    item_key: Sequence[str],
    *,
    monotonic: Callable[[], float],
    wall: Callable[[], float],
    fence_seconds: float,
    credentials: Credentials | None = None,
    transport: httpx.BaseTransport | None = None,
) -> HttpRefreshClient:
    """Make a client as the settings say, its worker threads started.

    A request leaves only while its covering commit is at most ``fence_seconds`` old. ``credentials`` gives API key and
    secret anew at each renewal of the token (default: those of the settings); ``transport`` stands in for real
    connections. With ``track_jobs`` its ``jobs`` is a ``ports.JobClient``, closed with the client.

    Raises SettingsError where a file of certificates cannot be used.
    """
    api = APIS[settings.api]
    base_url = settings.base_url.rstrip("/")
    headers = {TENANT_HEADER: str(settings.tenant)} if api.has_tenants else {}
    # One more than calls: a thread may renew the token while all others send.
    calls_max = settings.max_in_flight + (WORKERS if settings.track_jobs else 0)
    http = open_http(
        timeout_seconds=settings.timeout,
        connections_max=calls_max + 1,
        transport=transport,
        certificates=load_certificates(settings),
    )
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
        jobs = HttpJobs(
            http,
            tokens,
            base_url + api.job_path,
            headers,
            timeout_seconds=settings.timeout,
            monotonic=monotonic,
            wall=wall,
        )
    return HttpRefreshClient(
        http,
        tokens,
        Target(base_url + api.refresh_path, api.location_field, headers),
        item_key,
        max_in_flight=settings.max_in_flight,
        timeout_seconds=settings.timeout,
        fence_seconds=fence_seconds,
        monotonic=monotonic,
        wall=wall,
        jobs=jobs,
    )
