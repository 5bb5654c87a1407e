"""How jobs are asked about: with one list for many where the API has it, else one by one (rule 29).

A list is cut at its limit, so a job that it lacks may still be queued: it is asked about singly. Where the list is
refused, or lacks the job that is due, jobs are asked about singly for a while.
"""

from collections.abc import Sequence
from math import inf
from typing import Final

from consumer.core.oms.job_list import LIST_JOBS, JobList, ListPurpose, ListQuery
from consumer.core.oms.job_schedule import QUERY_REFUSALS, JobReport, JobStatus
from consumer.ports import JobClient

LIST_JOBS_MIN: Final = 2
"""With fewer unfinished jobs a list says no more than a single query."""
USELESS_SECONDS: Final = 60.0
"""For so long no list is asked for after one that lacked the job that was due."""
REFUSED_SECONDS: Final = 900.0
"""And after one that was refused: no permission, no such address."""

_ENDED: Final = frozenset({JobStatus.SUCCESS, JobStatus.FAILED})


class JobQueries:
    """The queries in flight. Each job that is asked about gets exactly one report. Times are monotonic seconds."""

    def __init__(self, client: JobClient) -> None:
        self._client = client
        self._listed: tuple[str, ...] = ()
        """The job for which the list in flight was asked, if there is one."""
        self._no_list_until = -inf if client.has_lists else inf
        self._of_others: list[JobList] = []

    def ask(self, job_ids: Sequence[str], unfinished: int, now: float) -> int:
        """Ask about these jobs; ``unfinished`` is the number of all that have not ended. Returns the number of calls.

        A list stands for the query of one job, so that one failed call counts as one failure.
        """
        if not job_ids or self._listed or unfinished < LIST_JOBS_MIN or now < self._no_list_until:
            return self._ask_singly(job_ids)
        self._listed = tuple(job_ids[:1])
        self._client.ask_list(ListQuery(limit=LIST_JOBS + 2 * unfinished))
        return 1 + self._ask_singly(job_ids[1:])

    def reports(self, now: float) -> tuple[list[JobReport], int]:
        """The reports that have come, and the number of calls for jobs that a list lacks."""
        reports = self._client.reports()
        calls = 0
        for listed in self._client.lists():
            if listed.query.purpose is not ListPurpose.JOBS:
                self._of_others.append(listed)
                continue
            due, self._listed = self._listed, ()
            found, missing = self._found(listed, due, now)
            reports += found
            calls += self._ask_singly(missing)
        return reports, calls

    def lists_of_others(self) -> list[JobList]:
        """The lists that ``reports`` has taken and that were asked for elsewhere."""
        lists, self._of_others = self._of_others, []
        return lists

    def _ask_singly(self, job_ids: Sequence[str]) -> int:
        for job_id in job_ids:
            self._client.ask(job_id)
        return len(job_ids)

    def _found(self, listed: JobList, due: Sequence[str], now: float) -> tuple[list[JobReport], list[str]]:
        """What a list says, and the job that was due if the list lacks it."""
        if listed.jobs is None:
            if listed.http_status in {400, *QUERY_REFUSALS} and not listed.over_quota:
                self._no_list_until = now + REFUSED_SECONDS
                return [], list(due)
            return [_failure(job_id, listed) for job_id in due], []
        by_id = {job.report.job_id: job.report for job in listed.jobs if job.report.status is not None}
        missing = [job_id for job_id in due if job_id not in by_id]
        if missing:
            self._no_list_until = now + USELESS_SECONDS
        # The end of a job makes another one due; what the list says of that one must come after it.
        return sorted(by_id.values(), key=lambda report: report.status not in _ENDED), missing


def _failure(job_id: str, listed: JobList) -> JobReport:
    return JobReport(
        job_id,
        detail=listed.detail,
        over_quota=listed.over_quota,
        retry_after_seconds=listed.retry_after_seconds,
        http_status=listed.http_status,
    )
