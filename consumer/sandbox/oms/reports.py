"""What the sandbox reports: jobs in the OMS's format, applied items, and totals. Times are seconds since 1970."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from consumer.sandbox.oms.inventory import AppliedItem
from consumer.sandbox.oms.job_queue import Job, JobStatus
from consumer.text import iso_time

REFRESH: Final = "REFRESH"
"""The type of all the sandbox's jobs."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job at one moment. Times are seconds since 1970, the cost is in OMS seconds."""

    job_id: int
    location: str
    items: int
    chunks: int
    cost_seconds: float
    status: JobStatus
    added: float
    started: float | None
    finished: float | None
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals since the start.

    ``items`` were accepted, as jobs or applied at once; ``sync_requests`` and ``sync_items`` are those applied at once.
    ``backward_items`` counts how often a request set an item after a later one had. ``requests`` counts answers by
    endpoint and HTTP status ("dropped": the connection was dropped on purpose). ``fault_hits`` counts calls by the
    fault that changed them. ``stalled_jobs`` counts the WORKING jobs that the queue has moved past.
    """

    jobs: int
    jobs_by_status: dict[str, int]
    items: int
    sync_requests: int
    sync_items: int
    repeated_items: int
    backward_items: int
    chunks: int
    unused_chunk_items: int
    cost_seconds: float
    busy_seconds: float
    tokens_issued: int
    requests: dict[str, dict[str, int]]
    bytes_received: int
    max_in_flight: int
    max_in_flight_per_location: int
    locations: int
    held_items: int
    scripted_answers_left: int
    fault_hits: dict[str, int]
    stalled_jobs: int


def oms_job(record: JobRecord) -> dict[str, Any]:
    """The job in the OMS's get-job format. ``success`` is true for the status SUCCESS."""
    return {
        "jobID": record.job_id,
        "type": REFRESH,
        "status": record.status,
        "added": _iso(record.added),
        "started": _iso(record.started),
        "finished": _iso(record.finished),
        "itemCount": record.items,
        "success": record.status is JobStatus.SUCCESS,
        "messages": list(record.messages),
    }


def unified_job(record: JobRecord, tenant: int) -> dict[str, Any]:
    """The same by Unified Commerce, which also says whose job it is. ``hasData``: it does not come from a file."""
    return oms_job(record) | {"locationCode": record.location, "tenantID": tenant, "hasData": True}


def sandbox_job(record: JobRecord) -> dict[str, Any]:
    """The job in the OMS's format, with what the OMS does not report: location, chunks, and cost in OMS seconds."""
    return oms_job(record) | {
        "locationName": record.location,
        "chunks": record.chunks,
        "costSeconds": record.cost_seconds,
    }


def summary_json(summary: Summary) -> dict[str, Any]:
    """The summary as a JSON object, with its fields' names."""
    return asdict(summary)


def job_record(job: Job, now: float) -> JobRecord:
    """The job as it is now."""
    return JobRecord(
        job_id=job.job_id,
        location=job.location,
        items=job.item_count,
        chunks=job.chunks,
        cost_seconds=job.cost_seconds,
        status=job.status(now),
        added=job.added,
        started=job.started if job.started <= now else None,
        finished=job.finished if job.finished <= now else None,
        messages=tuple(job.messages),
    )


def applied_json(applied: Iterable[AppliedItem]) -> list[dict[str, Any]]:
    """What was applied, as JSON objects: the item's own fields are those that identify it, and its quantity."""
    return [
        {
            "number": item.number,
            "appliedAt": _iso(item.applied_at),
            "location": item.location,
            "item": {**item.item, "quantity": item.quantity},
            "request": item.request,
            "wentBackwards": item.went_backwards,
        }
        for item in applied
    ]


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else iso_time(seconds)
