import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from consumer.avro.bundled import schema_text
from consumer.ports import SettingsError
from consumer.sandbox.publisher import register

pytestmark = pytest.mark.integration


def test_the_bundled_schema_is_registered_once_and_read_back_by_its_id(registry: str) -> None:
    schema_id = register(registry, "changes")
    assert register(registry, "changes") == schema_id
    with SchemaRegistryClient({"url": registry}) as client:
        read_back = client.get_schema(schema_id).schema_str
    assert read_back is not None
    assert "InventoryChange" in read_back
    assert read_back.count('"name"') == schema_text().count('"name"')


def test_a_registry_that_does_not_answer_is_said_in_one_line() -> None:
    with pytest.raises(SettingsError, match=r"avro\.registry_url") as raised:
        register("http://127.0.0.1:1", "changes")
    assert "\n" not in str(raised.value)
