"""Columnar decoding with a guard: a batch of messages as one block of an Avro file in memory, read by polars.

The file's schema has one more field at the end: a marker that is random per process, followed by the next message's
prefix. A message that is too short, too long or has another prefix shifts the messages after it, and the check of that
field fails. There is one marker per message, so if every row ends with a marker, every row is exactly one message.

Known leniency: in ``[null, T]`` polars reads any branch number but 0 as T (in ``[T, null]`` any but 0 as null), so a
corrupt branch number goes unnoticed if the rest of the message fits. Fields that no column needs are skipped unchecked.
"""

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, Final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from consumer.avro.conversion import finish
from consumer.avro.fields import FieldPlan
from consumer.avro.leaves import DECIMAL_DIGITS_MAX, Leaf
from consumer.avro.lines import ROWS_MAX, TooManyRowsError, exploded
from consumer.avro.reading import POSITION, BadMessage, ReadResult, concat, with_lines_outcome
from consumer.avro.rows import RowReader
from consumer.avro.wire_schema import wire_schema
from consumer.core.changes.items import LINE, RejectReason

BLOCK_BYTES_MAX: Final = 1 << 30
"""Bytes of one block. polars counts a column's bytes in 32 bits."""

PARTS: Final = 32
"""A block that cannot be read is split into this many parts. To find one bad message among 20,000, halving would read
the block about three times with about ten panics on the way; this reads it about twice with about three."""

ROW_BY_ROW_MAX: Final = 32
"""At most this many messages, at least one of them bad, are read one by one by fastavro: cheaper than splitting."""

MARKER_BYTES: Final = 8
_MARKER: Final = secrets.token_bytes(MARKER_BYTES)
_SYNC: Final = secrets.token_bytes(16)

_GUARD: Final = "end marker"
"""Name of the marker's field. Avro names have no spaces, so no field of an event has this name."""


def silence_backtraces() -> None:
    """Limit a panic of polars to two lines on stderr: a backtrace costs milliseconds and is of no use."""
    os.environ["RUST_BACKTRACE"] = "0"


def read_block(file: bytes, columns: list[str]) -> pl.DataFrame | None:
    """Read these columns of an Avro object container file; None if polars cannot read it.

    This is the only call of ``polars.read_avro``, which is marked unstable and panics on some corrupt bytes.
    PanicException is not an Exception.
    """
    try:
        return pl.read_avro(BytesIO(file), columns=columns)
    except (PolarsError, OSError, PanicException):
        return None


class ColumnarReader:
    """Reads messages of one schema, many at a time. Each message begins with a prefix of ``prefix_length`` bytes."""

    def __init__(self, plan: FieldPlan, prefix_length: int) -> None:
        self._plan = plan
        self._prefix_length = prefix_length
        self._rows = RowReader(plan, prefix_length)
        self._columns = [*sorted(plan.read_fields), _GUARD]
        self._expressions = [_expression(leaf) for leaf in plan.leaves if not _is_plain(leaf)]
        self._header = _file_header(wire_schema(plan, decimals=True), MARKER_BYTES + prefix_length)

    def plan_of(self, _value: bytes) -> FieldPlan:
        return self._plan

    def read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        """Read messages as one block; None unless all have the same prefix and are values of the schema."""
        read = self._wire(values)
        return None if read is None else self._finished(*read)

    def _finished(self, wire: pl.DataFrame, too_long: Sequence[int], empty: int) -> ReadResult:
        """``too_long`` are the positions of events with too many lines, ``empty`` is the number of those without."""
        result = finish(self._plan, wire)
        if self._plan.lines is None or not (too_long or empty):
            return result
        detail = self._plan.lines.too_many()
        bad = [BadMessage(position, RejectReason.TOO_MANY_LINES, detail) for position in too_long]
        return with_lines_outcome(result, bad, empty)

    def read(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages that all have the same prefix; a bad message does not affect the others."""
        blocks: list[_Block] = []
        row_by_row: list[int] = []
        self._read_blocks(values, 0, blocks, row_by_row)
        results = [self._finished(*block) for block in blocks]
        return concat([*results, self._rows.read_some(values, row_by_row)])

    def _read_blocks(self, values: Sequence[bytes], start: int, blocks: list["_Block"], row_by_row: list[int]) -> None:
        """Read messages in blocks, splitting those that fail.

        Appends frames of wire columns to ``blocks``, and to ``row_by_row`` the remaining positions, ascending.
        """
        read = self._wire(values)
        if read is not None:
            wire, too_long, empty = read
            blocks.append(
                (wire.with_columns(pl.col(POSITION) + start), [position + start for position in too_long], empty)
            )
            rows = sum(block.height for block, _, _ in blocks)
            if self._plan.lines is not None and rows > ROWS_MAX and (start or len(values) > 1):
                raise TooManyRowsError
        elif len(values) <= ROW_BY_ROW_MAX:
            row_by_row.extend(range(start, start + len(values)))
        else:
            for low, high in _parts(len(values)):
                self._read_blocks(values[low:high], start + low, blocks, row_by_row)

    def _wire(self, values: Sequence[bytes]) -> "_Block | None":
        """Wire columns and positions of messages; None unless all have the same prefix and are values of the schema."""
        prefix = values[0][: self._prefix_length]
        guard = _MARKER + prefix
        # The first message's prefix is left out and one is added at the end, so the number of bytes is the same.
        body_bytes = sum(map(len, values)) + MARKER_BYTES * len(values)
        if body_bytes > BLOCK_BYTES_MAX:
            return None
        head = b"".join((self._header, _long(len(values)), _long(body_bytes), values[0][len(prefix) :]))
        # A single join is a single copy, which is half of the work outside polars.
        frame = read_block(_MARKER.join((head, *values[1:], prefix + _SYNC)), self._columns)
        if frame is None or len(frame) != len(values) or not (frame[_GUARD] == pl.Series([guard])).all():
            return None
        positions = pl.int_range(len(frame), dtype=pl.Int64, eager=True).alias(POSITION)
        if self._plan.lines is None:
            return self._wire_columns(frame, [positions]), (), 0
        frame, too_long = exploded(frame.drop(_GUARD).hstack([positions]), self._plan.lines, POSITION)
        empty = len(values) - frame[POSITION].n_unique() - len(too_long)
        return self._wire_columns(frame, [frame[POSITION], frame[LINE]]), too_long, empty

    def _wire_columns(self, frame: pl.DataFrame, place: Sequence[pl.Series]) -> pl.DataFrame:
        columns = [*place]
        columns += [_plain_column(frame, leaf) for leaf in self._plan.leaves if _is_plain(leaf)]
        if self._expressions:
            columns += frame.select(self._expressions).get_columns()
        return pl.DataFrame(columns)


_Block = tuple[pl.DataFrame, Sequence[int], int]
"""Wire columns, the positions of events with too many lines (they have no rows), and how many events have no lines."""


def _is_plain(leaf: Leaf) -> bool:
    """Whether the leaf's wire column is a column of polars's, at most with another type: then no query is needed.

    A query costs tens of microseconds, which is much for a frame of a few messages.
    """
    return len(leaf.path) == 1 and leaf.kind not in {"decimal", "scaled_decimal"}


def _plain_column(frame: pl.DataFrame, leaf: Leaf) -> pl.Series:
    column = frame[leaf.path[0]]
    cast = column if column.dtype == leaf.wire_type else column.cast(leaf.wire_type)
    return cast.alias(leaf.column)


def _expression(leaf: Leaf) -> pl.Expr:
    """The wire column of a leaf, from polars's columns, which are named like the event's fields."""
    column = pl.col(leaf.path[0])
    for name in leaf.path[1:]:
        column = column.struct.field(name)
    if leaf.kind == "scaled_decimal":
        column = _scaled(column.struct.field("value").cast(pl.String), column.struct.field("scale"))
    return column.cast(leaf.wire_type).alias(leaf.column)


def _scaled(unscaled: pl.Expr, scale: pl.Expr) -> pl.Expr:
    """Decimals as text, from their digits without a point and the number of decimal places."""
    places = scale.clip(0, DECIMAL_DIGITS_MAX)  # a corrupt scale must not ask for two billion zeros
    digits = unscaled.str.strip_prefix("-").str.zfill(places + 1)
    whole = digits.str.head(digits.str.len_bytes().cast(pl.Int64) - places)
    sign = pl.when(unscaled.str.starts_with("-")).then(pl.lit("-")).otherwise(pl.lit(""))
    with_point = pl.concat_str(sign, whole, pl.lit("."), digits.str.tail(places))
    with_exponent = pl.concat_str(unscaled, pl.lit("E"), (-scale).cast(pl.String))
    has_point = scale.is_between(1, DECIMAL_DIGITS_MAX)
    return pl.when(scale == 0).then(unscaled).when(has_point).then(with_point).otherwise(with_exponent)


def _parts(length: int) -> Iterator[tuple[int, int]]:
    size = -(-length // PARTS)
    return ((low, min(low + size, length)) for low in range(0, length, size))


def _file_header(schema: dict[str, Any], guard_bytes: int) -> bytes:
    """An uncompressed Avro object container file up to its first block."""
    guard = {"name": _GUARD, "type": {"type": "fixed", "name": "guard", "size": guard_bytes}}
    guarded = schema | {"fields": [*schema["fields"], guard]}
    entries = {b"avro.schema": json.dumps(guarded).encode(), b"avro.codec": b"null"}
    pairs = b"".join(_long(len(part)) + part for pair in entries.items() for part in pair)
    return b"Obj\x01" + _long(len(entries)) + pairs + b"\x00" + _SYNC


def _long(value: int) -> bytes:
    """A non-negative number encoded as Avro's long: zigzag, 7 bits per byte, lowest first."""
    rest = value << 1
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)
