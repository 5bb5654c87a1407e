"""Columnar decoding with a guard: a batch of messages as one block of an Avro file in memory, read by polars.

The header's schema has one more field at the end: a marker that is random per process, followed by the next message's
prefix. A message that is too short, too long or not of this prefix shifts its neighbours, and the check of that field
finds it: as many markers as messages were put in, so when every row ends on one, every row is exactly one message.

Known leniency: in ``[null, T]`` polars takes any branch number but 0 as T (in ``[T, null]`` any but 0 as null), so a
corrupt branch number goes unseen when the rest of the message fits; fields that no column needs are passed over
unchecked.
"""

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, Final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from consumer.avro.fields import POSITION, FieldPlan, Leaf, finish
from consumer.avro.rows import ReadResult, RowReader, in_order
from consumer.avro.wire_schema import wire_schema

BLOCK_BYTES_MAX: Final = 1 << 30
"""Bytes of one block; polars counts a column's bytes in 32 bits."""

PARTS: Final = 32
"""A block that does not read is cut into so many. Halving would read a long one three times to find one bad message,
with ten panics on the way; this reads it twice, with three."""

ALONE_MAX: Final = 32
"""So few messages, known to hold a bad one, are given to the reference one by one: cheaper than cutting further."""

MARKER_BYTES: Final = 8
_MARKER: Final = secrets.token_bytes(MARKER_BYTES)
_SYNC: Final = secrets.token_bytes(16)

_GUARD: Final = "end marker"
"""The marker's field; no Avro name has a space, so it meets no field of an event."""


def silence_backtraces() -> None:
    """Keep a panic of polars down to two lines on stderr: a backtrace costs milliseconds and tells nobody anything."""
    os.environ["RUST_BACKTRACE"] = "0"


def read_block(file: bytes, columns: list[str]) -> pl.DataFrame | None:
    """The whole seam to polars: an Avro object container file in, these columns out; None when polars cannot read it.

    ``polars.read_avro`` is marked unstable, and panics on some corrupt bytes; a panic is no Exception.
    """
    try:
        return pl.read_avro(BytesIO(file), columns=columns)
    except (PolarsError, OSError, PanicException):
        return None


class ColumnarReader:
    """Reads the messages of one schema, many at a time, after prefixes of ``prefix_length`` bytes."""

    def __init__(self, plan: FieldPlan, prefix_length: int) -> None:
        self._plan = plan
        self._prefix_length = prefix_length
        self._rows = RowReader(plan, prefix_length)
        self._columns = [*sorted(plan.read_fields), _GUARD]
        self._expressions = [pl.int_range(pl.len(), dtype=pl.Int64).alias(POSITION), *map(_expression, plan.leaves)]
        self._header = _file_header(wire_schema(plan, decimals=True), MARKER_BYTES + prefix_length)

    def read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        """Read messages as one block; None unless all begin with the same prefix and are values of the schema."""
        wire = self._wire(values)
        return None if wire is None else ReadResult(*finish(self._plan, wire))

    def read(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages that all begin with the same prefix; each stands or falls alone."""
        blocks: list[pl.DataFrame] = []
        alone: list[int] = []
        self._cut(values, 0, blocks, alone)
        by_itself = self._rows.read_some(values, alone)
        readings = [*(ReadResult(*finish(self._plan, block)) for block in blocks), by_itself]
        frame = pl.concat([reading.frame for reading in readings])
        return ReadResult(frame.sort(POSITION), in_order([bad for reading in readings for bad in reading.bad]))

    def _cut(self, values: Sequence[bytes], start: int, blocks: list[pl.DataFrame], alone: list[int]) -> None:
        """Read what can be read in blocks, into ``blocks``; name the positions that must be read alone, ascending."""
        wire = self._wire(values)
        if wire is not None:
            blocks.append(wire.with_columns(pl.col(POSITION) + start))
        elif len(values) <= ALONE_MAX:
            alone.extend(range(start, start + len(values)))
        else:
            for low, high in _parts(len(values)):
                self._cut(values[low:high], start + low, blocks, alone)

    def _wire(self, values: Sequence[bytes]) -> pl.DataFrame | None:
        """The wire columns and positions of messages; None unless all begin with the same prefix and are well."""
        prefix = values[0][: self._prefix_length]
        guard = _MARKER + prefix
        # Prefixes do not count: the first message's goes, and one more comes at the end.
        body_bytes = sum(map(len, values)) + MARKER_BYTES * len(values)
        if body_bytes > BLOCK_BYTES_MAX:
            return None
        head = b"".join((self._header, _long(len(values)), _long(body_bytes), values[0][len(prefix) :]))
        # One join is one copy: it is as much work as all else here that is not polars's.
        frame = read_block(_MARKER.join((head, *values[1:], prefix + _SYNC)), self._columns)
        if frame is None or len(frame) != len(values) or not frame.select((pl.col(_GUARD) == guard).all()).item():
            return None
        return frame.select(self._expressions)


def _expression(leaf: Leaf) -> pl.Expr:
    """From polars's columns, named as the event's fields, to a wire column."""
    column = pl.col(leaf.path[0])
    for name in leaf.path[1:]:
        column = column.struct.field(name)
    if leaf.kind == "decimal":
        # The cast from decimal to float may miss the nearest float; from text it does not.
        column = column.cast(pl.String)
    return column.cast(leaf.wire_dtype).alias(leaf.target)


def _parts(length: int) -> Iterator[tuple[int, int]]:
    size = -(-length // PARTS)
    return ((low, min(low + size, length)) for low in range(0, length, size))


def _file_header(schema: dict[str, Any], guard_bytes: int) -> bytes:
    """The beginning of an Avro object container file without compression, up to its first block."""
    guard = {"name": _GUARD, "type": {"type": "fixed", "name": "guard", "size": guard_bytes}}
    guarded = schema | {"fields": [*schema["fields"], guard]}
    entries = {b"avro.schema": json.dumps(guarded).encode(), b"avro.codec": b"null"}
    pairs = b"".join(_long(len(part)) + part for pair in entries.items() for part in pair)
    return b"Obj\x01" + _long(len(entries)) + pairs + b"\x00" + _SYNC


def _long(value: int) -> bytes:
    """A non-negative number as Avro writes a long: zigzag, 7 bits a byte, lowest first."""
    rest = value << 1
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)
