"""Dead letters back to their topics, never an older value after a newer one.

First a plan: the source topics are looked through from the letters' changes on. Then batch by batch, each in one
transaction: what was added meanwhile is read; the copies are sent; what lies between the end of that reading and the
copies is read too. Nothing newer of their items there: commit. Else abort, and the batch is judged anew.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from consumer.core.changes.items import ASSIGNMENT, OFFSET
from consumer.dead_letters.letters import DeadLetter, Filters, RecordPosition, latest_of_each
from consumer.dead_letters.log_reader import Partition, Reader, read_letters
from consumer.dead_letters.redrive.events import EventReader
from consumer.dead_letters.redrive.plan import (
    BY_ASSIGNMENT,
    BY_OFFSET,
    CHANGE_ID,
    VERDICT,
    Verdict,
    cut_into_batches,
    item_columns,
)
from consumer.dead_letters.redrive.publisher import Publisher, Sent, refuse_read_uncommitted
from consumer.dead_letters.redrive.source_log import Progress, SourceLog
from consumer.errors import SettingsError
from consumer.settings import Settings

LETTERS_MAX: Final = 100_000
"""Letters of one run: they are in memory with their bytes."""
BATCH_LETTERS_MAX: Final = 1_000
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one transaction: while it is open the service reads nothing behind it, so it is short."""
TRIES_MAX: Final = 5
"""So often a batch is tried before its letters stay for this time."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A letter, what becomes of it, and why, for people."""

    letter: DeadLetter
    verdict: Verdict
    detail: str = ""


@dataclass(slots=True)
class Chosen:
    """What the dead-letter topic has: the letters that are meant, and what is to be known of all others."""

    letters: list[DeadLetter] = field(default_factory=list)
    known: dict[Partition, "array[int]"] = field(default_factory=dict)
    """The offsets of the changes of all letters: eight bytes a letter, however many there are."""
    redriven: dict[RecordPosition, RecordPosition] = field(default_factory=dict)
    """Changes that went back and became a letter again: from where they were to where that copy was."""


def choose(settings: Settings, filters: Filters, events: EventReader, limit: int | None) -> Chosen:
    """Read the dead-letter topic. Raises SettingsError if the filters leave too many letters to redrive at once."""
    chosen = Chosen()
    reader = Reader(settings.kafka)
    try:
        for letters in read_letters(reader, settings.dead_letters.topic):
            for place in (letter.place for letter in letters):
                chosen.known.setdefault(place[:2], array("q")).append(place.offset)
            chosen.redriven |= {each.redriven_from: each.place for each in letters if each.redriven_from}
            chosen.letters += filter(filters.take, events.with_locations(letters) if filters.location else letters)
            if limit is None and len(chosen.letters) > LETTERS_MAX:
                raise SettingsError(
                    f"redrive: more than {LETTERS_MAX:,} dead letters: choose fewer at once by --reason, --location, "
                    "--since, --until or --limit"
                )
            if limit is not None:
                del chosen.letters[limit:]
    finally:
        reader.close()
    chosen.letters = latest_of_each(chosen.letters)
    return chosen


class Redrive:
    """One run. Use it from one thread, and close it; every method may raise a StopError."""

    def __init__(self, settings: Settings, *, before_sending: Callable[[], None] = lambda: None) -> None:
        """``before_sending`` is called before a batch's copies are sent: for tests of what comes between."""
        refuse_read_uncommitted(settings.kafka)
        self._settings = settings
        self._before_sending = before_sending
        self._item = item_columns(settings.window.item_key)
        self._by_place: dict[RecordPosition, DeadLetter] = {}
        self._sizes: pl.DataFrame = pl.DataFrame()
        with ExitStack() as stack:
            self._events = EventReader(settings)
            stack.callback(self._events.close)
            self._log = SourceLog(settings, self._item)
            stack.callback(self._log.close)
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    def plan(
        self, filters: Filters, limit: int | None = None, progress: Progress = lambda _done, _of: None
    ) -> list[Judged]:
        """Judge the letters that are meant; nothing is sent."""
        chosen = choose(self._settings, filters, self._events, limit)
        judged, candidates = self._before_the_log(chosen)
        taken, rejected = self._events.judge(candidates)
        judged += [
            Judged(candidates[number], Verdict.REJECTED_AGAIN, f"{why.reason}: {why.detail}")
            for number, why in rejected.items()
        ]
        if taken.is_empty():
            return judged
        numbers = [self._log.number(letter.place[:2]) for letter in candidates]
        letters = taken.with_columns(pl.Series(ASSIGNMENT, [numbers[n] for n in taken["_letter"]], dtype=pl.Int32))
        self._by_place = {letter.place: letter for letter in candidates}
        self._log.look_for(letters, self._by_place, chosen.known)
        self._log.read_on(progress)
        return judged + self._told(self._log.judged())

    def carry_out(self, progress: Progress = lambda _done, _of: None) -> list[Judged]:
        """Send back what the plan lets go. Gives what became of those letters; some may stay after all."""
        if not self._by_place:
            return []
        going = self._log.judged().filter(pl.col(VERDICT) == Verdict.GOES.value)
        batches = cut_into_batches(going, self._item, letters_max=BATCH_LETTERS_MAX, bytes_max=BATCH_BYTES_MAX)
        outcome: list[Judged] = []
        publisher = Publisher(self._settings.kafka) if batches else None
        for batch in batches:
            if publisher:
                outcome += self._send_batch(publisher, batch)
            progress(len(outcome), len(going))
        return outcome

    def _before_the_log(self, chosen: Chosen) -> tuple[list[Judged], list[DeadLetter]]:
        """Those that stay whatever the log has, and the others."""
        judged: list[Judged] = []
        candidates: list[DeadLetter] = []
        for letter in chosen.letters:
            if letter.event is None:
                judged.append(Judged(letter, Verdict.NO_ORIGINAL, _what_is_missing(letter)))
            elif self._log.number(letter.place[:2]) is None:
                judged.append(Judged(letter, Verdict.OTHER_TOPIC, f"{letter.place.topic} is not in kafka.topics"))
            elif letter.place in chosen.redriven:
                judged.append(Judged(letter, Verdict.REDRIVEN_BEFORE, f"see {chosen.redriven[letter.place]}"))
            else:
                candidates.append(letter)
        return judged, candidates

    def _send_batch(self, publisher: Publisher, batch: pl.DataFrame) -> list[Judged]:
        """Send a batch until nothing came between; what turns out to be superseded meanwhile stays."""
        for _ in range(TRIES_MAX):
            self._log.read_on()
            now = self._log.judged().join(batch.select(CHANGE_ID), on=CHANGE_ID, how="semi", maintain_order="left")
            batch_now = now.filter(pl.col(VERDICT) == Verdict.GOES.value).sort(CHANGE_ID)
            if batch_now.is_empty():
                return self._told(now)
            self._before_sending()
            in_between = self._try_to_send(publisher, batch_now)
            if in_between is None:
                return self._told(now)
            if not self._log.wait_past(in_between):
                break
        return [
            Judged(each.letter, Verdict.CONTENDED, "newer changes or open transactions came in between")
            if each.verdict is Verdict.GOES
            else each
            for each in self._told(now)
        ]

    def _try_to_send(self, publisher: Publisher, batch: pl.DataFrame) -> pl.DataFrame | None:
        """Send, and commit if nothing came between. Else abort; gives the places of what did, and of our own copies."""
        try:
            copies = self._places(publisher.send(self._letters_of(batch)))
            slipped = self._log.between(batch, copies)
            if slipped.is_empty():
                publisher.commit()
                return None
            return pl.concat([slipped, copies])
        finally:
            publisher.abort()  # does nothing after a commit

    def _letters_of(self, judged: pl.DataFrame) -> list[DeadLetter]:
        return [self._by_place[self._log.place(*row)] for row in judged.select(CHANGE_ID).iter_rows()]

    def _places(self, sent: Sequence[Sent]) -> pl.DataFrame:
        rows = [(self._log.number(each.letter.place[:2]), each.offset) for each in sent]
        return pl.DataFrame(rows, schema={ASSIGNMENT: pl.Int32(), OFFSET: pl.Int64()}, orient="row")

    def _told(self, judged: pl.DataFrame) -> list[Judged]:
        columns = (*CHANGE_ID, VERDICT, BY_ASSIGNMENT, BY_OFFSET)
        rows: Iterable[Any] = judged.select(columns).iter_rows()
        return [
            Judged(
                self._by_place[self._log.place(number, offset)],
                Verdict(verdict),
                "" if by_offset is None else f"by {self._log.place(by_number, by_offset)}",
            )
            for number, offset, verdict, by_number, by_offset in rows
        ]


def _what_is_missing(letter: DeadLetter) -> str:
    if letter.gone:
        return "the change was gone from its topic when the letter was written"
    if letter.value_bytes is not None:
        return f"its value of {letter.value_bytes:,} bytes was too large for the dead-letter topic"
    return "it has no value"
