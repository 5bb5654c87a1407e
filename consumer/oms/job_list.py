"""The list of jobs: the query's address, and reading its answers."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from consumer.core.oms.job_list import JobList, ListedJob, ListQuery
from consumer.oms.job_reports import read_job
from consumer.oms.reply_parsing import is_over_quota, read_job_id, read_json, read_message, read_retry_after

REFRESH: Final = "REFRESH"


def query_string(query: ListQuery) -> str:
    """What is put after the address of the list."""
    location = "" if query.location is None else f"locationCode={quote(query.location, safe='')}&"
    return f"?{location}types={REFRESH}&limit={query.limit}"


def read_job_list(query: ListQuery, status: int, headers: Mapping[str, str], body: bytes, *, wall: float) -> JobList:
    """Read what a response says about many jobs; the arguments are those of ``read_report``."""
    content = read_json(body)
    message = read_message(headers, content, body)
    if not 200 <= status <= 299:
        return JobList(
            query,
            detail=f"HTTP {status}: {message}",
            over_quota=is_over_quota(status, headers),
            retry_after_seconds=read_retry_after(headers, wall),
            http_status=status,
        )
    if not isinstance(content, list):
        return JobList(query, detail=f"HTTP {status} without a list of jobs: {message}", http_status=status)
    refreshes = [entry for entry in content if _may_be_refresh(entry)]
    jobs = tuple(job for entry in refreshes if (job := _read_listed(entry, status)))
    is_complete = len(content) < query.limit and len(jobs) == len(refreshes)
    return JobList(query, jobs, is_complete, http_status=status)


def _may_be_refresh(entry: Any) -> bool:
    kind = entry.get("type") if isinstance(entry, dict) else None
    return not isinstance(kind, str) or kind.strip().upper() == REFRESH


def _read_listed(entry: Any, status: int) -> ListedJob | None:
    """None for an entry without a usable jobID."""
    job_id = read_job_id(entry)
    if job_id is None:
        return None
    location, items = entry.get("locationCode"), entry.get("itemCount")
    return ListedJob(
        read_job(job_id, status, entry, "in a list of jobs"),
        location=location if isinstance(location, str) and location else None,
        items=items if isinstance(items, int) and not isinstance(items, bool) else None,
    )
