"""What stands in dead letters, as the service sees it: decoded by its settings, before and after the OMS's rules."""

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
from consumer.dead_letters.letters import DeadLetter
from consumer.dead_letters.redrive.plan import BYTES
from consumer.errors import DeadLettersError, SettingsError
from consumer.oms.apis import APIS
from consumer.settings import Settings

SCHEMA_SECONDS_MAX: Final = 20.0
"""How long a schema registry that does not answer is asked again."""
SCHEMA_RETRY_SECONDS: Final = 1.0

NUMBER: Final = "_letter"
"""A letter's place in the sequence that was given."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Rejected:
    """What is wrong with an event, as the service's rejects say it."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Events:
    """The events of letters: ``frame`` has the columns of ``fields.TARGETS`` and ``NUMBER`` of those that decode.

    ``unreadable`` says of others, by their number, why they do not. A letter without its event is in neither.
    """

    frame: pl.DataFrame
    unreadable: Mapping[int, Rejected]


class EventReader:
    """Reads events message by message with the reference decoder: dead letters are few."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError where the settings of ``avro`` cannot work."""
        avro = settings.avro
        self._framing = FRAMINGS[avro.framing]
        self._item_key = settings.window.item_key
        columns = APIS[settings.oms.api].item_columns
        granular = {name: name for name in columns if name in GRANULAR_COLUMNS}
        factory = ReaderFactory(granular | avro.fields, self._framing.length, "fastavro")
        self._source: SchemaSource
        if avro.schema_file is not None:
            self._source = FileSource(avro.schema_file, self._framing, factory)
        elif avro.registry_url is not None:
            self._source = RegistrySource(avro.registry_url, avro.registry, self._framing, factory)
        else:
            raise SettingsError("avro.registry_url: neither it nor avro.schema_file is set; give one of them")

    def close(self) -> None:
        self._source.close()

    def read(self, letters: Sequence[DeadLetter]) -> Events:
        """The events of letters. Raises DeadLettersError if a schema cannot be had for so long."""
        groups: dict[bytes | None, list[int]] = {}
        for number, letter in enumerate(letters):
            if letter.event is not None:
                groups.setdefault(self._framing.prefix_of(letter.event), []).append(number)
        frames = [pl.DataFrame(schema={**TARGETS, NUMBER: pl.Int64()})]
        unreadable: dict[int, Rejected] = {}
        for prefix, numbers in groups.items():
            values = [letters[number].event or b"" for number in numbers]
            if prefix is None:
                whys = (self._framing.not_framed(value) for value in values)
                unreadable |= {n: Rejected(RejectReason.NOT_FRAMED, why) for n, why in zip(numbers, whys, strict=True)}
                continue
            reader = with_patience(lambda prefix=prefix: self._source.reader(prefix))  # type: ignore[misc]
            if isinstance(reader, Refused):
                unreadable |= dict.fromkeys(numbers, Rejected(reader.reason, reader.detail))
                continue
            reading = reader.read(values)
            unreadable |= {numbers[bad.position]: Rejected(bad.reason, bad.detail) for bad in reading.bad}
            numbered = pl.Series(NUMBER, numbers, dtype=pl.Int64).gather(reading.frame[POSITION])
            frames.append(reading.frame.drop(POSITION).with_columns(numbered))
        return Events(pl.concat(frames).sort(NUMBER), unreadable)

    def with_locations(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """The letters, those without a location with the one that stands in their event."""
        lacking = [letter for letter in letters if not letter.location and letter.event is not None]
        if not lacking:
            return list(letters)
        frame = self.read(lacking).frame
        found = {
            lacking[number].kept_at: location
            for number, location in frame.select(NUMBER, LOCATION).iter_rows()
            if location is not None
        }
        return [
            replace(letter, location=found[letter.kept_at]) if letter.kept_at in found else letter for letter in letters
        ]

    def judge(self, letters: Sequence[DeadLetter]) -> tuple[pl.DataFrame, Mapping[int, Rejected]]:
        """Which the service would take, as a frame, and what it would say of the others, by their number.

        The frame has the columns of ``Events.frame``, those from Kafka (but ``ASSIGNMENT``), and ``BYTES``.
        """
        events = self.read(letters)
        taken, broken = check(events.frame, self._item_key)
        rejected = dict(events.unreadable)
        for row in broken.iter_rows(named=True):
            reason = RejectReason(row[REASON])
            rejected[row[NUMBER]] = Rejected(reason, describe(reason, row))
        chosen = [letters[number] for number in taken[NUMBER]]
        framed = taken.with_columns(
            pl.Series(OFFSET, [letter.place.offset for letter in chosen], dtype=pl.Int64),
            pl.Series(TIMESTAMP, [letter.timestamp for letter in chosen], dtype=pl.Int64),
            pl.Series(BYTES, [len(letter.value or b"") for letter in chosen], dtype=pl.Int64),
        )
        return framed.with_columns(pl.coalesce(OCCURRED_AT_FIELD, TIMESTAMP, 0).alias(OCCURRED_AT)), rejected


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """An event's row as an object, without what it does not have."""
    return {name: value for name, value in row.items() if name in TARGETS and value is not None}


def with_patience(ask: Callable[[], Answer]) -> Answer:
    """Ask again while a schema cannot be had. Raises DeadLettersError when that lasts too long."""
    deadline = time.monotonic() + SCHEMA_SECONDS_MAX
    while True:
        try:
            return ask()
        except SchemaUnavailableError as error:
            if time.monotonic() > deadline:
                raise DeadLettersError(f"dead letters cannot be decoded: {error}; see avro.registry_url") from error
        time.sleep(SCHEMA_RETRY_SECONDS)
