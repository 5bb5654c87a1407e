"""How long the OMS takes for a chunk, from refresh jobs that have ended: of the OMS's list, or of running members.

A job's time is from its start in the OMS to its end, by the OMS's clock: what it waited in the queue does not count.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final

import httpx
from pydantic import ValidationError

from consumer.core.location.planner import chunks
from consumer.core.oms.job_list import ListedJob, ListQuery
from consumer.core.oms.job_schedule import JobOutcome, JobStatus
from consumer.errors import InvariantError, StopError
from consumer.observe.members import find_members
from consumer.observe.status import api
from consumer.oms.apis import APIS
from consumer.oms.client import build_client
from consumer.settings import OmsSettings, Settings
from consumer.text import one_line

JOBS_MIN: Final = 3
"""Ended jobs from which the time of a chunk is taken; fewer say little."""
JOBS_MAX: Final = 200
"""Asked for in one list."""
ANSWER_SECONDS_MAX: Final = 5.0
"""For each of the OMS and the members to answer: `plan` works without, too."""
MEMBERS_ASKED: Final = 8
"""At a time."""
POLL_SECONDS: Final = 0.02
DETAIL_CHARACTERS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class ChunkSeconds:
    """The median seconds of a chunk, and the number of jobs it is from; both None if it is not known.

    ``origin`` says where the number comes from, or why there is none.
    """

    seconds: float | None
    jobs: int | None
    origin: str


def chunk_seconds_of(settings: Settings, members: Sequence[str]) -> ChunkSeconds:
    """Ask the OMS, if its API has a list of jobs, and then the members at these addresses (``http.members`` without).

    Never raises for what does not answer: ``origin`` says so.
    """
    reasons = []
    sources = [partial(_of_oms, settings), partial(_of_members, members, settings.http.members)]
    for source in sources:
        seconds, origin = source()
        if len(seconds) >= JOBS_MIN:
            return ChunkSeconds(median(seconds), len(seconds), origin)
        reasons.append(f"{origin}: {len(seconds)} ended jobs with times, of {JOBS_MIN} needed" if seconds else origin)
    return ChunkSeconds(None, None, "; ".join(reasons))


# The OMS's list


def _of_oms(settings: Settings) -> tuple[list[float], str]:
    oms = settings.oms
    if APIS[oms.api].job_list_path is None:
        return [], f"oms.api {oms.api} has no list of jobs"
    try:
        jobs, detail = _listed(oms, settings.window.item_key)
    except StopError as error:
        return [], f"the OMS was not asked: {one_line(str(error), DETAIL_CHARACTERS_MAX)}"
    if jobs is None:
        return [], f"the OMS does not list jobs: {one_line(detail, DETAIL_CHARACTERS_MAX)}"
    seconds = [found for job in jobs if (found := _seconds_of(job, oms.chunk_items)) is not None]
    return seconds, "the OMS's list of jobs"


def _listed(oms: OmsSettings, item_key: Sequence[str]) -> tuple[Sequence[ListedJob] | None, str]:
    """The newest refresh jobs; None, and why, if there is no list."""
    quick = oms.model_copy(update={"track_jobs": True, "timeout": min(oms.timeout, ANSWER_SECONDS_MAX)})
    with closing(build_client(quick, item_key, monotonic=time.monotonic, wall=time.time, fence_seconds=0.0)) as client:
        unreachable = client.check_credentials()
        if unreachable:
            return None, unreachable
        if client.jobs is None:
            raise InvariantError("a client built with track_jobs can ask for jobs")
        client.jobs.ask_list(ListQuery(limit=JOBS_MAX))
        while not (lists := client.jobs.lists()):
            time.sleep(POLL_SECONDS)
    return lists[0].jobs, lists[0].detail


def _seconds_of(job: ListedJob, chunk_items: int) -> float | None:
    """Seconds of a chunk of this job; None if it has not succeeded, or does not say."""
    report = job.report
    if report.status is not JobStatus.SUCCESS or report.started is None or report.finished is None or not job.items:
        return None
    seconds = report.finished - report.started
    return seconds / chunks(job.items, chunk_items) if seconds >= 0 else None


# Members


def _of_members(given: Sequence[str], names: Sequence[str]) -> tuple[list[float], str]:
    urls, problems = list(given), []
    if not urls:
        if not names:
            return [], "no running process is known (--member, http.members)"
        found = find_members(names)
        urls, problems = list(found.urls), list(found.problems)
    with (
        httpx.Client(timeout=ANSWER_SECONDS_MAX, trust_env=False) as client,
        ThreadPoolExecutor(MEMBERS_ASKED) as threads,
    ):
        answers = list(threads.map(partial(_of_member, client), urls))
    seconds = [found for answer in answers if not isinstance(answer, str) for found in answer]
    problems += [answer for answer in answers if isinstance(answer, str)]
    asked = sum(not isinstance(answer, str) for answer in answers)
    if not asked:
        return [], f"no running process answers: {'; '.join(problems)}"
    return seconds, f"the latest requests of {asked} running {'process' if asked == 1 else 'processes'}"


def _of_member(client: httpx.Client, url: str) -> list[float] | str:
    """Seconds of a chunk of each of its jobs; or why it does not say."""
    try:
        content = client.get(f"{url}/api/requests").raise_for_status().content
        requests = api.Requests.model_validate_json(content).requests
    except httpx.HTTPStatusError as error:
        return f"{url} answers with HTTP {error.response.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{url} does not answer: {str(error) or type(error).__name__}"
    except ValidationError:
        return f"{url} answers, but not as this version does"
    return [
        request.job_seconds / request.chunks
        for request in requests
        if request.job_outcome == JobOutcome.SUCCESS and request.job_seconds is not None
    ]
