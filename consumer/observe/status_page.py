"""The status page for people: the board's status as one HTML page without scripts or anything from elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

REFRESH_SECONDS: Final = 5

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
       color: #1c2733; background: #fbfcfd }
h1 { font-size: 1.4rem; margin-bottom: .2rem } h2 { font-size: 1.05rem; margin: 1.8rem 0 .5rem }
.verdict { padding: .6rem .9rem; border-radius: .4rem; font-weight: 600 }
.good { background: #e2f4e7; color: #14532d } .bad { background: #fde8e6; color: #7f1d1d }
.waits { background: #fdf3d8; color: #713f12 }
.cards { display: flex; flex-wrap: wrap; gap: .6rem } .card { background: #fff; border: 1px solid #dfe5eb;
  border-radius: .4rem; padding: .5rem .8rem; min-width: 9rem } .card b { display: block; font-size: 1.25rem }
table { border-collapse: collapse; width: 100%; background: #fff } th, td { text-align: left; padding: .3rem .6rem;
  border-bottom: 1px solid #dfe5eb; vertical-align: top } td.number, th.number { text-align: right;
  font-variant-numeric: tabular-nums }
small, .quiet { color: #5b6b7b } a { color: #1d5fa8 }
@media (prefers-color-scheme: dark) { body { background: #12171d; color: #dbe3ea } a { color: #7db4f0 }
  .card, table { background: #1a2129 } .card, th, td { border-color: #2c3742 } .good { background: #153522;
  color: #b9ebc9 } .bad { background: #47191a; color: #fbd0cc } .waits { background: #40310f; color: #f7e2ac }
  small, .quiet { color: #93a3b3 } }
"""

_CARDS: Final = (
    ("pending_changes", "pending changes"),
    ("pending_locations", "pending locations"),
    ("oldest_pending_seconds", "seconds the oldest waits"),
    ("requests_in_flight", "requests in flight"),
    ("held_locations", "locations held"),
    ("unconfirmed_dead_letters", "dead letters unconfirmed"),
    ("oms_consecutive_failures", "OMS failures in a row"),
    ("bisecting_locations", "refused requests narrowed down"),
    ("flush_items", "items make a window full"),
    ("unfinished_jobs", "jobs not ended"),
    ("oldest_job_seconds", "seconds the oldest job takes"),
)
_TOTALS: Final = (
    ("messages_read", "messages read"),
    ("changes_accepted", "changes accepted"),
    ("items_accepted", "items accepted"),
    ("requests_accepted", "requests accepted"),
    ("changes_rejected", "changes rejected"),
)
_OFFSETS: Final = ("committable_offset", "committed_offset", "next_offset")


def render_page(status: Mapping[str, Any]) -> str:
    """Make the page of ``StatusBoard.status()``; every value is escaped."""
    snapshot = status["snapshot"]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Inventory refresh</title>
<style>{_STYLE}</style></head><body>
<h1>Inventory refresh</h1>
<p class="quiet">Version {escape(status["version"])}, up since {escape(status["started_at"])}, shown as of
{escape(status["now"])}. <a href="metrics">Metrics</a>, <a href="api/status">JSON</a></p>
{_verdict(status)}
<h2>Now</h2>{_cards(snapshot, _CARDS)}
<h2>Since the start</h2>{_cards(status["totals"], _TOTALS)}
<h2>Partitions</h2>{_partitions(snapshot["partitions"])}
<h2>Latest problems</h2>{_problems(status["problems"])}
<h2>Settings</h2><details><summary>Show all; secrets are hidden</summary>{_settings(status["settings"])}</details>
</body></html>
"""


def _verdict(status: Mapping[str, Any]) -> str:
    if status["stalled"]:
        return f'<p class="verdict bad">Stalled: {escape(status["stalled"])}</p>'
    if status["not_ready"]:
        return f'<p class="verdict bad">Not ready: {escape(status["not_ready"])}</p>'
    waiting_for = status["snapshot"]["waiting_for"]
    if waiting_for:
        return f'<p class="verdict waits">Waiting for {escape(waiting_for)}</p>'
    breaker = status["snapshot"]["breaker"]
    if breaker != "closed":
        words = "is given time" if breaker == "open" else "is being tried, one request at a time"
        return f'<p class="verdict waits">The OMS does not take requests just now and {words}; nothing is lost</p>'
    if status["snapshot"]["job_status_unavailable"]:
        told = escape(status["snapshot"]["job_status_unavailable"])
        return f'<p class="verdict waits">Requests are accepted, but the OMS tells nothing of their jobs: {told}</p>'
    return '<p class="verdict good">All is well</p>'


def _cards(values: Mapping[str, Any], cards: Iterable[tuple[str, str]]) -> str:
    shown = "".join(f'<div class="card"><b>{_number(values[name])}</b>{escape(text)}</div>' for name, text in cards)
    return f'<div class="cards">{shown}</div>'


def _partitions(partitions: Sequence[Mapping[str, Any]]) -> str:
    if not partitions:
        return '<p class="quiet">None assigned.</p>'
    head = "<tr><th>Partition</th>" + "".join(
        f'<th class="number">{name}</th>' for name in ("Watermark", "Committed", "Next offset", "Not yet accepted")
    )
    rows = (
        f"<tr><td>{escape(partition['topic'])}/{partition['partition']}</td>"
        + "".join(f'<td class="number">{_number(partition[name])}</td>' for name in _OFFSETS)
        + f'<td class="number">{_number(_unaccepted(partition))}</td>'
        + f"<td>{_state(partition)}</td></tr>"
        for partition in partitions
    )
    return f"<table>{head}<th></th></tr>{''.join(rows)}</table>"


def _state(partition: Mapping[str, Any]) -> str:
    states = (("recovering", "reads again what its last owner had read"), ("paused", "paused"))
    return ", ".join(words for name, words in states if partition[name])


def _unaccepted(partition: Mapping[str, Any]) -> int | None:
    if partition["next_offset"] is None or partition["committable_offset"] is None:
        return None
    return int(partition["next_offset"] - partition["committable_offset"])


def _problems(problems: Sequence[Mapping[str, Any]]) -> str:
    if not problems:
        return '<p class="quiet">None since the start.</p>'
    rows = (
        f"<tr><td><small>{escape(problem['at'])}</small></td><td>{escape(problem['what'])}</td>"
        f"<td>{escape(problem['detail'])}</td></tr>"
        for problem in problems
    )
    return f"<table>{''.join(rows)}</table>"


def _settings(settings: Mapping[str, Mapping[str, Any]]) -> str:
    rows = (
        f"<tr><td>{escape(section)}.{escape(name)}</td><td>{escape(_text(value))}</td></tr>"
        for section, options in settings.items()
        for name, value in options.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {part}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if value == int(value) else f"{value:,.1f}"
