"""Which accepted jobs to ask the OMS about, and when: with few queries, each job's end is known soon after it.

The OMS processes jobs one at a time, in the order in which it accepted them. While the oldest unfinished job (the
*head*) has not ended, the jobs behind it mostly have not either. So only the head is queried, at intervals that double,
and when it ends the next job is queried at once. Jobs that the OMS has overtaken (a later job is being processed or has
ended) are queried as well. A head that has not ended after a minute of queries may be stuck: from then on a job behind
it is queried now and then, which shows whether the OMS has overtaken the head.

No I/O and no randomness here: ``now`` is the caller's monotonic time in seconds, and jitter is an argument. Times in
reports are the OMS's, in seconds since 1970.
"""

import heapq
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf, isfinite
from typing import Final

from consumer.core.oms.offset_codec import PackedChanges

QUERIES_IN_FLIGHT_MAX: Final = 2
"""One for the head and one for a job that the OMS has overtaken. More would not detect any end sooner."""
QUERY_SECONDS_MIN: Final = 2.0
"""Before the first query of a job, and after it: about what the OMS needs for a job of one chunk."""
QUERY_SECONDS_MAX: Final = 60.0
"""The interval between queries of a job doubles up to this."""
QUERY_SECONDS_SPREAD: Final = 0.25
"""Jitter shortens an interval by up to this share."""
STALLED_QUERIES: Final = 6
"""A head that has not ended after this many queries (a minute or more) may be stuck: jobs behind it are queried too."""
UNKNOWN_ANSWERS_MAX: Final = 2
"""The OMS must deny knowing a job this many times in a row: what reads its queue may lag behind what writes to it."""
REFUSED_SECONDS_MAX: Final = 900.0
"""While the OMS refuses the queries themselves (no permission, wrong address), the interval doubles up to this."""
RETRY_AFTER_SECONDS_MAX: Final = 3_600.0
"""A longer Retry-After is cut to this."""

JOB_BYTES: Final = 512
"""Memory of a followed job, without its offsets."""
ROOM_SHARE: Final = 0.9
"""A full queue has room again below this share of its limit: not for one request at every job that ends."""

QUERY_REFUSALS: Final = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 410})
"""HTTP codes that are most likely the same at the next query: redirects, no permission, no such address."""
_DOUBLINGS_MAX: Final = 32
"""More doublings exceed any maximum, and 2.0**1024 would overflow."""


class JobStatus(StrEnum):
    """The OMS's names."""

    PENDING = "PENDING"
    WORKING = "WORKING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class JobReport:
    """The result of one query.

    ``status`` is None if there was no usable answer; ``detail`` says why, and the job is queried again later.
    ``unknown``: the OMS answered that it knows no such job. ``added``, ``started`` and ``finished`` are seconds since
    1970, None if the OMS does not say. ``messages`` are the OMS's, limited in number and length. ``over_quota``: the
    query was throttled. ``retry_after_seconds`` is the answer's Retry-After, None without one. ``http_status`` is None
    if there was no HTTP answer.
    """

    job_id: str
    status: JobStatus | None = None
    unknown: bool = False
    added: float | None = None
    started: float | None = None
    finished: float | None = None
    messages: tuple[str, ...] = ()
    detail: str = ""
    over_quota: bool = False
    retry_after_seconds: float | None = None
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """The job of an accepted request. ``changes`` are the request's, by assignment (``offset_codec.pack_changes``).

    ``x_request_id`` is the request's id as the OMS and the log know it; of several requests, the latest one's.
    """

    job_id: str
    location: str
    items: int
    chunks: int
    changes: tuple[PackedChanges, ...] = ()
    x_request_id: str | None = None


class JobOutcome(StrEnum):
    """How a job ended; a label in metrics."""

    SUCCESS = "success"
    """The OMS has applied it."""
    FAILED = "failed"
    """The OMS reports that it applied none of it."""
    NEVER_FINISHED = "never_finished"
    """It had not ended after ``JobLimits.age_seconds_max``."""
    UNKNOWN_JOB = "unknown_job"
    """The OMS returned this jobID, and now does not know it."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended.

    ``queued_seconds`` is the time from added to started and ``processing_seconds`` from started to finished, both by
    the OMS's clock; None if the OMS does not say, or if its times contradict each other.
    """

    job: Job
    outcome: JobOutcome
    queued_seconds: float | None = None
    processing_seconds: float | None = None
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Bounds on what is followed."""

    age_seconds_max: float = 86_400.0
    """A job that has not ended after this is given up."""
    unfinished_max: int = 1_000
    """With this many jobs the queue is full: an OMS that far behind gains nothing from more, smaller jobs."""
    kept_bytes_max: int = 64 * 1024 * 1024
    """Of all jobs and their offsets; 1,000 jobs of 12,000 scattered changes take a third of it."""


@dataclass(eq=False, slots=True)
class _FollowedJob:
    job: Job
    sequence: int
    """Ascending in the order in which the OMS accepted the jobs."""
    accepted_at: float
    queries: int = 0
    """Queries that did not find it ended, since it became the head or was overtaken; these set the interval."""
    query_at: float | None = None
    """When it is queried next; None while a query is in flight, or until it becomes the head or is overtaken."""
    unknown_answers: int = 0
    """In a row."""


class JobSchedule:
    """The accepted jobs that have not ended yet, and when to query each."""

    def __init__(self, limits: JobLimits) -> None:
        self._limits = limits
        self._followed: dict[str, _FollowedJob] = {}
        """All of them by jobID, oldest first."""
        self._queue: dict[str, _FollowedJob] = {}
        """Those of them that the OMS has not been seen to overtake, oldest first. The first one is the head."""
        self._queries: list[tuple[float, int, str]] = []
        """A heap of (time of the query, sequence, jobID). Entries that disagree with ``query_at`` are stale."""
        self._in_flight: set[str] = set()
        self._last_sequence = 0
        self._kept_bytes = 0
        self._is_full = False
        self._failures = 0
        """Queries in a row without a usable answer."""
        self._resume_at = -inf
        self.unfinished_items = 0
        self.unavailable_reason: str | None = None
        """Why the OMS does not report on jobs at present, in its words; None while it does."""

    @property
    def unfinished(self) -> int:
        """Number of followed jobs."""
        return len(self._followed)

    def oldest_seconds(self, now: float) -> float | None:
        """How long ago the oldest unfinished job was accepted; None without one."""
        oldest = next(iter(self._followed.values()), None)
        return now - oldest.accepted_at if oldest else None

    def unfinished_jobs(self) -> list[Job]:
        """The jobs that have not ended as far as is known, oldest first."""
        return [followed.job for followed in self._followed.values()]

    def full_reason(self) -> str | None:
        """Why nothing should be sent before more jobs have ended; None while there is room.

        While the OMS does not report the status of jobs, their number says nothing of its queue: only memory counts.
        """
        share = ROOM_SHARE if self._is_full else 1.0
        jobs_max, bytes_max = self._limits.unfinished_max, self._limits.kept_bytes_max
        too_many = self.unavailable_reason is None and self.unfinished >= share * jobs_max
        too_large = self._kept_bytes >= share * bytes_max
        self._is_full = too_many or too_large
        if too_many:
            return f"{jobs_max:,} jobs of this process are unfinished (oms.unfinished_jobs_max)"
        return f"the offsets of unfinished jobs take {bytes_max // 2**20} MiB" if too_large else None

    def follow(self, job: Job, now: float) -> None:
        """Follow a job that was just accepted. No job is dropped to make room: ``full_reason`` says when to stop.

        If its jobID is followed already, that job represents both requests from now on.
        """
        self.unfinished_items += job.items
        known = self._followed.get(job.job_id)
        if known:
            self._kept_bytes += _kept_bytes(job) - JOB_BYTES
            items, chunks = known.job.items + job.items, known.job.chunks + job.chunks
            known.job = replace(job, items=items, chunks=chunks, changes=known.job.changes + job.changes)
            return
        self._last_sequence += 1
        followed = _FollowedJob(job, self._last_sequence, now)
        self._followed[job.job_id] = self._queue[job.job_id] = followed
        self._kept_bytes += _kept_bytes(job)
        self._query_head(now)

    @property
    def awaits_reports(self) -> bool:
        """Whether a query is not answered yet."""
        return bool(self._in_flight)

    def due(self, now: float, calls_max: int) -> list[str]:
        """The jobs to query now, at most ``calls_max``. For each one the caller must call ``on_report`` once."""
        job_ids: list[str] = []
        queries_max = min(calls_max, self._free_slots()) if now >= self._resume_at else 0
        while len(job_ids) < queries_max and (followed := self._next()) and followed.query_at is not None:
            if followed.query_at > now:
                break
            followed.query_at = None
            self._in_flight.add(followed.job.job_id)
            job_ids.append(followed.job.job_id)
        return job_ids

    def on_report(self, report: JobReport, now: float, jitter: float) -> JobResult | None:
        """Take the result of a query. Returns how the job ended, None if it has not. ``jitter`` is random in 0 to 1."""
        self._in_flight.discard(report.job_id)
        if report.status is None and not report.unknown:
            self._back_off(report, now, jitter)
        else:
            self._failures, self.unavailable_reason = 0, None
        followed = self._followed.get(report.job_id)
        if followed is None:
            return None
        followed.unknown_answers = followed.unknown_answers + 1 if report.unknown else 0
        if followed.unknown_answers >= UNKNOWN_ANSWERS_MAX:
            return self._end(followed, JobOutcome.UNKNOWN_JOB, now, report)
        match report.status:
            case JobStatus.SUCCESS | JobStatus.FAILED as status:
                self._overtake(followed.sequence, now)
                return self._end(followed, JobOutcome(status.lower()), now, report)
            case JobStatus.WORKING:
                self._overtake(followed.sequence, now)
        self._query_again(followed, now, jitter)
        return None

    def expired(self, now: float) -> list[JobResult]:
        """Give up the jobs that have not ended after ``age_seconds_max``, unless a query of them is in flight."""
        old = []
        for followed in self._followed.values():
            if now - followed.accepted_at < self._limits.age_seconds_max:
                break
            if followed.job.job_id not in self._in_flight:
                old.append(followed)
        return [self._end(followed, JobOutcome.NEVER_FINISHED, now) for followed in old]

    def next_deadline(self) -> float | None:
        """Earliest time at which ``due`` or ``expired`` can return jobs; None without jobs or before a report."""
        times = []
        followed = self._next()
        if followed and followed.query_at is not None and self._free_slots() > 0:
            times.append(max(followed.query_at, self._resume_at))
        oldest = next(iter(self._followed.values()), None)
        if oldest and oldest.job.job_id not in self._in_flight:
            times.append(oldest.accepted_at + self._limits.age_seconds_max)
        return min(times, default=None)

    # Inside

    def _free_slots(self) -> int:
        """How many more queries may be sent; after a failure a single one probes the OMS."""
        return (1 if self._failures else QUERIES_IN_FLIGHT_MAX) - len(self._in_flight)

    def _next(self) -> _FollowedJob | None:
        """The job with the earliest query; None if none is scheduled."""
        while self._queries:
            query_at, sequence, job_id = self._queries[0]
            followed = self._followed.get(job_id)
            if followed and (followed.sequence, followed.query_at) == (sequence, query_at):
                return followed
            heapq.heappop(self._queries)
        return None

    def _schedule(self, followed: _FollowedJob, query_at: float) -> None:
        followed.query_at = query_at
        heapq.heappush(self._queries, (query_at, followed.sequence, followed.job.job_id))

    def _is_idle(self, followed: _FollowedJob) -> bool:
        """Whether no query of the job is scheduled or in flight."""
        return followed.query_at is None and followed.job.job_id not in self._in_flight

    def _query_head(self, now: float) -> None:
        """Schedule a query of the head: now, but not within ``QUERY_SECONDS_MIN`` of its acceptance."""
        head = next(iter(self._queue.values()), None)
        if head and self._is_idle(head):
            head.queries = 0
            self._schedule(head, max(now, head.accepted_at + QUERY_SECONDS_MIN))

    def _overtake(self, sequence: int, now: float) -> None:
        """The OMS has reached the job with this sequence: those before it have ended, or are stuck."""
        while self._queue and (head := next(iter(self._queue.values()))).sequence < sequence:
            del self._queue[head.job.job_id]
            if self._is_idle(head):
                head.queries = 0
                self._schedule(head, now)

    def _query_again(self, followed: _FollowedJob, now: float, jitter: float) -> None:
        head = next(iter(self._queue), None)
        followed.queries += 1
        if followed.job.job_id == head or followed.job.job_id not in self._queue:
            self._schedule(followed, now + _interval_seconds(followed.queries, QUERY_SECONDS_MAX, jitter))
        if followed.job.job_id == head and followed.queries >= STALLED_QUERIES:
            self._query_another(now)

    def _query_another(self, now: float) -> None:
        """Schedule a query of a job behind a head that may be stuck: of those queried least, the oldest."""
        behind = [followed for followed in self._queue.values() if self._is_idle(followed)]
        if behind:
            self._schedule(min(behind, key=lambda followed: (followed.queries, followed.sequence)), now)

    def _back_off(self, report: JobReport, now: float, jitter: float) -> None:
        """No usable answer: pause all queries, longer each time, and at least for the OMS's Retry-After."""
        self._failures += 1
        self.unavailable_reason = report.detail
        is_refused = report.http_status in QUERY_REFUSALS and not report.over_quota
        seconds_max = REFUSED_SECONDS_MAX if is_refused else QUERY_SECONDS_MAX
        retry_after = report.retry_after_seconds or 0.0
        retry_after = min(retry_after, RETRY_AFTER_SECONDS_MAX) if isfinite(retry_after) else 0.0
        seconds = max(_interval_seconds(self._failures, seconds_max, jitter), retry_after)
        self._resume_at = max(self._resume_at, now + seconds)

    def _end(
        self, followed: _FollowedJob, outcome: JobOutcome, now: float, report: JobReport | None = None
    ) -> JobResult:
        self._remove(followed, now)
        if report is None:
            return JobResult(followed.job, outcome)
        return JobResult(
            followed.job,
            outcome,
            queued_seconds=_seconds_between(report.added, report.started),
            processing_seconds=_seconds_between(report.started, report.finished),
            messages=report.messages,
        )

    def _remove(self, followed: _FollowedJob, now: float) -> None:
        del self._followed[followed.job.job_id]
        self._queue.pop(followed.job.job_id, None)
        self.unfinished_items -= followed.job.items
        self._kept_bytes -= _kept_bytes(followed.job)
        self._query_head(now)


def adaptive_flush_items(unfinished_jobs: int, chunk_items: int, max_items: int) -> int:
    """The number of items that should fill a window, given how many of our jobs the OMS has not finished.

    An idle OMS gets requests of one chunk, which are applied soonest. The longer its queue, the more larger requests
    pay off: one chunk more per unfinished job, up to the whole chunks that fit into a request.
    """
    return min(1 + unfinished_jobs, max(max_items // chunk_items, 1)) * chunk_items


def _kept_bytes(job: Job) -> int:
    return JOB_BYTES + sum(len(changes.offsets) for changes in job.changes)


def _interval_seconds(queries: int, seconds_max: float, jitter: float) -> float:
    """Seconds to wait after this many queries (at least 1) without a result."""
    if not 0 <= jitter <= 1:
        msg = f"jitter must be between 0 and 1, not {jitter}"
        raise ValueError(msg)
    doubled = QUERY_SECONDS_MIN * 2.0 ** min(queries - 1, _DOUBLINGS_MAX)
    return min(doubled, seconds_max) * (1 - QUERY_SECONDS_SPREAD * jitter)


def _seconds_between(earlier: float | None, later: float | None) -> float | None:
    if earlier is None or later is None or later < earlier:
        return None
    return later - earlier
