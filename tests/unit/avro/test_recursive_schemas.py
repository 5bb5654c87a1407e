"""Schemas with types that contain themselves: read if no column needs them, and within bounds."""

import json
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.avro.columnar import ColumnarReader
from consumer.avro.readers import DecodePath, Reader, ReaderFactory, Refused
from consumer.avro.recursion import LEVELS_MAX
from consumer.core.changes.items import RejectReason
from tests.support.avro import EVENT, by_name, value_of

NODE: dict[str, Any] = {
    "type": "record",
    "name": "Node",
    "fields": [
        {"name": "label", "type": "string"},
        {"name": "weight", "type": ["null", "double", {"type": "enum", "name": "Size", "symbols": ["S", "L"]}]},
        {"name": "children", "type": {"type": "array", "items": "Node"}},
        {"name": "related", "type": {"type": "map", "values": ["null", "Node"]}},
    ],
}
NEEDED = [
    {"name": "locationName", "type": "string"},
    {"name": "sku", "type": ["null", "string"]},
    {"name": "quantity", "type": "int"},
]


def schema_with(*more: dict[str, Any]) -> dict[str, Any]:
    """An event in which recursive fields stand between those that are read."""
    first, *others = NEEDED
    return {"type": "record", "name": "Event", "fields": [first, *more, *others]}


TREE = schema_with({"name": "category", "type": NODE})


def reader_of(schema: Any, paths: dict[str, str] | None = None, decode_path: DecodePath = "columnar") -> Reader:
    reader = ReaderFactory(by_name(paths), 0, decode_path).reader(json.dumps(schema))
    assert not isinstance(reader, Refused), reader.detail
    return reader


def node(label: str = "x", children: Any = (), **related: Any) -> dict[str, Any]:
    return {"label": label, "weight": None, "children": list(children), "related": related}


def chain(levels: int) -> dict[str, Any]:
    found = node()
    for _ in range(levels - 1):
        found = node(children=[found])
    return found


nodes = st.recursive(
    st.builds(node, st.text(max_size=5)),
    lambda inner: st.builds(
        lambda label, children, related, weight: node(label, children, **related) | {"weight": weight},
        st.text(max_size=5),
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "b"]), st.none() | inner, max_size=2),
        st.none() | st.just("L") | st.floats(allow_nan=False),
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(st.lists(nodes, min_size=1, max_size=5))
def test_what_is_read_does_not_depend_on_the_recursive_field(trees: list[dict[str, Any]]) -> None:
    values = [value_of(TREE, EVENT | {"sku": f"s{at}", "category": tree}) for at, tree in enumerate(trees)]

    decode_paths: tuple[DecodePath, ...] = ("columnar", "fastavro")
    for decode_path in decode_paths:
        result = reader_of(TREE, decode_path=decode_path).read(values)
        assert result.frame["sku"].to_list() == [f"s{at}" for at in range(len(trees))]
        assert result.bad == ()


def test_what_is_left_is_still_read_by_columns() -> None:
    reader: Any = reader_of(TREE)

    assert isinstance(reader._reader, ColumnarReader)
    assert reader.read_together([value_of(TREE, EVENT | {"category": chain(3)})]).frame["quantity"].to_list() == [5]


def test_a_recursive_field_next_to_one_that_is_read_is_cut_inside_its_record() -> None:
    item = {"type": "record", "name": "Item", "fields": [
        {"name": "parts", "type": {"type": "array", "items": "Item"}},
        {"name": "code", "type": "string"},
    ]}  # fmt: skip
    schema = schema_with({"name": "item", "type": ["null", item]})
    values = [
        value_of(schema, EVENT | {"sku": None, "item": {"parts": [{"parts": [], "code": "b"}], "code": "a"}}),
        value_of(schema, EVENT | {"sku": None, "item": None}),
    ]

    frame = reader_of(schema, {"sku": "item.code"}).read(values).frame

    assert frame["sku"].to_list() == ["a", None]


def test_an_array_that_is_kept_may_be_written_in_blocks_with_their_sizes() -> None:
    leaf = {"type": "record", "name": "Note", "fields": [
        {"name": "text", "type": "string"},
        {"name": "replies", "type": {"type": "array", "items": "Note"}},
    ]}  # fmt: skip
    line = {"type": "record", "name": "Line", "fields": [{"name": "n", "type": "int"}, {"name": "note", "type": leaf}]}
    lines = {"type": "array", "items": line}
    schema = schema_with({"name": "all", "type": {"type": "record", "name": "All", "fields": [
        {"name": "code", "type": "string"}, {"name": "lines", "type": lines},
    ]}})  # fmt: skip
    body = b"\x02\x02a\x00"  # a line: 1, the text "a", no replies
    block = b"\x03" + bytes([2 * len(2 * body)]) + 2 * body + b"\x00"  # two items, and their size
    value = b"\x02x" + b"\x02c" + block + b"\x02\x02s" + b"\x0a"

    assert reader_of(schema, {"upc": "all.code"}).read([value]).frame.select("sku", "upc", "quantity").rows() == [
        ("s", "c", 5)
    ]


def test_a_field_that_is_read_and_contains_itself_refuses_the_schema_by_name() -> None:
    schema = schema_with({"name": "parent", "type": ["null", "Event"]})

    refused = ReaderFactory(by_name({"upc": "parent.sku"}), 0, "columnar").reader(json.dumps(schema))

    assert isinstance(refused, Refused)
    assert (
        refused.detail
        == "the field parent is Event, which contains itself, not a record with the field sku (events.fields.upc)"
    )


def test_nesting_that_would_crash_the_decoder_is_rejected() -> None:
    """fastavro recurses as deep as the bytes say: 5,000 levels end the process."""
    deep = b"\x02x" + 100_000 * b"\x00\x00\x02" + b"\x00\x00\x00\x00"
    values = [
        value_of(TREE, EVENT | {"category": chain(LEVELS_MAX)}),
        value_of(TREE, EVENT | {"category": chain(LEVELS_MAX + 2)}),
        deep,
    ]

    result = reader_of(TREE).read(values)

    assert result.frame["sku"].to_list() == ["s1"]
    assert [(bad.position, bad.reason) for bad in result.bad] == [(1, RejectReason.CORRUPT), (2, RejectReason.CORRUPT)]
    assert "nests deeper than" in result.bad[0].detail


def written(event: dict[str, Any]) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(TREE), event)
    return stream.getvalue()


@pytest.mark.parametrize("cut_to", range(1, 26))
def test_a_truncated_message_is_corrupt_and_its_neighbours_are_read(cut_to: int) -> None:
    good = written(EVENT | {"category": chain(4)})

    result = reader_of(TREE).read([good, good[:-cut_to], good])

    assert result.frame["sku"].to_list() == ["s1", "s1"]
    assert [(bad.position, bad.reason) for bad in result.bad] == [(1, RejectReason.CORRUPT)]
