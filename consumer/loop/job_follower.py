"""What becomes of accepted requests: their jobs are followed to their end, and what failed goes to the dead letters.

A jobID means queued, not applied. Nothing waits for a job: its changes are committed already, so the follow-up lives in
memory only. When the process ends, the jobs still followed are named in the log (``jobs_abandoned``). After a crash its
lines ``request_accepted`` without a ``job_ended`` name them. ``inventory-refresh job`` asks the OMS about any.
"""

from collections.abc import Callable, Mapping

from consumer.core.changes.items import ChangeId, RejectReason
from consumer.core.engine import Engine
from consumer.core.location.planner import ItemLimits, chunks
from consumer.core.location.request import Request
from consumer.core.oms.job_schedule import Job, JobLimits, JobOutcome, JobResult, JobSchedule, adaptive_flush_items
from consumer.core.oms.offset_codec import pack_changes, unpack_offsets
from consumer.facts import ChangesDeadLettered, JobEnded, JobsAbandoned, JobsEvicted, Observer
from consumer.ports import Assignment, DeadLetters, FailedChanges, JobClient


class JobFollower:
    """The loop's part that looks after jobs. ``aims`` are the limits of items where windows aim by the OMS's queue."""

    def __init__(
        self,
        *,
        client: JobClient,
        limits: JobLimits,
        engine: Engine,
        dead_letters: DeadLetters,
        observer: Observer,
        jitter: Callable[[], float],
        aims: ItemLimits | None = None,
    ) -> None:
        self.jobs = JobSchedule(limits)
        self._client = client
        self._engine = engine
        self._dead_letters = dead_letters
        self._observer = observer
        self._jitter = jitter
        self._aims = aims

    def accepted(self, request: Request, job_id: str, assignments: Mapping[int, Assignment], now: float) -> None:
        """Follow the job of a request that was just accepted."""
        partitions = {number: (each.topic, each.partition) for number, each in assignments.items()}
        size = chunks(request.items, self._engine.limits.items.chunk_items)
        changes = pack_changes(request.rows, partitions)
        self.jobs.follow(Job(job_id, request.location, request.items, size, changes), now)

    def turn(self, now: float) -> None:
        """Take in what the OMS says of jobs, and ask about those whose turn it is."""
        for report in self._client.reports():
            if report.over_quota:
                self._engine.health.quota.over(sent_at=now, now=now)
            ended = self.jobs.told(report, now, self._jitter())
            if ended:
                self._end(ended)
        for ended in self.jobs.expired(now):
            self._end(ended)
        dropped = self.jobs.dropped()
        if dropped:
            self._observer.observe(JobsEvicted(dropped))
        asked = self.jobs.due(now, self._engine.health.side_calls(now))
        self._engine.health.quota.spend(len(asked), now)
        for job_id in asked:
            self._client.ask(job_id)
        if self._aims:
            self._engine.aim(adaptive_flush_items(self.jobs.unfinished, self._aims.chunk_items, self._aims.max_items))

    def leave(self) -> None:
        """Name the jobs whose end nobody will tell."""
        left = self.jobs.left()
        if left:
            self._observer.observe(JobsAbandoned(left))

    def _end(self, ended: JobResult) -> None:
        self._observer.observe(JobEnded(ended))
        if ended.outcome is JobOutcome.FAILED:
            changes = failed_changes(ended)
            self._dead_letters.fetch_and_publish(changes)
            self._observer.observe(ChangesDeadLettered(changes))


def failed_changes(ended: JobResult) -> list[FailedChanges]:
    """The changes of a job that failed, to be found again in their topic: they are committed, and not in memory."""
    return [
        FailedChanges(
            topic=changes.topic,
            partition=changes.partition,
            change_ids=tuple(ChangeId(changes.assignment, offset) for offset in unpack_offsets(changes.offsets)),
            reason=RejectReason.JOB_FAILED,
            detail="; ".join(ended.messages) or "the job ended as FAILED, without a message",
            location=ended.job.location,
            job_id=ended.job.job_id,
        )
        for changes in ended.job.changes
    ]
