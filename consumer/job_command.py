"""What the command ``job`` does: ask the OMS what became of jobs, for those that nobody follows any more."""

import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from consumer.core.oms.job_schedule import JobReport
from consumer.errors import OmsRefusedError, SettingsError
from consumer.oms.client import build_client
from consumer.settings import Settings

POLL_SECONDS: Final = 0.02
JOB_ID_DIGITS_MAX: Final = 30


def ask_jobs(settings: Settings, job_ids: Sequence[str], *, as_json: bool) -> None:
    """Print what the OMS says of each job, as a table or as one JSON object a line.

    Raises SettingsError for what is no jobID, OmsRefusedError if the OMS told nothing usable of one of them.
    """
    for job_id in job_ids:
        if not (job_id.isascii() and job_id.isdigit() and len(job_id) <= JOB_ID_DIGITS_MAX):
            raise SettingsError(f"job: {job_id!r} is no jobID: give the digits that the log shows as job_id")
    reports = _reports(settings, [job_id.lstrip("0") or "0" for job_id in job_ids])
    if as_json:
        for report in reports:
            print(json.dumps(_told(report)))  # noqa: T201 - the result is what was asked for
    else:
        Console().print(_table(reports))
    silent = [report for report in reports if report.status is None]
    if silent:
        raise OmsRefusedError(f"job {silent[0].job_id}: {silent[0].detail or 'the OMS knows no such job'}")


def _reports(settings: Settings, job_ids: Sequence[str]) -> list[JobReport]:
    """One report a job, in the order in which they were asked for; asked one after the other, as the OMS likes it."""
    oms = settings.oms.model_copy(update={"track_jobs": True})
    reports: list[JobReport] = []
    with closing(
        build_client(oms, settings.window.item_key, monotonic=time.monotonic, wall=time.time, fence_seconds=0.0)
    ) as client:
        client.check_credentials()
        if client.jobs is None:
            raise AssertionError("a client that tracks jobs can ask about them")
        for job_id in job_ids:
            client.jobs.ask(job_id)
            while not (told := client.jobs.reports()):
                time.sleep(POLL_SECONDS)
            reports += told
    return reports


def _told(report: JobReport) -> dict[str, Any]:
    told = asdict(report)
    for name in ("added", "started", "finished"):
        told[name] = _iso(told[name])
    return told


def _table(reports: Sequence[JobReport]) -> Table:
    table = Table("jobID", "status", "added", "started", "finished", "messages")
    for report in reports:
        status = report.status.value if report.status else "unknown to the OMS" if report.unknown else "not told"
        words = "\n".join(report.messages) or report.detail
        table.add_row(report.job_id, status, *map(_iso, (report.added, report.started, report.finished)), words)
    return table


def _iso(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
