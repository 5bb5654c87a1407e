"""For generated schemas and values, both decode paths return exactly what was written."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from io import BytesIO
from itertools import count
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.avro.columnar import ColumnarReader
from consumer.avro.leaves import DATE_FORMATS, TARGETS
from consumer.avro.readers import Reader, ReaderFactory, Refused
from consumer.avro.reading import POSITION, READ_SCHEMA
from consumer.core.changes.items import map_text
from tests.support.avro import by_name

PREFIX = b"\x00\x00\x00\x00\x07"
LONGS = st.integers(-(2**63), 2**63 - 1)
INTS = st.integers(-(2**31), 2**31 - 1)
TEXTS = st.text(max_size=6)
PLACEHOLDER = "__debezium_unavailable_value"
PLAUSIBLE = (946_684_800_000, 4_133_980_799_999)
"""Milliseconds from 2000 to 2100: only then is a time believed whose schema declares no unit."""
CALENDAR = -62_135_596_800_000, 253_402_300_799_999
"""Milliseconds of the years 1 to 9999."""
Values = st.SearchStrategy[Any]


@dataclass
class Drawn:
    """A drawn type: its schema, a strategy for its values, and the conversion to the item's value."""

    schema: Any
    values: Values
    item: Callable[[Any], Any] = field(default=lambda value: value)
    zero_width: bool = False
    wide: bool = False


class Schemas:
    """Draws types; named types get unique names, and may be referred to again."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.named: list[Drawn] = []
        self.numbers = count()

    def name(self) -> str:
        return f"N{next(self.numbers)}"

    def simple(self) -> Drawn:
        kinds: list[tuple[Any, Values]] = [
            ("boolean", st.booleans()),
            ("int", INTS),
            ("long", LONGS),
            ("float", st.floats(width=32, allow_nan=False)),
            ("double", st.floats(allow_nan=False)),
            ("bytes", st.binary(max_size=4)),
            ("string", TEXTS),
            ({"type": "string", "logicalType": "uuid"}, st.uuids()),
            ({"type": "long", "logicalType": "timestamp-micros"}, st.integers(0, 2**50)),
            ({"type": "int", "logicalType": "date"}, INTS),
        ]
        return Drawn(*self.draw(st.sampled_from(kinds)))

    def defined(self) -> Drawn:
        """An enum or a fixed, which may be referred to again by name."""
        name = self.name()
        if self.draw(st.booleans()):
            symbols = ["A", "B", "C"][: self.draw(st.integers(1, 3))]
            drawn = Drawn({"type": "enum", "name": name, "symbols": symbols}, st.sampled_from(symbols))
        else:
            size = self.draw(st.integers(0, 5))
            schema = {"type": "fixed", "name": name, "size": size}
            drawn = Drawn(schema, st.binary(min_size=size, max_size=size), zero_width=size == 0)
        self.named.append(Drawn(name, drawn.values, zero_width=drawn.zero_width))
        return drawn

    def record(self, depth: int) -> Drawn:
        name = self.name()
        fields = [self.any(depth - 1) for _ in range(self.draw(st.integers(0, 3)))]
        written = [{"name": f"x{index}", "type": child.schema} for index, child in enumerate(fields)]
        drawn = Drawn(
            {"type": "record", "name": name, "fields": written},
            st.fixed_dictionaries({f"x{index}": child.values for index, child in enumerate(fields)}),
            zero_width=all(child.zero_width for child in fields),
            wide=any(child.wide for child in fields),
        )
        self.named.append(Drawn(name, drawn.values, zero_width=drawn.zero_width, wide=drawn.wide))
        return drawn

    def any(self, depth: int) -> Drawn:
        """Any type, at most ``depth`` levels deep."""
        kind = self.draw(
            st.sampled_from(["simple", "null", "defined", "named", "nullable", "wide", "record", "array", "map"])
        )
        if kind == "named" and self.named:
            return self.draw(st.sampled_from(self.named))
        if kind in {"defined", "null"}:
            return self.defined() if kind == "defined" else Drawn("null", st.none(), zero_width=True)
        if kind == "wide":
            branches = self.draw(st.sampled_from([["null", "long", "string"], ["long"], ["boolean", "string"]]))
            known = {"null": st.none(), "long": LONGS, "string": TEXTS, "boolean": st.booleans()}
            return Drawn(branches, st.one_of(*(known[branch] for branch in branches)), wide=True)
        if depth > 0 and kind == "record":
            return self.record(depth)
        if depth > 0 and kind in {"array", "map", "nullable"}:
            return self.holding(kind, self.any(depth - 1))
        return self.simple()

    def holding(self, kind: str, held: Drawn) -> Drawn:
        if kind == "map":
            return Drawn(
                {"type": "map", "values": held.schema}, st.dictionaries(TEXTS, held.values, max_size=3), wide=held.wide
            )
        if kind == "array" and not held.zero_width:
            return Drawn({"type": "array", "items": held.schema}, st.lists(held.values, max_size=3), wide=held.wide)
        return self.nullable(held)

    def nullable(self, held: Drawn) -> Drawn:
        """``[null, T]`` or ``[T, null]``; T itself if it is a union or null already."""
        if isinstance(held.schema, list) or held.schema == "null":
            return held
        branches = ["null", held.schema] if self.draw(st.booleans()) else [held.schema, "null"]
        return Drawn(
            branches, st.none() | held.values, lambda value: None if value is None else held.item(value), wide=held.wide
        )

    def target(self, name: str) -> Drawn:
        """A type that can be converted to this target."""
        drawn = self.draw(st.sampled_from(self.fitting(name)))
        return self.nullable(drawn) if self.draw(st.booleans()) else drawn

    def fitting(self, name: str) -> list[Drawn]:
        if name == "occurredAt":
            micro = {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}
            instants = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001 - taken for UTC
            return [
                Drawn({"type": "long", "logicalType": "timestamp-millis"}, LONGS),
                Drawn({"type": "long", "logicalType": "timestamp-micros"}, LONGS, lambda value: value // 1_000),
                Drawn({"type": "long", "logicalType": "local-timestamp-nanos"}, LONGS, lambda value: value // 10**6),
                Drawn(micro, LONGS, lambda value: value // 1_000),
                Drawn({"type": "int", "connect.name": "io.debezium.time.Date"}, INTS, _millis_of_day),
                Drawn("long", st.integers(*PLAUSIBLE) | LONGS, lambda value: value if _is_plausible(value) else None),
                Drawn("string", instants.map(lambda instant: f"{instant.isoformat()}Z"), _millis_of_text),
            ]
        if name == "attributes":
            return [
                Drawn({"type": "array", "items": "string"}, st.lists(TEXTS, max_size=3)),
                Drawn({"type": "array", "items": ["null", "string"]}, st.lists(st.none() | TEXTS, max_size=3)),
            ]
        if TARGETS[name] == pl.Int64():
            whole = st.integers(-(10**6), 10**6)
            return [
                Drawn("int", INTS),
                Drawn("long", LONGS),
                Drawn("double", whole.map(float), int),
                Drawn("float", whole.map(float), int),
                Drawn("string", whole.map(str) | whole.map("{}.00".format), lambda text: int(text.partition(".")[0])),
                *self.decimals(whole.map(Decimal), int),
                Drawn(["long", "string", "float"], whole | whole.map(str) | whole.map(float), int, wide=True),
            ]
        if TARGETS[name] == pl.Float64():
            thousandths = st.integers(-(10**9), 10**9).map(lambda unscaled: Decimal(unscaled).scaleb(-3))
            return [
                *self.decimals(thousandths, float),
                Drawn("double", st.floats(allow_nan=False)),
                Drawn("int", INTS, float),
                Drawn("float", st.integers(-(10**5), 10**5).map(lambda cents: cents / 100), float),
                Drawn("string", thousandths.map("{:f}".format), float),
            ]
        if name == "tags":
            tags = st.dictionaries(TEXTS, TEXTS | st.just(PLACEHOLDER), max_size=3)
            some = st.dictionaries(TEXTS, st.none() | TEXTS, max_size=3)
            return [
                Drawn({"type": "map", "values": "string"}, tags, _tags),
                Drawn({"type": "map", "values": ["null", "string"]}, some, _tags),
            ]
        return [*self.texts(name), *self.dates(name)] if name in DATE_FORMATS else self.texts(name)

    def dates(self, name: str) -> list[Drawn]:
        """Times of a declared unit, which are written as the OMS does."""
        text = partial(_date_text, DATE_FORMATS[name])
        instants = st.integers(*CALENDAR)
        return [
            Drawn({"type": "int", "logicalType": "date"}, st.integers(-(10**5), 10**6), lambda day: text(day * 86_400)),
            Drawn({"type": "long", "logicalType": "timestamp-millis"}, instants, lambda value: text(value // 1_000)),
        ]

    def texts(self, name: str) -> list[Drawn]:
        symbols = ["S1", "S2", "S3"]
        enum = Drawn({"type": "enum", "name": self.name(), "symbols": symbols}, st.sampled_from(symbols))
        return [
            Drawn("string", TEXTS | st.just(PLACEHOLDER), lambda text: _text(name, text)),
            enum,
            Drawn("int", INTS, str),
            Drawn("long", LONGS, str),
            Drawn(["int", "string"], INTS, str, wide=True),
            *self.decimals(st.integers(-(10**9), 10**9).map(Decimal), lambda value: str(int(value))),
        ]

    def decimals(self, values: Values, item: Callable[[Any], Any]) -> list[Drawn]:
        """Decimals of bytes and of a fixed, of more digits than polars has, and with a scale of their own."""
        said = {"logicalType": "decimal", "precision": 10, "scale": 3}
        wide = {"logicalType": "decimal", "precision": 64, "scale": 20}
        fields = [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}]
        own_scale = {"type": "record", "name": f"{self.name()}.VariableScaleDecimal", "fields": fields}
        return [
            Drawn({"type": "bytes", **said}, values, item),
            Drawn({"type": "bytes", **wide}, values, item),
            Drawn({"type": "fixed", "name": self.name(), "size": 8, **said}, values, item),
            Drawn(own_scale, st.builds(_scaled, values, st.integers(-2, 6)), lambda value: item(_unscaled(value))),
        ]


def _scaled(value: Decimal, scale: int) -> dict[str, Any]:
    """A value as Debezium's record; with fewer decimal places than it has, it is cut."""
    unscaled = int(value.scaleb(max(scale, 3)))
    return (
        {"scale": max(scale, 3), "value": unscaled.to_bytes(12, "big", signed=True)}
        if scale > 0
        else {
            "scale": scale,
            "value": int(value.to_integral_value().scaleb(scale)).to_bytes(12, "big", signed=True),
        }
    )


def _unscaled(value: dict[str, Any]) -> Decimal:
    return Decimal(int.from_bytes(value["value"], "big", signed=True)).scaleb(-value["scale"])


def _text(name: str, text: str) -> str | None:
    trimmed = text.rstrip(" ") if name in {"locationName", "partNumber", "upc", "sku"} else text
    return None if trimmed in {"", PLACEHOLDER} else trimmed


def _tags(tags: dict[str, str | None]) -> str | None:
    return map_text({name: tag for name, tag in tags.items() if tag is not None and tag not in {"", PLACEHOLDER}})


def _date_text(date_format: str, seconds: int) -> str:
    # Formatted by hand: strftime of the C library writes the year 1 as "1".
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return instant.strftime(date_format.replace("%Y", f"{instant.year:04}"))


def _is_plausible(millis: int) -> bool:
    return PLAUSIBLE[0] <= millis <= PLAUSIBLE[1]


def _millis_of_day(day: int) -> int | None:
    return day * 86_400_000 if abs(day) <= 10**8 else None


def _millis_of_text(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], bool, list[dict[str, Any]], list[dict[str, Any]]]:
    """A schema, whether it has a wide union, some events, and the expected columns of each."""
    schemas = Schemas(draw)
    optional = [name for name in TARGETS if name not in {"locationName", "quantity", "sku"}]
    present = ["locationName", "quantity", "sku", *draw(st.lists(st.sampled_from(optional), unique=True, max_size=5))]
    fields = {name: schemas.target(name) for name in present}
    others = {f"other{index}": schemas.any(3) for index in range(draw(st.integers(0, 4)))}
    everything = fields | others
    # A reference by name must come after the definition, so the order in which types were drawn is kept.
    schema = {
        "type": "record",
        "name": "Event",
        "fields": [{"name": name, "type": drawn.schema} for name, drawn in everything.items()],
    }
    events = draw(
        st.lists(
            st.fixed_dictionaries({name: drawn.values for name, drawn in everything.items()}), min_size=1, max_size=8
        )
    )
    expected = [
        {name: fields[name].item(event[name]) if name in fields else None for name in TARGETS} for event in events
    ]
    return schema, any(drawn.wide for drawn in everything.values()), events, expected


def written(schema: dict[str, Any], events: list[dict[str, Any]]) -> list[bytes]:
    parsed = fastavro.parse_schema(schema)
    values = []
    for event in events:
        stream = BytesIO(PREFIX)
        stream.seek(len(PREFIX))
        fastavro.schemaless_writer(stream, parsed, event)
        values.append(stream.getvalue())
    return values


def reader_of(schema: dict[str, Any], decode_path: Any) -> Reader:
    reader = ReaderFactory(by_name(granular=True), len(PREFIX), decode_path).reader(json.dumps(schema))
    assert not isinstance(reader, Refused), reader.detail
    return reader


def assert_rows(frame: pl.DataFrame, expected: list[dict[str, Any]]) -> None:
    assert frame.columns == list(READ_SCHEMA)
    assert frame[POSITION].to_list() == list(range(len(expected)))
    assert frame.select(list(TARGETS)).to_dicts() == expected


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_both_decode_paths_return_what_was_written(case: Any) -> None:
    schema, wide, events, expected = case
    values = written(schema, events)

    rows = reader_of(schema, "fastavro").read(values)
    columnar = reader_of(schema, "columnar")
    together = columnar.read_together(values)
    apart = columnar.read([*values, *values[:1]])

    assert isinstance(columnar, ColumnarReader) != wide
    assert together is not None
    for reading in (rows, together):
        assert not reading.bad
        assert_rows(reading.frame, expected)
    assert_rows(apart.frame, [*expected, *expected[:1]])


@pytest.mark.parametrize("decode_path", ["columnar", "fastavro"])
def test_a_type_name_is_resolved_in_the_enclosing_namespace(decode_path: Any) -> None:
    money = {"type": "record", "name": "Money", "fields": [{"name": "amount", "type": "double"}]}
    schema = {
        "type": "record",
        "name": "Event",
        "namespace": "shop.stock",
        "fields": [
            {"name": "locationName", "type": "string"},
            {"name": "sku", "type": "string"},
            {"name": "quantity", "type": "int"},
            {"name": "price", "type": money},
            {"name": "before", "type": ["null", "Money"]},
            {"name": "after", "type": ["null", "shop.stock.Money"]},
        ],
    }
    events = [
        {
            "locationName": "x",
            "sku": "s",
            "quantity": 1,
            "price": {"amount": 1.5},
            "before": {"amount": 2.0},
            "after": None,
        }
    ]
    factory = ReaderFactory(by_name({"retailPrice": "before.amount"}), len(PREFIX), decode_path)

    reader = factory.reader(json.dumps(schema))

    assert not isinstance(reader, Refused)
    assert reader.read(written(schema, events)).frame["retailPrice"].to_list() == [2.0]
