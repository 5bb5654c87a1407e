"""What is published in a case of the bench, and how the service is set."""

import json
from io import BytesIO
from typing import Any

import fastavro
import pytest

from bench.cases import CASES, Case, chosen, miniature
from bench.load import SECOND_SCHEMA_ID, Load, second_schema_text
from bench.service_settings import service_settings, sink_options
from consumer.avro.bundled import schema_path, schema_text
from consumer.sandbox.publisher import Event
from consumer.settings import Settings

SMALL = Case("small", "", locations=3, items_per_location=4)


def made(case: Case) -> tuple[Load, list[Event]]:
    load = Load(case)
    return load, list(load.events(clock=lambda: 0.0, sleep=lambda _seconds: None))


def decoded(value: bytes) -> dict[str, Any]:
    is_second = int.from_bytes(value[1:5]) == SECOND_SCHEMA_ID
    schema = fastavro.parse_schema(json.loads(second_schema_text() if is_second else schema_text()))
    change = fastavro.schemaless_reader(BytesIO(value[5:]), schema, None)
    assert isinstance(change, dict)
    return change


def test_without_names_the_cases_are_all_but_those_by_hand() -> None:
    assert {case.name for case in chosen([])} == {case.name for case in CASES if not case.by_hand}
    assert [case.name for case in chosen(["nightly", "distinct"])] == ["distinct", "nightly"]
    with pytest.raises(ValueError, match="no case fast: the cases are distinct, many"):
        chosen(["fast"])


def test_the_fewest_chunks_are_those_of_each_location_rounded_up() -> None:
    case = Case("", "", locations=3, items_per_location=3_001)
    assert (case.items, case.fewest_chunks) == (9_003, 6)


def test_each_item_changes_as_often_as_the_case_says_and_belongs_to_one_location() -> None:
    case = Case("", "", locations=3, items_per_location=4, changes_per_item=50)
    load, events = made(case)
    changes = [decoded(event.value or b"") for event in events]
    assert len(changes) == case.changes == 600
    assert len({change["partNumber"] for change in changes}) == case.items
    assert len({(change["partNumber"], change["locationName"]) for change in changes}) == case.items
    newest = {int(change["partNumber"][1:]): change["quantity"] for change in changes}
    assert list(load.quantities) == [newest[item] for item in range(case.items)]


@pytest.mark.parametrize(("keyed_by", "key"), [("location", b"store-00001"), ("item", b"P00000004")])
def test_the_key_is_the_location_or_the_item(keyed_by: Any, key: bytes) -> None:
    _, events = made(Case("", "", locations=3, items_per_location=4, keyed_by=keyed_by))
    assert events[4].key == key


def test_wide_events_have_every_field_and_mixed_ones_two_schemas_in_turn() -> None:
    _, wide = made(Case("", "", locations=3, items_per_location=4, shape="wide"))
    missing = {name for name, value in decoded(wide[0].value or b"").items() if value is None}
    assert missing == {"upc"}
    _, mixed = made(Case("", "", locations=3, items_per_location=4, shape="mixed"))
    assert [event.value[4] for event in mixed if event.value][:4] == [1, 2, 1, 2]
    assert decoded(mixed[1].value or b"")["source"] == "till"


def test_bad_events_come_in_addition_to_the_changes() -> None:
    case = Case("", "", locations=10, items_per_location=300, bad_per_thousand=1)
    _, events = made(case)
    assert len(events) == case.events == 3_003


def test_a_paced_case_publishes_each_change_when_it_is_due() -> None:
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    load = Load(Case("", "", locations=3, items_per_location=4, changes_per_second=2))
    list(load.events(clock=lambda: now, sleep=sleep))
    assert list(load.published_at) == [100.0 + number / 2 for number in range(12)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_valid_for_the_service_also_in_miniature(case: Case) -> None:
    for one in (case, miniature(case)):
        values = service_settings(
            one, servers="127.0.0.1:9", topic="t", group="g", sink_url="http://127.0.0.1:8", port=7
        )
        settings = Settings.model_validate(values)
        assert settings.window.max_age == one.max_age_seconds
        assert str(one.chunk_items) in sink_options(one, schema_path())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_miniature_keeps_its_proportions_and_fits_an_embedded_broker(case: Case) -> None:
    small = miniature(case)
    assert small.events <= 10_000
    assert small.fewest_chunks / small.locations == case.fewest_chunks / case.locations
    assert small.flush_items / small.chunk_items == case.flush_items / case.chunk_items
