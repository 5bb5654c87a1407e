"""What a person, a probe and Prometheus see: the board the loop writes on, and the HTTP server that shows it.

Paths, all read-only (GET and HEAD):

- ``/healthz``: 200 while the loop shows signs of life, else 503 and why. For a liveness probe.
- ``/readyz``: 200 once the group has assigned partitions (none is an assignment too: a spare member is ready) and
  while nothing needs a person, else 503 and why. An OMS or registry that is down does not show here: it must not
  block a roll-out.
- ``/metrics``: Prometheus. ``/``: a page for people. ``/api/status``: the same as JSON.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, assert_never
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from consumer.core.oms.answers import Accepted, AnswerKind
from consumer.core.oms.job_schedule import JobOutcome, JobResult
from consumer.errors import SettingsError
from consumer.facts import (
    ChangesDeadLettered,
    ChangesDecoded,
    CommittedOffsetOutOfRange,
    DeadLettersConfirmed,
    Fact,
    Heartbeat,
    JobEnded,
    JobsAbandoned,
    JobsEvicted,
    KafkaStatistics,
    MessagesRead,
    OffsetsCommitted,
    PartitionsAssigned,
    PartitionsLost,
    PartitionsRevoked,
    PendingByLocation,
    RequestAnswered,
    RequestSent,
    Snapshot,
)
from consumer.observe.status_http import SAFETY, Handler, Server
from consumer.observe.status_page import render_page
from consumer.ports import Assignment, Clock, CommitRefused, Decoded, FailedChanges
from consumer.settings import HttpSettings

PROBLEMS_MAX: Final = 20
"""Latest problems kept for the page; older ones are in the log."""
DETAIL_CHARACTERS_MAX: Final = 300

STOP_SECONDS_MAX: Final = 5.0
POLL_SECONDS: Final = 0.1
"""How soon the server notices that it is to stop."""

_log = structlog.get_logger("inventory_refresh.status")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that went wrong and was dealt with: when (seconds since 1970), what, and what was said of it."""

    at: float
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Totals:
    """What was done since the start."""

    messages_read: int = 0
    changes_rejected: int = 0
    changes_accepted: int = 0
    items_accepted: int = 0
    requests_accepted: int = 0


class StatusBoard:
    """The loop's latest word, for other threads to read.

    Only the loop's thread writes. Each attribute is replaced whole, never changed in place, so that a reader needs no
    lock. ``settings`` are the redacted ones; ``stalled_after_seconds`` bounds the loop's silence.
    """

    def __init__(
        self, clock: Clock, *, version: str, settings: Mapping[str, Any], stalled_after_seconds: float
    ) -> None:
        self._clock = clock
        self._version = version
        self._settings = settings
        self._stalled_after_seconds = stalled_after_seconds
        self._started_at = clock.wall()
        self._heartbeat = clock.monotonic()
        self._joined = False
        self._snapshot = Snapshot(at=self._heartbeat)
        self._totals = Totals()
        self._problems: tuple[Problem, ...] = ()

    def observe(self, fact: Fact) -> None:  # noqa: C901, PLR0912 - one case per fact
        match fact:
            case Heartbeat():
                self._heartbeat = fact.at
            case Snapshot():
                self._heartbeat = fact.at
                self._snapshot = fact
            case MessagesRead():
                self._add(messages_read=fact.count)
            case ChangesDecoded():
                self._rejected(fact.decoded)
            case ChangesDeadLettered():
                self._dead_lettered(fact.changes)
            case RequestAnswered():
                self._answered(fact)
            case JobEnded():
                self._job_ended(fact.result)
            case PartitionsAssigned():
                self._joined = True
            case PartitionsRevoked():
                # The process is still a member of its group.
                if fact.unanswered_requests:
                    self._problem(
                        "requests unanswered",
                        f"{fact.unanswered_requests} were still in flight when their partitions were revoked",
                    )
            case PartitionsLost():
                self._joined = False
                names = ", ".join(f"{lost.topic}/{lost.partition}" for lost in fact.assignments)
                self._problem("partitions lost", names)
            case CommittedOffsetOutOfRange():
                self._out_of_range(fact.assignment)
            case CommitRefused():
                self._problem("commit refused", fact.detail)
            case (
                RequestSent()
                | JobsEvicted()
                | JobsAbandoned()
                | DeadLettersConfirmed()
                | OffsetsCommitted()
                | PendingByLocation()
                | KafkaStatistics()
            ):
                pass
            case _:
                assert_never(fact)

    def _rejected(self, decoded: Decoded) -> None:
        if decoded.rejects:
            self._add(changes_rejected=len(decoded.rejects))
            last = decoded.rejects[-1]
            self._problem("changes rejected", f"{len(decoded.rejects)}, the last: {last.reason}: {last.detail}")

    def _dead_lettered(self, changes: Sequence[FailedChanges]) -> None:
        count = sum(len(part.change_ids) for part in changes)
        self._add(changes_rejected=count)
        if changes:
            first = changes[0]
            self._problem(f"changes {first.reason}", f"{count} of {first.location}: {first.detail}")

    def _answered(self, fact: RequestAnswered) -> None:
        request, answer = fact.request, fact.answered.answer
        if isinstance(fact.decision, Accepted):
            self._add(changes_accepted=request.changes, items_accepted=request.items, requests_accepted=1)
        elif answer.kind is not AnswerKind.NOT_SENT:
            said = f"{answer.status or 'no answer'} {answer.detail}".strip()
            self._problem(f"request {answer.kind}", f"{request.items} items of {request.location}: {said}")

    def _job_ended(self, result: JobResult) -> None:
        if result.outcome is not JobOutcome.SUCCESS:
            job, said = result.job, "; ".join(result.messages)
            self._problem(f"job {result.outcome}", f"{job.job_id}, {job.items} items of {job.location}: {said}")

    def _out_of_range(self, assignment: Assignment) -> None:
        self._problem(
            "committed offset out of range",
            f"{assignment.topic}/{assignment.partition}: {assignment.committed} is not in {assignment.low} to "
            f"{assignment.high}: changes were lost to retention, or the topic was recreated",
        )

    def _add(self, **more: int) -> None:
        totals = asdict(self._totals)
        self._totals = Totals(**{name: count + more.get(name, 0) for name, count in totals.items()})

    def _problem(self, what: str, detail: str) -> None:
        problem = Problem(self._clock.wall(), what, detail[:DETAIL_CHARACTERS_MAX])
        self._problems = (problem, *self._problems)[:PROBLEMS_MAX]

    # Read from any thread

    @property
    def latest(self) -> Snapshot:
        """The loop's latest snapshot."""
        return self._snapshot

    @property
    def totals(self) -> Totals:
        """What was done since the start."""
        return self._totals

    def stalled(self) -> str:
        """Why the process should be started anew; "" while the loop shows signs of life."""
        silence = self._clock.monotonic() - self._heartbeat
        if silence <= self._stalled_after_seconds:
            return ""
        return f"the loop has shown no sign of life for {silence:.0f} s"

    def not_ready(self) -> str:
        """Why the process is not ready; "" when it is."""
        if not self._joined:
            return "not in the consumer group, waiting for partitions"
        return self._snapshot.sending_stopped or ""

    def ready(self) -> bool:
        return not self.not_ready()

    def status(self) -> dict[str, Any]:
        """Everything, fit for JSON; no secrets are in it. Times are ISO 8601 in UTC."""
        snapshot = asdict(self._snapshot)
        snapshot["seconds_ago"] = round(self._clock.monotonic() - snapshot.pop("at"), 3)
        return {
            "version": self._version,
            "started_at": _iso(self._started_at),
            "now": _iso(self._clock.wall()),
            "stalled": self.stalled(),
            "not_ready": self.not_ready(),
            "snapshot": snapshot,
            "totals": asdict(self._totals),
            "problems": [asdict(problem) | {"at": _iso(problem.at)} for problem in self._problems],
            "settings": self._settings,
        }


class StatusServer:
    """The HTTP server, in a thread of its own. ``port`` is the one it listens on, also where 0 was asked for."""

    def __init__(self, settings: HttpSettings, board: StatusBoard, registry: CollectorRegistry) -> None:
        """Listen. Raises SettingsError where that cannot be."""
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        server = type("Server", (Server,), {"address_family": family})
        try:
            self._server: Server = server((settings.host, settings.port), Handler)
        except OSError as error:
            raise SettingsError(
                f"http.port: cannot listen on {settings.host}:{settings.port}: {error.strerror or error}; "
                "choose another http.port or http.host"
            ) from None
        self._server.set_app(_application(board, registry))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="status", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close, within a few seconds; a connection that is still open then ends with the process."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(STOP_SECONDS_MAX)
        self._server.server_close()


def _application(board: StatusBoard, registry: CollectorRegistry) -> WSGIApplication:
    metrics = make_wsgi_app(registry)
    pages: Mapping[str, Callable[[StatusBoard], _Response]] = {
        "/": _page,
        "/api/status": _status,
        "/healthz": lambda board: _verdict(board.stalled()),
        "/readyz": lambda board: _verdict(board.not_ready()),
    }

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", "/"), environ["REQUEST_METHOD"]
        if method not in {"GET", "HEAD"}:
            response = _Response(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", "read only\n", (("Allow", "GET, HEAD"),))
        elif path == "/metrics":
            body = metrics(
                environ | {"REQUEST_METHOD": "GET"},
                lambda status, headers, *error: start_response(status, [*headers, *SAFETY], *error),
            )
            return [] if method == "HEAD" else body
        elif path in pages:
            response = pages[path](board)
        else:
            response = _Response(HTTPStatus.NOT_FOUND, "text/plain", "not found\n")
        return _send(response, method, start_response)

    return application


@dataclass(frozen=True, slots=True)
class _Response:
    status: HTTPStatus
    content_type: str
    text: str
    headers: tuple[tuple[str, str], ...] = ()


def _send(response: _Response, method: str, start_response: StartResponse) -> Iterable[bytes]:
    body = response.text.encode()
    start_response(
        f"{response.status.value} {response.status.phrase}",
        [
            ("Content-Type", f"{response.content_type}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            *SAFETY,
            *response.headers,
        ],
    )
    return [] if method == "HEAD" else [body]


def _verdict(trouble: str) -> _Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
    return _Response(status, "text/plain", f"{trouble or 'ok'}\n")


def _status(board: StatusBoard) -> _Response:
    return _Response(HTTPStatus.OK, "application/json", json.dumps(board.status(), indent=2) + "\n")


def _page(board: StatusBoard) -> _Response:
    return _Response(HTTPStatus.OK, "text/html", render_page(board.status()))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds")
