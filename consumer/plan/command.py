"""What the command ``plan`` does: print what the service would send, with today's settings and with others.

It joins no group, commits nothing and sends nothing. It asks for ended jobs if the seconds of a chunk are not given.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table
from rich.text import Text

from consumer.core.changes.items import RejectReason
from consumer.core.location.planner import SendReason
from consumer.dead_letters.log_reader import LogReader
from consumer.errors import SettingsError
from consumer.plan.chunk_seconds import ChunkSeconds, chunk_seconds_of
from consumer.plan.records import Range, Wanted, range_of
from consumer.plan.simulate import Outcome, Simulation, simulate
from consumer.settings import Settings, is_secret
from consumer.settings.memory import MIB
from consumer.terminal import console, progress_bar
from consumer.text import iso_time

CLIENT_ID: Final = "inventory-refresh-plan"
TODAY: Final = "today"
WHAT_IF: Final = "what_if"
READ_ONCE: Final = ("bootstrap_servers", "topics", "group_id")
"""Settings of ``kafka`` that say what is read, which is the same in both runs."""


def print_plan(
    settings: Settings,
    tried: Settings | None,
    assignments: Sequence[str],
    wanted: Wanted,
    simulation: Simulation,
    *,
    members: Sequence[str],
    out: Path | None,
    as_json: bool,
) -> None:
    """Print what would be sent for the wanted records, with ``settings`` and with ``tried`` (None: only the first).

    Without ``simulation.chunk_seconds`` they are taken from ended jobs, if the OMS or ``members`` have enough of them.
    ``assignments`` are what ``tried`` differs by, as given. Both runs read the same offsets, one after the other.
    Bodies are written into ``out``, with ``tried`` into a folder each. Raises SettingsError, BrokerError and
    DeadLettersError.
    """
    assignments = [_without_secret(assignment) for assignment in assignments]
    runs = {TODAY: settings} if tried is None else {TODAY: settings, WHAT_IF: tried}
    if tried is not None:
        _check_same_records(settings, tried)
    timed = ChunkSeconds(simulation.chunk_seconds, None, "--chunk-seconds")
    if timed.seconds is None:
        timed = chunk_seconds_of(settings, members)
        simulation = replace(simulation, chunk_seconds=timed.seconds)
    outcomes: dict[str, Outcome] = {}
    with closing(LogReader(settings.kafka, CLIENT_ID)) as log:
        found = range_of(log, settings.kafka.topics, wanted)
        if not found.offsets:
            raise SettingsError(f"plan: there is nothing to read from {found.origin} on; see --since and --from-start")
        with progress_bar("{task.description}", MofNCompleteColumn()) as bar:
            for name, run_settings in runs.items():
                folder = out / name if out is not None and tried is not None else out
                outcomes[name] = simulate(
                    run_settings, log, found, simulation, out=folder, progress=_updating(bar, name, found.offsets)
                )
    if as_json:
        print(json.dumps(_as_object(found, simulation, outcomes, assignments, timed), ensure_ascii=False))  # noqa: T201 - the result of the command
    else:
        _print_text(console(highlight=False, soft_wrap=True), found, simulation, outcomes, assignments, timed)


def _check_same_records(today: Settings, tried: Settings) -> None:
    for name in READ_ONCE:
        if getattr(today.kafka, name) != getattr(tried.kafka, name):
            raise SettingsError(f"--set: kafka.{name} cannot be tried, because both runs read the same records")


def _without_secret(assignment: str) -> str:
    """The assignment as it may be shown: that of a secret without its value."""
    path, _, _ = assignment.partition("=")
    return path if is_secret(*path.split(".", 2)) else assignment


def _updating(bar: Progress, name: str, offsets: int) -> Callable[[int], None]:
    task = bar.add_task(name.replace("_", " "), total=offsets)
    return lambda messages: bar.update(task, completed=messages)


def _as_object(
    found: Range,
    simulation: Simulation,
    outcomes: Mapping[str, Outcome],
    assignments: Sequence[str],
    timed: ChunkSeconds,
) -> dict[str, Any]:
    return {
        "partitions": [
            {"topic": topic, "partition": partition, "start": start, "end": found.ends[topic, partition]}
            for (topic, partition), start in found.starts.items()
        ],
        "mode": "backlog" if simulation.backlog else "live",
        "set": list(assignments),
        "chunk_seconds": asdict(timed),
        **{name: _numbers(outcome, simulation) for name, outcome in outcomes.items()},
    }


def _numbers(outcome: Outcome, simulation: Simulation) -> dict[str, Any]:
    totals = outcome.totals
    is_timed = simulation.chunk_seconds is not None
    return {
        "first": None if outcome.begin is None else iso_time(outcome.begin),
        "last": None if outcome.end is None else iso_time(outcome.end),
        "messages": totals.messages,
        "changes": totals.changes,
        "tombstones": totals.tombstones,
        "skipped": {reason.value: count for reason, count in sorted(totals.skipped.items())},
        "rejects": {reason.value: count for reason, count in sorted(totals.rejects.items())},
        "requests": totals.requests.total(),
        "requests_by_reason": {
            reason.value: totals.requests[reason] for reason in SendReason if totals.requests[reason]
        },
        "items": totals.items,
        "items_max": totals.items_max,
        "chunks": totals.chunks,
        "fewest_chunks": totals.fewest_chunks,
        "body_bytes": totals.body_bytes,
        "body_bytes_max": totals.body_bytes_max,
        "oms_seconds": totals.chunks * simulation.chunk_seconds if simulation.chunk_seconds is not None else None,
        "oms_behind_seconds_max": totals.oms_behind_seconds_max if is_timed else None,
        "age_seconds_p50": totals.age_seconds(0.5),
        "age_seconds_p99": totals.age_seconds(0.99),
        "locations": len(totals.items_by_location),
        "notes": _notes(outcome),
    }


def _notes(outcome: Outcome) -> list[str]:
    """What makes the numbers differ from the service's, or what the service would do differently."""
    totals, notes = outcome.totals, []
    if totals.stops:
        notes.append(
            "so many changes in a row are rejects that the service would stop (dead_letters.max_ratio): see the "
            "rejects, and inventory-refresh decode"
        )
    if outcome.is_memory_less and totals.requests[SendReason.PRESSURE]:
        notes.append(
            "requests left early because more was pending than this command may hold: give --memory, up to the "
            "service's own budget"
        )
    return notes


def _print_text(
    printed: Console,
    found: Range,
    simulation: Simulation,
    outcomes: Mapping[str, Outcome],
    assignments: Sequence[str],
    timed: ChunkSeconds,
) -> None:
    today = outcomes[TODAY]
    mode = "as a backlog, all at once" if simulation.backlog else "as if live"
    topics = ", ".join(dict.fromkeys(topic for topic, _ in found.starts))
    times = ""
    if today.begin is not None and today.end is not None:
        times = f", {iso_time(today.begin)} to {iso_time(today.end)}"
    printed.print(
        f"{today.totals.messages:,} records of {topics} ({len(found.starts)} partitions), read from {found.origin} on"
        f"{times}, {mode}; nothing was sent",
        markup=False,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    titles = {TODAY: TODAY, WHAT_IF: "\n".join(assignments)}
    for name in outcomes:
        table.add_column(Text(titles[name]), justify="right")
    all_totals = [outcome.totals for outcome in outcomes.values()]
    rejects = sorted({reason for totals in all_totals for reason in totals.rejects})
    sent = [reason for reason in SendReason if any(totals.requests[reason] for totals in all_totals)]
    columns = [_rows(outcome, simulation, rejects, sent) for outcome in outcomes.values()]
    for label in columns[0]:
        table.add_row(label, *(column[label] for column in columns))
    printed.print(table)
    printed.print(_timed_by(timed), markup=False)
    for name, outcome in outcomes.items():
        for note in _notes(outcome):
            printed.print(f"{name.replace('_', ' ')}: {note}", markup=False)


def _timed_by(timed: ChunkSeconds) -> str:
    if timed.seconds is None:
        return f"OMS seconds: not known ({timed.origin}); give --chunk-seconds"
    if timed.jobs is None:
        return f"OMS seconds: {timed.seconds:,.4g} for a chunk, from {timed.origin}"
    return f"OMS seconds: {timed.seconds:,.4g} for a chunk, the median of {timed.jobs} ended jobs in {timed.origin}"


def _rows(
    outcome: Outcome, simulation: Simulation, rejects: Sequence[RejectReason], sent: Sequence[SendReason]
) -> dict[str, str]:
    """The lines of a column of the table, by their label; with these reasons, which any column may have."""
    totals = outcome.totals
    requests = totals.requests.total()
    rows = {"changes": f"{totals.changes:,}", "rejects": f"{totals.rejects.total():,}"}
    rows |= {f"  {reason.value}": f"{totals.rejects[reason]:,}" for reason in rejects}
    skipped = totals.skipped.total() + totals.tombstones
    rows["skipped, with tombstones"] = f"{skipped:,}"
    rows["locations"] = f"{len(totals.items_by_location):,}"
    rows["requests"] = f"{requests:,}"
    rows |= {f"  {reason.value}": f"{totals.requests[reason]:,}" for reason in sent}
    rows["items"] = f"{totals.items:,}"
    rows["  in a request, mean / largest"] = f"{totals.items / max(requests, 1):,.0f} / {totals.items_max:,}"
    rows["chunks"] = f"{totals.chunks:,}"
    rows["  fewest possible"] = f"{totals.fewest_chunks:,}"
    rows["body, mean / largest"] = f"{_size(totals.body_bytes / max(requests, 1))} / {_size(totals.body_bytes_max)}"
    rows["age when sent, p50 / p99"] = f"{_seconds(totals.age_seconds(0.5))} / {_seconds(totals.age_seconds(0.99))}"
    if simulation.chunk_seconds is None:
        rows["OMS seconds"] = "-"
    else:
        rows["OMS seconds"] = f"{totals.chunks * simulation.chunk_seconds:,.0f}"
        rows["  longest queue"] = _seconds(totals.oms_behind_seconds_max)
    return rows


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:,.1f} s"


def _size(count: float) -> str:
    return f"{count / MIB:,.1f} MiB" if count >= MIB else f"{count / 1024:,.1f} KiB"
