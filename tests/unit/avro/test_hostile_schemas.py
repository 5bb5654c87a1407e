"""Hostile schemas: each is read, or refused with a reason, quickly and within bounds."""

import json
import tracemalloc
from typing import Any

import pytest

from consumer.avro.columnar import ColumnarReader
from consumer.avro.readers import DecodePath, Reader, ReaderFactory, Refused
from consumer.avro.rows import RowReader
from consumer.avro.sources import RegistrySource, SchemaUnavailableError
from consumer.avro.wire import SchemaRef, confluent_prefix
from consumer.core.changes.items import RejectReason
from consumer.text import DETAIL_CHARACTERS_MAX
from tests.support.avro import TinyRegistry, by_name, value_of

pytestmark = pytest.mark.timeout(30)
"""Some of these schemas once took forever."""

SEVEN = confluent_prefix(7)
EVENT = {"locationName": "Berlin", "sku": "s", "quantity": 1}


def with_fields(**types: Any) -> dict[str, Any]:
    """A record with the required fields and these; a tuple is a type and further attributes of the field."""
    fields: dict[str, Any] = {"locationName": "string", "sku": "string", "quantity": "int", **types}
    return {"type": "record", "name": "E", "fields": [{"name": name, "type": type_} for name, type_ in fields.items()]}


def made(schema: Any, paths: dict[str, str] | None = None) -> Reader | Refused:
    return ReaderFactory(by_name(paths), len(SEVEN), "columnar").reader(json.dumps(schema))


def reader_of(schema: Any, paths: dict[str, str] | None = None) -> Reader:
    reader = made(schema, paths)
    assert not isinstance(reader, Refused), reader.detail
    return reader


def refusal(schema: Any) -> str:
    refused = made(schema)
    assert isinstance(refused, Refused)
    assert refused.reason is RejectReason.UNUSABLE_SCHEMA
    return refused.detail


def skus(reader: Reader, values: list[bytes]) -> list[str]:
    return reader.read([SEVEN + value for value in values]).frame["sku"].to_list()


def deep(kind: str, levels: int) -> Any:
    schema: Any = "int"
    for level in range(levels):
        if kind == "record":
            schema = {"type": "record", "name": f"R{level}", "fields": [{"name": "a", "type": schema}]}
        else:
            schema = {"type": kind, "items" if kind == "array" else "values": schema}
    return schema


def test_a_text_beyond_the_250th_field_once_crashed_the_decoder() -> None:
    """Samples of bytes were made of numbers up to the index of a field, and a byte has only 256 values."""
    fields = {f"f{number}": "string" for number in range(400)}
    schema = with_fields(**fields)

    reader = reader_of(schema)

    assert isinstance(reader, ColumnarReader)
    assert skus(reader, [value_of(schema, EVENT | dict.fromkeys(fields, "x"))] * 3) == ["s"] * 3


def test_an_enum_without_symbols_once_crashed_the_decoder() -> None:
    schema = with_fields(partNumber={"type": "enum", "name": "N", "symbols": []})

    assert refusal(schema) == "the enum N has no symbols"


def test_a_fixed_of_two_gigabytes_once_blocked_the_decoder_forever() -> None:
    assert "fixed of 2147483647 bytes" in refusal(with_fields(x={"type": "fixed", "name": "F", "size": 2**31 - 1}))
    many = {f"f{number}": {"type": "fixed", "name": f"F{number}", "size": 2**20 // 2} for number in range(3)}
    assert "more than 1048576 bytes together" in refusal(with_fields(**many))


def test_a_decimal_of_a_billion_digits_once_blocked_the_decoder_forever() -> None:
    digits = {"logicalType": "decimal", "precision": 10**9, "scale": 10**9}

    assert "bytes, which cannot become quantity" in refusal(with_fields(quantity={"type": "bytes", **digits}))
    assert skus(reader_of(with_fields(x={"type": "bytes", **digits})), [b"\x02x\x02s\x02\x02\x01"]) == ["s"]


def test_arrays_in_records_in_arrays_once_had_endless_samples() -> None:
    schema: Any = "int"
    for level in range(31):
        fields = [{"name": "a", "type": "int"}, {"name": "b", "type": "int"}, {"name": "x", "type": schema}]
        schema = {"type": "array", "items": {"type": "record", "name": f"R{level}", "fields": fields}}

    assert skus(reader_of(with_fields(x=schema)), [b"\x02x\x02s\x02\x00"]) == ["s"]


def test_names_that_are_not_valid_text_once_crashed_the_decoder() -> None:
    symbols = {"type": "enum", "name": "N", "symbols": ["\ud800"]}

    assert "as symbol of N, which is not valid Unicode" in refusal(with_fields(partNumber=symbols))
    assert "as field of E, which is not valid Unicode" in refusal(with_fields(**{"a\udfffb": "int"}))


def test_fields_of_zero_bytes_take_no_time_however_many_an_array_has() -> None:
    nothing = [
        {"name": f"n{number}", "type": {"type": "fixed", "name": f"F{number}", "size": 0}} for number in range(9_000)
    ]
    item = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, *nothing]}
    value = b"\x02x\x02s\x02" + b"\x80\x89\x7a" + b"\x00" * 1_000_000 + b"\x00"

    decode_paths: tuple[DecodePath, ...] = ("columnar", "fastavro")
    for decode_path in decode_paths:
        reader = ReaderFactory(by_name(), len(SEVEN), decode_path).reader(
            json.dumps(with_fields(x={"type": "array", "items": item}))
        )
        assert not isinstance(reader, Refused)
        assert skus(reader, [value]) == ["s"]


def test_the_number_of_columns_that_one_null_fills_is_bounded() -> None:
    """polars fills all columns of a wide record for every null, so such schemas are read by fastavro."""
    wide = {"type": "record", "name": "W", "fields": [{"name": f"f{number}", "type": "long"} for number in range(500)]}
    lots = {"type": "array", "items": ["null", wide]}
    item = {
        "type": "record",
        "name": "I",
        "fields": [{"name": "sku", "type": "string"}, {"name": "lots", "type": lots}],
    }
    schema = with_fields(item=item, sku="string")

    assert isinstance(reader_of(schema), ColumnarReader)
    reader = reader_of(schema, {"sku": "item.sku"})
    assert isinstance(reader, RowReader)
    value = b"\x02x\x02o\x02" + b"\x02s" + b"\xc0\x9a\x0c" + b"\x00" * 100_000 + b"\x00"
    tracemalloc.start()
    try:
        assert skus(reader, [value] * 5) == ["s"] * 5
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_reading_row_by_row_once_kept_all_records_of_a_batch_in_memory() -> None:
    schema = with_fields(x=["null", "int", "string"], payload={"type": "map", "values": "int"})
    reader = reader_of(schema)
    assert isinstance(reader, RowReader)
    value = b"\x02x\x02s\x02\x00" + b"\xa0\x9c\x01" + b"\x00\x00" * 10_000 + b"\x00"

    tracemalloc.start()
    try:
        assert skus(reader, [value] * 20) == ["s"] * 20
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000, "one message's 10,000 entries take about 3 MB, twenty messages' sixty"


BEGINNING = b"\x02x\x02s\x02"
"""The beginning of every value here: location, SKU and quantity."""

STRANGE: list[tuple[str, dict[str, Any], bytes]] = [
    ("the guard's own name", {"end marker": "string"}, b"\x02y"),
    ("names that are none", {"my-field": "int", "größe": "int", "": "int"}, b"\x02\x02\x02"),
    ("10,000 fields", {f"f{number}": "long" for number in range(9_900)}, b"\x00" * 9_900),
    ("a huge enum", {"x": {"type": "enum", "name": "N", "symbols": [f"S{n}" for n in range(200_000)]}}, b"\x02"),
    ("60 arrays in one another", {"x": deep("array", 60)}, b"\x00"),
    ("30 maps in one another", {"x": deep("map", 30)}, b"\x00"),
    ("60 records in one another", {"x": deep("record", 60)}, b"\x02"),
    ("an empty record", {"x": {"type": "record", "name": "R", "fields": []}}, b""),
    ("null twice", {"x": ["null", "null"]}, b"\x02"),
    ("a branch twice", {"x": ["string", "string"]}, b"\x02\x02y"),
    ("3,000 branches", {"x": [{"type": "fixed", "name": f"F{n}", "size": 1} for n in range(3_000)]}, b"\x04y"),
]


@pytest.mark.parametrize(("fields", "rest"), [pytest.param(*case, id=name) for name, *case in STRANGE])
def test_an_unusual_schema_is_read(fields: dict[str, Any], rest: bytes) -> None:
    value = BEGINNING + rest

    assert skus(reader_of(with_fields(**fields)), [value, value[:-2], value, value + b"\x00"]) == ["s", "s"]


def test_a_default_of_the_wrong_type_is_ignored() -> None:
    schema = with_fields()
    schema["fields"].append({"name": "floor", "type": ["null", "int"], "default": {"no": "int"}})
    schema["fields"].append({"name": "x", "type": "int", "default": "y"})

    reading = reader_of(schema).read([SEVEN + b"\x02x\x02s\x02\x02\x06\x08"])

    assert reading.frame["floor"].to_list() == [3]


def test_a_union_without_branches_has_no_values() -> None:
    (bad,) = reader_of(with_fields(x=[])).read([SEVEN + b"\x02x\x02s\x02\x00"]).bad

    assert bad.reason is RejectReason.CORRUPT


def test_the_reason_of_a_refused_schema_is_one_printable_line_whatever_its_names() -> None:
    name = "a\n\x1b[31m" * 100_000
    detail = refusal(with_fields(x={"type": "enum", "name": name, "symbols": []}))

    assert len(detail) <= DETAIL_CHARACTERS_MAX
    assert detail.isprintable()


ANSWERS: list[Any] = [
    {"schema": 5},
    {"schema": None},
    {"schema": ["a"]},
    {"schema": "{}", "schemaType": 5},
    {"schema": "{}", "schemaType": ["AVRO"]},
    {"schema": "{}", "schemaType": "X\n" * 100_000},
    {"schema": "{}", "references": 5},
    {"schema": "{}", "references": [5]},
    {"schema": "{}", "references": [{}]},
    {"schema": "{}", "references": [{"name": "a", "subject": ["s"], "version": 1}]},
    {"schema": "{}", "references": [{"name": "a", "subject": "../../x?y#z", "version": -1}]},
    {"schema": "{}", "references": [{"name": "a", "subject": "s", "version": "latest"}]},
    {"schema": "{}", "references": [{"name": "a", "subject": "s", "version": 1e400}]},
    {"schema": "{}", "metadata": 5},
    5,
    None,
    [],
    "schema",
]


@pytest.mark.parametrize("answer", [*map(json.dumps, ANSWERS), "[" * 100_000, '{"schema":' * 900, "\x00"])
def test_a_registry_that_answers_nonsense_once_crashed_the_decoder(registry: TinyRegistry, answer: str) -> None:
    """Now the schema is refused, or decoding waits for the registry to work."""
    registry.answer_always = (200, answer.encode())
    source = RegistrySource(registry.url, {}, ReaderFactory(by_name(), len(SEVEN), "columnar"))
    try:
        found = source.reader(SchemaRef("id", 7))
    except SchemaUnavailableError:
        return
    finally:
        source.close()
    assert isinstance(found, Refused)
    assert len(found.detail) <= DETAIL_CHARACTERS_MAX
    assert found.detail.isprintable()
