"""The status board: an observer that keeps the latest state for probes, the status page and its JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, assert_never

from consumer.core.oms.answers import Accepted, AnswerKind
from consumer.core.oms.job_schedule import JobOutcome, JobResult
from consumer.facts import (
    ChangesDeadLettered,
    ChangesDecoded,
    CommittedOffsetOutOfRange,
    DeadLettersConfirmed,
    Fact,
    Heartbeat,
    HoldShortened,
    JobEnded,
    JobsAbandoned,
    KafkaStatistics,
    MessagesRead,
    OffsetsCommitted,
    PartitionsAssigned,
    PartitionsLost,
    PartitionsRevoked,
    PendingByLocation,
    RequestAnswered,
    RequestSent,
    SchemaWaitBegan,
    SchemaWaitEnded,
    Snapshot,
)
from consumer.ports import Assignment, Clock, CommitRefused, Decoded, FailedChanges

PROBLEMS_MAX: Final = 20
"""The latest problems are kept for the page; older ones are in the log."""
DETAIL_CHARACTERS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that went wrong and was handled: when (seconds since 1970), what, and the details."""

    at: float
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the process started."""

    messages_read: int = 0
    changes_dead_lettered: int = 0
    changes_accepted: int = 0
    items_accepted: int = 0
    requests_accepted: int = 0


class StatusBoard:
    """The latest state of the loop, for other threads to read.

    Only the loop's thread writes. It replaces each attribute whole and changes none in place, so readers need no lock.
    ``settings`` are the redacted ones. A loop that is silent for more than ``stalled_after_seconds`` is stalled.
    """

    def __init__(
        self, clock: Clock, *, version: str, settings: Mapping[str, Any], stalled_after_seconds: float
    ) -> None:
        self._clock = clock
        self._version = version
        self._settings = settings
        self._stalled_after_seconds = stalled_after_seconds
        self._started_at = clock.wall()
        self._heartbeat_at = clock.monotonic()
        self._joined = False
        self._snapshot = Snapshot(at=self._heartbeat_at)
        self._totals = Totals()
        self._problems: tuple[Problem, ...] = ()

    # Facts, on the loop's thread

    def observe(self, fact: Fact) -> None:  # noqa: C901, PLR0912 - one case per fact
        match fact:
            case Heartbeat():
                self._heartbeat_at = fact.at
            case Snapshot():
                self._heartbeat_at = fact.at
                for location in fact.set_aside.keys() - self._snapshot.set_aside.keys():
                    self._add_problem("location set aside", f"{location}: {fact.set_aside[location]}")
                self._snapshot = fact
            case MessagesRead():
                self._count(messages_read=fact.count)
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
                # The process is still a member of its group, so it stays ready.
                if fact.unanswered_requests:
                    self._add_problem(
                        "requests unanswered",
                        f"{fact.unanswered_requests} were still in flight when the revoke of their partitions timed "
                        "out",
                    )
            case PartitionsLost():
                self._joined = False
                self._add_problem("partitions lost", ", ".join(_name(lost) for lost in fact.assignments))
            case CommittedOffsetOutOfRange():
                self._out_of_range(fact.assignment)
            case SchemaWaitBegan():
                self._add_problem("waits for a schema", f"{_name(fact.assignment)}: {fact.detail}")
            case CommitRefused():
                self._add_problem("commit refused", fact.detail)
            case (
                RequestSent()
                | JobsAbandoned()
                | DeadLettersConfirmed()
                | OffsetsCommitted()
                | SchemaWaitEnded()
                | HoldShortened()
                | PendingByLocation()
                | KafkaStatistics()
            ):
                pass  # the page does not show these
            case _:
                assert_never(fact)

    def _rejected(self, decoded: Decoded) -> None:
        if decoded.rejects:
            self._count(changes_dead_lettered=len(decoded.rejects))
            last = decoded.rejects[-1]
            self._add_problem("changes rejected", f"{len(decoded.rejects)}, last: {last.reason}: {last.detail}")

    def _dead_lettered(self, failed: Sequence[FailedChanges]) -> None:
        count = sum(len(changes.change_ids) for changes in failed)
        self._count(changes_dead_lettered=count)
        if failed:
            first = failed[0]
            self._add_problem(f"changes {_words(first.reason)}", f"{count} of {first.location}: {first.detail}")

    def _answered(self, fact: RequestAnswered) -> None:
        request, answer = fact.request, fact.answered.answer
        if isinstance(fact.decision, Accepted):
            self._count(changes_accepted=request.changes, items_accepted=request.items, requests_accepted=1)
        elif answer.kind not in (AnswerKind.NOT_SENT, AnswerKind.TOO_LARGE):
            reply = f"{answer.status or 'no answer'} {answer.detail}".strip()
            self._add_problem(f"request {_words(answer.kind)}", f"{request.items} items of {request.location}: {reply}")

    def _job_ended(self, result: JobResult) -> None:
        if result.outcome is not JobOutcome.SUCCESS:
            job, messages = result.job, "; ".join(result.messages)
            self._add_problem(
                f"job {_words(result.outcome)}", f"{job.job_id}, {job.items} items of {job.location}: {messages}"
            )

    def _out_of_range(self, assignment: Assignment) -> None:
        self._add_problem(
            "committed offset out of range",
            f"{_name(assignment)}: {assignment.committed} is not in {assignment.low} to {assignment.high}: retention "
            "deleted changes, or the topic was recreated",
        )

    def _count(self, **increases: int) -> None:
        totals = self._totals
        self._totals = replace(totals, **{name: getattr(totals, name) + by for name, by in increases.items()})

    def _add_problem(self, what: str, detail: str) -> None:
        problem = Problem(self._clock.wall(), what, detail[:DETAIL_CHARACTERS_MAX])
        self._problems = (problem, *self._problems)[:PROBLEMS_MAX]

    # Read from any thread

    @property
    def latest(self) -> Snapshot:
        """The latest snapshot; an empty one before the first."""
        return self._snapshot

    @property
    def totals(self) -> Totals:
        """Counts since the process started."""
        return self._totals

    def stalled(self) -> str | None:
        """Why the process should be restarted; None while the loop is alive."""
        silence = self._clock.monotonic() - self._heartbeat_at
        if silence <= self._stalled_after_seconds:
            return None
        return f"the loop has shown no sign of life for {silence:.0f} s"

    def not_ready(self) -> str | None:
        """Why the process is not ready; None if it is."""
        if not self._joined:
            return "not in the consumer group, waiting for partitions"
        return self._snapshot.sending_stopped

    def ready(self) -> bool:
        return self.not_ready() is None

    def status(self) -> dict[str, Any]:
        """Everything, ready for JSON and without secrets. Times are ISO 8601 in UTC."""
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


def _name(assignment: Assignment) -> str:
    return f"{assignment.topic}[{assignment.partition}]"


def _words(value: str) -> str:
    return value.replace("_", " ")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds")
