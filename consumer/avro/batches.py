"""Raw batches to one ``Decoded``: grouping by schema, decoding, the OMS's item rules, and what each reject needs.

Nothing here waits, remembers offsets or knows threads; ``pipe`` adds those.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, Final, cast

import polars as pl

from consumer.avro.fields import OCCURRED_AT_FIELD, POSITION, TARGETS, BadMessage
from consumer.avro.readers import Reader, Refused
from consumer.avro.rows import ReadResult, in_order
from consumer.avro.sources import SchemaSource
from consumer.avro.wire import Framing
from consumer.core.changes.items import (
    ASSIGNMENT,
    CHANGE_SCHEMA,
    ITEM_KEY,
    LOCATION,
    OCCURRED_AT,
    OFFSET,
    TIMESTAMP,
    ChangeId,
    RejectReason,
)
from consumer.core.changes.rules import REASON, check, describe
from consumer.ports import Decoded, RawBatch, Reject

_NOTHING: Final = ReadResult(pl.DataFrame(schema={POSITION: pl.Int64(), **TARGETS}), ())


class BatchDecoder:
    """Decodes raw batches at once. Use it from one thread."""

    def __init__(self, framing: Framing, source: SchemaSource, item_key: Sequence[str] = ITEM_KEY) -> None:
        """``item_key`` are the columns that tell items apart: each change needs an identifier among them."""
        self._framing = framing
        self._item_key = tuple(item_key)
        self._source = source
        self._mixed = False
        """The last messages had several prefixes: grouping first is cheaper then than trying them as one block."""

    def decode(self, batches: Sequence[RawBatch]) -> Decoded:
        """Decode batches, in order, to one frame.

        Raises SchemaUnavailableError when a schema cannot be had now: nothing is decoded then, call again with the same
        batches. Raises SettingsError when it never can.
        """
        joined = _Joined.of(batches)
        reading, tombstones = self._read_present(joined.values)
        good, broken = check(_with_origin(reading.frame, joined), self._item_key)
        bad = in_order([*reading.bad, *_broken(broken)])
        return Decoded(
            # Sorted here, as the engine wants it, since this is not the loop's thread.
            frame=good.select(list(CHANGE_SCHEMA)).sort(LOCATION, maintain_order=True),
            rejects=tuple(self._rejects(bad, batches)),
            tombstones=tombstones,
            next_offsets=_next_offsets(joined, batches),
            ends=_latest(batches),
        )

    def close(self) -> None:
        """Let the schema source go."""
        self._source.close()

    def _read_present(self, values: Sequence[bytes | None]) -> tuple[ReadResult, int]:
        """Read the messages that have a value, and count those that have none."""
        if all(values):  # several times faster than looking for None; an empty value is as rare
            return self._read(cast("Sequence[bytes]", values)), 0
        present = {place: value for place, value in enumerate(values) if value is not None}
        return _moved(self._read(list(present.values())), list(present)), len(values) - len(present)

    def _read(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages, whatever their prefixes."""
        if not values:
            return _NOTHING
        prefix = self._framing.prefix_of(values[0])
        if prefix is not None and not self._mixed:
            # The usual case, and the fast one: nothing is looked at message by message.
            reader = self._source.reader(prefix)
            reading = None if isinstance(reader, Refused) else reader.read_together(values)
            if reading is not None:
                return reading
        return self._read_groups(values)

    def _read_groups(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages of several prefixes: those of one reader together, so that many ids cost no more than one."""
        groups = self._groups(values)
        self._mixed = len(groups) > 1
        bad: list[BadMessage] = []
        readable: dict[int, tuple[Reader, bytes, list[int]]] = {}
        for prefix, places in groups.items():
            if prefix is None:
                told = ((place, self._framing.not_framed(values[place])) for place in places)
                bad += [BadMessage(place, RejectReason.NOT_FRAMED, detail) for place, detail in told]
                continue
            reader = self._source.reader(prefix)
            if isinstance(reader, Refused):
                bad += [BadMessage(place, reader.reason, reader.detail) for place in places]
            else:
                readable.setdefault(id(reader), (reader, prefix, []))[2].extend(places)
        frames = [_NOTHING.frame]
        for reader, prefix, places in readable.values():
            places.sort()
            # A reader takes messages of one prefix; which of its prefixes that is plays no part in their values.
            alike = [prefix + values[place][len(prefix) :] for place in places]
            reading = _moved(reader.read(alike), places)
            frames.append(reading.frame)
            bad += reading.bad
        return ReadResult(pl.concat(frames).sort(POSITION), bad)

    def _groups(self, values: Sequence[bytes]) -> dict[bytes | None, list[int]]:
        """The places of messages by prefix; None: the ones without."""
        prefixes = [self._framing.prefix_of(value) for value in values]
        groups: dict[bytes | None, list[int]] = {prefix: [] for prefix in set(prefixes)}
        for place, prefix in enumerate(prefixes):
            groups[prefix].append(place)
        return groups

    def _rejects(self, bad: Sequence[BadMessage], batches: Sequence[RawBatch]) -> Iterator[Reject]:
        ends = list(accumulate(len(batch) for batch in batches))
        for each in bad:
            number = bisect_right(ends, each.position)
            batch, place = batches[number], each.position - (ends[number] - len(batches[number]))
            value = batch.values[place]
            prefix = None if value is None else self._framing.prefix_of(value)
            key, headers = batch.origin(place)
            yield Reject(
                change_id=ChangeId(batch.assignments[place], batch.offsets[place]),
                reason=each.reason,
                detail=each.detail,
                value=value,
                key=key,
                headers=headers,
                timestamp=batch.timestamps[place],
                schema_id=None if prefix is None else self._framing.schema_id(prefix),
            )


@dataclass(frozen=True, slots=True)
class _Joined:
    """The columns of several batches, one after the other."""

    values: list[bytes | None]
    assignments: list[int]
    offsets: list[int]
    timestamps: list[int | None]

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


def _moved(reading: ReadResult, places: Sequence[int]) -> ReadResult:
    """The reading with each position replaced by the place of that message among more messages."""
    column = pl.Series(POSITION, places, dtype=pl.Int64).gather(reading.frame[POSITION])
    bad = [BadMessage(places[each.position], each.reason, each.detail) for each in reading.bad]
    return ReadResult(reading.frame.with_columns(column), bad)


def _with_origin(frame: pl.DataFrame, joined: _Joined) -> pl.DataFrame:
    """Rows with the columns that come from Kafka, and the time at which each change occurred."""
    origin = pl.DataFrame(
        [
            pl.Series(ASSIGNMENT, joined.assignments, dtype=pl.Int32),
            pl.Series(OFFSET, joined.offsets, dtype=pl.Int64),
            pl.Series(TIMESTAMP, joined.timestamps, dtype=pl.Int64),
        ]
    )
    if len(frame) < len(origin):
        origin = origin[frame[POSITION]]
    whole = frame.hstack(origin)
    return whole.with_columns(pl.coalesce(OCCURRED_AT_FIELD, TIMESTAMP, 0).alias(OCCURRED_AT))


def _broken(broken: pl.DataFrame) -> Iterator[BadMessage]:
    """The rows that break a rule of the OMS, as bad messages."""
    for row in broken.iter_rows(named=True):
        reason = RejectReason(row[REASON])
        yield BadMessage(row[POSITION], reason, describe(reason, row))


def _next_offsets(joined: _Joined, batches: Sequence[RawBatch]) -> dict[int, int]:
    """Per assignment the offset after its last message, or the partition's end where that lies further."""
    last: dict[int, Any] = dict(zip(joined.assignments, joined.offsets, strict=True))
    after = {assignment: offset + 1 for assignment, offset in last.items()}
    for assignment, end in _latest(batches).items():
        after[assignment] = max(end, after.get(assignment, end))
    return after


def _latest(batches: Sequence[RawBatch]) -> dict[int, int]:
    """The partitions' ends that were reached in the batches, the last of each assignment."""
    ends: dict[int, int] = {}
    for batch in batches:
        ends.update(batch.ends)
    return ends
