"""For histories of an event's schema, messages are read as by Avro's own schema resolution.

Messages are decoded with their writer's schema. The columns do what a reader's schema would do (fill in defaults, widen
numbers, follow aliases, skip fields), so fastavro with both schemas gives the expected result.
"""

import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.avro.batches import BatchDecoder
from consumer.avro.leaves import TARGETS
from consumer.avro.readers import DecodePath, Reader, ReaderFactory, Refused
from consumer.avro.wire import CONFLUENT, SchemaRef, confluent_prefix
from consumer.core.changes.items import OFFSET, RejectReason
from tests.support.avro import by_name, raw_batch

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5).map(lambda text: text.rstrip(" ") or "x")
INTS = st.integers(1, 2**31 - 1)
LONGS = st.integers(1, 2**53 - 1)
FLOATS = st.integers(-400_000, 400_000).map(lambda quarters: quarters / 4)
"""Floats that are their own shortest decimals: others become another double than by Avro's resolution."""
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
SYMBOLS = ["ROME", "PARIS", "OSLO"]

PROMOTIONS: dict[str, list[tuple[Any, st.SearchStrategy[Any]]]] = {
    "quantity": [("int", INTS), ("long", LONGS)],
    "floor": [("int", INTS), ("long", LONGS)],
    "retailPrice": [("int", INTS), ("long", st.integers(0, 2**53)), ("float", FLOATS), ("double", DOUBLES)],
}
"""Types of a number, narrowest first: Avro lets a reader widen all of them to the last."""
NEEDED = ("locationName", "sku", "quantity")
OLD_NAMES = {"locationName": "site", "sku": "article", "quantity": "onHand", "retailPrice": "price"}


@dataclass
class Version:
    """A writer's schema, and values that it wrote."""

    schema: dict[str, Any]
    events: list[dict[str, Any]]


@st.composite
def versions(draw: st.DrawFn) -> Version:
    """One version of the event: its fields in any order, some of them missing, some renamed with an alias."""
    optional = draw(
        st.lists(st.sampled_from(["floor", "retailPrice", "partNumber", "attributes", "binID"]), unique=True)
    )
    fields: list[dict[str, Any]] = []
    values: dict[str, st.SearchStrategy[Any]] = {}
    for name in draw(st.permutations([*NEEDED, *optional, "unknown"])):
        written, strategy = draw(st.sampled_from(_types(name)))
        if name not in NEEDED and draw(st.booleans()):
            written, strategy = draw(st.sampled_from([["null", written], [written, "null"]])), st.none() | strategy
        field: dict[str, Any] = {"name": name, "type": written}
        if name in OLD_NAMES and draw(st.booleans()):
            field = {"name": OLD_NAMES[name] + "New", "type": written, "aliases": ["other", name]}
        fields.append(field)
        values[field["name"]] = strategy
    events = draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=4))
    return Version({"type": "record", "name": "Event", "fields": fields}, events)


def _types(name: str) -> list[tuple[Any, st.SearchStrategy[Any]]]:
    if name in PROMOTIONS:
        return PROMOTIONS[name]
    if name == "binID":
        return PROMOTIONS["quantity"]
    if name == "attributes":
        return [({"type": "array", "items": "string"}, st.lists(TEXTS, max_size=3))]
    if name == "unknown":
        by_text: Any = {"type": "map", "values": "long"}
        return [("bytes", st.binary(max_size=3)), (by_text, st.dictionaries(TEXTS, LONGS, max_size=2))]
    if name == "locationName":
        return [("string", TEXTS), ({"type": "enum", "name": "Site", "symbols": SYMBOLS}, st.sampled_from(SYMBOLS))]
    return [("string", TEXTS)]


def reader_schema(version: Version) -> dict[str, Any]:
    """A reader's schema of all the targets, for Avro's own resolution: wide types, null for missing fields.

    A name that the writer has given up stands in it as Avro wants it: under the new name, with the old as alias.
    """
    wide = {"floor": "long", "binID": "long", "quantity": "long", "retailPrice": "double"}
    fields = []
    for name in (*NEEDED, "floor", "retailPrice", "partNumber", "attributes", "binID"):
        called = [field for field in version.schema["fields"] if name in {field["name"], *field.get("aliases", ())}]
        written = called[0] if called else None
        target: Any = {"type": "array", "items": "string"} if name == "attributes" else wide.get(name, "string")
        if written is not None and isinstance(written["type"], dict) and written["type"]["type"] == "enum":
            target = written["type"]
        field: dict[str, Any] = {"name": name, "type": ["null", target], "default": None}
        if written is not None and written["name"] != name:
            field["aliases"] = [written["name"]]
        fields.append(field)
    return {"type": "record", "name": "Event", "fields": fields}


class Source:
    """A ``SchemaSource`` of these versions, by index."""

    def __init__(self, versions: list[Version], decode_path: DecodePath) -> None:
        factory = ReaderFactory(by_name(), CONFLUENT.length, decode_path)
        self._readers = {SchemaRef("id", n + 1): factory.reader(json.dumps(v.schema)) for n, v in enumerate(versions)}

    def begin(self) -> None:
        """Nothing is asked for."""

    def reader(self, ref: SchemaRef, *, must_ask: bool = False) -> Reader | Refused:
        return self._readers[ref]

    def close(self) -> None:
        """Nothing to close."""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(versions(), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_messages_of_all_versions_are_read_as_by_avros_schema_resolution(history: list[Version], random: Any) -> None:
    messages: list[tuple[bytes, dict[str, Any]]] = []
    for number, version in enumerate(history):
        writer = fastavro.parse_schema(version.schema)
        reader = fastavro.parse_schema(reader_schema(version))
        for event in version.events:
            body = BytesIO()
            fastavro.schemaless_writer(body, writer, event)
            body.seek(0)
            resolved = fastavro.schemaless_reader(body, writer, reader)
            assert isinstance(resolved, dict)
            messages.append((confluent_prefix(number + 1) + body.getvalue(), resolved))
    random.shuffle(messages)

    decode_paths: tuple[DecodePath, ...] = ("columnar", "fastavro")
    for decode_path in decode_paths:
        decoded = BatchDecoder(CONFLUENT, Source(history, decode_path)).decode(
            [raw_batch([value for value, _ in messages])]
        )

        assert not decoded.rejects
        columns = [name for name in messages[0][1] if name in TARGETS]
        assert decoded.frame.sort(OFFSET).select(columns).to_dicts() == [
            {name: resolved[name] for name in columns} for _, resolved in messages
        ]


def read(schema: dict[str, Any], paths: dict[str, str], *events: dict[str, Any]) -> pl.DataFrame:
    reader = ReaderFactory(by_name(paths), 0, "columnar").reader(json.dumps(schema))
    assert not isinstance(reader, Refused), reader.detail
    parsed = fastavro.parse_schema(schema)
    values = []
    for event in events:
        body = BytesIO()
        fastavro.schemaless_writer(body, parsed, event)
        values.append(body.getvalue())
    return reader.read(values).frame


def event(**types: Any) -> dict[str, Any]:
    fields = [{"name": name, "type": type_} for name, type_ in types.items()]
    return {"type": "record", "name": "Event", "fields": fields}


def test_a_setting_with_several_paths_reads_events_from_before_and_after_a_move() -> None:
    paths = {"sku": "item.sku, article, item"}
    needed = {"locationName": "string", "quantity": "int"}
    item = {"type": "record", "name": "Item", "fields": [{"name": "sku", "type": "string"}]}
    values = {"locationName": "Rome", "quantity": 1}

    assert read(event(**needed, article="string"), paths, values | {"article": "a"})["sku"].to_list() == ["a"]
    assert read(event(**needed, item=item), paths, values | {"item": {"sku": "b"}})["sku"].to_list() == ["b"]
    assert read(event(**needed, item="string"), paths, values | {"item": "c"})["sku"].to_list() == ["c"]


def test_a_fields_name_takes_precedence_over_an_alias_of_another() -> None:
    schema = event(locationName="string", quantity="int", sku="string")
    schema["fields"].insert(0, {"name": "article", "type": "string", "aliases": ["sku"]})

    frame = read(schema, {}, {"article": "old", "locationName": "Rome", "quantity": 1, "sku": "new"})

    assert frame["sku"].to_list() == ["new"]


def test_an_alias_is_followed_inside_a_nested_record() -> None:
    item = {"type": "record", "name": "Item", "fields": [{"name": "code", "type": "string", "aliases": ["sku"]}]}
    schema = event(locationName="string", quantity="int", item=["null", item])

    frame = read(schema, {"sku": "item.sku"}, {"locationName": "Rome", "quantity": 1, "item": {"code": "x"}})

    assert frame["sku"].to_list() == ["x"]


@pytest.mark.parametrize("aliases", [5, None, "sku", [5, None], {"sku": 1}])
def test_aliases_that_are_not_a_list_of_names_are_ignored(aliases: Any) -> None:
    schema = event(locationName="string", quantity="int", partNumber="string")
    schema["fields"].append({"name": "code", "type": "string", "aliases": aliases})
    reader = ReaderFactory(by_name(), 0, "columnar").reader(json.dumps(schema))

    assert not isinstance(reader, Refused)
    assert reader.read([b"\x02x\x02\x02p\x02c"]).frame.row(0, named=True)["sku"] is None


@pytest.mark.parametrize(
    ("types", "says"),
    [
        (
            {"quantity": "boolean"},
            "the field quantity is boolean, which cannot become quantity",
        ),
        ({"sku": "bytes"}, "the field sku is bytes, which cannot become sku"),
        (
            {"sku": ["null", "string", "double"]},
            "the field sku is string or double, which cannot become sku",
        ),
    ],
)
def test_an_incompatible_change_of_a_field_makes_the_schema_unusable_and_names_the_field(
    types: dict[str, Any], says: str
) -> None:
    schema = event(**({"locationName": "string", "quantity": "int", "sku": "string"} | types))
    refused = ReaderFactory(by_name(), 0, "columnar").reader(json.dumps(schema))

    assert refused == Refused(RejectReason.UNUSABLE_SCHEMA, f"{says} (events.fields.{next(iter(types))})")
