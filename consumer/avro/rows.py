"""Decoding message by message with fastavro: the reference for columnar decoding, and a complete alternative to it."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from itertools import islice
from typing import Any, Final

import fastavro
import polars as pl

from consumer.avro.conversion import finish
from consumer.avro.fields import FieldPlan, value_at
from consumer.avro.leaves import DECIMAL_DIGITS_MAX, Leaf, LeafKind
from consumer.avro.lines import ROWS_MAX, TooManyRowsError, lines_of
from consumer.avro.reading import POSITION, BadMessage, ReadResult, with_lines_outcome
from consumer.avro.values import shortest
from consumer.avro.wire_schema import wire_schema
from consumer.core.changes.items import LINE, RejectReason
from consumer.errors import InvariantError
from consumer.text import DETAIL_CHARACTERS_MAX, one_line


class RowReader:
    """Reads messages of one schema one by one. Each message begins with a prefix of ``prefix_length`` bytes."""

    def __init__(self, plan: FieldPlan, prefix_length: int) -> None:
        self._plan = plan
        self._prefix_length = prefix_length
        self._leaves = plan.leaves
        self._too_many = "" if plan.lines is None else plan.lines.too_many()
        self._schema = fastavro.parse_schema(wire_schema(plan, decimals=False))

    def plan_of(self, _value: bytes) -> FieldPlan:
        return self._plan

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
        empty = 0
        bad: list[BadMessage] = []
        for position in positions:
            record = self._record(values[position])
            if isinstance(record, dict):
                events = self._lines(record)
                if events is None:
                    bad.append(BadMessage(position, RejectReason.TOO_MANY_LINES, self._too_many))
                    continue
                # Only what the columns need is kept: a whole record may take a hundred times its encoded size.
                rows += [[value_at(event, leaf.path) for leaf in self._leaves] for event in events]
                good += [position] * len(events)
                lines += range(len(events))
                empty += not events
                if self._plan.lines is not None and len(rows) > ROWS_MAX and good[0] != position:
                    raise TooManyRowsError
            else:
                bad.append(BadMessage(position, *record))
        result = finish(self._plan, self._columns(rows, good, lines))
        return with_lines_outcome(result, bad, empty) if bad or empty else result

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
        for index, leaf in enumerate(self._leaves):
            convert = _CONVERTERS.get(leaf.kind)
            values = [row[index] for row in rows]
            if convert is not None:
                values = [None if value is None else convert(leaf, value) for value in values]
            columns.append(pl.Series(leaf.column, values, dtype=leaf.wire_type))
        return pl.DataFrame(columns)


def _decimal_text(unscaled: int, scale: int) -> str:
    """A decimal as text with all its decimal places, as polars writes it."""
    digits = str(abs(unscaled)).zfill(scale + 1)
    sign = "-" if unscaled < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else sign + digits


def _unscaled(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def _decimal(leaf: Leaf, value: Any) -> str:
    return _decimal_text(_unscaled(value), leaf.scale)


def _scaled_decimal(_leaf: Leaf, value: Any) -> str:
    unscaled, scale = _unscaled(value["value"]), value["scale"]
    if 0 <= scale <= DECIMAL_DIGITS_MAX:
        return _decimal_text(unscaled, scale)
    return f"{unscaled}E{-scale}"


def _mixed(_leaf: Leaf, value: Any) -> str:
    """A value of any branch as text; a float, which is in a record of its own, as the shortest decimal that is it."""
    if isinstance(value, dict):
        return repr(shortest(pl.Series(list(value.values()), dtype=pl.Float32()))[0])
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)


_CONVERTERS: Final[Mapping[LeafKind, Callable[[Leaf, Any], Any]]] = {
    "decimal": _decimal,
    "scaled_decimal": _scaled_decimal,
    "mixed": _mixed,
}
"""From a value to that of the wire column, for the kinds in which they differ."""
