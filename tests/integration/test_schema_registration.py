"""Registering and reading schemas, with a real schema registry."""

from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from consumer.avro.bundled import schema_text
from consumer.avro.readers import ReaderFactory, Refused
from consumer.avro.sources import RegistrySource
from consumer.avro.wire import CONFLUENT, SchemaRef
from consumer.core.changes.items import RejectReason
from consumer.errors import SettingsError
from consumer.sandbox.publisher import register
from tests.support.avro import by_name

pytestmark = pytest.mark.integration

PATIENT: dict[str, Any] = {"timeout": 60}
"""Options of the registry client: a registry that has just started answers slowly at first."""


def test_the_bundled_schema_is_registered_once_and_read_back_by_its_id(registry: str) -> None:
    schema_id = register(registry, "changes", PATIENT)
    assert register(registry, "changes", PATIENT) == schema_id
    with SchemaRegistryClient({"url": registry} | PATIENT) as client:
        read_back = client.get_schema(schema_id).schema_str
    assert read_back is not None
    assert "InventoryChange" in read_back
    assert read_back.count('"name"') == schema_text().count('"name"')


@pytest.mark.parametrize("schema_id", [0, 2**31 - 1, 2**31, 2**32 - 1])
def test_an_id_unknown_to_the_registry_is_rejected_without_waiting(registry: str, schema_id: int) -> None:
    source = RegistrySource(registry, PATIENT, ReaderFactory(by_name(), CONFLUENT.length, "columnar"))
    try:
        found = source.reader(SchemaRef("id", schema_id))
    finally:
        source.close()
    assert isinstance(found, Refused)
    assert found.reason is RejectReason.UNKNOWN_SCHEMA


def test_an_unreachable_registry_is_reported_in_one_line() -> None:
    with pytest.raises(SettingsError, match=r"avro\.registry_url") as raised:
        register("http://127.0.0.1:1", "changes")
    assert "\n" not in str(raised.value)
