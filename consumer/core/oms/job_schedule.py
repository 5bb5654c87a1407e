"""What becomes of accepted requests: which job to ask the OMS about and when, with few calls. Pure.

The OMS works jobs off one at a time, in order. So while the oldest unfinished job (the *head*) has not ended, the ones
behind it mostly have not either: only the head is asked about, after waits that double, and when it ends the next one
at once. Whatever the OMS is seen to have passed by (a later job is at work, or has ended) is asked about as well. A
head that is waited for longer than a minute may be stuck alone: then now and then one of the later jobs is asked about,
which tells if the OMS has passed it by.

Times are monotonic seconds, as the caller's ``now``; those in reports are the OMS's, seconds since 1970.
"""

import heapq
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf, isfinite
from typing import Final

from consumer.core.oms.offset_codec import PackedChanges

QUERIES_IN_FLIGHT_MAX: Final = 2
"""Calls under way: one for the head, one for a job that the OMS has passed by. More would ask no sooner, only more."""
QUERY_SECONDS_MIN: Final = 2.0
"""Before the first call for a job, and after it; a job of one chunk takes the OMS about so long."""
QUERY_SECONDS_MAX: Final = 60.0
"""The waits between calls for one job double up to this."""
QUERY_SECONDS_SPREAD: Final = 0.25
"""Jitter shortens a wait by up to this share."""
STALLED_QUERIES: Final = 6
"""A head that was asked about so often in vain (for a minute or more) may be stuck: others are tried besides."""
UNKNOWN_ANSWERS_MAX: Final = 2
"""So often in a row the OMS must know nothing of a job: what reads its queue may lag behind what writes it."""
REFUSED_SECONDS_MAX: Final = 900.0
"""While the OMS refuses the calls as such (no permission, wrong address) all asking slows down to this."""
RETRY_AFTER_SECONDS_MAX: Final = 3_600.0
"""A longer wish of the OMS is cut to this."""

JOB_BYTES: Final = 512
"""Memory of a followed job, without its offsets."""
ROOM_SHARE: Final = 0.9
"""A full queue has room again below this share of its limit: not for one request at every job that ends."""

_REFUSALS: Final = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 410})
"""HTTP codes that will most likely be the same next time: redirects, no permission, no such address."""
_DOUBLINGS_MAX: Final = 32


class JobStatus(StrEnum):
    """As the OMS names them."""

    PENDING = "PENDING"
    WORKING = "WORKING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class JobReport:
    """What one call for a job brought.

    ``status`` None: no usable answer, for the reason in ``detail``; the job is asked about again later. ``unknown``:
    the OMS says that it knows no such job. ``added``, ``started`` and ``finished`` are seconds since 1970, None where
    the OMS does not say. ``messages`` are the OMS's words, bounded in number and length. ``over_quota``: there were too
    many calls; ``retry_after_seconds`` is the OMS's own wish, if it had one. ``http_status`` 0: there was no answer.
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
    http_status: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """An accepted request. ``changes`` has its changes by assignment (``offset_codec.pack_changes``)."""

    job_id: str
    location: str
    items: int
    chunks: int
    changes: tuple[PackedChanges, ...] = ()


class JobOutcome(StrEnum):
    """How a job ended; a label in metrics."""

    SUCCESS = "success"
    """The OMS has applied it."""
    FAILED = "failed"
    """The OMS says that nothing of it was applied."""
    NEVER_FINISHED = "never_finished"
    """It had not ended when ``age_seconds_max`` was over."""
    UNKNOWN_JOB = "unknown_job"
    """The OMS gave a jobID, and now knows of no such job."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job is over.

    ``queued_seconds`` from added to started and ``worked_seconds`` from started to finished are by the OMS's clock, and
    None where it does not say.
    """

    job: Job
    outcome: JobOutcome
    queued_seconds: float | None = None
    worked_seconds: float | None = None
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What bounds the follow-up."""

    age_seconds_max: float = 86_400.0
    unfinished_max: int = 1_000
    """With so many the queue is full: an OMS that is so far behind gains nothing from more, smaller jobs."""
    kept_bytes_max: int = 64 * 1024 * 1024
    """Of all jobs and their offsets; 1,000 jobs of 12,000 scattered changes take a third of it."""


@dataclass(eq=False, slots=True)
class _Followed:
    job: Job
    number: int
    """In the order in which the OMS accepted them."""
    since: float
    queries: int = 0
    """Calls in vain since the job became the head, or was passed by."""
    query_at: float | None = None
    """When it is to be asked about; None: not until others have ended, or a call is under way."""
    unknown_answers: int = 0


class JobSchedule:
    """The accepted jobs whose end is not known yet."""

    def __init__(self, limits: JobLimits) -> None:
        self._limits = limits
        self._followed: dict[str, _Followed] = {}
        self._waiting: dict[str, _Followed] = {}
        """Those of them that the OMS is not seen to have passed by. The first is the head."""
        self._queries: list[tuple[float, int, str]] = []
        """A heap of when to ask, number and jobID. Entries that do not agree with ``query_at`` any more are stale."""
        self._in_flight: set[str] = set()
        self._numbers = 0
        self._kept_bytes = 0
        self._is_full = False
        self._failures = 0
        self._resume_at = -inf
        self.unfinished_items = 0
        self.unavailable_reason: str | None = None
        """Why the OMS tells nothing of jobs at present, in its words; "" while it does."""

    @property
    def unfinished(self) -> int:
        """How many jobs are followed."""
        return len(self._followed)

    def oldest_seconds(self, now: float) -> float:
        """For how long the oldest unfinished job has been followed; 0 without any."""
        return now - next(iter(self._followed.values())).since if self._followed else 0.0

    def unfinished_jobs(self) -> list[Job]:
        """The jobs whose end is not known, oldest first."""
        return [followed.job for followed in self._followed.values()]

    def full_reason(self) -> str | None:
        """Why nothing should be sent before more jobs have ended; None while there is room.

        While the OMS tells nothing of jobs, their number says nothing of its queue, and only memory counts.
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
        """Follow a job that was just accepted. None is dropped to make room: ``full_reason`` says when to stop.

        Should its jobID be followed already, that job stands for both requests from now on.
        """
        self.unfinished_items += job.items
        known = self._followed.get(job.job_id)
        if known:
            self._kept_bytes += _kept_bytes(job) - JOB_BYTES
            items, chunks = known.job.items + job.items, known.job.chunks + job.chunks
            known.job = replace(job, items=items, chunks=chunks, changes=known.job.changes + job.changes)
            return
        self._numbers += 1
        followed = _Followed(job, self._numbers, now)
        self._followed[job.job_id] = self._waiting[job.job_id] = followed
        self._kept_bytes += _kept_bytes(job)
        self._watch_head(now)

    def due(self, now: float, calls_max: int) -> list[str]:
        """The jobs to ask about now, at most ``calls_max``. Each is under way until ``on_report``."""
        asked: list[str] = []
        room = min(calls_max, self._room()) if now >= self._resume_at else 0
        while len(asked) < room and (followed := self._next()) and followed.query_at is not None:
            if followed.query_at > now:
                break
            followed.query_at = None
            self._in_flight.add(followed.job.job_id)
            asked.append(followed.job.job_id)
        return asked

    def on_report(self, report: JobReport, now: float, jitter: float) -> JobResult | None:
        """Take what a call brought; returns the job's end if that is it. ``jitter`` is random in 0 to 1."""
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
            return self._end(followed, JobOutcome.UNKNOWN_JOB, report, now)
        match report.status:
            case JobStatus.SUCCESS | JobStatus.FAILED as status:
                self._passed_by(followed.number, now)
                return self._end(followed, JobOutcome(status.lower()), report, now)
            case JobStatus.WORKING:
                self._passed_by(followed.number, now)
        self._query_again(followed, now, jitter)
        return None

    def expired(self, now: float) -> list[JobResult]:
        """The jobs that have not ended in ``age_seconds_max``: they are followed no longer."""
        old = []
        for followed in self._followed.values():
            if now - followed.since < self._limits.age_seconds_max:
                break
            if followed.job.job_id not in self._in_flight:
                old.append(followed)
        nothing = JobReport("")
        return [self._end(followed, JobOutcome.NEVER_FINISHED, nothing, now) for followed in old]

    def next_deadline(self) -> float | None:
        """When ``due`` or ``expired`` may have something next, as far as time alone decides."""
        times = []
        following = self._next()
        if following and following.query_at is not None and self._room() > 0:
            times.append(max(following.query_at, self._resume_at))
        oldest = next(iter(self._followed.values()), None)
        if oldest and oldest.job.job_id not in self._in_flight:
            times.append(oldest.since + self._limits.age_seconds_max)
        return min(times, default=None)

    # Inside

    def _room(self) -> int:
        """How many more calls may be under way; after a failure a single one finds out whether the OMS is well."""
        return (1 if self._failures else QUERIES_IN_FLIGHT_MAX) - len(self._in_flight)

    def _next(self) -> _Followed | None:
        """The job to be asked about next."""
        while self._queries:
            query_at, number, job_id = self._queries[0]
            followed = self._followed.get(job_id)
            if followed and (followed.number, followed.query_at) == (number, query_at):
                return followed
            heapq.heappop(self._queries)
        return None

    def _plan(self, followed: _Followed, query_at: float) -> None:
        followed.query_at = query_at
        heapq.heappush(self._queries, (query_at, followed.number, followed.job.job_id))

    def _is_idle(self, followed: _Followed) -> bool:
        return followed.query_at is None and followed.job.job_id not in self._in_flight

    def _watch_head(self, now: float) -> None:
        """See to it that the head is asked about: at once, but not before the OMS had a moment for it."""
        head = next(iter(self._waiting.values()), None)
        if head and self._is_idle(head):
            head.queries = 0
            self._plan(head, max(now, head.since + QUERY_SECONDS_MIN))

    def _passed_by(self, number: int, now: float) -> None:
        """The OMS has come as far as this job: those before it must have ended, or are stuck."""
        while self._waiting and (head := next(iter(self._waiting.values()))).number < number:
            del self._waiting[head.job.job_id]
            if self._is_idle(head):
                head.queries = 0
                self._plan(head, now)

    def _query_again(self, followed: _Followed, now: float, jitter: float) -> None:
        head = next(iter(self._waiting), None)
        followed.queries += 1
        if followed.job.job_id == head or followed.job.job_id not in self._waiting:
            self._plan(followed, now + _wait_seconds(followed.queries, QUERY_SECONDS_MAX, jitter))
        if followed.job.job_id == head and followed.queries >= STALLED_QUERIES:
            self._try_another(now)

    def _try_another(self, now: float) -> None:
        """Ask about a job behind a head that may be stuck: the first one that was asked about least."""
        behind = [followed for followed in self._waiting.values() if self._is_idle(followed)]
        if behind:
            self._plan(min(behind, key=lambda followed: (followed.queries, followed.number)), now)

    def _back_off(self, report: JobReport, now: float, jitter: float) -> None:
        """No usable answer: ask about nothing for a while, longer each time, and as long as the OMS wishes."""
        self._failures += 1
        self.unavailable_reason = report.detail
        refused = report.http_status in _REFUSALS and not report.over_quota
        longest = REFUSED_SECONDS_MAX if refused else QUERY_SECONDS_MAX
        wished = report.retry_after_seconds or 0.0
        wished = min(wished, RETRY_AFTER_SECONDS_MAX) if isfinite(wished) else 0.0
        seconds = max(_wait_seconds(self._failures, longest, jitter), wished)
        self._resume_at = max(self._resume_at, now + seconds)

    def _end(self, followed: _Followed, outcome: JobOutcome, report: JobReport, now: float) -> JobResult:
        self._remove(followed, now)
        queued = _seconds_between(report.added, report.started)
        worked = _seconds_between(report.started, report.finished)
        return JobResult(followed.job, outcome, queued, worked, report.messages)

    def _remove(self, followed: _Followed, now: float) -> None:
        del self._followed[followed.job.job_id]
        self._waiting.pop(followed.job.job_id, None)
        self.unfinished_items -= followed.job.items
        self._kept_bytes -= _kept_bytes(followed.job)
        self._watch_head(now)


def adaptive_flush_items(unfinished_jobs: int, chunk_items: int, max_items: int) -> int:
    """From how many items on a window should count as full, given how many of our jobs the OMS has not worked off.

    An idle OMS gets single chunks, which are applied soonest; the more it is behind, the larger requests pay off: a
    chunk more per unfinished job, up to the most whole chunks of a request.
    """
    return min(1 + unfinished_jobs, max(max_items // chunk_items, 1)) * chunk_items


def _kept_bytes(job: Job) -> int:
    return JOB_BYTES + sum(len(changes.offsets) for changes in job.changes)


def _wait_seconds(asks: int, longest: float, jitter: float) -> float:
    """Seconds after the ``asks``-th call in vain (from 1)."""
    if not 0 <= jitter <= 1:
        msg = f"jitter lies in 0 to 1, not {jitter}"
        raise ValueError(msg)
    doubled = QUERY_SECONDS_MIN * 2.0 ** min(asks - 1, _DOUBLINGS_MAX)
    return min(doubled, longest) * (1 - QUERY_SECONDS_SPREAD * jitter)


def _seconds_between(earlier: float | None, later: float | None) -> float | None:
    return None if earlier is None or later is None or later < earlier else later - earlier
