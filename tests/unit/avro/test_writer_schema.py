import json
from typing import Any

import pytest

from consumer.avro.writer_schema import UnusableSchemaError, parse


def record(*types: Any, **more: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "E",
        "fields": [{"name": f"f{i}", "type": t} for i, t in enumerate(types)],
        **more,
    }


def nested(depth: int) -> Any:
    schema: Any = "int"
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def doubling(levels: int) -> dict[str, Any]:
    """A record with few defined types, which are 2**levels types when written out."""
    inner: Any = record("int", name="R0")
    for level in range(1, levels):
        inner = record(inner, f"R{level - 1}", name=f"R{level}")
    return dict(inner)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        pytest.param(5, "5 in place of a type", id="a number"),
        pytest.param({"name": "E"}, "in place of a type", id="no type"),
        pytest.param({"type": "record", "fields": []}, "without 'name'", id="no name"),
        pytest.param({"type": "record", "name": "E"}, "without 'fields'", id="no fields"),
        pytest.param({"type": "record", "name": 5, "fields": []}, "5 as name", id="a number as name"),
        pytest.param({"type": "record", "name": "E", "fields": [5]}, "not a list of fields", id="a number as field"),
        pytest.param(
            {"type": "record", "name": "E", "fields": [{"name": "a", "type": "int"}] * 2},
            "field of E twice",
            id="a field twice",
        ),
        pytest.param(record("Nowhere"), "the type Nowhere, which it does not define", id="an unknown type"),
        pytest.param(record(record("int")), "defines the type E inside itself", id="a type defined in itself"),
        pytest.param(
            record(record("int", name="F"), record("long", name="F")),
            "defines the type F twice, and not alike",
            id="a type twice",
        ),
        pytest.param(record(["null", ["int"]]), "a union directly in a union", id="a union in a union"),
        pytest.param(record({"type": "fixed", "name": "F", "size": -1}), "the size of F is -1", id="a negative size"),
        pytest.param(record({"type": "fixed", "name": "F", "size": "4"}), 'the size of F is "4"', id="a text as size"),
        pytest.param(
            record({"type": "enum", "name": "F", "symbols": "A"}),
            '"A" as symbol of F, not a list',
            id="a text as symbols",
        ),
        pytest.param(record({"type": "array", "items": "null"}), "items take no bytes", id="an array of nulls"),
        pytest.param(
            record({"type": "array", "items": record("null", name="F")}),
            "items take no bytes",
            id="an array of nothing",
        ),
        pytest.param(record(nested(70)), "nests deeper than 64", id="too deep"),
        pytest.param(doubling(16), "more than 10000 types", id="too many types"),
    ],
)
def test_an_unusable_schema_is_refused_with_the_reason(schema: Any, says: str) -> None:
    with pytest.raises(UnusableSchemaError, match=says):
        parse(json.dumps(schema))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_text_that_is_not_json_is_not_a_schema(text: str) -> None:
    with pytest.raises(UnusableSchemaError, match="not JSON"):
        parse(text)


def test_named_types_are_written_out_where_they_are_used() -> None:
    money = record("double", name="Money", namespace="shop")
    root = parse(json.dumps(record(money, ["null", "shop.Money"])))

    assert root.children[1].branches == (root.children[0],)


def test_a_name_without_dots_is_resolved_in_the_enclosing_namespace_then_without_one() -> None:
    inner = {"type": "enum", "name": "Site", "symbols": ["A"]}
    schema = record(inner, "Site", "a.b.Site", name="a.b.E")

    assert [child.kind for child in parse(json.dumps(schema)).children] == ["enum"] * 3
    assert parse(json.dumps(record("Site", namespace="far")), [json.dumps(inner)]).children[0].kind == "enum"


def test_an_invalid_logical_type_is_ignored() -> None:
    fields = parse(
        json.dumps(
            record(
                {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3},
                {"type": "bytes", "logicalType": "decimal", "precision": "2"},
                {"type": "string", "logicalType": 5},
            )
        )
    ).children

    assert [str(field) for field in fields] == ["bytes", "bytes", "string"]


def inner(**more: Any) -> dict[str, Any]:
    return record("int", name="Inner") | more


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(record(inner(), "Inner", namespace="shop"), id="an inherited namespace"),
        pytest.param(record(inner(), "shop.Inner", namespace="shop"), id="its full name"),
        pytest.param(record(inner(namespace=""), "Inner", namespace="shop"), id="an empty namespace"),
        pytest.param(record(inner(namespace=""), ".Inner", namespace="shop"), id="a reference without a namespace"),
        pytest.param(record(inner(name=".Inner"), "Inner", namespace="shop"), id="a name without a namespace"),
        pytest.param(record(inner(), "Inner", namespace=""), id="an empty namespace at the root"),
        pytest.param(record(inner(), "Inner", namespace=None), id="a namespace of null"),
        pytest.param(record(inner(), inner(doc="The same."), namespace="shop"), id="a type defined twice alike"),
    ],
)
def test_a_type_is_found_by_its_name_as_producers_write_it(schema: Any) -> None:
    first, second = parse(json.dumps(schema)).children

    assert first == second


def test_a_type_without_a_namespace_is_another_than_one_that_inherits_it() -> None:
    outside, inside = inner(namespace=""), record("string", name="Inner")

    first, second = parse(json.dumps(record(outside, inside, namespace="shop"))).children

    assert first != second
