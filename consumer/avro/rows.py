"""Decoding message by message with fastavro: the reference, and a complete second way beside the columnar one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import fastavro
import polars as pl

from consumer.avro.fields import POSITION, BadMessage, FieldPlan, Leaf, decimal_value, finish, value_at
from consumer.avro.wire_schema import wire_schema
from consumer.core.changes.items import RejectReason

DETAIL_CHARACTERS_MAX: Final = 300
"""Length of an error's text kept with a reject; it travels in a header of the dead letter."""


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What became of messages: rows with ``POSITION`` and ``fields.TARGETS``, ordered by position, and the bad ones."""

    frame: pl.DataFrame
    bad: Sequence[BadMessage]


def in_order(bad: Sequence[BadMessage]) -> tuple[BadMessage, ...]:
    """The bad messages by position."""
    return tuple(sorted(bad, key=lambda each: each.position))


class RowReader:
    """Reads the messages of one schema, each by itself, after a prefix of ``prefix_length`` bytes."""

    def __init__(self, plan: FieldPlan, prefix_length: int) -> None:
        self._plan = plan
        self._prefix_length = prefix_length
        self._schema = fastavro.parse_schema(wire_schema(plan, decimals=False))

    def read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        """Read messages; None unless all begin with the same prefix."""
        prefix = values[0][: self._prefix_length]
        return self.read(values) if all(value.startswith(prefix) for value in values) else None

    def read(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages that all begin with the same prefix; each stands or falls alone."""
        return self.read_some(values, range(len(values)))

    def read_some(self, values: Sequence[bytes], positions: Sequence[int]) -> ReadResult:
        """Read the messages at these positions (ascending); the others are left out of rows and bad ones alike."""
        rows: list[list[Any]] = []
        good: list[int] = []
        bad: list[BadMessage] = []
        for position in positions:
            verdict = self._record(values[position])
            if isinstance(verdict, dict):
                # Of a record only what the columns need is kept: the rest may take a hundred times its bytes.
                rows.append([value_at(verdict, leaf.path) for leaf in self._plan.leaves])
                good.append(position)
            else:
                bad.append(BadMessage(position, *verdict))
        frame, beyond = finish(self._plan, self._columns(rows, good))
        return ReadResult(frame, in_order([*bad, *beyond]))

    def _record(self, value: bytes) -> dict[str, Any] | tuple[RejectReason, str]:
        stream = BytesIO(value)
        stream.seek(self._prefix_length)
        try:
            record = fastavro.schemaless_reader(stream, self._schema, None)
        except Exception as error:  # noqa: BLE001 - whatever the reference raises on these bytes is its verdict on them
            detail = f"{type(error).__name__}: {error}".removesuffix(": ")
            return RejectReason.CORRUPT, detail[:DETAIL_CHARACTERS_MAX]
        left = len(value) - stream.tell()
        if left:
            return RejectReason.TRAILING_BYTES, f"{left} bytes after the value"
        if not isinstance(record, dict):
            raise TypeError(f"fastavro read a record as {type(record).__name__}")
        return record

    def _columns(self, rows: Sequence[list[Any]], positions: Sequence[int]) -> pl.DataFrame:
        columns = [pl.Series(POSITION, positions, dtype=pl.Int64)]
        for place, leaf in enumerate(self._plan.leaves):
            convert = _converter(leaf)
            values = [row[place] for row in rows]
            if convert is not None:
                values = [None if value is None else convert(value) for value in values]
            columns.append(pl.Series(leaf.target, values, dtype=leaf.wire_dtype))
        return pl.DataFrame(columns)


def _converter(leaf: Leaf) -> Callable[[Any], Any] | None:
    """How one value becomes the wire column's, None where it is that already."""
    if leaf.kind == "decimal":
        return lambda value: decimal_value(value, leaf.scale)
    return float if leaf.kind == "number" else None
