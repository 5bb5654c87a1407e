"""Raw batches to one ``Decoded``: reading messages, checking the OMS's item rules, building rejects.

Nothing here retries or starts threads: ``decoder_thread`` does.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, Final

import polars as pl

from consumer.avro.fields import OCCURRED_AT_FIELD, POSITION, BadMessage
from consumer.avro.messages import MessageReader
from consumer.avro.rows import ReadResult, in_order
from consumer.avro.sources import SchemaSource
from consumer.avro.wire import Framing, SchemaHeader
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
)
from consumer.core.changes.rules import REASON, check, describe
from consumer.ports import AwaitedSchema, Decoded, Headers, RawBatch, Reject

_FIRST_LINE: Final = pl.Series(LINE, [0], dtype=pl.Int32)


class BatchDecoder:
    """Decodes raw batches when called. Not thread-safe."""

    def __init__(self, framing: Framing, source: SchemaSource, item_key: Sequence[str] = ITEM_KEY) -> None:
        """``item_key`` are the columns that identify an item: each change needs an identifier among them."""
        self._framing = framing
        self._item_key = tuple(item_key)
        self._messages = MessageReader(framing, source)

    def decode(self, batches: Sequence[RawBatch]) -> Decoded:
        """Decode batches into one frame.

        Of an assignment with a message whose schema may appear, nothing is decoded from that message on
        (``Decoded.awaits``), unless the assignment is impatient: then the message is rejected.

        Raises SchemaUnavailableError if a schema is unavailable at the moment: nothing is decoded, and the caller must
        call again with the same batches. Raises SettingsError if it can never be fetched with these settings.
        """
        joined = _Joined.of(batches)
        read = self._messages.read(
            joined.values,
            schema_headers(self._framing, batches),
            lambda position: _origin(batches, position)[1],
            joined.positions_of({owner for batch in batches for owner in batch.impatient}),
        )
        awaits, undecoded = _undecoded(read.awaiting, joined)
        result, tombstones = read.result, read.tombstones
        if awaits:
            result = _without(result, undecoded)
            tombstones -= sum(joined.values[position] is None for position in undecoded)
        good, broken = check(_with_origin(result.frame, joined), self._item_key)
        bad = in_order([*result.bad, *_rule_breaks(broken)])
        return Decoded(
            # The engine needs it grouped by location; doing so here keeps that work off the loop's thread.
            frame=_grouped(good[list(CHANGE_SCHEMA)]),
            rejects=tuple(self._rejects(bad, batches)),
            tombstones=tombstones,
            next_offsets=_next_offsets(joined, batches) | {owner: first.offset for owner, first in awaits.items()},
            polled_at=batches[0].polled_at,
            ends={owner: end for owner, end in _last_ends(batches).items() if owner not in awaits},
            awaits=awaits,
            batches=len(batches),
        )

    def close(self) -> None:
        """Close the schema source."""
        self._messages.close()

    def _rejects(self, bad: Sequence[BadMessage], batches: Sequence[RawBatch]) -> Iterator[Reject]:
        for message in bad:
            batch, position = _batch_of(batches, message.position)
            value = batch.values[position]
            key, headers = batch.origin(position)
            yield Reject(
                change_id=ChangeId(batch.assignments[position], batch.offsets[position]),
                reason=message.reason,
                detail=message.detail,
                value=value,
                key=key,
                headers=headers,
                timestamp=batch.timestamps[position],
                schema_id=None if value is None else self._framing.schema_id_of(value, headers),
            )


def _batch_of(batches: Sequence[RawBatch], position: int) -> tuple[RawBatch, int]:
    """The batch with the message at this position of all messages, and its position there."""
    ends = list(accumulate(len(batch) for batch in batches))
    index = bisect_right(ends, position)
    return batches[index], position - (ends[index] - len(batches[index]))


def _origin(batches: Sequence[RawBatch], position: int) -> tuple[bytes | None, Headers]:
    batch, index = _batch_of(batches, position)
    return batch.origin(index)


def schema_headers(framing: Framing, batches: Sequence[RawBatch]) -> list[SchemaHeader | None] | None:
    """For each message the header that names its schema; None if no message has one, or none is looked for."""
    if not framing.headers:
        return None
    columns = [batch.header_column() for batch in batches]
    if not any(any(column) for column in columns):  # the usual case, without a look at any header
        return None
    found = [framing.header_of(headers) for column in columns for headers in column]
    return found if any(found) else None


def _undecoded(awaiting: Sequence[BadMessage], joined: "_Joined") -> tuple[dict[int, AwaitedSchema], list[int]]:
    """By assignment, its first message that awaits its schema; and the positions of all messages from there on."""
    awaits: dict[int, AwaitedSchema] = {}
    for message in awaiting:
        owner, offset = joined.assignments[message.position], joined.offsets[message.position]
        if owner not in awaits or offset < awaits[owner].offset:
            awaits[owner] = AwaitedSchema(offset, message.detail)
    if not awaits:
        return awaits, []
    places = enumerate(zip(joined.assignments, joined.offsets, strict=True))
    return awaits, [at for at, (owner, offset) in places if owner in awaits and offset >= awaits[owner].offset]


def _without(result: ReadResult, positions: Collection[int]) -> ReadResult:
    left_out = set(positions)
    frame = result.frame.filter(~pl.col(POSITION).is_in(list(left_out)))
    return ReadResult(frame, [message for message in result.bad if message.position not in left_out])


@dataclass(frozen=True, slots=True)
class _Joined:
    """The columns of several batches, concatenated."""

    values: list[bytes | None]
    assignments: list[int]
    offsets: list[int]
    timestamps: list[int | None]

    def positions_of(self, owners: Collection[int]) -> frozenset[int]:
        """The positions of the messages of these assignments."""
        if not owners:
            return frozenset()
        return frozenset(at for at, owner in enumerate(self.assignments) if owner in owners)

    @classmethod
    def of(cls, batches: Sequence[RawBatch]) -> "_Joined":
        if len(batches) == 1:
            (only,) = batches
            return cls(list(only.values), only.assignments, only.offsets, list(only.timestamps))
        return cls(
            list(chain.from_iterable(batch.values for batch in batches)),
            list(chain.from_iterable(batch.assignments for batch in batches)),
            list(chain.from_iterable(batch.offsets for batch in batches)),
            list(chain.from_iterable(batch.timestamps for batch in batches)),
        )


def _grouped(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows brought together by location. Columns without any value stay as they are, in whatever order."""
    if frame.is_empty():
        return frame
    moved, _, _ = grouped(without_empty(frame))
    present = set(moved.columns)
    return pl.DataFrame([moved[name] if name in present else frame[name] for name in frame.columns])


def _with_origin(frame: pl.DataFrame, joined: _Joined) -> pl.DataFrame:
    """The rows with the columns that come from Kafka, and the time at which the change occurred."""
    origin = pl.DataFrame(
        [
            pl.Series(ASSIGNMENT, joined.assignments, dtype=pl.Int32),
            pl.Series(OFFSET, joined.offsets, dtype=pl.Int64),
            _FIRST_LINE.new_from_index(0, len(joined.offsets)),
            pl.Series(TIMESTAMP, joined.timestamps, dtype=pl.Int64),
        ]
    )
    if len(frame) < len(origin):
        origin = origin[frame[POSITION]]
    whole = frame.hstack(origin)
    occurred = whole[OCCURRED_AT_FIELD]
    if occurred.null_count():
        return whole.with_columns(pl.coalesce(OCCURRED_AT_FIELD, TIMESTAMP, 0).alias(OCCURRED_AT))
    return whole.hstack([occurred.alias(OCCURRED_AT)])  # the usual case, without a query


def _rule_breaks(broken: pl.DataFrame) -> Iterator[BadMessage]:
    """The rows that break a rule of the OMS, as bad messages."""
    for row in broken.iter_rows(named=True):
        reason = RejectReason(row[REASON])
        yield BadMessage(row[POSITION], reason, describe(reason, row))


def _next_offsets(joined: _Joined, batches: Sequence[RawBatch]) -> dict[int, int]:
    """Per assignment, the offset after its last message, or the partition's end if that is higher."""
    last: dict[int, Any] = dict(zip(joined.assignments, joined.offsets, strict=True))
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
