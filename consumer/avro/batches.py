"""Raw batches to one ``Decoded``: decoding, deletes, columns from the record, the OMS's item rules, building rejects.

Nothing here retries or starts threads: ``decoder_thread`` does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from consumer.avro.deletes import without_deletes
from consumer.avro.fields import described_sources
from consumer.avro.mapping import EventMapping
from consumer.avro.messages import MessageReader, MessageSchema, Reading
from consumer.avro.notices import Notices
from consumer.avro.reading import DELETED, POSITION, READ_SCHEMA, BadMessage, in_order
from consumer.avro.record_columns import RecordColumns, Records, batch_of
from consumer.avro.sources import SchemaSource
from consumer.avro.wire import Framing, SchemaHeader
from consumer.core.changes.barriers import barriers_among
from consumer.core.changes.blocks import grouped, without_empty
from consumer.core.changes.items import (
    ASSIGNMENT,
    CHANGE_SCHEMA,
    ITEM_KEY,
    LINE,
    OCCURRED_AT,
    OFFSET,
    TIMESTAMP,
    ChangeId,
    RejectReason,
    SkipReason,
)
from consumer.core.changes.rules import REASON, check, describe, with_zero_for_negative
from consumer.ports import AwaitedSchema, Decoded, Headers, RawBatch, Reject
from consumer.settings import EventsSettings
from consumer.settings.event_sources import OCCURRED_AT_FIELD

BY_NAME: Final = EventMapping.of(EventsSettings())
"""Without settings, fields are looked up by their names."""


@dataclass(frozen=True, slots=True)
class ReadChanges:
    """What records were read as. ``valid`` and ``broken`` are as from ``rules.check``, with the columns of Kafka.

    ``bad`` has every message, or line, that is no valid change, also those of ``broken``.
    """

    valid: pl.DataFrame
    broken: pl.DataFrame
    bad: Sequence[BadMessage]
    tombstones: int
    skipped: Mapping[SkipReason, int]
    ignored: Mapping[str, int]
    awaits: Mapping[int, AwaitedSchema]


class BatchDecoder:
    """Decodes raw batches when called. Not thread-safe."""

    def __init__(
        self,
        framing: Framing,
        source: SchemaSource,
        item_key: Sequence[str] = ITEM_KEY,
        mapping: EventMapping = BY_NAME,
        keys: MessageReader | None = None,
    ) -> None:
        """``item_key`` are the columns that identify an item: each change needs an identifier among them.

        ``mapping`` is that of the readers of ``source``. ``keys`` reads Avro keys; None: they are text or JSON.
        """
        self._framing = framing
        self._item_key = tuple(item_key)
        self._mapping = mapping
        self._has_lines = mapping.items is not None or framing.name == "container"
        self._values = MessageReader(
            framing,
            source,
            has_lines=self._has_lines,
            file_rows_max=mapping.settings.lines_max if mapping.items is None else None,
        )
        self._keys = keys
        self._record_columns = RecordColumns(mapping, keys)
        self._notices = Notices()

    def decode(self, batches: Sequence[RawBatch]) -> Decoded:
        """Decode batches into one frame.

        Of an assignment with a message whose schema may appear, nothing is decoded from that message on
        (``Decoded.awaits``), unless the assignment is impatient: then the message is rejected.

        Raises SchemaUnavailableError if a schema is unavailable at the moment: nothing is decoded, and the caller must
        call again with the same batches. Raises SettingsError if it can never be fetched with these settings, and
        TooManyRowsError if the events have so many lines that fewer messages must be decoded at a time.
        """
        records = Records(batches)
        changes = self.read(records)
        return Decoded(
            # The engine needs it grouped by location; doing so here keeps that work off the loop's thread.
            frame=_grouped(changes.valid[list(CHANGE_SCHEMA)]),
            rejects=tuple(self._rejects(changes.bad, batches)),
            tombstones=changes.tombstones,
            next_offsets=_next_offsets(records, batches)
            | {owner: first.offset for owner, first in changes.awaits.items()},
            polled_at=batches[0].polled_at,
            ends={owner: end for owner, end in _last_ends(batches).items() if owner not in changes.awaits},
            awaits=changes.awaits,
            batches=len(batches),
            skipped=changes.skipped,
            ignored=changes.ignored,
            barriers=barriers_among(changes.broken, self._item_key) if changes.broken.height else None,
        )

    def line_of(self, message: BadMessage) -> int | None:
        """The line that a dead letter names; None: the event has a single change, or cannot be read at all."""
        return message.line if message.line or self._has_lines else None

    def read(self, records: Records) -> ReadChanges:
        """Read records into rows with the columns of ``CHANGE_SCHEMA``; raises as ``decode`` does."""
        reading, awaits = self._read_decodable(records)
        result, tombstones = reading.result, reading.tombstones
        skipped, ignored = dict(result.skipped), dict(result.ignored)
        changes, bad = self._record_columns.fill(result.frame, records, ignored)
        changes, rejected, count = without_deletes(changes, self._mapping.deletes)
        to_dead_letter = [] if rejected is None else [rejected]
        if count:
            skipped[SkipReason.DELETE] = skipped.get(SkipReason.DELETE, 0) + count
        if tombstones and self._mapping.tombstones != "skip":
            gone, bad_tombstones = self._record_columns.fill(_tombstone_rows(records, awaits), records, ignored)
            gone, rejected, _ = without_deletes(gone, self._mapping.tombstones)
            changes = pl.concat([changes, gone]).sort(POSITION, LINE)
            to_dead_letter += [] if rejected is None else [rejected]
            bad += bad_tombstones
            tombstones = 0
        if self._mapping.settings.negative_quantity == "zero":
            changes = with_zero_for_negative(changes)
        valid, broken = check(_with_origin(changes, records), self._item_key)
        for frame in to_dead_letter:
            broken = pl.concat([broken, _with_origin(frame, records).select(broken.columns)])
        self._notices.add(skipped, ignored, tombstones)
        return ReadChanges(
            valid, broken, in_order([*result.bad, *bad, *_rule_breaks(broken)]), tombstones, skipped, ignored, awaits
        )

    def schema_of(self, value: bytes, headers: Headers = ()) -> MessageSchema:
        """The schema that a message names, and the plan with which it is read; raises as ``decode`` does."""
        return self._values.schema_of(value, headers)

    def sources_of(self, value: bytes | None, headers: Headers = ()) -> Mapping[str, str]:
        """In words, where each column of a message comes from; raises as ``decode`` does."""
        plan = None if value is None else self.schema_of(value, headers).plan
        return described_sources(self._mapping, plan)

    def close(self) -> None:
        """Close the schema sources."""
        self._values.close()
        if self._keys is not None:
            self._keys.close()

    def _read_decodable(self, records: Records) -> tuple[Reading, Mapping[int, AwaitedSchema]]:
        """Read the records, except those that wait for a schema: their own or that of one before them."""
        headers = schema_headers(self._framing, records.batches)
        owners = {owner for batch in records.batches for owner in batch.impatient}
        impatient = frozenset(at for at, owner in enumerate(records.assignments) if owner in owners) if owners else ()

        def read(positions: Sequence[int] | None = None) -> Reading:
            """All records, or those at these positions."""
            if positions is None:
                return self._values.read(records.values, headers, records.headers_at, impatient)
            reading = self._values.read(
                [records.values[position] for position in positions],
                None if headers is None else [headers[position] for position in positions],
                lambda index: records.headers_at(positions[index]),
                {index for index, position in enumerate(positions) if position in impatient} if impatient else (),
            )
            return replace(reading, result=reading.result.at(positions))

        reading = read()
        if not reading.awaiting:
            return reading, {}
        awaits = _awaits(reading.awaiting, records)
        return read(_decodable(records, awaits)), awaits

    def _rejects(self, bad: Sequence[BadMessage], batches: Sequence[RawBatch]) -> Iterator[Reject]:
        for message in bad:
            batch, position = batch_of(batches, message.position)
            value = batch.values[position]
            key, headers = batch.origin(position)
            yield Reject(
                change_id=ChangeId(batch.assignments[position], batch.offsets[position], message.line or 0),
                reason=message.reason,
                detail=message.detail,
                value=value,
                key=key,
                headers=headers,
                line=self.line_of(message),
                timestamp=batch.timestamps[position],
                schema_id=None if value is None else self._framing.schema_id_of(value, headers),
            )


def schema_headers(framing: Framing, batches: Sequence[RawBatch]) -> list[SchemaHeader | None] | None:
    """For each message the header that names its schema; None if no message has one, or none is looked for."""
    if not framing.headers:
        return None
    columns = [batch.header_column() for batch in batches]
    if not any(any(column) for column in columns):  # the usual case, without a look at any header
        return None
    found = [framing.header_of(headers) for column in columns for headers in column]
    return found if any(found) else None


def _awaits(awaiting: Sequence[BadMessage], records: Records) -> dict[int, AwaitedSchema]:
    """By assignment, its first message that awaits its schema."""
    awaits: dict[int, AwaitedSchema] = {}
    for message in awaiting:
        owner, offset = records.assignments[message.position], records.offsets[message.position]
        if owner not in awaits or offset < awaits[owner].offset:
            awaits[owner] = AwaitedSchema(offset, message.detail)
    return awaits


def _decodable(records: Records, awaits: Mapping[int, AwaitedSchema]) -> list[int]:
    """The positions of the records before the first of their assignment that awaits its schema."""
    places = enumerate(zip(records.assignments, records.offsets, strict=True))
    return [at for at, (owner, offset) in places if owner not in awaits or offset < awaits[owner].offset]


def _grouped(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows brought together by location. Columns without any value stay as they are, in whatever order."""
    if frame.is_empty():
        return frame
    moved, _, _ = grouped(without_empty(frame))
    present = set(moved.columns)
    return pl.DataFrame([moved[name] if name in present else frame[name] for name in frame.columns])


def _tombstone_rows(records: Records, awaits: Mapping[int, AwaitedSchema]) -> pl.DataFrame:
    """A deleted row without any other value for each record without a value."""
    positions = [position for position in _decodable(records, awaits) if records.values[position] is None]
    nulls = {name: pl.lit(None, dtype=dtype) for name, dtype in READ_SCHEMA.items()}
    known = {LINE: pl.lit(0, dtype=pl.Int32), DELETED: pl.lit(value=True)}
    frame = pl.DataFrame({POSITION: pl.Series(positions, dtype=pl.Int64)})
    return frame.select(pl.col(POSITION), **{n: e for n, e in (nulls | known).items() if n != POSITION})


def _with_origin(frame: pl.DataFrame, records: Records) -> pl.DataFrame:
    """The rows with the columns that come from Kafka, and the time at which the change occurred."""
    origin = pl.DataFrame(
        [
            pl.Series(ASSIGNMENT, records.assignments, dtype=pl.Int32),
            pl.Series(OFFSET, records.offsets, dtype=pl.Int64),
            pl.Series(TIMESTAMP, records.timestamps, dtype=pl.Int64),
        ]
    )
    if frame.height != origin.height or _has_lines(frame):
        origin = origin[frame[POSITION]]
    whole = frame.hstack(origin)
    occurred = whole[OCCURRED_AT_FIELD]
    if occurred.null_count():
        return whole.with_columns(pl.coalesce(OCCURRED_AT_FIELD, TIMESTAMP, 0).alias(OCCURRED_AT))
    return whole.hstack([occurred.alias(OCCURRED_AT)])  # the usual case, without a query


def _has_lines(frame: pl.DataFrame) -> bool:
    """Whether a record may have several rows; then there may be as many rows as records, but not one of each."""
    last: Any = frame[LINE].max()
    return last is not None and last > 0


def _rule_breaks(broken: pl.DataFrame) -> Iterator[BadMessage]:
    """The rows that break a rule of the OMS, as bad messages."""
    for row in broken.iter_rows(named=True):
        reason = RejectReason(row[REASON])
        yield BadMessage(row[POSITION], reason, describe(reason, row), row[LINE])


def _next_offsets(records: Records, batches: Sequence[RawBatch]) -> dict[int, int]:
    """Per assignment, the offset after its last message, or the partition's end if that is higher."""
    last: dict[int, Any] = dict(zip(records.assignments, records.offsets, strict=True))
    after = {assignment: offset + 1 for assignment, offset in last.items()}
    for assignment, end in _last_ends(batches).items():
        after[assignment] = max(end, after.get(assignment, end))
    return after


def _last_ends(batches: Sequence[RawBatch]) -> dict[int, int]:
    """Per assignment, the last end of its partition that was reached in the batches."""
    ends: dict[int, int] = {}
    for batch in batches:
        ends.update(batch.ends)
    return ends
