"""What the OMS's list of jobs proves about a request whose answer was lost (rule 33). Times are seconds since 1970.

The request may be queued, may be queued later, or never. Only one thing ends that doubt early: its job is in the list
and has ended. Nothing else can be that job, provided that nobody else sends (``oms.only_sender``).
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from consumer.core.oms.job_list import JobList
from consumer.core.oms.job_schedule import JobStatus

CLOCK_SECONDS_MAX: Final = 10.0
"""How far our idea of the OMS's time may be off: its ``Date`` has whole seconds, and the network takes time."""
_REMEMBERED_SECONDS: Final = 900.0
"""Longer than a request takes (``oms.timeout``), with the clocks' difference."""
_ENDED: Final = frozenset({JobStatus.SUCCESS, JobStatus.FAILED})


@dataclass(frozen=True, slots=True)
class LostAnswer:
    """A request of unknown outcome, the only one of its location: ``items`` were sent, by monotonic time.

    ``known_job_ids`` are those that were given to us for the location shortly before.
    """

    location: str
    items: int
    sent_at: float
    lost_at: float
    known_job_ids: frozenset[str]


def has_job_ended(lost: LostAnswer, jobs: JobList, clock_ahead: float) -> bool:
    """Whether the list proves that the request was queued and its job has ended.

    ``clock_ahead`` is what the OMS's time is ahead of our monotonic time. A list that was cut proves nothing, and
    neither does one with another job that may be of this time.
    """
    if jobs.jobs is None or not jobs.is_complete:
        return False
    earliest = lost.sent_at + clock_ahead - CLOCK_SECONDS_MAX
    latest = lost.lost_at + clock_ahead + CLOCK_SECONDS_MAX
    found = [
        job
        for job in jobs.jobs
        if job.report.job_id not in lost.known_job_ids
        and (job.report.added is None or earliest <= job.report.added <= latest)
    ]
    if len(found) != 1:
        return False
    (job,) = found
    is_ours = (job.location, job.items) == (lost.location, lost.items) and job.report.added is not None
    return is_ours and job.report.status in _ENDED


class RecentJobs:
    """The jobIDs that were given to us lately: the jobs of these are not the lost one."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[float, str, str]] = deque()

    def add(self, location: str, job_id: str, now: float) -> None:
        self._jobs.append((now, location, job_id))
        while now - self._jobs[0][0] > _REMEMBERED_SECONDS:
            self._jobs.popleft()

    def of(self, location: str, sent_at: float) -> frozenset[str]:
        """Those of a location that could be taken for the job of a request sent at this time."""
        earliest = sent_at - 2 * CLOCK_SECONDS_MAX
        return frozenset(job_id for at, name, job_id in self._jobs if name == location and at >= earliest)
