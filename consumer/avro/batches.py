"""Raw batches to one ``Decoded``: grouping by schema, decoding, checking the OMS's item rules, building rejects.

Nothing here retries or starts threads: ``decoder_thread`` does.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from typing import Any, Final, cast

import polars as pl

from consumer.avro.fields import OCCURRED_AT_FIELD, POSITION, TARGETS, BadMessage
from consumer.avro.lines import ROWS_MAX, TooManyRowsError
from consumer.avro.readers import Reader, Refused
from consumer.avro.rows import ReadResult, in_order
from consumer.avro.sources import SchemaSource
from consumer.avro.wire import Framing
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
)
from consumer.core.changes.rules import REASON, check, describe, with_zero_for_negative
from consumer.ports import Decoded, RawBatch, Reject

_FIRST_LINE: Final = pl.Series(LINE, [0], dtype=pl.Int32)

_NOTHING: Final = ReadResult(pl.DataFrame(schema={POSITION: pl.Int64(), **TARGETS}), ())


class BatchDecoder:
    """Decodes raw batches when called. Not thread-safe."""

    def __init__(
        self,
        framing: Framing,
        source: SchemaSource,
        item_key: Sequence[str] = ITEM_KEY,
        *,
        has_lines: bool = False,
        zero_negative: bool = False,
    ) -> None:
        """``item_key`` are the columns that identify an item: each change needs an identifier among them.

        ``has_lines``: the readers of ``source`` take events with several changes. ``zero_negative``: a quantity below 0
        means 0, and is otherwise a reject.
        """
        self._has_lines = has_lines
        self._zero_negative = zero_negative
        self._framing = framing
        self._item_key = tuple(item_key)
        self._source = source
        self._mixed = False
        """Whether the last messages had several prefixes: then grouping first is cheaper than trying a single block."""

    def decode(self, batches: Sequence[RawBatch]) -> Decoded:
        """Decode batches into one frame.

        Raises SchemaUnavailableError if a schema is unavailable at the moment: nothing is decoded, and the caller must
        call again with the same batches. Raises SettingsError if it can never be fetched with these settings, and
        TooManyRowsError if the events have so many lines that fewer messages must be decoded at a time.
        """
        joined = _Joined.of(batches)
        result, tombstones = self._read_present(joined.values)
        frame = with_zero_for_negative(result.frame) if self._zero_negative else result.frame
        good, broken = check(_with_origin(frame, joined), self._item_key)
        bad = in_order([*result.bad, *_rule_breaks(broken, has_lines=self._has_lines)])
        return Decoded(
            # The engine needs it grouped by location; doing so here keeps that work off the loop's thread.
            frame=_grouped(good[list(CHANGE_SCHEMA)]),
            rejects=tuple(self._rejects(bad, batches)),
            tombstones=tombstones,
            next_offsets=_next_offsets(joined, batches),
            polled_at=batches[0].polled_at,
            ends=_last_ends(batches),
            barriers=barriers_among(broken, self._item_key) if broken.height else None,
        )

    def close(self) -> None:
        """Close the schema source."""
        self._source.close()

    def _read_present(self, values: Sequence[bytes | None]) -> tuple[ReadResult, int]:
        """Read the messages that have a value, and count those that have none."""
        if all(values):  # several times faster than looking for None; an empty value takes the slower way, too
            return self._read(cast("Sequence[bytes]", values)), 0
        present = {position: value for position, value in enumerate(values) if value is not None}
        return _at_positions(self._read(list(present.values())), list(present)), len(values) - len(present)

    def _read(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages with any prefixes."""
        if not values:
            return _NOTHING
        prefix = self._framing.prefix_of(values[0])
        if prefix is not None and not self._mixed:
            # The usual case is the fast one: no message is looked at individually.
            reader = self._source.reader(prefix)
            result = None if isinstance(reader, Refused) else reader.read_together(values)
            if result is not None:
                return result
        return self._read_groups(values)

    def _read_groups(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages of several prefixes: those of one reader together, so many schema ids cost no more than one."""
        groups = self._groups(values)
        self._mixed = len(groups) > 1
        bad: list[BadMessage] = []
        readable: dict[int, tuple[Reader, bytes, list[int]]] = {}
        for prefix, positions in groups.items():
            if prefix is None:
                bad += [
                    BadMessage(position, RejectReason.NOT_FRAMED, self._framing.not_framed(values[position]))
                    for position in positions
                ]
                continue
            reader = self._source.reader(prefix)
            if isinstance(reader, Refused):
                bad += [BadMessage(position, reader.reason, reader.detail) for position in positions]
            else:
                readable.setdefault(id(reader), (reader, prefix, []))[2].extend(positions)
        frames: list[pl.DataFrame] = []
        for reader, prefix, positions in readable.values():
            positions.sort()
            # A reader takes messages of one prefix. Prefixes of the same reader are interchangeable.
            same_prefix = [prefix + values[position][len(prefix) :] for position in positions]
            result = _at_positions(reader.read(same_prefix), positions)
            frames.append(result.frame)
            bad += result.bad
            if self._has_lines and len(values) > 1 and sum(frame.height for frame in frames) > ROWS_MAX:
                raise TooManyRowsError
        frame = pl.concat(frames).sort(POSITION, maintain_order=True) if frames else _NOTHING.frame
        return ReadResult(frame, bad)

    def _groups(self, values: Sequence[bytes]) -> dict[bytes | None, list[int]]:
        """The positions of messages by prefix; None: those without a valid one."""
        prefixes = [self._framing.prefix_of(value) for value in values]
        groups: dict[bytes | None, list[int]] = {prefix: [] for prefix in set(prefixes)}
        for position, prefix in enumerate(prefixes):
            groups[prefix].append(position)
        return groups

    def _rejects(self, bad: Sequence[BadMessage], batches: Sequence[RawBatch]) -> Iterator[Reject]:
        ends = list(accumulate(len(batch) for batch in batches))
        for message in bad:
            index = bisect_right(ends, message.position)
            batch = batches[index]
            position = message.position - (ends[index] - len(batch))
            value = batch.values[position]
            prefix = None if value is None else self._framing.prefix_of(value)
            key, headers = batch.origin(position)
            yield Reject(
                change_id=ChangeId(batch.assignments[position], batch.offsets[position], message.line or 0),
                reason=message.reason,
                detail=message.detail,
                value=value,
                key=key,
                headers=headers,
                line=message.line,
                timestamp=batch.timestamps[position],
                schema_id=None if prefix is None else self._framing.schema_id(prefix),
            )


@dataclass(frozen=True, slots=True)
class _Joined:
    """The columns of several batches, concatenated."""

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


def _grouped(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows brought together by location. Columns without any value stay as they are, in whatever order."""
    if frame.is_empty():
        return frame
    moved, _, _ = grouped(without_empty(frame))
    present = set(moved.columns)
    return pl.DataFrame([moved[name] if name in present else frame[name] for name in frame.columns])


def _at_positions(result: ReadResult, positions: Sequence[int]) -> ReadResult:
    """The result of reading some messages, with their positions among all messages."""
    column = pl.Series(POSITION, positions, dtype=pl.Int64)[result.frame[POSITION]]
    bad = [replace(message, position=positions[message.position]) for message in result.bad]
    return ReadResult(result.frame.with_columns(column), bad)


def _with_origin(frame: pl.DataFrame, joined: _Joined) -> pl.DataFrame:
    """The rows with the columns that come from Kafka, and the time at which the change occurred."""
    origin = pl.DataFrame(
        [
            pl.Series(ASSIGNMENT, joined.assignments, dtype=pl.Int32),
            pl.Series(OFFSET, joined.offsets, dtype=pl.Int64),
            pl.Series(TIMESTAMP, joined.timestamps, dtype=pl.Int64),
        ]
    )
    if LINE in frame.columns:
        whole = frame.hstack(origin[frame[POSITION]])
    else:
        if len(frame) < len(origin):
            origin = origin[frame[POSITION]]
        whole = frame.hstack(origin).hstack([_FIRST_LINE.new_from_index(0, len(frame))])
    occurred = whole[OCCURRED_AT_FIELD]
    if occurred.null_count():
        return whole.with_columns(pl.coalesce(OCCURRED_AT_FIELD, TIMESTAMP, 0).alias(OCCURRED_AT))
    return whole.hstack([occurred.alias(OCCURRED_AT)])  # the usual case, without a query


def _rule_breaks(broken: pl.DataFrame, *, has_lines: bool) -> Iterator[BadMessage]:
    """The rows that break a rule of the OMS, as bad messages."""
    for row in broken.iter_rows(named=True):
        reason = RejectReason(row[REASON])
        yield BadMessage(row[POSITION], reason, describe(reason, row), row[LINE] if has_lines else None)


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
