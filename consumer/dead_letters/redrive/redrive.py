"""Sends dead letters back to their topics, but never an older count after a newer one.

First a plan: the source topics are scanned from the dead letters' changes on. Then batch by batch, each in one
transaction: scan what was added since; send the copies; read what lies between the end of that scan and the copies.
If nothing there is of the batch's items, commit. Otherwise abort and judge the batch again.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from consumer.core.changes.items import ASSIGNMENT, OFFSET
from consumer.dead_letters.filters import DeadLetterFilter, latest_by_change
from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.log_reader import Partition
from consumer.dead_letters.reader import DeadLetterReader
from consumer.dead_letters.record import RecordPosition
from consumer.dead_letters.redrive.events import INDEX, Checked, EventReader, Rejection
from consumer.dead_letters.redrive.plan import (
    BLOCKING_ASSIGNMENT,
    BLOCKING_OFFSET,
    RECORD_ID,
    VERDICT,
    Verdict,
    item_columns,
    split_into_batches,
)
from consumer.dead_letters.redrive.publisher import Copy, Publisher, require_read_committed
from consumer.dead_letters.redrive.source_log import Progress, SourceLog, as_known
from consumer.errors import SettingsError
from consumer.settings import Settings
from consumer.settings.memory import MIB, size

DEAD_LETTERS_MAX: Final = 100_000
"""Of one run: they are in memory with their values."""
MEMORY_BYTES: Final = 24 * MIB
"""What they may take, unless a run is given more: next to the service there are ``memory.SIDE_COMMAND_BYTES``."""
DEAD_LETTER_BYTES: Final = 2_048
"""Of a dead letter on top of its key, value and headers: objects, verdict, and the rows of its event."""
LINE_BYTES: Final = 512
"""Of each line of an event, in frames."""
BATCH_COUNT_MAX: Final = 1_000
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one transaction. While it is open the service reads nothing past it, so it must be short."""
TRIES_MAX: Final = 5
"""A batch that other producers keep disturbing is skipped after this many tries."""


_NO_LINES: Final = Rejection("no_lines", "the event has no changes")


@dataclass(frozen=True, slots=True)
class Judged:
    """A dead letter and its verdict; ``detail`` gives the particulars, None if there are none."""

    dead_letter: DeadLetter
    verdict: Verdict
    detail: str | None = None


@dataclass(slots=True)
class Selection:
    """The dead letters that match, and what redrive must know of all others in the topic."""

    dead_letters: list[DeadLetter] = field(default_factory=list)
    known: dict[Partition, "array[int]"] = field(default_factory=dict)
    """By source partition all events and lines that have a dead letter, as ``as_known`` numbers them: 8 bytes each."""
    redriven: dict[RecordPosition, RecordPosition] = field(default_factory=dict)
    """Changes whose copy became a dead letter: from the position of the original to that of the copy."""


def select(
    settings: Settings, wanted: DeadLetterFilter, events: EventReader, limit: int | None, memory_bytes: int
) -> Selection:
    """Read the dead-letter topic.

    Raises SettingsError if more than ``DEAD_LETTERS_MAX`` match, or if these take more than ``memory_bytes``.
    """
    selection = Selection()
    taken_bytes = 0
    with closing(DeadLetterReader(settings)) as reader:
        for dead_letters in reader.read():
            for dead_letter in dead_letters:
                source = dead_letter.source
                number = as_known(source.offset, dead_letter.line)
                selection.known.setdefault(source[:2], array("q")).append(number)
            selection.redriven |= {
                dead_letter.redriven_from: dead_letter.source
                for dead_letter in dead_letters
                if dead_letter.redriven_from is not None
            }
            located = dead_letters if wanted.location is None else events.with_locations(dead_letters)
            matching = list(filter(wanted.matches, located))
            if limit is not None:
                del matching[max(limit - len(selection.dead_letters), 0) :]
            selection.dead_letters += matching
            taken_bytes += sum(map(_bytes_of, matching))
            if taken_bytes > memory_bytes:
                raise SettingsError(_too_large("these dead letters", memory_bytes))
            if len(selection.dead_letters) > DEAD_LETTERS_MAX:
                raise SettingsError(
                    f"redrive: more than {DEAD_LETTERS_MAX:,} dead letters match; select fewer with --reason, "
                    "--location, --since, --until or --limit"
                )
    selection.dead_letters = latest_by_change(selection.dead_letters)
    return selection


def _bytes_of(dead_letter: DeadLetter) -> int:
    headers = sum(len(name) + len(text or b"") for name, text in dead_letter.headers)
    return DEAD_LETTER_BYTES + len(dead_letter.key or b"") + len(dead_letter.value or b"") + headers


def _too_large(what: str, memory_bytes: int) -> str:
    return (
        f"redrive: {what} take more than {size(memory_bytes)}; select fewer with --reason, --location, --since, "
        "--until or --limit, or give --memory where the command has that much, as in a Job"
    )


class Redrive:
    """One run: ``plan``, then ``execute``. Use it from one thread and close it; every method may raise a StopError."""

    def __init__(
        self,
        settings: Settings,
        *,
        memory_bytes: int = MEMORY_BYTES,
        before_sending: Callable[[], None] = lambda: None,
    ) -> None:
        """``memory_bytes`` is what the dead letters may take, and their events as much again.

        ``before_sending`` is called before the copies of a batch are sent: for tests with other producers.
        """
        require_read_committed(settings.kafka)
        self._settings = settings
        self._memory_bytes = memory_bytes
        self._before_sending = before_sending
        self._item = item_columns(settings.window.item_key)
        self._by_source: dict[RecordPosition, list[DeadLetter]] = {}
        with ExitStack() as stack:
            self._events = EventReader(settings)
            stack.callback(self._events.close)
            self._log = SourceLog(settings, self._item)
            stack.callback(self._log.close)
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    def plan(
        self, wanted: DeadLetterFilter, limit: int | None = None, progress: Progress = lambda _done, _of: None
    ) -> list[Judged]:
        """Judge the dead letters that match. Sends nothing."""
        selection = select(self._settings, wanted, self._events, limit, self._memory_bytes)
        judged, candidates = self._without_log(selection)
        by_source: dict[RecordPosition, list[DeadLetter]] = {}
        for dead_letter in candidates:
            by_source.setdefault(dead_letter.source, []).append(dead_letter)
        checked = self._events.check([dead_letters[0] for dead_letters in by_source.values()])
        again, indices = _rejected_again(by_source, checked)
        judged += again
        lines = pl.concat([checked.accepted, checked.barriers]).filter(pl.col(INDEX).is_in(indices))
        if lines.is_empty():
            return judged
        if lines.height * LINE_BYTES > self._memory_bytes:
            raise SettingsError(_too_large(f"the {lines.height:,} lines of their events", self._memory_bytes))
        skipped = {id(entry.dead_letter) for entry in again}
        self._by_source = {
            source: [dead_letter for dead_letter in dead_letters if id(dead_letter) not in skipped]
            for source, dead_letters in by_source.items()
        }
        partitions = [self._log.index_of(source[:2]) for source in by_source]
        assignments = pl.Series(ASSIGNMENT, [partitions[index] for index in lines[INDEX]], dtype=pl.Int32)
        self._log.start(lines.with_columns(assignments), self._by_source, selection.known)
        self._log.scan(progress)
        return judged + self._judged(self._log.judged())

    def execute(self, progress: Progress = lambda _done, _of: None) -> list[Judged]:
        """Redrive what the plan allows. Returns the final verdicts of these dead letters; some may be skipped now."""
        if not self._by_source:
            return []
        planned = self._log.judged().filter(pl.col(VERDICT) == Verdict.REDRIVE.value)
        lines = self._log.lines_of(planned)
        batches = split_into_batches(lines, self._item, count_max=BATCH_COUNT_MAX, bytes_max=BATCH_BYTES_MAX)
        if not batches:
            return []
        publisher = Publisher(self._settings.kafka)
        total = len(self._judged(planned))
        outcome: list[Judged] = []
        for batch in batches:
            outcome += self._send_batch(publisher, batch)
            progress(len(outcome), total)
        return outcome

    def _without_log(self, selection: Selection) -> tuple[list[Judged], list[DeadLetter]]:
        """The dead letters that are skipped whatever the log has, and the others."""
        judged: list[Judged] = []
        candidates: list[DeadLetter] = []
        for dead_letter in selection.dead_letters:
            source = dead_letter.source
            if dead_letter.event is None:
                judged.append(Judged(dead_letter, Verdict.NO_ORIGINAL, _why_no_original(dead_letter)))
            elif self._log.index_of(source[:2]) is None:
                judged.append(Judged(dead_letter, Verdict.OTHER_TOPIC, f"{source.topic} is not in kafka.topics"))
            elif source in selection.redriven:
                copy = selection.redriven[source]
                judged.append(Judged(dead_letter, Verdict.REDRIVEN_BEFORE, f"its copy at {copy} has a dead letter"))
            else:
                candidates.append(dead_letter)
        return judged, candidates

    def _send_batch(self, publisher: Publisher, batch: pl.DataFrame) -> list[Judged]:
        """Try until no other producer interferes. Dead letters that have become superseded meanwhile are skipped."""
        for _ in range(TRIES_MAX):
            self._log.scan()
            judged = self._log.judged().join(batch.select(RECORD_ID), on=RECORD_ID, how="semi", maintain_order="left")
            to_send = judged.filter(pl.col(VERDICT) == Verdict.REDRIVE.value).sort(RECORD_ID)
            if to_send.is_empty():
                return self._judged(judged)
            self._before_sending()
            in_the_way = self._try_to_send(publisher, to_send.select(RECORD_ID))
            if in_the_way is None:
                return self._judged(judged)
            if not self._log.wait_until_readable(in_the_way):
                break
        contended = "other producers wrote newer changes or left transactions open"
        return [
            replace(entry, verdict=Verdict.CONTENDED, detail=contended) if entry.verdict is Verdict.REDRIVE else entry
            for entry in self._judged(judged)
        ]

    def _try_to_send(self, publisher: Publisher, events: pl.DataFrame) -> pl.DataFrame | None:
        """Send these events (``RECORD_ID``); None if that was committed.

        Otherwise it was aborted, and the result has ``RECORD_ID`` of the other producers' changes and of our copies.
        """
        try:
            copies = self._record_ids(publisher.send(self._dead_letters_of(events)))
            foreign = self._log.foreign_changes(self._log.lines_of(events), copies)
            if foreign.is_empty():
                publisher.commit()
                return None
            return pl.concat([foreign, copies])
        finally:
            publisher.abort()  # does nothing after a commit

    def _dead_letters_of(self, events: pl.DataFrame) -> list[DeadLetter]:
        """One dead letter of each event: all of an event have its value, key and headers."""
        return [self._by_source[self._log.position(*row)][0] for row in events.select(RECORD_ID).iter_rows()]

    def _record_ids(self, copies: Sequence[Copy]) -> pl.DataFrame:
        rows = [(self._log.index_of(copy.dead_letter.source[:2]), copy.offset) for copy in copies]
        return pl.DataFrame(rows, schema={ASSIGNMENT: pl.Int32(), OFFSET: pl.Int64()}, orient="row")

    def _judged(self, frame: pl.DataFrame) -> list[Judged]:
        """The verdict of each event as that of all its dead letters."""
        columns = (*RECORD_ID, VERDICT, BLOCKING_ASSIGNMENT, BLOCKING_OFFSET)
        rows: Iterable[Any] = frame.select(columns).iter_rows()
        return [
            Judged(
                dead_letter,
                Verdict(verdict),
                None if blocking_offset is None else f"see {self._log.position(blocking_index, blocking_offset)}",
            )
            for index, offset, verdict, blocking_index, blocking_offset in rows
            for dead_letter in self._by_source[self._log.position(index, offset)]
        ]


def _rejected_again(
    by_source: Mapping[RecordPosition, Sequence[DeadLetter]], checked: Checked
) -> tuple[list[Judged], list[int]]:
    """The dead letters whose line the service would reject again, and the indices of the events that have others.

    A dead letter without a line stands for its event: it is rejected again if no line of the event would be accepted.
    """
    accepted = set(checked.accepted[INDEX])
    first_of_event: dict[int, Rejection] = {}
    for (index, _line), found in checked.rejected.items():
        first_of_event.setdefault(index, found)
    again: list[Judged] = []
    others: set[int] = set()
    for index, dead_letters in enumerate(by_source.values()):
        for dead_letter in dead_letters:
            rejection = checked.rejected.get((index, dead_letter.line))
            if rejection is None and index not in accepted:
                rejection = first_of_event.get(index, _NO_LINES)
            if rejection is None:
                others.add(index)
            else:
                detail = f"{rejection.reason}: {rejection.detail}"
                again.append(Judged(dead_letter, Verdict.REJECTED_AGAIN, detail))
    return again, sorted(others)


def _why_no_original(dead_letter: DeadLetter) -> str:
    if dead_letter.missing:
        return "the change was missing from its topic when the dead letter was written"
    if dead_letter.value_bytes is not None:
        return f"its value of {dead_letter.value_bytes:,} bytes was too large for the dead-letter topic"
    return "it has no value"
