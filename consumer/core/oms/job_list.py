"""The OMS's list of jobs: what one call says about many jobs, and what it proves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from consumer.core.oms.job_schedule import JobReport, JobStatus

LIST_JOBS: Final = 100
"""Jobs asked for in one list, in addition to twice those that are followed: others use the OMS, too."""

_UNFINISHED: Final = frozenset({JobStatus.PENDING, JobStatus.WORKING, None})
"""A job whose status cannot be read may be unfinished."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Ask for the refresh jobs of a location; None: of all locations."""

    location: str | None = None
    limit: int = LIST_JOBS


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job in a list. ``location`` and ``items`` are None if the OMS does not say."""

    report: JobReport
    location: str | None = None
    items: int | None = None


@dataclass(frozen=True, slots=True)
class JobList:
    """The answer to a ``ListQuery``, or what came instead of one.

    ``jobs`` is None without a usable answer; ``detail`` says why. ``is_complete``: the list cannot lack a job, since it
    has fewer than were asked for and each of them could be read. The other fields are those of ``JobReport``.
    """

    query: ListQuery
    jobs: tuple[ListedJob, ...] | None = None
    is_complete: bool = False
    detail: str = ""
    over_quota: bool = False
    retry_after_seconds: float | None = None
    http_status: int | None = None

    def at(self, location: str) -> Iterator[ListedJob]:
        """The jobs that may be of this location."""
        return (job for job in self.jobs or () if job.location in (location, None))

    def proves_idle(self, location: str) -> bool:
        """Whether no refresh of this location was PENDING or WORKING. False says nothing."""
        covers = self.query.location in (location, None)
        return covers and self.is_complete and all(job.report.status not in _UNFINISHED for job in self.at(location))
