"""Decoding message by message with fastavro: the reference for columnar decoding, and a complete alternative to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any

import fastavro
import polars as pl

from consumer.avro.fields import POSITION, BadMessage, FieldPlan, Leaf, decimal_value, finish, value_at
from consumer.avro.lines import ROWS_MAX, TooManyRowsError, lines_of
from consumer.avro.wire_schema import wire_schema
from consumer.core.changes.items import LINE, RejectReason
from consumer.errors import InvariantError
from consumer.text import DETAIL_CHARACTERS_MAX, one_line


@dataclass(frozen=True, slots=True)
class ReadResult:
    """Messages that were read (rows with ``POSITION`` and ``fields.TARGETS``) and bad messages, both by position.

    If events have several changes, the rows also have ``LINE``, and are in its order.
    """

    frame: pl.DataFrame
    bad: Sequence[BadMessage]


def in_order(bad: Sequence[BadMessage]) -> tuple[BadMessage, ...]:
    """The bad messages, sorted by position."""
    return tuple(sorted(bad, key=lambda message: (message.position, message.line or 0)))


class RowReader:
    """Reads messages of one schema one by one. Each message begins with a prefix of ``prefix_length`` bytes."""

    def __init__(self, plan: FieldPlan, prefix_length: int) -> None:
        self._plan = plan
        self._prefix_length = prefix_length
        self._too_many = "" if plan.lines is None else plan.lines.too_many()
        self._schema = fastavro.parse_schema(wire_schema(plan, decimals=False))

    def read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        """Read messages; None unless all have the same prefix."""
        prefix = values[0][: self._prefix_length]
        return self.read(values) if all(value.startswith(prefix) for value in values) else None

    def read(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages that all have the same prefix; a bad message does not affect the others."""
        return self.read_some(values, range(len(values)))

    def read_some(self, values: Sequence[bytes], positions: Sequence[int]) -> ReadResult:
        """Read only the messages at these positions (ascending)."""
        rows: list[list[Any]] = []
        good: list[int] = []
        lines: list[int] = []
        bad: list[BadMessage] = []
        for position in positions:
            record = self._record(values[position])
            if isinstance(record, dict):
                events = self._lines(record)
                if events is None:
                    bad.append(BadMessage(position, RejectReason.TOO_MANY_LINES, self._too_many))
                    continue
                # Only what the columns need is kept: a whole record may take a hundred times its encoded size.
                rows += [[value_at(event, leaf.path) for leaf in self._plan.leaves] for event in events]
                good += [position] * len(events)
                lines += range(len(events))
                if self._plan.lines is not None and len(rows) > ROWS_MAX and good[0] != position:
                    raise TooManyRowsError
            else:
                bad.append(BadMessage(position, *record))
        frame, out_of_range = finish(self._plan, self._columns(rows, good, lines))
        return ReadResult(frame, in_order([*bad, *out_of_range]))

    def _lines(self, record: dict[str, Any]) -> list[Mapping[str, Any]] | None:
        """The event once per line, or just the event; None if it has too many lines."""
        lines = self._plan.lines
        if lines is None:
            return [record]
        found = list(islice(lines_of(record, lines.paths), lines.lines_max + 1))
        return None if len(found) > lines.lines_max else found

    def _record(self, value: bytes) -> dict[str, Any] | tuple[RejectReason, str]:
        """The record in a message, or why it is bad."""
        stream = BytesIO(value)
        stream.seek(self._prefix_length)
        try:
            record = fastavro.schemaless_reader(stream, self._schema, None)
        except Exception as error:  # noqa: BLE001 - fastavro raises many types for corrupt bytes
            detail = f"{type(error).__name__}: {error}".removesuffix(": ")
            return RejectReason.CORRUPT, one_line(detail, DETAIL_CHARACTERS_MAX)
        left = len(value) - stream.tell()
        if left:
            return RejectReason.TRAILING_BYTES, f"{left} bytes after the value"
        if not isinstance(record, dict):
            raise InvariantError(f"fastavro read a record as {type(record).__name__}")
        return record

    def _columns(self, rows: Sequence[list[Any]], positions: Sequence[int], lines: Sequence[int]) -> pl.DataFrame:
        columns = [pl.Series(POSITION, positions, dtype=pl.Int64)]
        if self._plan.lines is not None:
            columns.append(pl.Series(LINE, lines, dtype=pl.Int32))
        for index, leaf in enumerate(self._plan.leaves):
            convert = _converter(leaf)
            values = [row[index] for row in rows]
            if convert is not None:
                values = [None if value is None else convert(value) for value in values]
            columns.append(pl.Series(leaf.target, values, dtype=leaf.wire_dtype))
        return pl.DataFrame(columns)


def _converter(leaf: Leaf) -> Callable[[Any], Any] | None:
    """Converts a value to that of the wire column; None if they are the same."""
    if leaf.kind == "decimal":
        return lambda value: decimal_value(value, leaf.scale)
    return float if leaf.kind == "number" else None
