"""Decodes the events in dead letters and checks them against the OMS's rules, with the settings of the service."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import polars as pl

from consumer.avro.fields import OCCURRED_AT_FIELD, POSITION, TARGETS
from consumer.avro.readers import ReaderFactory, Refused
from consumer.avro.sources import FileSource, RegistrySource, SchemaSource, SchemaUnavailableError
from consumer.avro.wire import FRAMINGS
from consumer.core.changes.items import GRANULAR_COLUMNS, LOCATION, OCCURRED_AT, OFFSET, TIMESTAMP, RejectReason
from consumer.core.changes.rules import REASON, check, describe
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

    ``frame`` has the columns of ``fields.TARGETS`` and ``INDEX``; ``undecodable`` has the other events by index.
    """

    frame: pl.DataFrame
    undecodable: Mapping[int, Rejection]


class EventReader:
    """Decodes one message at a time with the reference decoder: dead letters are few."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError if neither a schema file nor a registry is set."""
        avro = settings.avro
        self._framing = FRAMINGS[avro.framing]
        self._item_key = settings.window.item_key
        columns = APIS[settings.oms.api].item_columns
        granular = {name: name for name in columns if name in GRANULAR_COLUMNS}
        factory = ReaderFactory(granular | settings.events.fields, self._framing.length, "fastavro")
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
        frames = [pl.DataFrame(schema={**TARGETS, INDEX: pl.Int64()})]
        undecodable: dict[int, Rejection] = {}
        for prefix, indices in groups.items():
            values = [dead_letters[index].event or b"" for index in indices]
            if prefix is None:
                for index, value in zip(indices, values, strict=True):
                    undecodable[index] = Rejection(RejectReason.NOT_FRAMED, self._framing.not_framed(value))
                continue
            reader = retry_schema(lambda prefix=prefix: self._source.reader(prefix))  # type: ignore[misc]
            if isinstance(reader, Refused):
                undecodable |= dict.fromkeys(indices, Rejection(reader.reason, reader.detail))
                continue
            reading = reader.read(values)
            undecodable |= {indices[bad.position]: Rejection(bad.reason, bad.detail) for bad in reading.bad}
            index_column = pl.Series(INDEX, indices, dtype=pl.Int64)[reading.frame[POSITION]]
            frames.append(reading.frame.drop(POSITION).with_columns(index_column))
        return Events(pl.concat(frames).sort(INDEX), undecodable)

    def with_locations(self, dead_letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """The dead letters; those without a location get the one in their event, if it decodes."""
        indices = [
            index
            for index, dead_letter in enumerate(dead_letters)
            if dead_letter.location is None and dead_letter.event is not None
        ]
        completed = list(dead_letters)
        if indices:
            frame = self.read([dead_letters[index] for index in indices]).frame
            for position, location in frame.select(INDEX, LOCATION).iter_rows():
                index = indices[position]
                completed[index] = replace(dead_letters[index], location=location)
        return completed

    def check(self, dead_letters: Sequence[DeadLetter]) -> tuple[pl.DataFrame, Mapping[int, Rejection]]:
        """The changes that the service would accept, as a frame, and why it would reject the others, by index.

        The frame has the columns of ``Events.frame``, ``OFFSET``, ``TIMESTAMP``, ``OCCURRED_AT`` and ``BYTES``.
        """
        events = self.read(dead_letters)
        valid, broken = check(events.frame, self._item_key)
        rejected = dict(events.undecodable)
        for row in broken.iter_rows(named=True):
            reason = RejectReason(row[REASON])
            rejected[row[INDEX]] = Rejection(reason, describe(reason, row))
        accepted = [dead_letters[index] for index in valid[INDEX]]
        frame = valid.with_columns(
            pl.Series(OFFSET, [dead_letter.source.offset for dead_letter in accepted], dtype=pl.Int64),
            pl.Series(TIMESTAMP, [dead_letter.timestamp for dead_letter in accepted], dtype=pl.Int64),
            pl.Series(BYTES, [len(dead_letter.value or b"") for dead_letter in accepted], dtype=pl.Int64),
        )
        return frame.with_columns(pl.coalesce(OCCURRED_AT_FIELD, TIMESTAMP, 0).alias(OCCURRED_AT)), rejected


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
