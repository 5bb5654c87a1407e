"""Schemas in headers, schemas that a registry learns of late, and Apicurio's global ids, with real parts."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.avro.bundled import schema_text
from consumer.avro.readers import ReaderFactory, Refused
from consumer.avro.sources import RegistrySource
from consumer.avro.wire import SchemaRef
from consumer.core.changes.items import RejectReason
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SandboxSettings
from tests.support.avro import EVENT, TinyRegistry, by_name, message, value_of
from tests.support.service_process import Topic, running_service, service_config, wait_until

pytestmark = pytest.mark.integration

GUID = uuid.UUID("8b1f3f52-0a3e-4a57-9d53-6b2c7a0c1d22")


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(SandboxSettings(time_scale=0.0)) as server:
        yield server


@pytest.fixture
def changes(kafka: str, topic: Callable[..., str], admin: AdminClient) -> Topic:
    """A topic of two partitions with its dead-letter topic."""
    name = topic(2)
    admin.create_topics([NewTopic(f"{name}.dead", 1, 1)])[f"{name}.dead"].result(30.0)
    return Topic(kafka, name, f"group-of-{name}")


@pytest.fixture
def tiny_registry() -> Iterator[TinyRegistry]:
    registry = TinyRegistry()
    yield registry
    registry.down()


def skus(sandbox: SandboxServer) -> set[str]:
    return {str(item.get("sku")) for items in sandbox.state.inventory().values() for item in items}


def test_a_partition_waits_for_a_late_schema_and_the_other_one_goes_on(
    kafka: str, changes: Topic, sandbox: SandboxServer, tiny_registry: TinyRegistry, tmp_path: Path
) -> None:
    """In the other one, the schemas are named by GUIDs in headers."""
    tiny_registry.guids[str(GUID)] = {"schema": schema_text()}
    bare = json.loads(schema_text())
    headers: list[tuple[str, str | bytes | None]] = [("__value_schema_id", b"\x01" + GUID.bytes)]
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(50):
        producer.produce(changes.name, message(sku=f"late-{number}", schema_id=7), partition=0)
        value = value_of(bare, EVENT | {"sku": f"guid-{number}"})
        producer.produce(changes.name, value, partition=1, headers=headers)
    producer.flush(30.0)
    config = service_config(kafka, changes.name, sandbox, avro={"registry_url": tiny_registry.url})

    with running_service(config, tmp_path) as service:
        wait_until(lambda: changes.committed().get(1) == 50, "the other partition committed")
        assert skus(sandbox) == {f"guid-{number}" for number in range(50)}
        assert changes.committed().get(0, 0) <= 0
        tiny_registry.add(7, schema_text())
        wait_until(lambda: changes.committed() == changes.end(), "everything committed")
        assert service.stop() == 0

    assert skus(sandbox) == {f"{kind}-{number}" for kind in ("guid", "late") for number in range(50)}
    assert "schema_wait_ended" in service.output()


def test_global_ids_are_read_from_apicurios_own_api_with_what_they_refer_to(registry: str) -> None:
    amount = {"type": "record", "name": "Amount", "namespace": "shop", "fields": [{"name": "value", "type": "double"}]}
    fields = [
        {"name": "locationName", "type": "string"},
        {"name": "price", "type": "shop.Amount"},
        {"name": "sku", "type": "string"},
        {"name": "quantity", "type": "int"},
    ]
    event = {"type": "record", "name": "Event", "namespace": "shop", "fields": fields}
    name = f"event-{uuid.uuid4().hex}"
    base = registry.partition("/apis/")[0]
    for subject, body in (
        (f"amount-{name}", {"schema": json.dumps(amount)}),
        (
            name,
            {
                "schema": json.dumps(event),
                "references": [{"name": "shop.Amount", "subject": f"amount-{name}", "version": 1}],
            },
        ),
    ):
        httpx.post(f"{registry}/subjects/{subject}/versions", json=body, timeout=60.0).raise_for_status()
    versions = httpx.get(f"{base}/apis/registry/v3/groups/default/artifacts/{name}/versions", timeout=60.0).json()
    global_id = versions["versions"][0]["globalId"]
    value = value_of({**event, "fields": [fields[0], {"name": "price", "type": amount}, *fields[2:]]}, {
        "locationName": "Rome", "price": {"value": 1.5}, "sku": "s", "quantity": 1,
    })  # fmt: skip

    for url in (registry, f"{base}/apis/registry/v3"):
        source = RegistrySource(url, {"timeout": 60}, ReaderFactory(by_name(), 0, "columnar"))
        try:
            reader = source.reader(SchemaRef("global id", global_id))
            assert not isinstance(reader, Refused), reader.detail
            assert reader.read([value]).frame["sku"].to_list() == ["s"]
            unknown = source.reader(SchemaRef("global id", 10**9))
            assert isinstance(unknown, Refused)
            assert unknown.reason is RejectReason.UNKNOWN_SCHEMA
            by_guid = source.reader(SchemaRef("GUID", str(GUID)))
            assert isinstance(by_guid, Refused)
            assert by_guid.reason is RejectReason.UNKNOWN_SCHEMA
        finally:
            source.close()
