import json
from collections import Counter
from io import BytesIO
from typing import Any

import fastavro
import pytest

from consumer.avro.bundled import schema_text
from consumer.core.changes.items import RejectReason
from consumer.sandbox.generator import (
    BURST_ITEMS,
    BURST_LOCATION,
    LOCATIONS_SMALL,
    STARTED_MS,
    Held,
    differences,
    distinct_changes,
    held_after,
    plan_demo,
)
from consumer.sandbox.publisher import item_key

SCHEMA = fastavro.parse_schema(json.loads(schema_text()) | {"name": "Read"})


def decoded(value: bytes) -> dict[str, Any]:
    """The change in a framed value; no byte may be left over."""
    stream = BytesIO(value[5:])
    change = fastavro.schemaless_reader(stream, SCHEMA, None)
    assert isinstance(change, dict)
    assert not stream.read()
    return change


def test_a_seed_always_makes_the_same_demo() -> None:
    assert plan_demo(7, burst_items=50) == plan_demo(7, burst_items=50)
    assert plan_demo(7, burst_items=50).events != plan_demo(8, burst_items=50).events


def test_the_demo_has_small_locations_and_a_burst_of_distinct_items_at_one_location() -> None:
    plan = plan_demo(1)
    assert len(plan.held) == LOCATIONS_SMALL + 1
    assert len(plan.held[BURST_LOCATION]) == BURST_ITEMS == 21_000
    assert max(len(items) for location, items in plan.held.items() if location != BURST_LOCATION) < 3_000
    events = Counter(event.key for event in plan.events)
    assert max(events[item_key({"locationName": BURST_LOCATION, "sku": f"SKU{n:05}"})] for n in range(1, 99)) == 1
    assert sum(1 for count in events.values() if count > 1) > 300


def test_the_demo_has_bad_events_of_many_kinds() -> None:
    plan = plan_demo(1, burst_items=10)
    assert set(plan.rejects) == {
        RejectReason.NOT_FRAMED,
        RejectReason.CORRUPT,
        RejectReason.TRAILING_BYTES,
        RejectReason.NEGATIVE_QUANTITY,
        RejectReason.INTEGER_OUT_OF_RANGE,
        RejectReason.NO_LOCATION,
        RejectReason.NO_IDENTIFIER,
        RejectReason.BIN_ID_TOO_SMALL,
        RejectReason.LOCATOR_TOO_LONG,
        RejectReason.TOO_MANY_ATTRIBUTES,
        RejectReason.NOT_A_NUMBER,
    }
    assert plan.tombstones == sum(1 for event in plan.events if event.value is None) == 1


def test_the_demo_expects_the_result_of_its_events_in_order() -> None:
    plan = plan_demo(3, burst_items=10)
    bad_keys = {item_key({"locationName": name, "sku": sku}) for name, sku in (("Store 01", "BAD"), ("", "BAD"))}
    bad_keys |= {b"Store 01||||", b"Store 01|||BAD|0"}
    good = [decoded(event.value) for event in plan.events if event.value and event.key not in bad_keys]
    held = held_after([{name: value for name, value in change.items() if value is not None} for change in good])
    assert differences(plan.held, held) == []
    assert [change["eventId"] for change in good[:2]] == ["demo-3-0", "demo-3-1"]


def test_a_later_change_sets_its_fields_keeps_absent_ones_and_adds_attributes() -> None:
    name: dict[str, Any] = {"locationName": "L", "sku": "S"}
    held = held_after(
        [
            name | {"quantity": 1, "floor": 2, "ltd": 1.5, "attributes": ["A", "B"], "occurredAt": 1, "eventId": "e"},
            name | {"quantity": 0, "floor": 3, "attributes": ["B", "C"]},
        ]
    )
    item = {"sku": "S", "quantity": 0, "floor": 3, "ltd": 1.5, "attributes": ["A", "B", "C"]}
    assert held == {"L": {(None, None, "S", None): item}}


@pytest.mark.parametrize(
    ("actual", "count"),
    [
        pytest.param(
            {"L": {("P", None, None, 1): {"quantity": 1, "attributes": ["B", "A"]}}}, 0, id="attributes in any order"
        ),
        pytest.param({"L": {("P", None, None, 1): {"quantity": 2, "attributes": ["A", "B"]}}}, 1, id="another count"),
        pytest.param({"L": {("P", None, None, 1): {"quantity": 1}}}, 1, id="a field missing"),
        pytest.param({"L": {("P", None, None, 2): {"quantity": 1}}}, 2, id="one missing and one unexpected"),
        pytest.param({"L": {}, "M": {(None, None, "S", None): {"quantity": 1}}}, 2, id="another location"),
    ],
)
def test_differences_are_found(actual: Any, count: int) -> None:
    expected: Held = {"L": {("P", None, None, 1): {"quantity": 1, "attributes": ["A", "B"]}}}
    assert len(differences(expected, actual)) == count


def test_distinct_changes_decode_to_distinct_items_spread_over_the_locations() -> None:
    events = list(distinct_changes(300, locations=7, seed=5, schema_id=260))
    changes = [decoded(event.value or b"") for event in events]
    assert {event.value[:5] for event in events if event.value} == {b"\x00\x00\x00\x01\x04"}
    assert [event.key for event in events] == [item_key(change) for change in changes]
    assert len({change["sku"] for change in changes}) == 300
    assert [change["locationName"] for change in changes[:8]] == [f"location-{at % 7:05}" for at in range(8)]
    assert all(64 <= change["quantity"] <= 8_191 for change in changes)
    assert len({change["quantity"] for change in changes}) > 250
    assert changes[0]["occurredAt"].timestamp() * 1000 == STARTED_MS
    assert {len(event.value or b"") for event in events} == {56}


def test_more_locations_than_there_are_names_for_are_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        next(distinct_changes(1, locations=10**6, seed=1))
