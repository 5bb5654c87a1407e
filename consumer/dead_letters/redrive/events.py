"""Decodes the events in dead letters and checks them against the OMS's rules, with the settings of the service."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import polars as pl

from consumer.avro.batches import ReadChanges
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.leaves import TARGETS
from consumer.avro.record_columns import Records
from consumer.avro.sources import SchemaUnavailableError
from consumer.core.changes.items import LOCATION, OCCURRED_AT, OFFSET, TIMESTAMP
from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.redrive.plan import BYTES
from consumer.errors import DeadLettersError
from consumer.oms.apis import APIS
from consumer.ports import Headers, RawBatch
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

    ``frame`` has the columns of ``leaves.TARGETS`` and ``INDEX``; ``undecodable`` has the other events by index.
    """

    frame: pl.DataFrame
    undecodable: Mapping[int, Rejection]


class EventReader:
    """Decodes one message at a time with the reference decoder: dead letters are few."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError if neither a schema file nor a registry is set."""
        avro = settings.avro.model_copy(update={"decoder": "fastavro"})
        columns = APIS[settings.oms.api].item_columns
        self._decoder = build_batch_decoder(avro, settings.events, settings.window.item_key, columns, is_patient=False)

    def close(self) -> None:
        self._decoder.close()

    def read(self, dead_letters: Sequence[DeadLetter]) -> Events:
        """Decode the events of dead letters. Raises DeadLettersError if a schema stays unavailable."""
        changes = self._changes(dead_letters)
        names = [*TARGETS, OFFSET]
        frame = pl.concat([changes.valid.select(names), changes.broken.select(names)])
        broken = set(changes.broken[OFFSET].to_list())
        return Events(frame.rename({OFFSET: INDEX}).sort(INDEX), _rejections(changes, dead_letters, without=broken))

    def _changes(self, dead_letters: Sequence[DeadLetter]) -> ReadChanges:
        """The changes in dead letters, each with its index among them as its offset."""
        indices = [index for index, dead_letter in enumerate(dead_letters) if dead_letter.event is not None]
        topics = {topic: number for number, topic in enumerate({letter.source.topic for letter in dead_letters})}

        def origin(position: int) -> tuple[bytes | None, Headers]:
            dead_letter = dead_letters[indices[position]]
            return dead_letter.key, dead_letter.headers

        batch = RawBatch(
            values=[dead_letters[index].event for index in indices],
            assignments=[topics[dead_letters[index].source.topic] for index in indices],
            offsets=indices,
            timestamps=[dead_letters[index].timestamp for index in indices],
            ends={},
            origin=origin,
            topics={number: topic for topic, number in topics.items()},
        )
        return retry_schema(lambda: self._decoder.read(Records([batch])))

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
        changes = self._changes(dead_letters)
        accepted = [dead_letters[index] for index in changes.valid[OFFSET]]
        frame = changes.valid.select(*TARGETS, pl.col(OFFSET).alias(INDEX), TIMESTAMP, OCCURRED_AT).with_columns(
            pl.Series(OFFSET, [dead_letter.source.offset for dead_letter in accepted], dtype=pl.Int64),
            pl.Series(BYTES, [len(dead_letter.value or b"") for dead_letter in accepted], dtype=pl.Int64),
        )
        return frame, _rejections(changes, dead_letters)


def _rejections(
    changes: ReadChanges, dead_letters: Sequence[DeadLetter], without: Collection[int] = ()
) -> dict[int, Rejection]:
    """Why the service rejects events, by index; the first reason of an event with several lines."""
    indices = [index for index, dead_letter in enumerate(dead_letters) if dead_letter.event is not None]
    rejections: dict[int, Rejection] = {}
    for bad in changes.bad:
        index = indices[bad.position]
        if index not in without:
            rejections.setdefault(index, Rejection(bad.reason, bad.detail))
    return rejections


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
