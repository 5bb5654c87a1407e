import json
from typing import Any

import pytest

from consumer.avro.bundled import schema_path, schema_text
from consumer.avro.encode import EventEncoder
from consumer.avro.fields import plan_fields
from consumer.avro.leaves import TARGETS
from consumer.avro.readers import self_test
from consumer.avro.writer_schema import parse
from consumer.core.changes.items import GRANULAR_COLUMNS, IDENTIFIERS, ITEM_COLUMNS, LOCATION, MAP_COLUMNS
from consumer.core.changes.rules import (
    ATTRIBUTES_MAX,
    BIN_ID_MIN,
    EXACT_INTEGER_MAX,
    LOCATOR_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
)
from tests.support.avro import by_name

FOLDER = schema_path().parent
EXAMPLES = sorted((FOLDER / "examples").glob("*.json"))
GRANULAR_EXAMPLES = sorted((FOLDER / "examples" / "granular").glob("*.json"))
PLAIN = [name for name in TARGETS if name not in GRANULAR_COLUMNS]


def granular_text() -> str:
    return (FOLDER / "inventory-change-granular.avsc").read_text(encoding="utf-8")


def request_schema() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "refresh-request.schema.json").read_text(encoding="utf-8")))


def test_the_bundled_schema_has_every_field_of_an_item_documented() -> None:
    fields = json.loads(schema_text())["fields"]

    assert {field["name"] for field in fields} == {*PLAIN, "eventId"}
    assert all(field["doc"] for field in fields)
    optional = [field for field in fields if field["name"] not in {LOCATION, "quantity"}]
    assert all(field["type"][0] == "null" and field["default"] is None for field in optional)
    assert len(plan_fields(parse(schema_text()), by_name()).leaves) == len(PLAIN)


def test_the_granular_schema_is_the_bundled_one_with_the_granular_fields_after_it() -> None:
    granular = json.loads(granular_text())
    bundled = json.loads(schema_text())

    more = granular["fields"][len(bundled["fields"]) :]
    assert granular["fields"][: len(bundled["fields"])] == bundled["fields"]
    assert [field["name"] for field in more] == list(GRANULAR_COLUMNS)
    types = {
        name: {"type": "map", "values": "string"} if name in MAP_COLUMNS else "string" for name in GRANULAR_COLUMNS
    }
    assert all(field["doc"] and field["type"] == ["null", types[field["name"]]] for field in more)
    assert all(field["default"] is None for field in more)
    assert (granular["name"], granular["namespace"]) == (bundled["name"], bundled["namespace"])
    paths = {name: name for name in GRANULAR_COLUMNS}
    assert len(plan_fields(parse(granular_text()), by_name(paths)).leaves) == len(TARGETS)


@pytest.mark.parametrize("path", GRANULAR_EXAMPLES, ids=lambda path: path.stem)
def test_each_granular_example_is_an_event_of_the_granular_schema(path: Any) -> None:
    event = json.loads(path.read_text(encoding="utf-8"))

    assert set(event) <= {*TARGETS, "eventId"}
    assert set(event) & set(GRANULAR_COLUMNS)
    assert EventEncoder(granular_text(), b"").encode(event)


def test_both_decode_paths_agree_on_the_bundled_schema() -> None:
    assert self_test()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_is_an_event_of_the_bundled_schema(path: Any) -> None:
    event = json.loads(path.read_text(encoding="utf-8"))

    assert set(event) <= {*PLAIN, "eventId"}
    assert EventEncoder(schema_text(), b"").encode(event)


def test_the_request_schema_says_what_the_item_rules_say() -> None:
    item = request_schema()["$defs"]["item"]
    properties = item["properties"]

    assert set(properties) == set(ITEM_COLUMNS)
    assert [entry["required"] for entry in item["anyOf"]] == [[name] for name in IDENTIFIERS]
    assert properties["attributes"]["maxItems"] == ATTRIBUTES_MAX
    assert properties["inventoryLocatorName"]["maxLength"] == LOCATOR_CHARACTERS_MAX
    limits = {name: properties[name].get("maxLength") for name in GRANULAR_COLUMNS}
    assert {name: limit for name, limit in limits.items() if limit} == TEXT_CHARACTERS_MAX
    assert properties["binID"]["minimum"] == BIN_ID_MIN
    integers = [schema for schema in properties.values() if schema["type"] == "integer"]
    assert {schema["maximum"] for schema in integers} == {EXACT_INTEGER_MAX}
