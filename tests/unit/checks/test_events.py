"""Registry, schemas and mapping, tried on messages."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from consumer.avro.bundled import schema_text
from consumer.avro.wire import confluent_prefix
from consumer.checks.events import check_events
from consumer.checks.findings import Finding, Status
from consumer.checks.patience import impatient
from consumer.dead_letters.record import Record, RecordPosition
from consumer.errors import SettingsError
from consumer.settings import Settings
from tests.support.avro import TinyRegistry, message, value_of

PRICES = {
    "type": "record",
    "name": "Count",
    "fields": [
        {"name": "site", "type": "string"},
        {"name": "article", "type": "string"},
        {"name": "pieces", "type": "int"},
        {
            "name": "price",
            "type": {"type": "record", "name": "Price", "fields": [{"name": "amount", "type": "double"}]},
        },
        {"name": "shelf", "type": ["null", "string"], "default": None},
        {"name": "note", "type": {"type": "array", "items": "int"}},
    ],
}
FIELDS = {"locationName": "site", "sku": "article", "quantity": "pieces"}
DEFAULT_ID = 7


@pytest.fixture
def registry() -> Iterator[TinyRegistry]:
    registry = TinyRegistry()
    registry.add(DEFAULT_ID, schema_text())
    registry.add(8, json.dumps(PRICES))
    yield registry
    registry.down()


def settings(avro: Mapping[str, Any], **sections: Mapping[str, Any]) -> Settings:
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": "127.0.0.1:1", "topics": ["stock"]},
            "avro": avro,
            "oms": {
                "base_url": "https://oms.example",
                "token_url": "https://oms.example/token",
                "api_key": "k",
                "api_secret": "s",
            },
            **sections,
        }
    )


def records(values: Sequence[bytes | None]) -> list[Record]:
    return [Record(RecordPosition("stock", 0, offset), None, value) for offset, value in enumerate(values)]


def count(**changed: Any) -> bytes:
    event = {"site": "Lund", "article": "B-1", "pieces": 4, "price": {"amount": 9.5}, "shelf": None, "note": []}
    return confluent_prefix(8) + value_of(PRICES, event | changed)


def checked(registry: TinyRegistry, values: Sequence[bytes | None], **sections: Mapping[str, Any]) -> list[Finding]:
    return check_events(impatient(settings({"registry_url": registry.url}, **sections), 60.0), records(values))


def of(findings: Sequence[Finding], check: str, status: Status) -> list[str]:
    return [finding.text for finding in findings if finding.check == check and finding.status is status]


def test_messages_that_become_changes_are_ok_with_the_ids_of_their_schemas(registry: TinyRegistry) -> None:
    found = checked(registry, [message(), message(), None])

    assert {finding.status for finding in found} == {Status.OK}
    assert of(found, "schemas", Status.OK) == ["those of the last 3 messages can be used: schema 7 (2)"]
    mapping = of(found, "mapping", Status.OK)
    assert mapping[0] == "2 of the last 3 messages become changes, 1 skipped"
    assert mapping[1].startswith("optional fields that no message fills: attributes, binID, ")


def test_a_required_field_that_no_schema_has_is_an_error(registry: TinyRegistry) -> None:
    found = checked(registry, [count()], events={"fields": FIELDS | {"sku": "articel"}})

    (schemas,) = of(found, "schemas", Status.ERROR)
    assert "schema 8 of 1: the schema has none of the fields articel" in schemas
    (mapping,) = of(found, "mapping", Status.ERROR)
    assert mapping == "0 of the last 1 messages become changes, 1 rejected: 1 unusable_schema (see schemas)"


@pytest.mark.parametrize(
    ("fields", "status", "line"),
    [
        (
            {"retailPrice": "price.amout"},
            Status.ERROR,
            "events.fields.retailPrice: no schema has the field price.amout",
        ),
        (
            {"retailPrice": "price.amout,price.amount"},
            Status.WARNING,
            "events.fields.retailPrice: no schema has the field price.amout, one of its sources",
        ),
        (
            {"inventoryLocatorName": "bay,=A1"},
            Status.WARNING,
            "events.fields.inventoryLocatorName: no schema has the field bay, one of its sources",
        ),
        ({"inventoryLocatorName": "shelf"}, Status.WARNING, "no message has a value for inventoryLocatorName"),
        ({"floor": "note"}, Status.ERROR, "events.fields.floor"),
    ],
)
def test_an_optional_field_that_leads_nowhere_is_found(
    registry: TinyRegistry, fields: dict[str, str], status: Status, line: str
) -> None:
    found = checked(registry, [count()], events={"fields": FIELDS | fields})

    assert of(found, "mapping", Status.OK)[0] == "1 of the last 1 messages become changes"
    assert any(line in text for text in of(found, "mapping", status)), found


def test_a_field_that_one_of_several_schemas_has_is_no_finding(registry: TinyRegistry) -> None:
    fields = {"locationName": "site,locationName", "sku": "article,sku", "quantity": "pieces,quantity"}
    found = checked(registry, [count(), message()], events={"fields": fields | {"retailPrice": "price.amount"}})
    assert {finding.status for finding in found} == {Status.OK}


def test_a_condition_on_a_field_that_no_schema_has_is_a_warning_unless_it_is_a_default(registry: TinyRegistry) -> None:
    (warning,) = of(checked(registry, [message()], events={"skip": {"kindd": "x"}}), "mapping", Status.WARNING)
    assert warning == "events.skip: no schema has the field kindd, so the condition is never true"
    assert of(checked(registry, [message()]), "mapping", Status.WARNING) == []


def test_rejects_are_counted_by_reason_with_the_position_of_the_first(registry: TinyRegistry) -> None:
    values = [message(quantity=1), message(sku=""), message(sku=""), message(quantity=-1), *[message()] * 6]

    found = checked(registry, values)

    (mapping,) = of(found, "mapping", Status.WARNING)
    assert mapping.startswith("7 of the last 10 messages become changes, 3 rejected: 2 no_identifier (stock/0/1: ")
    assert "1 negative_quantity (stock/0/3: " in mapping


def test_so_many_rejects_that_the_service_would_stop_are_an_error(registry: TinyRegistry) -> None:
    values = [message(sku=""), message(sku=""), message()]
    assert of(checked(registry, values), "mapping", Status.ERROR)
    assert of(checked(registry, values, dead_letters={"max_ratio": 0.7}), "mapping", Status.WARNING)


def test_unknown_schemas_are_named(registry: TinyRegistry) -> None:
    found = checked(registry, [message(), message(), message(schema_id=99)])
    (schemas,) = of(found, "schemas", Status.WARNING)
    assert "schema 99 of 1: the schema registry has no schema 99" in schemas


def test_messages_in_another_framing_are_described(registry: TinyRegistry) -> None:
    found = checked(registry, [b'{"sku": "A"}'])
    (schemas,) = of(found, "schemas", Status.ERROR)
    assert schemas.startswith("not framed as avro.framing=confluent says: 1 of the last 1 messages (stock/0/0: ")


def test_messages_that_are_all_skipped_are_a_warning(registry: TinyRegistry) -> None:
    found = checked(registry, [message()], events={"take": {"sku": "another"}})
    assert of(found, "mapping", Status.WARNING) == ["0 of the last 1 messages become changes, 1 skipped"]


def test_lines_of_one_message_are_one_message(registry: TinyRegistry) -> None:
    line = {
        "type": "record",
        "name": "Line",
        "fields": [{"name": "sku", "type": "string"}, {"name": "quantity", "type": "int"}],
    }
    schema = {
        "type": "record",
        "name": "Sheet",
        "fields": [
            {"name": "locationName", "type": "string"},
            {"name": "lines", "type": {"type": "array", "items": line}},
        ],
    }
    registry.add(9, json.dumps(schema))
    fields = {"locationName": "locationName", "sku": "lines.sku", "quantity": "lines.quantity"}
    lines = [{"sku": sku, "quantity": 1} for sku in ("a", "b", "", "")]
    value = confluent_prefix(9) + value_of(schema, {"locationName": "Rome", "lines": lines})

    found = checked(
        registry, [value, value, value], events={"items": "lines", "fields": fields}, dead_letters={"max_ratio": 1.0}
    )

    (mapping,) = of(found, "mapping", Status.WARNING)
    assert mapping.startswith("3 of the last 3 messages become changes, 3 rejected: 6 no_identifier")


def test_without_messages_the_registry_is_asked_all_the_same(registry: TinyRegistry) -> None:
    without: list[Sequence[Record] | str] = [[], "no broker can be asked"]
    for messages in without:
        found = check_events(settings({"registry_url": registry.url}), messages)
        assert [(finding.check, finding.status) for finding in found] == [
            ("registry", Status.OK),
            ("schemas", Status.SKIPPED),
            ("mapping", Status.SKIPPED),
        ]
    assert registry.requested_paths == ["/schemas/ids/1"] * 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, b"{}"), "denies access (HTTP 401)"),
        ((404, b"<html>"), "is avro.registry_url right?"),
        ((503, b""), "503"),
    ],
)
def test_a_registry_that_does_not_serve_us_is_an_error(
    registry: TinyRegistry, answer: tuple[int, bytes], words: str
) -> None:
    registry.answer_always = answer
    found = checked(registry, [message()])
    (text,) = of(found, "registry", Status.ERROR)
    assert words in text
    assert found[0].error is SettingsError
    assert [finding.status for finding in found[1:]] == [Status.SKIPPED] * 2


def test_the_registry_is_asked_for_a_schema_of_the_topics_which_these_credentials_may_read(
    registry: TinyRegistry,
) -> None:
    checked(registry, [message()])
    assert set(registry.requested_paths) == {"/schemas/ids/7"}


def test_the_option_of_the_registry_with_a_missing_file_is_named(registry: TinyRegistry) -> None:
    found = check_events(settings({"registry_url": registry.url, "registry": {"ssl.ca.location": "/nowhere/ca"}}), [])
    assert of(found, "registry", Status.ERROR) == ['avro.registry: "ssl.ca.location": there is no such file']


def test_a_missing_schema_file_is_an_error_also_without_messages(tmp_path: Path) -> None:
    found = check_events(settings({"schema_file": str(tmp_path / "nowhere.avsc")}), [])
    (text,) = of(found, "schemas", Status.ERROR)
    assert "nowhere.avsc cannot be read" in text
    assert of(found, "registry", Status.SKIPPED)


def test_a_schema_file_is_used_in_place_of_a_registry(tmp_path: Path) -> None:
    file = tmp_path / "change.avsc"
    file.write_text(schema_text(), encoding="utf-8")
    found = check_events(settings({"schema_file": str(file)}), records([message()]))
    assert {finding.status for finding in found} == {Status.OK, Status.SKIPPED}
    assert of(found, "schemas", Status.OK) == ["those of the last 1 messages can be used: schema 7 (1)"]


@pytest.mark.parametrize(("given", "seconds"), [({}, 5.0), ({"timeout": 2.0}, 2.0), ({"timeout": 9}, 5.0)])
def test_nothing_is_waited_for_longer_than_the_time_given(given: dict[str, float], seconds: float) -> None:
    found = impatient(settings({"registry_url": "http://r", "registry": {"max.retries": 3, **given}}), 5.0)
    assert (found.avro.registry["timeout"], found.avro.registry["max.retries"]) == (seconds, 0)
    assert (found.kafka.unreachable_timeout, found.oms.timeout) == (5.0, 5.0)
