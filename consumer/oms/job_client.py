"""Queries about jobs on worker threads: get-job, and the list of jobs. Each gets exactly one report."""

from collections.abc import Callable
from typing import Final

import httpx

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_list import JobList, ListQuery
from consumer.core.oms.job_schedule import JobReport
from consumer.errors import InvariantError
from consumer.oms.answers import classify_error
from consumer.oms.http import Endpoint, Reply
from consumer.oms.job_list import query_string, read_job_list
from consumer.oms.job_reports import read_report
from consumer.oms.token import Token, Tokens
from consumer.workers import Workers

THREADS: Final = 2
"""As many as ``core.oms.job_schedule`` has calls in flight."""
CALL_SECONDS_MAX: Final = 15.0
"""A call that takes longer times out and is repeated later; nothing waits for it."""
CLOSE_SECONDS_MAX: Final = 2.0
"""How long ``close`` waits for calls in flight. Their reports are not used any more."""
REPLY_BYTES_MAX: Final = 2 * 1024 * 1024
"""Enough for one message per item of the largest request."""
_CALLS_MAX: Final = 2
"""Calls for one question: a second one only after a 401, with a new token."""


class HttpJobClient:
    """``ports.JobClient`` over HTTP. It shares connections and tokens with the refresh client, which owns it."""

    def __init__(
        self,
        endpoint: Endpoint,
        tokens: Tokens,
        *,
        timeout_seconds: float,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        lists: Endpoint | None = None,
    ) -> None:
        """``endpoint`` is the address of a job without its jobID, ``lists`` that of the list; None: there is none."""
        self._lists = lists
        self._endpoint = endpoint
        self._tokens = tokens
        self._timeout_seconds = min(timeout_seconds, CALL_SECONDS_MAX)
        self._monotonic = monotonic
        self._wall = wall
        self._reports: list[JobReport] = []
        self._taken_lists: list[JobList] = []
        self._workers = Workers("oms-jobs", self._work, count=THREADS, monotonic=monotonic)

    @property
    def has_lists(self) -> bool:
        """Whether ``ask_list`` may be called."""
        return self._lists is not None

    # ports.JobClient

    def ask(self, job_id: str) -> None:
        """Ask for the status of this job. Raises InvariantError after ``close``."""
        self._workers.submit(job_id)

    def ask_list(self, query: ListQuery) -> None:
        """Ask for a list of jobs. Raises InvariantError after ``close``, or if the API has no list."""
        if self._lists is None:
            raise InvariantError("this API has no list of jobs")
        self._workers.submit(query)

    def reports(self) -> list[JobReport]:
        """The reports that have come, without waiting.

        Raises the unexpected exception of a worker, which is a bug, once all reports before it are taken.
        """
        self._take()
        reports, self._reports = self._reports, []
        return reports

    def lists(self) -> list[JobList]:
        """The lists that have come, as ``reports`` does."""
        self._take()
        lists, self._taken_lists = self._taken_lists, []
        return lists

    def close(self) -> None:
        """Make no further calls. Waits a moment for those in flight, then abandons them. May be called again."""
        self._workers.close(CLOSE_SECONDS_MAX)

    def _take(self) -> None:
        for taken in self._workers.take():
            if isinstance(taken, JobList):
                self._taken_lists.append(taken)
            else:
                self._reports.append(taken)

    # On a worker's thread

    def _work(self, workers: Workers[str | ListQuery, JobReport | JobList]) -> None:
        while (query := workers.receive()) is not None:
            workers.deliver(self._list(query) if isinstance(query, ListQuery) else self._report(query))

    def _report(self, job_id: str) -> JobReport:
        called = self._call(self._endpoint, job_id)
        if isinstance(called, Answer):
            return JobReport(
                job_id,
                detail=called.detail,
                over_quota=called.kind is AnswerKind.OVER_QUOTA,
                retry_after_seconds=called.retry_after_seconds,
            )
        reply, token = called
        report = read_report(job_id, reply.status, reply.headers, reply.body, wall=self._wall())
        if report.status:
            self._tokens.record_let_in(token)
        return report

    def _list(self, query: ListQuery) -> JobList:
        if self._lists is None:
            raise InvariantError("a list was asked for of an API without one")
        called = self._call(self._lists, query_string(query))
        if isinstance(called, Answer):
            return JobList(
                query,
                detail=called.detail,
                over_quota=called.kind is AnswerKind.OVER_QUOTA,
                retry_after_seconds=called.retry_after_seconds,
            )
        reply, token = called
        jobs = read_job_list(query, reply.status, reply.headers, reply.body, wall=self._wall())
        if jobs.jobs is not None:
            self._tokens.record_let_in(token)
        return jobs

    def _call(self, endpoint: Endpoint, path: str) -> tuple[Reply, Token] | Answer:
        """The reply and the token that got it, a new one after a 401; or why there is no reply."""
        token = self._tokens.get()
        for calls in range(1, _CALLS_MAX + 1):
            if isinstance(token, Answer):
                # The status of the token request says nothing about jobs, so callers leave it out.
                return token
            try:
                reply = endpoint.call(
                    "GET",
                    path,
                    headers=[token.header],
                    body=None,
                    seconds_max=self._timeout_seconds,
                    monotonic=self._monotonic,
                    reply_bytes_max=REPLY_BYTES_MAX,
                )
            except httpx.HTTPError as error:
                return classify_error(error)
            reply = reply.without(token.value, *endpoint.secrets)
            # A 403 is not counted against the token: a key without permission for jobs may still refresh.
            if reply.status != 401 or not self._tokens.replace(token) or calls == _CALLS_MAX:
                return reply, token
            token = self._tokens.get()
        raise InvariantError("a call that is neither answered nor failed")
