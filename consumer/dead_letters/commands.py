"""What the commands ``dead-letters list``, ``show`` and ``redrive`` do."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from rich.progress import MofNCompleteColumn, Progress

from consumer.core.changes.items import LINE
from consumer.dead_letters.filters import DeadLetterFilter
from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.reader import DeadLetterReader
from consumer.dead_letters.redrive.events import DECODED_MAX, INDEX, EventReader, as_json
from consumer.dead_letters.redrive.plan import Verdict
from consumer.dead_letters.redrive.redrive import Judged, Redrive
from consumer.dead_letters.views import (
    Counts,
    as_line,
    as_object,
    as_page,
    count_of,
    counts_table,
    in_full,
    plan_table,
    skipped_lines,
)
from consumer.errors import DeadLettersError
from consumer.settings import Settings
from consumer.terminal import console, progress_bar


def list_dead_letters(
    settings: Settings, wanted: DeadLetterFilter, *, limit: int | None, with_lines: bool, as_json_lines: bool
) -> None:
    """Print counts by reason and location, preceded by one line per dead letter if ``with_lines``.

    With ``as_json_lines``, print one JSON object per line instead. If a schema is unavailable, a line on stderr says
    so, and locations that only the events have are left out.
    """
    counts: Counts = Counter()
    prints_lines = with_lines or as_json_lines
    with closing(EventReader(settings)) as events:
        for dead_letters in _matching(settings, wanted, events, limit, prints_lines=prints_lines):
            counts.update((dead_letter.reason, dead_letter.location) for dead_letter in dead_letters)
            for dead_letter in dead_letters if prints_lines else ():
                print(json.dumps(as_object(dead_letter)) if as_json_lines else as_line(dead_letter))  # noqa: T201
    if not as_json_lines:
        console().print(counts_table(counts))


def show_dead_letters(settings: Settings, wanted: DeadLetterFilter, *, limit: int, as_json_lines: bool) -> None:
    """Print dead letters in full. Raises DeadLettersError if none matches."""
    shown = 0
    with closing(EventReader(settings)) as events:
        for dead_letters in _matching(settings, wanted, events, limit, prints_lines=True):
            decoded = events.read(dead_letters)
            rows: dict[int, dict[int, dict[str, Any]]] = {}
            for row in decoded.frame.iter_rows(named=True):
                rows.setdefault(row[INDEX], {})[row[LINE]] = as_json(row)
            for index, dead_letter in enumerate(dead_letters):
                event = _shown_event(dead_letter, rows.get(index, {}))
                rejection = decoded.undecodable.get((index, dead_letter.line)) or decoded.undecodable.get((index, None))
                fields = in_full(dead_letter, event, rejection)
                print(json.dumps(fields) if as_json_lines else as_page(fields))  # noqa: T201
            shown += len(dead_letters)
    if not shown:
        raise DeadLettersError(f'no dead letter in "{settings.dead_letters.topic}" matches')
    if shown == limit:
        console(stderr=True).print(f"Only the first {limit} are shown; raise --limit or add filters.")


def _shown_event(dead_letter: DeadLetter, lines: Mapping[int, dict[str, Any]]) -> Any | None:
    """What is shown of an event: the line of the dead letter, or all, if there are several; None without any."""
    if dead_letter.line is not None:
        return lines.get(dead_letter.line)
    shown = list(lines.values())
    return shown[0] if len(shown) == 1 else shown or None


def redrive_dead_letters(
    settings: Settings,
    wanted: DeadLetterFilter,
    *,
    limit: int | None,
    memory_bytes: int,
    dry_run: bool,
    confirm: Callable[[str], bool],
) -> None:
    """Print what would be redriven and what is skipped; redrive if ``confirm`` agrees.

    ``memory_bytes`` is what the dead letters may take; if they take more, SettingsError says so.
    Raises DeadLettersError if other producers prevented some from being redriven.
    """
    out = console()
    with closing(Redrive(settings, memory_bytes=memory_bytes)) as redrive:
        with _progress("records scanned in the source topics") as progress:
            plan = redrive.plan(wanted, limit, _updating(progress))
        out.print(plan_table(plan))
        _print_skipped(plan)
        count = _redriven(plan)
        if not count:
            out.print("There is nothing to redrive.")
            return
        if dry_run or not confirm(f"Redrive {count_of(count, 'dead letter')}?"):
            out.print("Nothing was redriven.")
            return
        with _progress("dead letters redriven") as progress:
            outcome = redrive.execute(_updating(progress))
    out.print(f"Redrove {count_of(_redriven(outcome), 'dead letter')}.")
    _print_skipped(outcome)
    contended = sum(entry.verdict is Verdict.CONTENDED for entry in outcome)
    if contended:
        raise DeadLettersError(
            f"{count_of(contended, 'dead letter')} could not be redriven: other producers kept writing newer changes "
            "or left transactions open; redrive again, preferably when the topics are less busy"
        )


def _redriven(judged: list[Judged]) -> int:
    return sum(entry.verdict is Verdict.REDRIVE for entry in judged)


def _print_skipped(judged: list[Judged]) -> None:
    for line in skipped_lines(judged):
        print(line)  # noqa: T201


def _matching(
    settings: Settings, wanted: DeadLetterFilter, events: EventReader, limit: int | None, *, prints_lines: bool
) -> Iterator[list[DeadLetter]]:
    """At most ``limit`` dead letters that match, with their locations, in lists, none empty.

    A bar shows the progress, unless lines are printed to the same terminal meanwhile.
    """
    remaining = limit
    progress = _progress("dead letters read")
    progress.disable = progress.disable or (prints_lines and sys.stdout.isatty())
    with closing(DeadLetterReader(settings)) as reader, progress:
        for dead_letters in _with_locations(reader, wanted, events, progress):
            matching = list(filter(wanted.matches, dead_letters))[:remaining]
            if matching:
                yield matching
            if remaining is not None:
                remaining -= len(matching)
                if not remaining:
                    return
        if reader.foreign_records:
            foreign = count_of(reader.foreign_records, "record")
            progress.console.print(f"Ignored {foreign} that this service did not write.")


def _with_locations(
    reader: DeadLetterReader, wanted: DeadLetterFilter, events: EventReader, progress: Progress
) -> Iterator[list[DeadLetter]]:
    """Dead letters with the locations in their events, as long as schemas are available.

    Raises DeadLettersError if a schema is unavailable and the filter needs locations.
    """
    decodable = True
    for dead_letters in reader.read(wanted.since_ms, _updating(progress)):
        for first in range(0, len(dead_letters), DECODED_MAX):
            part = dead_letters[first : first + DECODED_MAX]
            if decodable:
                try:
                    part = events.with_locations(part)
                except DeadLettersError as error:
                    if wanted.location is not None:
                        raise
                    decodable = False
                    progress.console.print(f"Some locations are unknown: {error}")
            yield part


def _progress(what: str) -> Progress:
    return progress_bar(what, MofNCompleteColumn())


def _updating(progress: Progress) -> Callable[[int, int], None]:
    task = progress.add_task("", total=None)
    return lambda done, of: progress.update(task, completed=done, total=of)
