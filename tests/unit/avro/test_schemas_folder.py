import json
from typing import Any

import pytest

from consumer.avro.bundled import schema_path, schema_text
from consumer.avro.encode import EventEncoder
from consumer.avro.fields import TARGETS, plan_fields
from consumer.avro.readers import self_test
from consumer.avro.writer_schema import parse
from consumer.core.items import IDENTIFIERS, ITEM_COLUMNS, LOCATION
from consumer.core.rules import ATTRIBUTES_MAX, BIN_ID_MIN, EXACT_INTEGER_MAX, LOCATOR_CHARACTERS_MAX

FOLDER = schema_path().parent
EXAMPLES = sorted((FOLDER / "examples").glob("*.json"))


def request_schema() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "refresh-request.schema.json").read_text(encoding="utf-8")))


def test_the_bundled_schema_has_every_field_of_an_item_documented() -> None:
    fields = json.loads(schema_text())["fields"]

    assert {field["name"] for field in fields} == {*TARGETS, "eventId"}
    assert all(field["doc"] for field in fields)
    optional = [field for field in fields if field["name"] not in {LOCATION, "quantity"}]
    assert all(field["type"][0] == "null" and field["default"] is None for field in optional)
    assert len(plan_fields(parse(schema_text()), {}).leaves) == len(TARGETS)


def test_both_ways_of_decoding_agree_on_the_bundled_schema() -> None:
    assert self_test()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_is_an_event_of_the_bundled_schema(path: Any) -> None:
    event = json.loads(path.read_text(encoding="utf-8"))

    assert set(event) <= {*TARGETS, "eventId"}
    assert EventEncoder(schema_text(), b"").encode(event)


def test_the_request_schema_says_what_the_item_rules_say() -> None:
    item = request_schema()["$defs"]["item"]
    properties = item["properties"]

    assert set(properties) == set(ITEM_COLUMNS)
    assert [entry["required"] for entry in item["anyOf"]] == [[name] for name in IDENTIFIERS]
    assert properties["attributes"]["maxItems"] == ATTRIBUTES_MAX
    assert properties["inventoryLocatorName"]["maxLength"] == LOCATOR_CHARACTERS_MAX
    assert properties["binID"]["minimum"] == BIN_ID_MIN
    integers = [each for each in properties.values() if each["type"] == "integer"]
    assert {each["maximum"] for each in integers} == {EXACT_INTEGER_MAX}
