"""The expected result of one message, a row or a reason, computed in plain Python column by column."""

import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from io import BytesIO
from math import isfinite, isnan
from typing import Any

import fastavro

from consumer.avro.leaves import TARGETS
from consumer.core.changes.items import RejectReason
from tests.fuzz import plain_reader
from tests.fuzz.schemas import INTEGERS, NUMBERS

IDENTIFIERS = ("partNumber", "upc", "sku")
EMPTY_IS_NONE = ("locationName", *IDENTIFIERS, "inventoryLocatorName")
TICKS = {"timestamp-micros": 1_000, "timestamp-nanos": 1_000_000}


@dataclass(frozen=True)
class Verdict:
    """``row`` or ``reason``; ``lenient``: decoders are known to differ, so both are accepted."""

    row: dict[str, Any] | None = None
    reason: RejectReason | None = None
    wrong: str = ""
    lenient: bool = False


class Judge:
    """Judges the messages of one schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._types = {field["name"]: field["type"] for field in schema["fields"] if field["name"] in TARGETS}
        self._reference = fastavro.parse_schema(_without_logical(schema))

    def judge(self, body: bytes) -> Verdict:
        reading = plain_reader.read(self._schema, body, set(self._types))
        verdict = self._verdict(reading)
        if not reading.lenient:
            self._compare_with_fastavro(body, reading)
        return Verdict(verdict.row, verdict.reason, reading.wrong, reading.lenient)

    def _verdict(self, reading: plain_reader.PlainReading) -> Verdict:
        if reading.wrong:
            return Verdict(reason=RejectReason.CORRUPT)
        if reading.left:
            return Verdict(reason=RejectReason.TRAILING_BYTES)
        row: dict[str, Any] = dict.fromkeys(TARGETS)
        for name, schema in self._types.items():
            value = reading.value[name]
            kind = _held(schema)
            if value is not None and kind == "int" and not -(2**31) <= value < 2**31:
                return Verdict(reason=RejectReason.INTEGER_OUT_OF_RANGE)
        for name in (target for target in TARGETS if target in self._types):
            value, kind = reading.value[name], _held(self._types[name])
            try:
                row[name] = None if value is None else _item_value(name, kind, value)
            except BadNumberError as error:
                return Verdict(reason=error.reason)
        reason = _broken_rule(row)
        return Verdict(reason=reason) if reason else Verdict(row=row)

    def _compare_with_fastavro(self, body: bytes, reading: plain_reader.PlainReading) -> None:
        """Compare the plain reading with that of fastavro with the writer's own schema, where both are exact."""
        stream = BytesIO(body)
        try:
            record = fastavro.schemaless_reader(stream, self._reference, None)
        except Exception:  # noqa: BLE001 - fastavro could not read it, maybe because of a field that no column needs
            return
        if reading.wrong:
            # fastavro counts a negative number of an enum's symbol from the end.
            assert reading.wrong == "no symbol", f"fastavro reads {record!r}, the plain reader says {reading.wrong}"
            return
        assert reading.left == len(body) - stream.tell()
        assert isinstance(record, dict)
        for name, schema in self._types.items():
            if isinstance(_held(schema), dict) and _held(schema)["type"] == "enum":
                continue  # it has other symbols there
            assert same(record[name], reading.value[name]), f"{name}: {record[name]!r} is not {reading.value[name]!r}"


def same(one: Any, other: Any) -> bool:
    """Equal, NaN equal to itself."""
    if isinstance(one, float) and isinstance(other, float) and isnan(one):
        return isnan(other)
    return bool(one == other)


def _held(schema: Any) -> Any:
    """The type that is not null."""
    return next(branch for branch in schema if branch != "null") if isinstance(schema, list) else schema


def _item_value(name: str, kind: Any, value: Any) -> Any:
    if name in EMPTY_IS_NONE:
        return _text(name, str(value))
    if name == "occurredAt":
        return _millis(kind, value)
    if name in NUMBERS:
        if isinstance(kind, dict):
            return _decimal(int.from_bytes(value, "big", signed=True), kind["scale"])
        return _shortest(value) if kind == "float" else float(value)
    return _whole(kind, value) if name in INTEGERS else value


class BadNumberError(Exception):
    def __init__(self, reason: RejectReason) -> None:
        super().__init__(reason)
        self.reason = reason


def _text(name: str, value: str) -> str | None:
    trimmed = value if name == "inventoryLocatorName" else value.rstrip(" ")
    return trimmed or None


def _millis(kind: Any, value: int) -> int | None:
    if isinstance(kind, dict):
        return value // TICKS.get(kind.get("logicalType", "timestamp-micros"), 1)
    return value if 2000 <= _year(value) <= 2100 else None


def _year(millis: int) -> int:
    in_range = -(10**13) < millis < 10**14
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)).year if in_range else 0


def _shortest(value: float) -> float:
    """The decimal with the fewest digits that is the same float of 32 bits; a whole number stays as it is."""
    if not isfinite(value) or value == int(value):
        return value
    digits = (float(f"{value:.{count}g}") for count in range(1, 10))
    return next(short for short in digits if struct.pack("<f", short) == struct.pack("<f", value))


def _whole(kind: Any, value: Any) -> int | None:
    if isinstance(kind, dict):
        number = Fraction(int.from_bytes(value, "big", signed=True), 10 ** kind["scale"])
    elif kind == "string":
        text = value.strip(" ")
        if not text:
            return None
        if not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", text):
            raise BadNumberError(RejectReason.NOT_A_NUMBER)
        number = Fraction(text)
    elif kind == "double":
        if not isfinite(value):
            raise BadNumberError(RejectReason.NOT_A_NUMBER)
        number = Fraction(value)
    else:
        return int(value)
    if abs(number) > (2**53 - 1 if kind == "double" or number.denominator != 1 else 10**18 - 1):
        raise BadNumberError(RejectReason.INTEGER_OUT_OF_RANGE)
    if number.denominator != 1:
        raise BadNumberError(RejectReason.NOT_A_WHOLE_NUMBER)
    return int(number)


def _decimal(unscaled: int, scale: int) -> float:
    try:
        return float(unscaled / 10**scale)
    except OverflowError:
        return float("inf")


def _broken_rule(row: dict[str, Any]) -> RejectReason | None:
    attributes = row["attributes"] or []
    rules = {
        RejectReason.NO_LOCATION: row["locationName"] is None,
        RejectReason.NO_IDENTIFIER: all(row[name] is None for name in IDENTIFIERS),
        RejectReason.NO_QUANTITY: row["quantity"] is None,
        RejectReason.NEGATIVE_QUANTITY: (row["quantity"] or 0) < 0,
        RejectReason.BIN_ID_TOO_SMALL: row["binID"] is not None and row["binID"] < 1,
        RejectReason.LOCATOR_TOO_LONG: len(row["inventoryLocatorName"] or "") > 50,
        RejectReason.TOO_MANY_ATTRIBUTES: len(attributes) > 63,
        RejectReason.NULL_ATTRIBUTE: None in attributes,
        RejectReason.NOT_A_NUMBER: not all(isfinite(row[name] or 0.0) for name in NUMBERS),
        RejectReason.INTEGER_OUT_OF_RANGE: any(abs(row[name] or 0) > 2**53 - 1 for name in INTEGERS),
    }
    return next((reason for reason, broken in rules.items() if broken), None)


def _without_logical(schema: Any) -> Any:  # noqa: PLR0911 - one for each kind of type
    """The schema with plain types only, and with symbols that fastavro accepts."""
    if isinstance(schema, dict) and schema["type"] == "enum":
        return schema | {"symbols": [f"S{index}" for index in range(len(schema["symbols"]))]}
    if isinstance(schema, list):
        return [_without_logical(branch) for branch in schema]
    match schema:
        case {"type": "record", "fields": fields}:
            return schema | {"fields": [field | {"type": _without_logical(field["type"])} for field in fields]}
        case {"type": "array", "items": items}:
            return {"type": "array", "items": _without_logical(items)}
        case {"type": "map", "values": values}:
            return {"type": "map", "values": _without_logical(values)}
        case dict():
            return {name: part for name, part in schema.items() if name not in {"logicalType", "precision", "scale"}}
    return schema
