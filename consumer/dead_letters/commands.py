"""What the commands ``dead-letters list``, ``show`` and ``redrive`` do."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from consumer.dead_letters.letters import DeadLetter, Filters
from consumer.dead_letters.log_reader import Reader, read_letters
from consumer.dead_letters.redrive.events import NUMBER, EventReader, as_json
from consumer.dead_letters.redrive.plan import Verdict
from consumer.dead_letters.redrive.redrive import Judged, Redrive
from consumer.dead_letters.views import Counts, as_object, counts_table, in_full, line, page, plan_table, staying
from consumer.errors import DeadLettersError
from consumer.settings import Settings

DECODED_LETTERS_MAX: Final = 1_000
"""Letters that are decoded at once."""


def list_letters(settings: Settings, filters: Filters, *, limit: int | None, each: bool, as_lines: bool) -> None:
    """Print how many letters there are by reason and location, or one line a letter, or one JSON object a letter.

    Where no schema can be had, the locations that only the events have are left out; a line on stderr says so.
    """
    counts: Counts = Counter()
    with closing(EventReader(settings)) as events:
        for letters in _chosen(settings, filters, events, limit):
            counts.update((letter.reason, letter.location) for letter in letters)
            for letter in letters if each or as_lines else ():
                print(json.dumps(as_object(letter)) if as_lines else line(letter))  # noqa: T201 - what was asked for
    if not as_lines:
        Console().print(counts_table(counts))


def show_letters(settings: Settings, filters: Filters, *, limit: int, as_lines: bool) -> None:
    """Print letters in full. Raises DeadLettersError if there is none."""
    shown = 0
    with closing(EventReader(settings)) as events:
        for letters in _chosen(settings, filters, events, limit):
            decoded = events.read(letters)
            rows = {row[NUMBER]: as_json(row) for row in decoded.frame.iter_rows(named=True)}
            for number, letter in enumerate(letters):
                told = in_full(letter, rows.get(number), decoded.unreadable.get(number))
                print(json.dumps(told) if as_lines else page(told))  # noqa: T201 - what was asked for
            shown += len(letters)
    if not shown:
        raise DeadLettersError(f'no dead letter in "{settings.dead_letters.topic}" is like that')
    if shown == limit:
        Console(stderr=True).print(f"The first {limit}; there may be more: raise --limit, or narrow the filters.")


def redrive_letters(
    settings: Settings,
    filters: Filters,
    *,
    limit: int | None,
    dry_run: bool,
    confirm: Callable[[str], bool],
) -> None:
    """Show what would go and what stays; if ``confirm`` says so, send.

    Raises DeadLettersError if some could not be sent because too much came in between.
    """
    console = Console()
    with closing(Redrive(settings)) as redrive:
        with _progress("messages of the source topics") as progress:
            plan = redrive.plan(filters, limit, _moving(progress))
        console.print(plan_table(plan))
        for told in staying(plan):
            print(told)  # noqa: T201 - what was asked for
        going = sum(each.verdict is Verdict.GOES for each in plan)
        if not going or dry_run or not confirm(f"Send {going:,} changes back to their topics?"):
            console.print("Nothing was sent." if going else "There is nothing to send.")
            return
        with _progress("letters sent back") as progress:
            outcome = redrive.carry_out(_moving(progress))
    _tell(console, outcome)


def _tell(console: Console, outcome: list[Judged]) -> None:
    sent = sum(each.verdict is Verdict.GOES for each in outcome)
    console.print(f"{sent:,} changes are back in their topics.")
    for told in staying(outcome):
        print(told)  # noqa: T201 - what was asked for
    contended = sum(each.verdict is Verdict.CONTENDED for each in outcome)
    if contended:
        raise DeadLettersError(
            f"{contended:,} letters were not sent: newer changes, or open transactions of other producers, came in "
            "between again and again; redrive once more, best in a quiet hour"
        )


def _chosen(settings: Settings, filters: Filters, events: EventReader, limit: int | None) -> Iterator[list[DeadLetter]]:
    """The letters that are meant, with their locations, in lists that are not empty."""
    foreign = 0

    def on_foreign(count: int) -> None:
        nonlocal foreign
        foreign += count

    left = limit
    blind = False
    with closing(Reader(settings.kafka)) as reader:
        for letters in read_letters(reader, settings.dead_letters.topic, filters.since_ms, on_foreign):
            for first in range(0, len(letters), DECODED_LETTERS_MAX):
                part = letters[first : first + DECODED_LETTERS_MAX]
                try:
                    part = part if blind else events.with_locations(part)
                except DeadLettersError as error:
                    if filters.location is not None:
                        raise
                    blind = True
                    Console(stderr=True).print(f"Locations are missing: {error}")
                chosen = [letter for letter in part if filters.take(letter)][:left]
                if chosen:
                    yield chosen
                if left is not None:
                    left -= len(chosen)
                    if not left:
                        return
    if foreign:
        Console(stderr=True).print(f"{foreign:,} messages there were not written by this service.")


def _progress(what: str) -> Progress:
    columns = (TextColumn(what), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _moving(progress: Progress) -> Callable[[int, int], None]:
    task = progress.add_task("")
    return lambda done, of: progress.update(task, completed=done, total=of)
