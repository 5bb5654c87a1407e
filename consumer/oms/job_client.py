"""Get-job calls on worker threads: the status of a job. Each question gets exactly one report."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_schedule import JobReport, JobStatus
from consumer.oms.answers import classify_error
from consumer.oms.http import Endpoint
from consumer.oms.reply_parsing import (
    is_over_quota,
    read_code,
    read_job_id,
    read_json,
    read_message,
    read_retry_after,
    short_line,
    write_json,
)
from consumer.oms.token import Tokens
from consumer.workers import Workers

THREADS: Final = 2
"""As many as ``core.oms.job_schedule`` has calls in flight."""
CALL_SECONDS_MAX: Final = 15.0
"""A call that takes longer times out and is repeated later; nothing waits for it."""
CLOSE_SECONDS_MAX: Final = 2.0
"""How long ``close`` waits for calls in flight. Their reports are not used any more."""
REPLY_BYTES_MAX: Final = 2 * 1024 * 1024
"""Enough for one message per item of the largest request."""
MESSAGES_MAX: Final = 20
"""Messages kept of a job. If there are more, one further line says how many."""

_TOO_DEEP: Final = "a message that nests too deep to be shown"

_CALLS_MAX: Final = 2
"""Calls for one question: a second one only after a 401, with a new token."""
_NO_SUCH_JOB_CODES: Final = (5002, 5012, 5013)
"""The OMS's own codes for not found, id mismatch and invalid id."""


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
    ) -> None:
        """``endpoint`` is the address of a job without its jobID."""
        self._endpoint = endpoint
        self._tokens = tokens
        self._timeout_seconds = min(timeout_seconds, CALL_SECONDS_MAX)
        self._monotonic = monotonic
        self._wall = wall
        self._workers = Workers("oms-jobs", self._work, count=THREADS, monotonic=monotonic)

    # ports.JobClient

    def ask(self, job_id: str) -> None:
        """Ask for the status of this job. Raises InvariantError after ``close``."""
        self._workers.submit(job_id)

    def reports(self) -> list[JobReport]:
        """The reports that have come, without waiting.

        Raises the unexpected exception of a worker, which is a bug, once all reports before it are taken.
        """
        return self._workers.take()

    def close(self) -> None:
        """Make no further calls. Waits a moment for those in flight, then abandons them. May be called again."""
        self._workers.close(CLOSE_SECONDS_MAX)

    # On a worker's thread

    def _work(self, workers: Workers[str, JobReport]) -> None:
        while (job_id := workers.receive()) is not None:
            workers.deliver(self._report(job_id))

    def _report(self, job_id: str) -> JobReport:
        report = JobReport(job_id)
        for _ in range(_CALLS_MAX):
            token = self._tokens.get()
            if isinstance(token, Answer):
                # The status of the token request says nothing about get-job, so it is left out.
                return JobReport(
                    job_id,
                    detail=token.detail,
                    over_quota=token.kind is AnswerKind.OVER_QUOTA,
                    retry_after_seconds=token.retry_after_seconds,
                )
            try:
                reply = self._endpoint.call(
                    "GET",
                    job_id,
                    headers=[token.header],
                    body=None,
                    seconds_max=self._timeout_seconds,
                    monotonic=self._monotonic,
                    reply_bytes_max=REPLY_BYTES_MAX,
                )
            except httpx.HTTPError as error:
                return JobReport(job_id, detail=classify_error(error).detail)
            reply = reply.without(token.value, *self._endpoint.secrets)
            report = read_report(job_id, reply.status, reply.headers, reply.body, wall=self._wall())
            if reply.status != 401 or not self._tokens.replace(token):
                # A 403 is not counted against the token: a key without permission for get-job may still refresh.
                if report.status:
                    self._tokens.record_let_in(token)
                return report
        return report


def read_report(job_id: str, status: int, headers: Mapping[str, str], body: bytes, *, wall: float) -> JobReport:
    """Read what a response says about a job.

    ``headers`` must ignore case, as httpx.Headers do; ``body`` may be cut off at the caller's limit; ``wall`` is the
    time in seconds since 1970, against which a date in Retry-After is read.
    """
    content = read_json(body)
    if 200 <= status <= 299:
        return _read_job(job_id, status, content, read_message({}, content, body))
    return JobReport(
        job_id,
        unknown=_is_no_such_job(status, content),
        detail=f"HTTP {status}: {read_message(headers, content, body)}",
        over_quota=is_over_quota(status, headers),
        retry_after_seconds=read_retry_after(headers, wall),
        http_status=status,
    )


def _read_job(job_id: str, status: int, content: Any, message: str) -> JobReport:
    """The job in a 2xx response. Without a job, with another job or an unknown status the report has no status."""
    if not isinstance(content, dict):
        return JobReport(job_id, detail=f"HTTP {status} without a job: {message}", http_status=status)
    returned_id = read_job_id(content)
    if returned_id and returned_id != job_id:
        return JobReport(job_id, detail=f"the OMS returned job {returned_id} for job {job_id}", http_status=status)
    name = content.get("status")
    known = name.strip().upper() if isinstance(name, str) else ""
    if known not in JobStatus.__members__:
        return JobReport(job_id, detail=f"a job with an unknown status: {message}", http_status=status)
    return JobReport(
        job_id,
        JobStatus(known),
        added=_read_time(content.get("added")),
        started=_read_time(content.get("started")),
        finished=_read_time(content.get("finished")),
        messages=_read_messages(content.get("messages")),
        http_status=status,
    )


def _is_no_such_job(status: int, content: Any) -> bool:
    """Whether the OMS does not know the job, as opposed to a gateway that does not know the path."""
    if status == 404:
        return isinstance(content, dict)
    return status == 400 and read_code(content) in _NO_SUCH_JOB_CODES


def _read_time(value: object) -> float | None:
    """An ISO 8601 time in seconds since 1970; without a zone it is UTC.

    None for a time before 1970: some programs write the year 1 for "not yet".
    """
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return seconds if seconds > 0 else None


def _read_messages(value: object) -> tuple[str, ...]:
    """The first ``MESSAGES_MAX`` messages of a job, and a line with the number of further ones.

    A single value in place of a list counts as one message.
    """
    found = value if isinstance(value, list) else [value] if value else []
    kept = [
        message if isinstance(message, str) else write_json(message) or _TOO_DEEP for message in found[:MESSAGES_MAX]
    ]
    more = len(found) - MESSAGES_MAX
    return (*map(short_line, kept), *([f"and {more} more messages"] if more > 0 else []))
