"""The status page: the board's status as one HTML page, without scripts and without anything loaded from elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from consumer.core.oms.breaker import BreakerState

REFRESH_SECONDS: Final = 5

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
       color: #1c2733; background: #fbfcfd }
h1 { font-size: 1.4rem; margin-bottom: .2rem } h2 { font-size: 1.05rem; margin: 1.8rem 0 .5rem }
.verdict { padding: .6rem .9rem; border-radius: .4rem; font-weight: 600 }
.good { background: #e2f4e7; color: #14532d } .bad { background: #fde8e6; color: #7f1d1d }
.waiting { background: #fdf3d8; color: #713f12 }
.cards { display: flex; flex-wrap: wrap; gap: .6rem } .card { background: #fff; border: 1px solid #dfe5eb;
  border-radius: .4rem; padding: .5rem .8rem; min-width: 9rem } .card b { display: block; font-size: 1.25rem }
table { border-collapse: collapse; width: 100%; background: #fff } th, td { text-align: left; padding: .3rem .6rem;
  border-bottom: 1px solid #dfe5eb; vertical-align: top } td.number, th.number { text-align: right;
  font-variant-numeric: tabular-nums }
small, .quiet { color: #5b6b7b } a { color: #1d5fa8 }
@media (prefers-color-scheme: dark) { body { background: #12171d; color: #dbe3ea } a { color: #7db4f0 }
  .card, table { background: #1a2129 } .card, th, td { border-color: #2c3742 } .good { background: #153522;
  color: #b9ebc9 } .bad { background: #47191a; color: #fbd0cc } .waiting { background: #40310f; color: #f7e2ac }
  small, .quiet { color: #93a3b3 } }
"""

_CARDS: Final = (
    ("pending_changes", "pending changes"),
    ("pending_bytes", "bytes of pending changes"),
    ("pending_locations", "locations with pending changes"),
    ("oldest_pending_seconds", "age of the oldest pending change, s"),
    ("requests_in_flight", "requests in flight"),
    ("held_locations", "locations on hold"),
    ("bisecting_locations", "locations in bisection"),
    ("unconfirmed_dead_letters", "unconfirmed dead letters"),
    ("oms_consecutive_failures", "consecutive OMS failures"),
    ("flush_items", "items in a full window"),
    ("unfinished_jobs", "unfinished jobs"),
    ("oldest_job_seconds", "age of the oldest unfinished job, s"),
)
_TOTALS: Final = (
    ("messages_read", "messages read"),
    ("changes_accepted", "changes accepted"),
    ("items_accepted", "items accepted"),
    ("requests_accepted", "requests accepted"),
    ("changes_dead_lettered", "changes dead-lettered"),
)
_OFFSETS: Final = (
    ("committable_offset", "Committable"),
    ("committed_offset", "Committed"),
    ("next_offset", "Next"),
    ("end_offset", "End"),
)
_BREAKER: Final = {
    BreakerState.OPEN: "OMS unavailable: requests are paused and will be retried; no data is lost",
    BreakerState.HALF_OPEN: "OMS unavailable: one request at a time is sent as a probe; no data is lost",
}


def render_page(status: Mapping[str, Any]) -> str:
    """Render ``StatusBoard.status()``; every value is escaped."""
    snapshot = status["snapshot"]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Inventory refresh</title>
<style>{_STYLE}</style></head><body>
<h1>Inventory refresh</h1>
<p class="quiet">Version {escape(status["version"])}, started {escape(status["started_at"])}, as of
{escape(status["now"])}. <a href="metrics">Metrics</a>, <a href="api/status">JSON</a></p>
{_verdict(status)}
<h2>Now</h2>{_cards(snapshot, _CARDS)}
<h2>Since the start</h2>{_cards(status["totals"], _TOTALS)}
<h2>Partitions</h2>{_partitions(snapshot["partitions"])}
<h2>Latest problems</h2>{_problems(status["problems"])}
<h2>Settings</h2><details><summary>Show all (secrets are hidden)</summary>{_settings(status["settings"])}</details>
</body></html>
"""


def _verdict(status: Mapping[str, Any]) -> str:
    """The most urgent thing first, in one line."""
    snapshot = status["snapshot"]
    if status["stalled"]:
        return _line("bad", f"Stalled: {status['stalled']}")
    if status["not_ready"]:
        return _line("bad", f"Not ready: {status['not_ready']}")
    reason = _waiting(snapshot)
    return _line("waiting", reason) if reason else _line("good", "All is well")


def _waiting(snapshot: Mapping[str, Any]) -> str | None:
    """What keeps the service waiting, or working below its best, until it passes; None if nothing does."""
    if snapshot["decoding_blocked"]:
        return f"Decoding is blocked: {snapshot['decoding_blocked']}"
    if snapshot["breaker"] != BreakerState.CLOSED:
        return _BREAKER[snapshot["breaker"]]
    if snapshot["memory_pressure"]:
        return "Memory is short: reading pauses until enough has been sent"
    if snapshot["job_queue_full"]:
        reason = snapshot["job_queue_full"]
        return f"Waiting for the OMS to finish jobs: {reason}; changes wait and no data is lost"
    if snapshot["job_status_unavailable"]:
        reason = snapshot["job_status_unavailable"]
        return f"Requests are accepted, but the OMS does not report the status of jobs: {reason}"
    return None


def _line(kind: str, text: str) -> str:
    return f'<p class="verdict {kind}">{escape(text)}</p>'


def _cards(values: Mapping[str, Any], cards: Iterable[tuple[str, str]]) -> str:
    shown = "".join(f'<div class="card"><b>{_number(values[name])}</b>{escape(text)}</div>' for name, text in cards)
    return f'<div class="cards">{shown}</div>'


def _partitions(partitions: Sequence[Mapping[str, Any]]) -> str:
    if not partitions:
        return '<p class="quiet">None assigned.</p>'
    head = "".join(f'<th class="number">{title}</th>' for title in (*(title for _, title in _OFFSETS), "Uncommitted"))
    rows = (
        f"<tr><td>{escape(partition['topic'])}[{partition['partition']}]</td>"
        + "".join(f'<td class="number">{_number(partition[name])}</td>' for name, _ in _OFFSETS)
        + f'<td class="number">{_number(_uncommitted(partition))}</td>'
        + f"<td>{_state(partition)}</td></tr>"
        for partition in partitions
    )
    return f"<table><tr><th>Partition</th>{head}<th></th></tr>{''.join(rows)}</table>"


def _state(partition: Mapping[str, Any]) -> str:
    states = (("recovering", "recovering: reading up to the previous owner's position"), ("paused", "paused"))
    return ", ".join(words for name, words in states if partition[name])


def _uncommitted(partition: Mapping[str, Any]) -> int | None:
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
