"""The result of the demo, and the story that it tells: on one screen of 80 columns and 24 lines if all is well."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from consumer.core.changes.items import RejectReason

DIFFERENCES_SHOWN_MAX: Final = 20
REASONS_AFTER_SENDING: Final = {RejectReason.REFUSED_BY_OMS.value, RejectReason.JOB_FAILED.value}
"""Reject reasons that depend on the OMS's answers."""
PROGRAM: Final = "inventory-refresh"
LARGEST_SHOWN: Final = 2
SECONDS_PER_CHUNK: Final = 1.0
"""Only to give an idea of how long the OMS would be busy."""


@dataclass(frozen=True, slots=True)
class SentRequest:
    """One accepted request, as listed in the sandbox's job queue."""

    location: str
    items: int
    chunks: int
    job_id: int


@dataclass(frozen=True, slots=True)
class Result:
    """The result of the demo; printed as a story, or as one JSON object with these keys."""

    ok: bool
    faults: dict[str, int]
    """Failed answers and jobs, by kind."""
    changes_read: int
    changes_valid: int
    """Changes that can be sent. Sent one by one, each would be a request, a job and a chunk."""
    items_expected: int
    """Items of which the OMS must hold the last value."""
    items_accepted: int
    requests: list[SentRequest]
    chunks_used: int
    chunks_min: int
    """Chunks needed if every item were sent exactly once, in chunks as full as possible."""
    dead_letters: dict[str, int]
    committed: dict[str, int]
    end: dict[str, int]
    differences: list[str]
    """Items that are wrong in the OMS, the first 20."""
    items_wrong: int
    seconds: float


def show(console: Console, result: Result, program: str = PROGRAM) -> None:
    """Tell the story: what came in, what was sent in place of single requests, the proof, and what to do next.

    ``program`` is how commands begin.
    """
    console.print(_story(result))
    for difference in result.differences:
        console.print(Text(difference, style="red"))
    console.print(Text(verdict(result), style="bold green" if result.ok else "bold red"))
    if result.ok:
        console.print()
        console.print(_next_steps(program, with_faults=bool(result.faults)))


def program_name(called: str, on_path: str | None, folder: Path) -> str:
    """How the program can be called again from this folder: by its name alone if that finds the same one.

    ``called`` is its path (``sys.argv[0]``), ``on_path`` what its name finds.
    """
    path = Path(called)
    if path.name != PROGRAM or (on_path is not None and Path(on_path).absolute() == path.absolute()):
        return PROGRAM
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else called


def verdict(result: Result) -> str:
    """The result in one sentence."""
    if result.differences:
        return "FAILED: the OMS does not hold the latest value of every item; the differences are listed above."
    if not result.ok:
        return "FAILED: committed offsets, dead letters or requests are not as expected."
    exception = "apart from dead-lettered changes, " if result.dead_letters.keys() & REASONS_AFTER_SENDING else ""
    return f"OK: {exception}the OMS holds the latest value of every item, and every offset is committed."


def _story(result: Result) -> RenderableType:
    locations = len({request.location for request in result.requests})
    bad = result.changes_read - result.changes_valid
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row(
        "Came in",
        f"{result.changes_read:,} messages in {len(result.end)} partitions: {result.changes_valid:,} changes of "
        f"{result.items_expected:,} items at {locations} locations, and {bad} messages without a valid change",
    )
    largest = sorted((request.items for request in result.requests), reverse=True)[:LARGEST_SHOWN]
    sizes = " and ".join(f"{items:,}" for items in largest)
    facts.add_row(
        "Went out", f"{len(result.requests)} requests in {result.seconds:.0f} s, the largest with {sizes} items"
    )
    if result.faults:
        facts.add_row(
            "Faults", ", ".join(f"{name.partition(': ')[2]} {count}" for name, count in result.faults.items())
        )
    return Group(facts, "", _comparison(result), "", _proof(result), "")


def _comparison(result: Result) -> Table:
    """What single requests would have cost, and what was sent."""
    single, sent = result.changes_valid, len(result.requests)
    table = Table(
        "", "requests", "jobs", "chunks", f"OMS busy, at {SECONDS_PER_CHUNK:g} s a chunk", box=None, pad_edge=False
    )
    for column in table.columns[1:]:
        column.justify = "right"
    table.columns[0].style = "bold"
    table.add_row("Sent one by one", *[f"{single:,}"] * 3, _duration(single * SECONDS_PER_CHUNK))
    table.add_row(
        "Sent by this service", f"{sent:,}", f"{sent:,}", f"{result.chunks_used:,}", _duration(result.chunks_used)
    )
    saved = (single - sent, single - sent, single - result.chunks_used)
    table.add_row("Saved", *(f"{100 * part / single:.1f} %" for part in saved), style="green")
    return table


def _proof(result: Result) -> Table:
    """What broker and OMS hold in the end, read back by clients of their own."""
    right = result.items_expected - result.items_wrong
    committed, end = sum(result.committed.values()), sum(result.end.values())
    proof = Table.grid(padding=(0, 2))
    proof.add_column(style="bold", no_wrap=True)
    proof.add_column(justify="right", no_wrap=True)
    proof.add_column()
    proof.add_row("Proof", f"{right:,} of {result.items_expected:,}", "items have their last value in the OMS")
    proof.add_row("", f"{committed:,} of {end:,}", "offsets are committed")
    reasons = ", ".join(_reasons(result.dead_letters))
    proof.add_row("", f"{sum(result.dead_letters.values()):,}", f"dead letters: {reasons}")
    return proof


def _reasons(dead_letters: dict[str, int], shown_max: int = 3) -> Sequence[str]:
    ordered = sorted(dead_letters.items(), key=lambda entry: (-entry[1], entry[0]))
    rest = len(ordered) - shown_max
    return [f"{reason} {count}" for reason, count in ordered[:shown_max]] + ([f"{rest} more"] if rest > 0 else [])


def _next_steps(program: str, *, with_faults: bool) -> Table:
    steps = Table.grid(padding=(0, 2))
    steps.add_column(style="bold", no_wrap=True)
    steps.add_column(style="cyan", no_wrap=True)
    steps.add_column()
    if not with_faults:
        steps.add_row("Next", f"{program} demo --faults", "with an OMS that fails")
    steps.add_row("Next" if with_faults else "", f"{program} demo --forever", "watch the status page")
    steps.add_row("", "docs/first-steps.md", "your topic, a staging OMS")
    return steps


def _duration(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 3_600 else f"{seconds / 3_600:.1f} h"
