"""What the command ``job`` does: ask the OMS for the state of jobs, such as those no longer followed by a process."""

import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from rich.table import Table

from consumer.core.oms.job_schedule import JobReport
from consumer.errors import InvariantError, OmsRefusedError, SettingsError
from consumer.oms.client import build_client
from consumer.settings import Settings
from consumer.terminal import console

POLL_SECONDS: Final = 0.02
JOB_ID_DIGITS_MAX: Final = 30


def print_jobs(settings: Settings, job_ids: Sequence[str], *, as_json: bool) -> None:
    """Print the state of each job, as a table or as one JSON object per line.

    Raises SettingsError if something is not a jobID, OmsRefusedError if the OMS did not report the state of a job.
    """
    for job_id in job_ids:
        if not (job_id.isascii() and job_id.isdigit() and len(job_id) <= JOB_ID_DIGITS_MAX):
            raise SettingsError(f"job: {job_id!r} is not a jobID; use the digits that the log has as job_id")
    reports = _reports(settings, [job_id.lstrip("0") or "0" for job_id in job_ids])
    if as_json:
        for report in reports:
            print(json.dumps(_as_object(report)))  # noqa: T201 - the result of the command
    else:
        console().print(_table(reports))
    unreported = [report for report in reports if report.status is None]
    if unreported:
        first = unreported[0]
        raise OmsRefusedError(f"job {first.job_id}: {first.detail or 'the OMS does not know this job'}")


def _reports(settings: Settings, job_ids: Sequence[str]) -> list[JobReport]:
    """One report per job, in this order. The jobs are asked for one at a time, as the OMS wants it."""
    oms = settings.oms.model_copy(update={"track_jobs": True})
    reports: list[JobReport] = []
    with closing(
        build_client(oms, settings.window.item_key, monotonic=time.monotonic, wall=time.time, fence_seconds=0.0)
    ) as client:
        client.check_credentials()
        if client.jobs is None:
            raise InvariantError("a client built with track_jobs can ask for jobs")
        for job_id in job_ids:
            client.jobs.ask(job_id)
            while not (received := client.jobs.reports()):
                time.sleep(POLL_SECONDS)
            reports += received
    return reports


def _as_object(report: JobReport) -> dict[str, Any]:
    times = {name: _iso(getattr(report, name)) for name in ("added", "started", "finished")}
    return asdict(report) | times


def _table(reports: Sequence[JobReport]) -> Table:
    table = Table("jobID", "status", "added", "started", "finished", "messages")
    for column in table.columns:
        column.overflow = "fold"
    for report in reports:
        times = [_iso(time) or "" for time in (report.added, report.started, report.finished)]
        table.add_row(report.job_id, _status(report), *times, "\n".join(report.messages) or report.detail)
    return table


def _status(report: JobReport) -> str:
    if report.status is not None:
        return report.status.value
    return "unknown job" if report.unknown else "unavailable"


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
