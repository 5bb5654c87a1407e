"""Decodes the events in dead letters and checks them against the OMS's rules, with the settings of the service."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import polars as pl

from consumer.avro.batches import ReadChanges
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.leaves import TARGETS
from consumer.avro.lines import TooManyRowsError
from consumer.avro.record_columns import Records
from consumer.avro.sources import SchemaUnavailableError
from consumer.core.changes.barriers import barriers_mask
from consumer.core.changes.items import LINE, LOCATION, OCCURRED_AT, OFFSET, TIMESTAMP
from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.redrive.plan import BYTES
from consumer.errors import DeadLettersError
from consumer.oms.apis import APIS
from consumer.ports import Headers, RawBatch
from consumer.settings import Settings

SCHEMA_SECONDS_MAX: Final = 20.0
"""How long to retry while the schema registry does not answer."""
SCHEMA_RETRY_SECONDS: Final = 1.0
DECODED_MAX: Final = 1_000
"""Events decoded at once: until they are columns, they take many times their size."""

INDEX: Final = "_index"
"""Column: a dead letter's index in the sequence that was passed."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the service rejects an event: reason code and detail, as in its dead letter."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Events:
    """Decoded events. A dead letter without its original value is in neither field.

    ``frame`` has a row per line, with the columns of ``leaves.TARGETS``, ``INDEX`` and ``LINE``. ``undecodable`` has
    the other events and lines, by index and line (None: the whole event).
    """

    frame: pl.DataFrame
    undecodable: Mapping[tuple[int, int | None], Rejection]


@dataclass(frozen=True, slots=True)
class Checked:
    """The lines of events, as the service would take them.

    ``accepted`` has the changes that it would accept, ``barriers`` those that it would reject as barriers (rule 27).
    Both have the columns of ``Events.frame``, ``OFFSET``, ``TIMESTAMP``, ``OCCURRED_AT`` and ``BYTES``. ``rejected``
    says why it would reject lines or whole events, as ``Events.undecodable`` does.
    """

    accepted: pl.DataFrame
    barriers: pl.DataFrame
    rejected: Mapping[tuple[int, int | None], Rejection]


class EventReader:
    """Decodes one message at a time with the reference decoder: dead letters are few."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError if neither a schema file nor a registry is set."""
        avro = settings.avro.model_copy(update={"decoder": "fastavro"})
        columns = APIS[settings.oms.api].item_columns
        self._item_key = settings.window.item_key
        self._decoder = build_batch_decoder(avro, settings.events, settings.window.item_key, columns, is_patient=False)

    def close(self) -> None:
        self._decoder.close()

    def read(self, dead_letters: Sequence[DeadLetter]) -> Events:
        """Decode the events of dead letters. Raises DeadLettersError if a schema stays unavailable."""
        names = [*TARGETS, LINE, pl.col(OFFSET).alias(INDEX)]
        frames = [pl.DataFrame(schema={**TARGETS, LINE: pl.Int32(), INDEX: pl.Int64()})]
        undecodable: dict[tuple[int, int | None], Rejection] = {}
        for indices, changes in self._changes(dead_letters):
            frames += [changes.valid.select(names), changes.broken.select(names)]
            decoded = set(changes.broken.select(OFFSET, LINE).iter_rows())
            for bad in changes.bad:
                if (indices[bad.position], bad.line) not in decoded:
                    place = indices[bad.position], self._decoder.line_of(bad)
                    undecodable[place] = Rejection(bad.reason, bad.detail)
        return Events(pl.concat(frames).sort(INDEX, LINE), undecodable)

    def _changes(self, dead_letters: Sequence[DeadLetter]) -> Iterator[tuple[Sequence[int], ReadChanges]]:
        """The changes in dead letters, each with its index among them as its offset, and the indices that were read."""
        topics = {topic: number for number, topic in enumerate({letter.source.topic for letter in dead_letters})}
        readable = [index for index, dead_letter in enumerate(dead_letters) if dead_letter.event is not None]
        todo = [readable[first : first + DECODED_MAX] for first in range(0, len(readable), DECODED_MAX)]
        while todo:
            indices = todo.pop()
            batch = _batch(dead_letters, indices, topics)
            try:
                changes = retry_schema(lambda batch=batch: self._decoder.read(Records([batch])))  # type: ignore[misc]
            except TooManyRowsError:
                middle = len(indices) // 2
                todo += [indices[middle:], indices[:middle]]
            else:
                yield indices, changes

    def with_locations(self, dead_letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """The dead letters; those without a location get that of their line, if it decodes.

        Without a line, that is the location of the event, if all of its lines have the same.
        """
        indices = [
            index
            for index, dead_letter in enumerate(dead_letters)
            if dead_letter.location is None and dead_letter.event is not None
        ]
        completed = list(dead_letters)
        if indices:
            found: dict[int, set[str | None]] = {}
            for position, line, location in (
                self.read([dead_letters[index] for index in indices]).frame.select(INDEX, LINE, LOCATION).iter_rows()
            ):
                if dead_letters[indices[position]].line in (None, line):
                    found.setdefault(indices[position], set()).add(location)
            for index, locations in found.items():
                if len(locations) == 1:
                    completed[index] = replace(dead_letters[index], location=locations.pop())
        return completed

    def check(self, dead_letters: Sequence[DeadLetter]) -> Checked:
        """What the service would do with the lines of these events, one dead letter of each. See ``read``."""
        nothing = pl.DataFrame(schema=_CHECKED_SCHEMA)
        accepted, barriers = [nothing], [nothing]
        rejected: dict[tuple[int, int | None], Rejection] = {}
        for indices, changes in self._changes(dead_letters):
            is_barrier = barriers_mask(changes.broken, self._item_key)
            accepted.append(_of_letters(changes.valid, dead_letters))
            barriers.append(_of_letters(changes.broken.filter(is_barrier), dead_letters))
            for bad in changes.bad:
                place = indices[bad.position], self._decoder.line_of(bad)
                rejected.setdefault(place, Rejection(bad.reason, bad.detail))
        return Checked(pl.concat(accepted).sort(INDEX, LINE), pl.concat(barriers).sort(INDEX, LINE), rejected)


_CHECKED_SCHEMA: Final = {
    **TARGETS,
    LINE: pl.Int32(),
    INDEX: pl.Int64(),
    TIMESTAMP: pl.Int64(),
    OCCURRED_AT: pl.Int64(),
    OFFSET: pl.Int64(),
    BYTES: pl.Int64(),
}


def _batch(dead_letters: Sequence[DeadLetter], indices: Sequence[int], topics: Mapping[str, int]) -> RawBatch:
    def origin(position: int) -> tuple[bytes | None, Headers]:
        dead_letter = dead_letters[indices[position]]
        return dead_letter.key, dead_letter.headers

    return RawBatch(
        values=[dead_letters[index].event for index in indices],
        assignments=[topics[dead_letters[index].source.topic] for index in indices],
        offsets=list(indices),
        timestamps=[dead_letters[index].timestamp for index in indices],
        ends={},
        origin=origin,
        topics={number: topic for topic, number in topics.items()},
    )


def _of_letters(changes: pl.DataFrame, dead_letters: Sequence[DeadLetter]) -> pl.DataFrame:
    """Changes whose offset is the index of their dead letter, with that as ``INDEX`` and the record's own offset."""
    letters = [dead_letters[index] for index in changes[OFFSET]]
    frame = changes.select(*TARGETS, LINE, pl.col(OFFSET).alias(INDEX), TIMESTAMP, OCCURRED_AT)
    return frame.with_columns(
        pl.Series(OFFSET, [letter.source.offset for letter in letters], dtype=pl.Int64),
        pl.Series(BYTES, [len(letter.value or b"") for letter in letters], dtype=pl.Int64),
    )


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of an event as a JSON object, without absent fields."""
    return {name: value for name, value in row.items() if name in TARGETS and value is not None}


def retry_schema(decode: Callable[[], Answer]) -> Answer:
    """Retry while a schema is unavailable. Raises DeadLettersError after ``SCHEMA_SECONDS_MAX``."""
    deadline = time.monotonic() + SCHEMA_SECONDS_MAX
    while True:
        try:
            return decode()
        except SchemaUnavailableError as error:
            if time.monotonic() > deadline:
                raise DeadLettersError(f"events cannot be decoded: {error}; see avro.registry_url") from error
        time.sleep(SCHEMA_RETRY_SECONDS)
