"""Follows the jobs of accepted requests to their end; the changes of a failed job are dead-lettered.

A jobID means queued, not applied. Its changes are already committed and nothing waits for the job, so jobs are
followed in memory only. When the process stops, the log lists the unfinished jobs (``jobs_abandoned``). After a crash
they are the ``request_accepted`` events without a ``job_ended``; ``inventory-refresh job`` asks the OMS about one.
"""

from collections.abc import Callable, Mapping

from consumer.core.changes.items import RejectReason
from consumer.core.engine import Engine
from consumer.core.location.planner import ItemLimits
from consumer.core.location.request import Request
from consumer.core.oms.job_schedule import Job, JobLimits, JobOutcome, JobResult, JobSchedule, adaptive_flush_items
from consumer.core.oms.offset_codec import pack_changes
from consumer.facts import ChangesDeadLettered, JobEnded, JobsAbandoned, Observer
from consumer.loop.hold_queries import HoldQueries, OnlySender
from consumer.loop.job_queries import JobQueries
from consumer.loop.smart_queries import SmartQueries
from consumer.ports import Assignment, DeadLetters, FailedChanges, JobClient


class JobFollower:
    """Queries jobs on the loop's behalf. While too many are unfinished, it keeps the engine from sending.

    With ``adaptive_items``, it also adapts ``flush_items`` to the number of unfinished jobs.
    """

    def __init__(
        self,
        *,
        client: JobClient,
        limits: JobLimits,
        engine: Engine,
        dead_letters: DeadLetters,
        observer: Observer,
        jitter: Callable[[], float],
        adaptive_items: ItemLimits | None = None,
        only_sender: OnlySender | None = None,
    ) -> None:
        """With ``only_sender``, holds may end early. For that and for smart refresh the client must have lists."""
        self.jobs = JobSchedule(limits)
        self._queries = JobQueries(client)
        self._holds = HoldQueries(client, engine, observer, only_sender) if only_sender else None
        self._smart = SmartQueries(client, engine, engine.smart) if engine.smart else None
        self._engine = engine
        self._dead_letters = dead_letters
        self._observer = observer
        self._jitter = jitter
        self._adaptive_items = adaptive_items
        self.queue_full: str | None = None
        """Why nothing is sent until more jobs have ended; None while there is room."""

    def accepted(
        self,
        request: Request,
        x_request_id: str,
        job_id: str,
        assignments: Mapping[int, Assignment],
        now: float,
    ) -> None:
        """Follow the job of a request that was just accepted."""
        partitions = {
            assignment_id: (assignment.topic, assignment.partition) for assignment_id, assignment in assignments.items()
        }
        changes = pack_changes(request.taken.present, partitions)
        job = Job(job_id, request.location, request.items, request.chunks, changes, x_request_id)
        self.jobs.follow(job, now)
        self._limit_queue()

    def turn(self, now: float) -> None:
        """Take the reports that have arrived, and query the jobs that are due."""
        reports, calls = self._queries.reports(now)
        for report in reports:
            if report.over_quota:
                self._engine.breaker.rate_limiter.on_throttled(sent_at=now, now=now)
            result = self.jobs.on_report(report, now, self._jitter())
            if result:
                self._end(result, now)
        for result in self.jobs.expired(now):
            self._end(result, now)
        permits = self._engine.breaker.background_permits(now)
        job_ids = self.jobs.due(now, permits)
        calls += self._queries.ask(job_ids, self.jobs.unfinished, now)
        lists = self._queries.lists_of_others()
        if self._holds:
            calls += self._holds.turn(lists, max(permits - calls, 0), now)
        if self._smart:
            calls += self._smart.turn(lists, max(permits - calls, 0), now)
        self._engine.breaker.rate_limiter.spend(calls, now)
        self._limit_queue()
        items = self._adaptive_items
        if items:
            self._engine.set_flush_items(adaptive_flush_items(self.jobs.unfinished, items.chunk_items, items.max_items))

    @property
    def sending_awaits_reports(self) -> bool:
        """Whether nothing is sent until more jobs have ended, and a query about one is not answered yet."""
        return self.queue_full is not None and self.jobs.awaits_reports

    def leave(self) -> None:
        """The process is stopping: report the jobs that have not ended."""
        unfinished = self.jobs.unfinished_jobs()
        if unfinished:
            self._observer.observe(JobsAbandoned(unfinished))

    def _limit_queue(self) -> None:
        self.queue_full = self.jobs.full_reason()
        self._engine.set_job_queue_full(full=self.queue_full is not None)

    def _end(self, result: JobResult, now: float) -> None:
        self._engine.job_ended(result, now)
        self._observer.observe(JobEnded(result))
        if result.outcome is JobOutcome.FAILED:
            changes = failed_changes(result)
            self._dead_letters.fetch_and_publish(changes)
            self._observer.observe(ChangesDeadLettered(changes))


def failed_changes(result: JobResult) -> list[FailedChanges]:
    """The changes of a failed job, by partition. They are no longer in memory, so ``items`` is empty."""
    return [
        FailedChanges(
            topic=changes.topic,
            partition=changes.partition,
            change_ids=changes.change_ids(),
            reason=RejectReason.JOB_FAILED,
            detail="; ".join(result.messages) or "the job ended as FAILED, without a message",
            location=result.job.location,
            x_request_id=result.job.x_request_id,
            job_id=result.job.job_id,
        )
        for changes in result.job.changes
    ]
