"""The sandbox's status page: totals and the latest jobs. It reloads itself, and loads nothing from other servers."""

from collections.abc import Sequence
from html import escape
from typing import Final

from consumer.sandbox.oms.reports import JobRecord, Summary
from consumer.sandbox.oms.settings import SandboxSettings

_JOBS_SHOWN_MAX: Final = 100
_RELOAD_SECONDS: Final = 2

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem; margin: 1.5rem 0; }
dt { opacity: .7; font-size: .85rem; }
dd { margin: 0; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; }
.number { text-align: right; }
"""


def render_page(summary: Summary, jobs: Sequence[JobRecord], settings: SandboxSettings) -> str:
    """The whole page as HTML, with the latest 100 jobs, newest first."""
    rows = "\n".join(_row(job) for job in reversed(jobs[-_JOBS_SHOWN_MAX:]))
    facts = "\n".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in _facts(summary))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{_RELOAD_SECONDS}">
<title>OMS sandbox</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>OMS sandbox</h1>
<p>A simulated OMS. It processes one job at a time: {settings.seconds_per_job:g} s per job, plus
{settings.seconds_per_chunk:g} s for each chunk of up to {settings.chunk_items:,} items. One OMS second takes
{settings.time_scale:g} s of real time.</p>
<dl>
{facts}
</dl>
<h2>Latest jobs</h2>
<div class="table">
<table>
<thead><tr><th scope="col">jobID</th><th scope="col">Location</th><th scope="col" class="number">Items</th>
<th scope="col" class="number">Chunks</th><th scope="col" class="number">Cost (s)</th><th scope="col">Status</th>
<th scope="col">Messages</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
<p>As JSON: /sandbox/summary, /sandbox/jobs, /sandbox/inventory, /sandbox/faults</p>
</main>
</body>
</html>
"""


def _facts(summary: Summary) -> list[tuple[str, str]]:
    unfinished = summary.jobs_by_status["PENDING"] + summary.jobs_by_status["WORKING"]
    return [
        ("Jobs", f"{summary.jobs:,}"),
        ("Jobs waiting or running", f"{unfinished:,}"),
        ("Jobs failed", f"{summary.jobs_by_status['FAILED']:,}"),
        ("Items accepted", f"{summary.items:,}"),
        ("Items applied at once", f"{summary.sync_items:,}"),
        ("Items that went backwards", f"{summary.backward_items:,}"),
        ("Items in stock", f"{summary.held_items:,}"),
        ("Locations", f"{summary.locations:,}"),
        ("Chunks used", f"{summary.chunks:,}"),
        ("Unused chunk capacity (items)", f"{summary.unused_chunk_items:,}"),
        ("Cost (OMS seconds)", f"{summary.cost_seconds:,.1f}"),
        ("Most concurrent requests per location", f"{summary.max_in_flight_per_location:,}"),
        ("Tokens issued", f"{summary.tokens_issued:,}"),
        ("Answers to refresh requests", _counts(summary.requests.get("refresh", {}))),
        ("Faults injected", _counts(summary.fault_hits)),
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in sorted(counts.items())) or "none"


def _row(job: JobRecord) -> str:
    return (
        f"<tr><td>{job.job_id}</td><td>{escape(job.location)}</td><td class='number'>{job.items:,}</td>"
        f"<td class='number'>{job.chunks:,}</td><td class='number'>{job.cost_seconds:,.1f}</td>"
        f"<td>{escape(job.status)}</td><td>{escape('; '.join(job.messages))}</td></tr>"
    )
