import json
import math
import re
from decimal import Decimal
from typing import Any

import pytest

from consumer.avro.columnar import ColumnarReader
from consumer.avro.readers import ReaderFactory, Refused
from consumer.avro.reading import POSITION
from consumer.avro.rows import RowReader
from consumer.core.changes.items import RejectReason
from tests.support.avro import by_name, value_of

DECODE_PATHS = pytest.mark.parametrize("decode_path", ["columnar", "fastavro"])
NEEDED = {"locationName": "string", "sku": "string", "quantity": "int"}
VALUES = {"locationName": "Berlin", "sku": "s", "quantity": 1}


def event_schema(**types: Any) -> dict[str, Any]:
    """A record with the required fields and these; None removes a field."""
    fields = {name: type_ for name, type_ in (NEEDED | types).items() if type_ is not None}
    return {"type": "record", "name": "Event", "fields": [{"name": name, "type": t} for name, t in fields.items()]}


def reader_of(schema: Any, decode_path: Any, paths: dict[str, str] | None = None) -> Any:
    reader = ReaderFactory(by_name(paths), 0, decode_path).reader(json.dumps(schema))
    assert not isinstance(reader, Refused), reader.detail
    return reader


ENUM = {"type": "enum", "name": "Site", "symbols": ["ROME", "PARIS"]}


@DECODE_PATHS
@pytest.mark.parametrize(
    ("name", "schema", "written", "read"),
    [
        pytest.param("quantity", "int", 2**31 - 1, 2**31 - 1, id="int"),
        pytest.param("quantity", "long", 2**40, 2**40, id="long"),
        pytest.param("binID", ["null", "int"], 5, 5, id="nullable int"),
        pytest.param("binID", ["null", "int"], None, None, id="null"),
        pytest.param("binID", ["null", "int", "long"], 5, 5, id="union of integers"),
        pytest.param("binID", "null", None, None, id="null alone"),
        pytest.param("retailPrice", "double", 9.99, 9.99, id="double"),
        pytest.param("retailPrice", "float", 0.5, 0.5, id="float"),
        pytest.param("retailPrice", "int", 3, 3.0, id="number from int"),
        pytest.param("retailPrice", ["null", "long", "double"], 3, 3.0, id="union of numbers"),
        pytest.param(
            "retailPrice",
            {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
            Decimal("19.99"),
            19.99,
            id="decimal of bytes",
        ),
        pytest.param(
            "ltd",
            ["null", {"type": "fixed", "name": "F", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 3}],
            Decimal("-0.125"),
            -0.125,
            id="decimal of a fixed",
        ),
        pytest.param(
            "ltd",
            {"type": "fixed", "name": "F", "size": 20, "logicalType": "decimal", "precision": 40, "scale": 1},
            Decimal("0.5"),
            0.5,
            id="decimal wider than polars has",
        ),
        pytest.param("locationName", ENUM, "PARIS", "PARIS", id="enum"),
        pytest.param("locationName", ["null", ENUM], None, None, id="nullable enum"),
        pytest.param("sku", {"type": "string", "logicalType": "uuid"}, "5f0c", "5f0c", id="uuid"),
        pytest.param("sku", ["string"], "x", "x", id="union of one"),
        pytest.param("attributes", {"type": "array", "items": "string"}, ["a", ""], ["a", ""], id="texts"),
        pytest.param("attributes", ["null", {"type": "array", "items": "string"}], None, None, id="null texts"),
        pytest.param(
            "attributes", {"type": "array", "items": ["string", "null"]}, ["a", None], ["a", None], id="null in texts"
        ),
        pytest.param("occurredAt", "long", 1_700_000_000_123, 1_700_000_000_123, id="long of milliseconds"),
        pytest.param("occurredAt", {"type": "long", "logicalType": "timestamp-millis"}, 123, 123, id="milliseconds"),
        pytest.param(
            "occurredAt", {"type": "long", "logicalType": "timestamp-micros"}, 123_999, 123, id="microseconds"
        ),
        pytest.param("occurredAt", {"type": "long", "logicalType": "timestamp-nanos"}, 5_999_999, 5, id="nanoseconds"),
    ],
)
def test_every_type_that_can_be_converted_is_read(
    name: str, schema: Any, written: Any, read: Any, decode_path: Any
) -> None:
    writer = event_schema(**{name: schema})
    value = value_of(_without_times(writer), VALUES | {name: written})

    reading = reader_of(writer, decode_path).read([value, value])

    assert list(reading.bad) == []
    assert reading.frame[name].to_list() == [read, read]
    assert reading.frame[POSITION].to_list() == [0, 1]


def _without_times(schema: Any) -> Any:
    """The schema with which fastavro writes numbers as times."""
    return json.loads(re.sub('"logicalType": "(timestamp|local|date|time)', '"logicalType": "no', json.dumps(schema)))


@pytest.mark.parametrize(
    ("types", "detail"),
    [
        pytest.param(
            {"locationName": None},
            "the schema has no field locationName (events.fields.locationName is needed)",
            id="no location",
        ),
        pytest.param(
            {"quantity": None}, "the schema has no field quantity (events.fields.quantity is needed)", id="no quantity"
        ),
        pytest.param(
            {"quantity": "null"}, "the schema has no field quantity (events.fields.quantity is needed)", id="only null"
        ),
        pytest.param(
            {"sku": None},
            "the schema has none of the fields partNumber, upc, sku (events.fields needs one of them)",
            id="no identifier",
        ),
        pytest.param(
            {"quantity": "boolean"},
            "the field quantity is boolean, which cannot become quantity (events.fields.quantity)",
            id="no number",
        ),
        pytest.param(
            {"binID": ["null", "int", "boolean"]},
            "the field binID is int or boolean, which cannot become binID (events.fields.binID)",
            id="part of the item key",
        ),
        pytest.param(
            {"sku": "bytes"}, "the field sku is bytes, which cannot become sku (events.fields.sku)", id="bytes"
        ),
        pytest.param(
            {"sku": "double"}, "the field sku is double, which cannot become sku (events.fields.sku)", id="fractions"
        ),
        pytest.param(
            {"quantity": {"type": "bytes", "logicalType": "decimal"}},
            "the field quantity is bytes, which cannot become quantity (events.fields.quantity)",
            id="decimal without precision",
        ),
    ],
)
def test_a_schema_without_a_required_field_or_with_a_wrong_type_is_unusable(types: dict[str, Any], detail: str) -> None:
    refused = ReaderFactory(by_name(), 0, "columnar").reader(json.dumps(event_schema(**types)))

    assert refused == Refused(RejectReason.UNUSABLE_SCHEMA, detail)


@DECODE_PATHS
@pytest.mark.parametrize(
    ("name", "schema", "written"),
    [
        pytest.param("attributes", {"type": "map", "values": "string"}, {"a": "b"}, id="map"),
        pytest.param("attributes", {"type": "array", "items": "int"}, [1], id="array of int"),
        pytest.param("floor", "boolean", True, id="no number"),
        pytest.param("retailPrice", {"type": "record", "name": "P", "fields": []}, {}, id="record"),
        pytest.param("occurredAt", {"type": "int", "logicalType": "time-millis"}, 5, id="time of day"),
        pytest.param(
            "occurredAt",
            {"type": "long", "connect.name": "io.debezium.time.MicroTime"},
            5,
            id="Debezium time",
        ),
        pytest.param(
            "occurredAt",
            {"type": "long", "logicalType": "timestamp-micros", "connect.name": "io.debezium.time.Timestamp"},
            1_700_000_000_000,
            id="two units",
        ),
        pytest.param("occurredAt", {"type": "long", "logicalType": "ticks"}, 5, id="unit that nobody knows"),
    ],
)
def test_an_optional_field_whose_type_does_not_fit_costs_the_field_and_not_the_event(
    name: str, schema: Any, written: Any, decode_path: Any
) -> None:
    writer = event_schema(**{name: schema})
    value = value_of(_without_times(writer), VALUES | {name: written})

    reading = reader_of(writer, decode_path).read([value, value])

    assert reading.frame.select("sku", name).rows() == [("s", None), ("s", None)]
    assert reading.ignored == {name: 2}


@pytest.mark.parametrize(
    ("schema", "kind"), [("string", "string"), (["int"], "int"), ({"type": "map", "values": "int"}, "map")]
)
def test_a_schema_of_anything_but_records_is_unusable(schema: Any, kind: str) -> None:
    reader = ReaderFactory(by_name(), 0, "columnar").reader(json.dumps(schema))
    refusal = reader if isinstance(reader, Refused) else reader.read([b"\x00\x02"]).bad[0]

    assert refusal.detail == f"the schema is a {kind}, not a record"


def test_a_path_through_a_field_that_is_not_a_record_makes_the_schema_unusable() -> None:
    refused = ReaderFactory(by_name({"sku": "locationName.sku"}), 0, "columnar").reader(json.dumps(event_schema()))

    assert isinstance(refused, Refused)
    assert refused.detail == ("the field locationName is string, not a record with the field sku (events.fields.sku)")


@DECODE_PATHS
def test_a_missing_field_becomes_null(decode_path: Any) -> None:
    reader = reader_of(event_schema(), decode_path, {"upc": "no.such.field", "occurredAt": "never"})

    frame = reader.read([value_of(event_schema(), VALUES)]).frame

    assert frame.select("upc", "occurredAt").row(0) == (None, None)


@DECODE_PATHS
def test_a_path_is_followed_in_every_record_of_a_wide_union(decode_path: Any) -> None:
    branches = [
        "null",
        {"type": "record", "name": "A", "fields": [{"name": "code", "type": "string"}]},
        {"type": "record", "name": "B", "fields": [{"name": "other", "type": "int"}]},
    ]
    writer = event_schema(item=branches)
    values = [value_of(writer, VALUES | {"item": item}) for item in ({"code": "c"}, {"other": 1}, None)]

    frame = reader_of(writer, decode_path, {"upc": "item.code"}).read(values).frame

    assert frame["upc"].to_list() == ["c", None, None]


@DECODE_PATHS
def test_an_int_beyond_32_bits_is_out_of_range_and_the_other_messages_are_kept(decode_path: Any) -> None:
    written = event_schema(quantity="long", binID=["null", "long"])
    values = [
        value_of(written, VALUES | changed | {"binID": bin_id})
        for changed, bin_id in (({}, 1), ({"quantity": 2**31}, 1), ({}, -(2**31) - 1), ({"quantity": -(2**31)}, None))
    ]

    reading = reader_of(event_schema(quantity="int", binID=["null", "int"]), decode_path).read(values)

    assert reading.frame[POSITION].to_list() == [0, 3]
    assert [(bad.position, bad.reason) for bad in reading.bad] == [
        (1, RejectReason.INTEGER_OUT_OF_RANGE),
        (2, RejectReason.INTEGER_OUT_OF_RANGE),
    ]
    assert reading.bad[0].detail == "quantity is 2147483648, not from -2147483648 to 2147483647"


@DECODE_PATHS
@pytest.mark.parametrize("number", [-1, 2, 2**40])
def test_a_number_without_a_symbol_in_its_enum_is_corrupt(number: int, decode_path: Any) -> None:
    values = [
        value_of(event_schema(locationName="long"), VALUES | {"locationName": symbol}) for symbol in (0, number, 1)
    ]

    reading = reader_of(event_schema(locationName=ENUM), decode_path).read(values)

    assert reading.frame["locationName"].to_list() == ["ROME", "PARIS"]
    assert [(bad.position, bad.reason) for bad in reading.bad] == [(1, RejectReason.CORRUPT)]


def test_a_decimal_beyond_floats_becomes_infinity_which_the_rules_reject() -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 400, "scale": 0}
    value = value_of(event_schema(ltd="bytes"), VALUES | {"ltd": b"\x7f" + b"\xff" * 200})

    reading = reader_of(event_schema(ltd=decimal), "columnar").read([value])

    assert reading.frame["ltd"].to_list() == [math.inf]


@pytest.mark.parametrize(
    ("types", "reader"),
    [
        pytest.param({}, ColumnarReader, id="plain"),
        pytest.param(
            {"other": {"type": "map", "values": {"type": "map", "values": "null"}}}, ColumnarReader, id="maps"
        ),
        pytest.param({"other": ["null", ENUM]}, ColumnarReader, id="nullable enum"),
        pytest.param({"other": ["null", "int", "string"]}, RowReader, id="a wide union"),
    ],
)
def test_columnar_decoding_is_used_where_possible(types: dict[str, Any], reader: type) -> None:
    assert isinstance(reader_of(event_schema(**types), "columnar"), reader)


@DECODE_PATHS
def test_fields_that_no_column_needs_are_skipped_unchecked(decode_path: Any) -> None:
    value = value_of(event_schema(note="bytes", kind="long"), VALUES | {"note": b"\xff\xfe", "kind": 9})

    reading = reader_of(event_schema(note="string", kind=ENUM), decode_path).read([value])

    assert len(reading.frame) == 1
