"""Observers of the loop in general: one that looks away, and one that passes every fact on to several."""

from collections.abc import Mapping, Sequence

from consumer.core.location.request import Request
from consumer.core.oms.answers import Decision
from consumer.core.oms.job_schedule import Job, JobResult
from consumer.core.pending import Pending
from consumer.ports import Answered, Assignment, CommitRefused, Decoded, FailedChanges, Observer, Snapshot


class NullObserver:
    """An observer to whom nothing matters; those that care about a few facts inherit from it."""

    def heartbeat(self, now: float) -> None:
        del now

    def changes_read(self, messages: int) -> None:
        del messages

    def changes_decoded(self, decoded: Decoded) -> None:
        del decoded

    def request_sent(self, request: Request, chunks: int) -> None:
        del request, chunks

    def answered(self, request: Request, answered: Answered, decision: Decision) -> None:
        del request, answered, decision

    def changes_dead_lettered(self, changes: Sequence[FailedChanges]) -> None:
        del changes

    def job_ended(self, ended: JobResult) -> None:
        del ended

    def jobs_evicted(self, jobs: Sequence[Job]) -> None:
        del jobs

    def jobs_abandoned(self, jobs: Sequence[Job]) -> None:
        del jobs

    def dead_letters_confirmed(self, count: int) -> None:
        del count

    def committed(self, partitions: int) -> None:
        del partitions

    def commit_refused(self, refused: CommitRefused) -> None:
        del refused

    def rebalanced(self, kind: str, assignments: Sequence[Assignment], unsettled: int = 0) -> None:
        del kind, assignments, unsettled

    def committed_offset_out_of_range(self, assignment: Assignment) -> None:
        del assignment

    def snapshot(self, snapshot: Snapshot) -> None:
        del snapshot

    def pending_by_location(self, pending: Mapping[str, Pending], now: float) -> None:
        del pending, now


class CompositeObserver:
    """Tells each of several observers everything, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def heartbeat(self, now: float) -> None:
        for observer in self._observers:
            observer.heartbeat(now)

    def changes_read(self, messages: int) -> None:
        for observer in self._observers:
            observer.changes_read(messages)

    def changes_decoded(self, decoded: Decoded) -> None:
        for observer in self._observers:
            observer.changes_decoded(decoded)

    def request_sent(self, request: Request, chunks: int) -> None:
        for observer in self._observers:
            observer.request_sent(request, chunks)

    def answered(self, request: Request, answered: Answered, decision: Decision) -> None:
        for observer in self._observers:
            observer.answered(request, answered, decision)

    def changes_dead_lettered(self, changes: Sequence[FailedChanges]) -> None:
        for observer in self._observers:
            observer.changes_dead_lettered(changes)

    def job_ended(self, ended: JobResult) -> None:
        for observer in self._observers:
            observer.job_ended(ended)

    def jobs_evicted(self, jobs: Sequence[Job]) -> None:
        for observer in self._observers:
            observer.jobs_evicted(jobs)

    def jobs_abandoned(self, jobs: Sequence[Job]) -> None:
        for observer in self._observers:
            observer.jobs_abandoned(jobs)

    def dead_letters_confirmed(self, count: int) -> None:
        for observer in self._observers:
            observer.dead_letters_confirmed(count)

    def committed(self, partitions: int) -> None:
        for observer in self._observers:
            observer.committed(partitions)

    def commit_refused(self, refused: CommitRefused) -> None:
        for observer in self._observers:
            observer.commit_refused(refused)

    def rebalanced(self, kind: str, assignments: Sequence[Assignment], unsettled: int = 0) -> None:
        for observer in self._observers:
            observer.rebalanced(kind, assignments, unsettled)

    def committed_offset_out_of_range(self, assignment: Assignment) -> None:
        for observer in self._observers:
            observer.committed_offset_out_of_range(assignment)

    def snapshot(self, snapshot: Snapshot) -> None:
        for observer in self._observers:
            observer.snapshot(snapshot)

    def pending_by_location(self, pending: Mapping[str, Pending], now: float) -> None:
        for observer in self._observers:
            observer.pending_by_location(pending, now)
