"""Decodes the events in dead letters and checks them against the OMS's rules, with the settings of the service."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import polars as pl

from consumer.avro.decoder_thread import lines_setting
from consumer.avro.fields import OCCURRED_AT_FIELD, POSITION, TARGETS
from consumer.avro.readers import ReaderFactory, Refused
from consumer.avro.sources import FileSource, RegistrySource, SchemaSource, SchemaUnavailableError
from consumer.avro.wire import FRAMINGS
from consumer.core.changes.barriers import barriers_mask
from consumer.core.changes.items import GRANULAR_COLUMNS, LINE, LOCATION, OCCURRED_AT, OFFSET, TIMESTAMP, RejectReason
from consumer.core.changes.rules import REASON, check, describe, with_zero_for_negative
from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.redrive.plan import BYTES
from consumer.errors import DeadLettersError, SettingsError
from consumer.oms.apis import APIS
from consumer.settings import Settings

SCHEMA_SECONDS_MAX: Final = 20.0
"""How long to retry while the schema registry does not answer."""
SCHEMA_RETRY_SECONDS: Final = 1.0

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

    ``frame`` has a row per line, with the columns of ``fields.TARGETS``, ``INDEX`` and ``LINE``. ``undecodable`` has
    the other events and lines, by index and line (None: the whole event).
    """

    frame: pl.DataFrame
    undecodable: Mapping[tuple[int, int | None], Rejection]


@dataclass(frozen=True, slots=True)
class Checked:
    """The lines of events, as the service would take them.

    ``accepted`` has the changes that it would accept, ``barriers`` those that it would reject as barriers (rule 23).
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
        avro = settings.avro
        self._framing = FRAMINGS[avro.framing]
        self._item_key = settings.window.item_key
        self._has_lines = settings.events.items is not None
        self._zero_negative = settings.events.negative_quantity == "zero"
        columns = APIS[settings.oms.api].item_columns
        granular = {name: name for name in columns if name in GRANULAR_COLUMNS}
        factory = ReaderFactory(
            granular | settings.events.fields, self._framing.length, "fastavro", lines_setting(settings.events)
        )
        self._source: SchemaSource
        if avro.schema_file is not None:
            self._source = FileSource(avro.schema_file, self._framing, factory)
        elif avro.registry_url is not None:
            self._source = RegistrySource(avro.registry_url, avro.registry, self._framing, factory)
        else:
            raise SettingsError("avro.registry_url: set it, or avro.schema_file")

    def close(self) -> None:
        self._source.close()

    def read(self, dead_letters: Sequence[DeadLetter]) -> Events:
        """Decode the events of dead letters. Raises DeadLettersError if a schema stays unavailable."""
        groups: dict[bytes | None, list[int]] = {}
        for index, dead_letter in enumerate(dead_letters):
            if dead_letter.event is not None:
                groups.setdefault(self._framing.prefix_of(dead_letter.event), []).append(index)
        frames = [pl.DataFrame(schema={**TARGETS, INDEX: pl.Int64(), LINE: pl.Int32()})]
        undecodable: dict[tuple[int, int | None], Rejection] = {}
        for prefix, indices in groups.items():
            values = [dead_letters[index].event or b"" for index in indices]
            if prefix is None:
                for index, value in zip(indices, values, strict=True):
                    undecodable[index, None] = Rejection(RejectReason.NOT_FRAMED, self._framing.not_framed(value))
                continue
            reader = retry_schema(lambda prefix=prefix: self._source.reader(prefix))  # type: ignore[misc]
            if isinstance(reader, Refused):
                refusal = Rejection(reader.reason, reader.detail)
                undecodable |= {(index, None): refusal for index in indices}
                continue
            reading = reader.read(values)
            undecodable |= {(indices[bad.position], bad.line): Rejection(bad.reason, bad.detail) for bad in reading.bad}
            index_column = pl.Series(INDEX, indices, dtype=pl.Int64)[reading.frame[POSITION]]
            frame = reading.frame.drop(POSITION).with_columns(index_column)
            if LINE not in frame.columns:
                frame = frame.with_columns(pl.lit(0, pl.Int32).alias(LINE))
            frames.append(frame.select(frames[0].columns))
        return Events(pl.concat(frames).sort(INDEX, LINE), undecodable)

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
        events = self.read(dead_letters)
        frame = events.frame
        if self._zero_negative:
            frame = with_zero_for_negative(frame)
        valid, broken = check(_with_origin(frame, dead_letters), self._item_key)
        rejected = dict(events.undecodable)
        for row in broken.iter_rows(named=True):
            reason = RejectReason(row[REASON])
            rejected[row[INDEX], row[LINE] if self._has_lines else None] = Rejection(reason, describe(reason, row))
        is_barrier = barriers_mask(broken, self._item_key)
        return Checked(valid, broken.filter(is_barrier).drop(REASON), rejected)


def _with_origin(frame: pl.DataFrame, dead_letters: Sequence[DeadLetter]) -> pl.DataFrame:
    """The lines of events with the columns that come from the record."""
    origin = pl.DataFrame(
        [
            pl.Series(OFFSET, [dead_letter.source.offset for dead_letter in dead_letters], dtype=pl.Int64),
            pl.Series(TIMESTAMP, [dead_letter.timestamp for dead_letter in dead_letters], dtype=pl.Int64),
            pl.Series(BYTES, [len(dead_letter.value or b"") for dead_letter in dead_letters], dtype=pl.Int64),
        ]
    )
    whole = frame.hstack(origin[frame[INDEX]])
    return whole.with_columns(pl.coalesce(OCCURRED_AT_FIELD, TIMESTAMP, 0).alias(OCCURRED_AT))


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
                raise DeadLettersError(f"dead letters cannot be decoded: {error}; see avro.registry_url") from error
        time.sleep(SCHEMA_RETRY_SECONDS)
