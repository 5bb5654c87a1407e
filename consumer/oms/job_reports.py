"""Get-job: reading its answers."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from consumer.core.oms.job_schedule import JobReport, JobStatus
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

MESSAGES_MAX: Final = 20
"""Messages kept of a job. If there are more, one further line says how many."""

_TOO_DEEP: Final = "a message that nests too deep to be shown"
_NO_SUCH_JOB_CODES: Final = (5002, 5012, 5013)
"""The OMS's own codes for not found, id mismatch and invalid id."""


def read_report(job_id: str, status: int, headers: Mapping[str, str], body: bytes, *, wall: float) -> JobReport:
    """Read what a response says about a job.

    ``headers`` must ignore case, as httpx.Headers do; ``body`` may be cut off at the caller's limit; ``wall`` is the
    time in seconds since 1970, against which a date in Retry-After is read.
    """
    content = read_json(body)
    if 200 <= status <= 299:
        return read_job(job_id, status, content, read_message({}, content, body))
    return JobReport(
        job_id,
        unknown=_is_no_such_job(status, content),
        detail=f"HTTP {status}: {read_message(headers, content, body)}",
        over_quota=is_over_quota(status, headers),
        retry_after_seconds=read_retry_after(headers, wall),
        http_status=status,
    )


def read_job(job_id: str, status: int, content: Any, message: str) -> JobReport:
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
