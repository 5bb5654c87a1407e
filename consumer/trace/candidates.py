"""The jobs of a location in the OMS's list, as candidates for changes whose job is not known."""

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from consumer.core.oms.job_list import JobList, ListedJob, ListQuery
from consumer.oms.client import build_client
from consumer.settings import Settings

JOBS_MAX: Final = 200
"""Asked for: the OMS lists the latest."""
SHOWN_MAX: Final = 20
CLOCK_SECONDS: Final = 60.0
"""How far the clocks of the OMS and of Kafka may be apart."""
ANSWER_SECONDS_MAX: Final = 30.0
POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Candidates:
    """Jobs that were added since the change was published, the oldest first; ``problem`` says why there are none."""

    jobs: list[ListedJob] = field(default_factory=list)
    left_out: int = 0
    problem: str | None = None


def candidates(settings: Settings, location: str, since: float) -> Candidates:
    """Ask the OMS for the location's refresh jobs since then (seconds since 1970)."""
    oms = settings.oms.model_copy(update={"track_jobs": True})
    with closing(
        build_client(oms, settings.window.item_key, monotonic=time.monotonic, wall=time.time, fence_seconds=0.0)
    ) as client:
        if client.jobs is None or not client.jobs.has_lists:
            return Candidates(problem="this API of the OMS lists no jobs; the log has request_accepted by location")
        client.jobs.ask_list(ListQuery(location, JOBS_MAX))
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while not (listed := client.jobs.lists()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    return _candidates(listed[0] if listed else None, location, since)


def _candidates(listed: JobList | None, location: str, since: float) -> Candidates:
    if listed is None:
        return Candidates(problem="the OMS did not answer in time")
    if listed.jobs is None:
        return Candidates(problem=f"the OMS does not list its jobs: {listed.detail}")
    found = [
        job
        for job in listed.jobs
        if job.location in (None, location) and (job.report.added is None or job.report.added >= since - CLOCK_SECONDS)
    ]
    found.sort(key=lambda job: job.report.added or 0.0)
    return Candidates(found[:SHOWN_MAX], max(len(found) - SHOWN_MAX, 0))
