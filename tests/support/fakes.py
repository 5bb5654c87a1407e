"""Doubles of the ports that do what the ports promise, in memory, and keep a diary of what they were asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from consumer.core.changes.items import ChangeId
from consumer.core.location.request import Request
from consumer.core.oms.answers import Answer, AnswerKind, Decision
from consumer.core.oms.job_schedule import Job, JobReport, JobResult
from consumer.core.pending import Pending
from consumer.errors import DeadLettersError
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
    Snapshot,
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
    """Polls give what was queued: a batch, or something to call (a rebalance, a fault)."""

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

    def pause(self, numbers: Sequence[int]) -> None:
        self.paused.update(numbers)

    def resume(self, numbers: Sequence[int]) -> None:
        self.paused.difference_update(numbers)

    def close(self) -> None:
        self.diary.append(("close", None))


def raw_batch(offsets: Sequence[int], assignments: Sequence[int]) -> RawBatch:
    count = len(offsets)
    return RawBatch(
        [b""] * count, list(assignments), list(offsets), [None] * count, {}, lambda _: (b"key", [("header", b"1")])
    )


@dataclass
class FakeDecoder:
    """Gives back what was queued for each batch; without a queue, nothing."""

    ready: list[Decoded] = field(default_factory=list)
    has_room: bool = True
    taken: int = 0

    def room(self) -> bool:
        return self.has_room

    def put(self, batch: RawBatch) -> None:
        self.taken += 1

    def take(self) -> list[Decoded]:
        ready, self.ready = self.ready, []
        return ready

    def busy(self) -> bool:
        return bool(self.ready)

    def waiting_for(self) -> str:
        return ""

    def close(self) -> None:
        return None


@dataclass
class FakeClient:
    """Answers each submission with ``reply``, or when told to, if that is None."""

    diary: Diary
    clock: FakeClock
    reply: Answer | None = None
    submitted: list[Submission] = field(default_factory=list)
    ready: list[Answered] = field(default_factory=list)
    on_wait: Callable[[], None] | None = None

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
        self.clock.now += timeout_seconds
        if self.on_wait:
            self.on_wait()

    def close(self) -> None:
        return None


@dataclass
class FakeJobs:
    """An OMS that tells of jobs what it is told to."""

    asked: list[str] = field(default_factory=list)
    ready: list[JobReport] = field(default_factory=list)

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
    looked_for: int = 0

    def publish(self, rejects: Sequence[Reject], assignments: Mapping[int, Assignment]) -> None:
        self.diary.append(("dead letters", [reject.change_id.offset for reject in rejects]))
        self.waiting += [reject.change_id for reject in rejects]

    def fetch_and_publish(self, changes: Sequence[FailedChanges]) -> None:
        self.diary.append(("fetch", list(changes)))
        self.waiting += [change_id for failed in changes for change_id in failed.change_ids]

    def fetching(self) -> int:
        return self.looked_for

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
    """Keeps the latest snapshot and writes the rarer facts into the diary."""

    diary: Diary
    latest: Snapshot | None = None

    def heartbeat(self, now: float) -> None:
        return None

    def changes_read(self, messages: int) -> None:
        return None

    def changes_decoded(self, decoded: Decoded) -> None:
        return None

    def request_sent(self, request: Request, chunks: int) -> None:
        return None

    def answered(self, request: Request, answered: Answered, decision: Decision) -> None:
        self.diary.append(("answered", type(decision).__name__))

    def changes_dead_lettered(self, changes: Sequence[FailedChanges]) -> None:
        self.diary.append(("condemned", [each.location for each in changes]))

    def job_ended(self, ended: JobResult) -> None:
        self.diary.append(("job ended", ended))

    def jobs_evicted(self, jobs: Sequence[Job]) -> None:
        self.diary.append(("jobs dropped", list(jobs)))

    def jobs_abandoned(self, jobs: Sequence[Job]) -> None:
        self.diary.append(("jobs left", list(jobs)))

    def dead_letters_confirmed(self, count: int) -> None:
        return None

    def committed(self, partitions: int) -> None:
        return None

    def commit_refused(self, refused: CommitRefused) -> None:
        return None

    def rebalanced(self, kind: str, assignments: Sequence[Assignment], unsettled: int = 0) -> None:
        self.diary.append((kind, [assignment.assignment_id for assignment in assignments]))

    def committed_offset_out_of_range(self, assignment: Assignment) -> None:
        self.diary.append(("out of range", assignment.assignment_id))

    def snapshot(self, snapshot: Snapshot) -> None:
        self.latest = snapshot

    def pending_by_location(self, pending: Mapping[str, Pending], now: float) -> None:
        self.diary.append(("pending", {location: each.changes for location, each in pending.items()}))


def assignment(
    number: int, *, committed: int | None = 0, low: int = 0, high: int = 1_000_000, metadata: str | None = None
) -> Assignment:
    """Of a partition whose last owner left it in good order, unless ``metadata`` says otherwise."""
    orderly = "" if committed is None else f"v1;{committed};0;"
    return Assignment(
        number, "changes", number - 1, committed, orderly if metadata is None else metadata, low, high, ""
    )


def decoded(frame: pl.DataFrame, next_offsets: Mapping[int, int], rejects: Sequence[Reject] = ()) -> Decoded:
    return Decoded(frame, tuple(rejects), 0, next_offsets)


ACCEPTED = Answer(AnswerKind.ACCEPTED, job_id="1", status=200)
