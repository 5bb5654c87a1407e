"""The OMS's list of jobs: what one call says about many jobs."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from consumer.core.oms.job_schedule import JobReport

LIST_JOBS: Final = 100
"""Jobs asked for in one list, in addition to twice those that are followed: others use the OMS, too."""


class ListPurpose(Enum):
    """Who asks for a list. Each asks for one at a time."""

    JOBS = auto()
    """To follow the jobs of accepted requests."""
    HOLD = auto()
    """To end a hold early."""
    SMART_REFRESH = auto()
    """To clear locations for smart refresh."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Ask for the refresh jobs of a location; None: of all locations."""

    location: str | None = None
    limit: int = LIST_JOBS
    purpose: ListPurpose = ListPurpose.JOBS


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
