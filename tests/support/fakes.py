"""In-memory fakes of the ports. They keep a diary of their calls, in order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from consumer.core.changes.items import ChangeId
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_list import JobList, ListQuery
from consumer.core.oms.job_schedule import JobReport
from consumer.errors import DeadLettersError
from consumer.facts import (
    ChangesDeadLettered,
    CommittedOffsetOutOfRange,
    Fact,
    HoldShortened,
    JobEnded,
    JobsAbandoned,
    LocationViews,
    PartitionsAssigned,
    PartitionsLost,
    PartitionsRevoked,
    PendingByLocation,
    RequestAnswered,
    SmartRefreshEnded,
    Snapshot,
)
from consumer.ports import (
    Answered,
    Assignment,
    Commit,
    CommitRefused,
    Committed,
    Decoded,
    FailedChanges,
    RawBatch,
    RebalanceListener,
    Reject,
    Submission,
)

Diary = list[tuple[str, Any]]


@dataclass
class FakeClock:
    now: float = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now


@dataclass
class FakeSource:
    """A poll returns the next queued batch; a queued callable is called first (a rebalance, an error)."""

    diary: Diary
    clock: FakeClock
    queue: list[RawBatch | Callable[[RebalanceListener], None]] = field(default_factory=list)
    refusal: CommitRefused | None = None
    paused: set[int] = field(default_factory=set)
    committed: dict[int, int] = field(default_factory=dict)
    listener: RebalanceListener | None = None

    def subscribe(self, listener: RebalanceListener) -> None:
        self.listener = listener

    def poll(self, *, messages_max: int, timeout_seconds: float) -> RawBatch:
        self.diary.append(("poll", timeout_seconds))
        self.clock.now += timeout_seconds
        while self.queue:
            event = self.queue.pop(0)
            if isinstance(event, RawBatch):
                return event
            assert self.listener is not None
            event(self.listener)
        return raw_batch([], [])

    def commit(self, commits: Sequence[Commit]) -> Committed | CommitRefused:
        offsets = {commit.assignment.assignment_id: commit.offset for commit in commits}
        if self.refusal:
            self.diary.append(("commit refused", offsets))
            return self.refusal
        self.diary.append(("commit", offsets))
        self.committed.update(offsets)
        return Committed()

    def pause(self, assignment_ids: Sequence[int]) -> None:
        self.paused.update(assignment_ids)

    def resume(self, assignment_ids: Sequence[int]) -> None:
        self.paused.difference_update(assignment_ids)

    def close(self) -> None:
        self.diary.append(("close", None))


def raw_batch(offsets: Sequence[int], assignments: Sequence[int]) -> RawBatch:
    count = len(offsets)
    return RawBatch(
        [b""] * count, list(assignments), list(offsets), [None] * count, {}, lambda _: (b"key", [("header", b"1")])
    )


@dataclass
class FakeDecoder:
    """Returns what a test puts into ``ready``; batches are only kept."""

    ready: list[Decoded] = field(default_factory=list)
    has_room: bool = True
    taken: list[RawBatch] = field(default_factory=list)

    def room(self) -> bool:
        return self.has_room

    def put(self, batch: RawBatch) -> None:
        self.taken.append(batch)

    def take(self) -> list[Decoded]:
        ready, self.ready = self.ready, []
        return ready

    def busy(self) -> bool:
        return bool(self.ready)

    def blocked_reason(self) -> str | None:
        return None

    def close(self) -> None:
        return None


@dataclass
class FakeClient:
    """Answers every submission with ``reply``; if that is None, the test calls ``answer``."""

    diary: Diary
    clock: FakeClock
    reply: Answer | None = None
    submitted: list[Submission] = field(default_factory=list)
    ready: list[Answered] = field(default_factory=list)
    on_wait: Callable[[], None] | None = None
    """Called in the next wait."""

    def submit(self, submission: Submission) -> None:
        self.diary.append(("submit", submission.location))
        self.submitted.append(submission)
        if self.reply:
            self.answer(submission, self.reply)

    def answer(self, submission: Submission, answer: Answer) -> None:
        self.ready.append(Answered(submission.request_id, answer, 0.1))

    def answers(self) -> list[Answered]:
        ready, self.ready = self.ready, []
        return ready

    def wait(self, timeout_seconds: float) -> None:
        self.diary.append(("wait", timeout_seconds))
        on_wait, self.on_wait = self.on_wait, None
        if on_wait:
            on_wait()
        if not self.ready:
            self.clock.now += timeout_seconds

    def close(self) -> None:
        return None


@dataclass
class FakeJobs:
    """Returns the job reports and lists that a test puts into ``ready`` and ``ready_lists``."""

    asked: list[str] = field(default_factory=list)
    ready: list[JobReport] = field(default_factory=list)
    has_lists: bool = False
    asked_lists: list[ListQuery] = field(default_factory=list)
    ready_lists: list[JobList] = field(default_factory=list)

    def ask_list(self, query: ListQuery) -> None:
        self.asked_lists.append(query)

    def lists(self) -> list[JobList]:
        ready, self.ready_lists = self.ready_lists, []
        return ready

    def ask(self, job_id: str) -> None:
        self.asked.append(job_id)

    def reports(self) -> list[JobReport]:
        ready, self.ready = self.ready, []
        return ready

    def close(self) -> None:
        return None


@dataclass
class FakeDeadLetters:
    diary: Diary
    confirming: bool = True
    failing: str = ""
    waiting: list[ChangeId] = field(default_factory=list)
    fetching_count: int = 0

    def publish(self, rejects: Sequence[Reject], assignments: Mapping[int, Assignment]) -> None:
        self.diary.append(("dead letters", [reject.change_id.offset for reject in rejects]))
        self.waiting += [reject.change_id for reject in rejects]

    def fetch_and_publish(self, changes: Sequence[FailedChanges]) -> None:
        self.diary.append(("fetch", list(changes)))
        self.waiting += [change_id for failed in changes for change_id in failed.change_ids]

    def fetching(self) -> int:
        return self.fetching_count

    def confirmed(self) -> Sequence[ChangeId]:
        if self.failing:
            raise DeadLettersError(self.failing)
        if not self.confirming:
            return []
        waiting, self.waiting = self.waiting, []
        return waiting

    def close(self) -> None:
        return None


@dataclass
class FakeObserver:
    """Keeps the latest snapshot and writes the less frequent facts to the diary."""

    diary: Diary
    latest: Snapshot | None = None

    def observe(self, fact: Fact) -> None:  # noqa: C901, PLR0912 - one case per fact
        match fact:
            case Snapshot():
                self.latest = fact
            case RequestAnswered():
                self.diary.append(("answered", type(fact.decision).__name__))
            case ChangesDeadLettered():
                self.diary.append(("dead-lettered", [changes.location for changes in fact.changes]))
            case JobEnded():
                self.diary.append(("job ended", fact.result))
            case JobsAbandoned():
                self.diary.append(("jobs abandoned", list(fact.jobs)))
            case PartitionsAssigned():
                self.diary.append(("assigned", _ids(fact.assignments)))
            case PartitionsRevoked():
                self.diary.append(("revoked", _ids(fact.assignments)))
            case PartitionsLost():
                self.diary.append(("lost", _ids(fact.assignments)))
            case CommittedOffsetOutOfRange():
                self.diary.append(("out of range", fact.assignment.assignment_id))
            case SmartRefreshEnded():
                self.diary.append(("smart refresh ended", fact.reason))
            case HoldShortened():
                self.diary.append(("hold shortened", (fact.location, fact.seconds_left)))
            case PendingByLocation() | LocationViews():
                self.diary.append(_of_locations(fact))
            case _:
                pass


def _of_locations(fact: PendingByLocation | LocationViews) -> tuple[str, Any]:
    if isinstance(fact, PendingByLocation):
        return "pending", {name: pending.changes for name, pending in fact.pending.items()}
    return "views", ", ".join(view.name for view in fact.views)


def _ids(assignments: Sequence[Assignment]) -> list[int]:
    return [assignment.assignment_id for assignment in assignments]


def assignment(
    assignment_id: int, *, committed: int | None = 0, low: int = 0, high: int = 1_000_000, metadata: str | None = None
) -> Assignment:
    """An assignment whose previous owner left no request in doubt, unless ``metadata`` says otherwise."""
    orderly = "" if committed is None else f"v1;{committed};0;"
    return Assignment(
        assignment_id, "changes", assignment_id - 1, committed, orderly if metadata is None else metadata, low, high, ""
    )


def decoded(
    frame: pl.DataFrame, next_offsets: Mapping[int, int], rejects: Sequence[Reject] = (), polled_at: float = 1_000.0
) -> Decoded:
    return Decoded(frame, tuple(rejects), 0, next_offsets, polled_at)


ACCEPTED = Answer(AnswerKind.ACCEPTED, job_id="1", status=200)
