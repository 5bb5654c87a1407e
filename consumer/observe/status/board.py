"""The status board: an observer that keeps the latest state for probes, the status page and its JSON."""

import math
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from threading import Event
from typing import Any, Final, assert_never

from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.job_schedule import JobOutcome, JobResult
from consumer.core.trace.answer import ItemTrace
from consumer.core.trace.query import ItemQuery
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
    LocationViews,
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
    SmartRefreshEnded,
    Snapshot,
)
from consumer.mailbox import Mailbox
from consumer.observe.members import MemberFinder
from consumer.observe.status.history import History
from consumer.observe.status.problems import Problems
from consumer.observe.status.requests import Requests
from consumer.ports import Assignment, Clock, CommitRefused, Decoded, FailedChanges

WANTED_SECONDS: Final = 10.0
"""How long locations are looked at after somebody asked for them; the page asks again every few seconds."""
QUESTIONS_MAX: Final = 2
"""Questions about items that wait for the loop: fewer than there are workers, which have pages to make, too."""
FRESH_SECONDS: Final = 3.0
"""Views of locations that are older than this are waited for."""


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

    Only the loop's thread writes. What readers get is replaced whole or copied, so they need no lock.
    ``settings`` are the redacted ones, ``members`` is their ``http.members``, and ``host`` the name of this machine. A
    loop that is silent for more than ``stalled_after_seconds`` is stalled.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        version: str,
        settings: Mapping[str, Any],
        stalled_after_seconds: float,
        members: Sequence[str] = (),
        host: str = "",
    ) -> None:
        self._clock = clock
        self._version = version
        self._stalled_after_seconds = stalled_after_seconds
        self._started_at = clock.wall()
        self._heartbeat_at = clock.monotonic()
        self._joined = False
        self._snapshot = Snapshot(at=self._heartbeat_at)
        self._totals = Totals()
        self.settings = settings
        """Without secrets."""
        self.members = MemberFinder(members)
        self.host = host
        self.requests = Requests()
        self.problems = Problems()
        self.history = History()
        self.questions: Mailbox[ItemQuery, ItemTrace] = Mailbox(QUESTIONS_MAX)
        """Where items are asked about, for the loop to answer."""
        self._views = LocationViews((), -math.inf)
        self._views_came = Event()
        """Set by the loop's thread when there are new ones."""
        self._views_wanted_until = -math.inf
        self._views_late_until = -math.inf
        """The loop is in a long turn: until then nobody waits for it again, as that would keep all workers busy."""

    # Facts, on the loop's thread

    def observe(self, fact: Fact) -> None:  # noqa: C901, PLR0912 - one case per fact
        match fact:
            case Heartbeat():
                self._heartbeat_at = fact.at
            case Snapshot():
                self._heartbeat_at = fact.at
                self._set_aside(fact)
                self._snapshot = fact
                totals = self._totals
                self.history.add(fact, messages_read=totals.messages_read, changes_accepted=totals.changes_accepted)
            case LocationViews():
                self._views = fact
                self._views_came.set()
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
                self._revoked(fact)
            case PartitionsLost():
                self._joined = False
                self._add_problem("partitions lost", ", ".join(_name(lost) for lost in fact.assignments))
            case CommittedOffsetOutOfRange():
                self._out_of_range(fact.assignment)
            case SchemaWaitBegan():
                self._add_problem("waits for a schema", f"{_name(fact.assignment)}: {fact.detail}")
            case CommitRefused():
                self._add_problem("commit refused", fact.detail)
            case SmartRefreshEnded():
                self._add_problem("refresh in place of smart refresh", fact.reason)
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

    def _revoked(self, fact: PartitionsRevoked) -> None:
        """The process is still a member of its group, so it stays ready."""
        if fact.unanswered_requests:
            self._add_problem(
                "requests unanswered",
                f"{fact.unanswered_requests} were still in flight when the revoke of their partitions timed out",
                count=fact.unanswered_requests,
                unit="requests",
            )

    def _set_aside(self, snapshot: Snapshot) -> None:
        for location in sorted(snapshot.set_aside.keys() - self._snapshot.set_aside.keys()):
            detail = snapshot.set_aside[location]
            self._add_problem("location set aside", f"{location}: {detail}", location=location, latest=detail)

    def _rejected(self, decoded: Decoded) -> None:
        rejects = decoded.rejects
        if not rejects:
            return
        self._count(changes_dead_lettered=len(rejects))
        last_of = {reject.reason: reject for reject in rejects}
        for reason, count in Tally(reject.reason for reject in rejects).items():
            last = last_of[reason]
            self._add_problem(
                "changes rejected",
                f"{count}, last: {last.reason}: {last.detail}",
                group=reason,
                count=count,
                unit="changes",
                latest=last.detail,
            )

    def _dead_lettered(self, failed: Sequence[FailedChanges]) -> None:
        self._count(changes_dead_lettered=sum(len(changes.change_ids) for changes in failed))
        for changes in failed:
            count = len(changes.change_ids)
            self._add_problem(
                f"changes {_words(changes.reason)}",
                f"{count} of {changes.location}: {changes.detail}",
                group=changes.reason,
                location=changes.location,
                count=count,
                unit="changes",
                latest=changes.detail,
            )

    def _answered(self, fact: RequestAnswered) -> None:
        request, answer = fact.request, fact.answered.answer
        self.requests.answered(fact, self._clock.wall())
        accepted = fact.accepted
        if accepted is not None:
            self._count(changes_accepted=accepted.changes, items_accepted=accepted.items, requests_accepted=1)
        elif answer.kind not in (AnswerKind.NOT_SENT, AnswerKind.TOO_LARGE):
            reply = f"{answer.status or 'no answer'} {answer.detail}".strip()
            self._add_problem(
                f"request {_words(answer.kind)}",
                f"{request.items} items of {request.location}: {reply}",
                group=f"request_{answer.kind}",
                unit="requests",
                latest=f"{request.location}: {reply}",
            )

    def _job_ended(self, result: JobResult) -> None:
        self.requests.job_ended(result, self._clock.wall())
        if result.outcome is not JobOutcome.SUCCESS:
            job, messages = result.job, "; ".join(result.messages)
            self._add_problem(
                f"job {_words(result.outcome)}",
                f"{job.job_id}, {job.items} items of {job.location}: {messages}",
                group=f"jobs_{result.outcome}",
                location=job.location,
                unit="jobs",
                latest=f"job {job.job_id}: {messages}" if messages else f"job {job.job_id}",
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

    def _add_problem(self, what: str, detail: str, *, group: str | None = None, **of_group: Any) -> None:
        group = group or what.replace(" ", "_")
        self.problems.add(self._clock.wall(), what, detail, group=group, **of_group)

    # Read from any thread

    @property
    def latest(self) -> Snapshot:
        """The latest snapshot; an empty one before the first."""
        return self._snapshot

    @property
    def totals(self) -> Totals:
        """Counts since the process started."""
        return self._totals

    @property
    def version(self) -> str:
        return self._version

    @property
    def started_at(self) -> float:
        """Seconds since 1970."""
        return self._started_at

    def now(self) -> tuple[float, float]:
        """The time on the monotonic clock, which snapshots have, and in seconds since 1970."""
        return self._clock.monotonic(), self._clock.wall()

    def views_wanted(self) -> bool:
        """Whether somebody has asked for the views of locations lately. For the loop, which makes them only then."""
        return self._clock.monotonic() < self._views_wanted_until

    def location_views(self, wait_seconds_max: float = 0.0) -> LocationViews:
        """What each location does; none before the first time that they are asked for.

        Waits at most this long for the loop to make them, if the latest ones are old. Not for the loop's thread.
        """
        self._views_came.clear()
        now = self._clock.monotonic()
        self._views_wanted_until = now + WANTED_SECONDS
        is_old = now - self._views.at > FRESH_SECONDS
        may_wait = now >= self._views_late_until and self._joined and self.stalled() is None
        if is_old and may_wait and not self._views_came.wait(wait_seconds_max):
            self._views_late_until = now + WANTED_SECONDS
        return self._views

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
            "problems": [asdict(problem) | {"at": _iso(problem.at)} for problem in self.problems.latest],
            "settings": self.settings,
        }


def _name(assignment: Assignment) -> str:
    return f"{assignment.topic}[{assignment.partition}]"


def _words(value: str) -> str:
    return value.replace("_", " ")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds")
