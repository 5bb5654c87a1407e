"""Offsets reset by hand, as docs/operations.md describes it, on a real Kafka."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.avro.bundled import schema_path
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SandboxSettings
from tests.support.dead_letters import ENCODER
from tests.support.service_process import REQUEST_SECONDS_MAX, Topic, running_service, service_config, wait_until

pytestmark = pytest.mark.integration

HOLD_SECONDS = 1.0
OTHERS = 40
"""Items between the older and the newer count of one: more than a process buffers before its window."""

ROOMY: dict[str, dict[str, Any]] = {"window": {"max_age": 3}}
"""Enough time to read everything before a request is sent, even on a slow machine."""
FULL_AT_ONCE: dict[str, dict[str, Any]] = {
    "kafka": {"poll_messages_max": 1},
    "window": {"flush_items": 1},
    "oms": {"chunk_items": 1},
    "memory": {"budget": "4MiB"},
}
"""Memory for half of the changes only (see ``WIDE``): reading pauses until some are sent."""
WIDE = ["x" * 1_500] * 60
"""Attributes of 90 kB."""


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(SandboxSettings(time_scale=0.0)) as server:
        yield server


@pytest.fixture
def changes(kafka: str, topic: Callable[..., str], admin: AdminClient) -> Topic:
    """One partition with an older and a newer count of an item, and counts of others between them."""
    name = topic(1)
    admin.create_topics([NewTopic(f"{name}.dead", 1, 1)])[f"{name}.dead"].result(30.0)
    producer = Producer({"bootstrap.servers": kafka, "log_level": 0})
    for sku, quantity in [("a", 1), *((f"other-{number}", 1) for number in range(OTHERS)), ("a", 2)]:
        event = {"locationName": "Rome", "sku": sku, "quantity": quantity, "attributes": None if sku == "a" else WIDE}
        producer.produce(name, key=sku, value=ENCODER.encode(event))
    assert producer.flush(30.0) == 0
    return Topic(kafka, name, f"group-of-{name}")


def reset(admin: AdminClient, changes: Topic, offset: int) -> None:
    """Do what kafka-consumer-groups.sh --reset-offsets --to-offset does."""
    request = [ConsumerGroupTopicPartitions(changes.group, [TopicPartition(changes.name, 0, offset)])]
    done = admin.alter_consumer_group_offsets(request)[changes.group].result(REQUEST_SECONDS_MAX)
    (partition,) = done.topic_partitions
    assert partition.error is None
    assert partition.offset == offset


def times(log: str, event: str) -> list[float]:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines if line["event"] == event]


@pytest.mark.parametrize(
    ("memory", "old_counts"),
    [pytest.param(ROOMY, 0, id="all fits into memory"), pytest.param(FULL_AT_ONCE, 1, id="more than memory holds")],
)
def test_after_an_offset_reset_requests_wait_for_the_hold_and_the_oms_ends_with_the_newest_counts(
    kafka: str,
    admin: AdminClient,
    changes: Topic,
    sandbox: SandboxServer,
    tmp_path: Path,
    memory: dict[str, dict[str, Any]],
    old_counts: int,
) -> None:
    sections = {**memory, "oms": memory.get("oms", {}) | {"unknown_hold": HOLD_SECONDS}}
    config = service_config(kafka, changes.name, sandbox, avro={"schema_file": str(schema_path())}, **sections)
    with running_service(config, tmp_path) as service:
        wait_until(lambda: changes.committed() == changes.end(), "all committed")
        with pytest.raises((KafkaException, AssertionError)):
            reset(admin, changes, 0)  # the group has a member
        assert service.stop() == 0
    sent_before = sandbox.state.summary().items
    reset(admin, changes, 0)

    with running_service(config, tmp_path) as service:
        wait_until(lambda: changes.committed() == changes.end(), "all committed again")
        assert service.stop() == 0
        log = service.output()

    assert sandbox.state.summary().items - sent_before == 1 + OTHERS + old_counts
    assert {"sku": "a", "quantity": 2} in sandbox.state.inventory()["Rome"]
    # A reset erases the commit metadata, so an earlier request may still be in flight. The hold begins shortly before
    # the assignment is logged; without it a request would be sent at once when memory is full.
    assert min(times(log, "request_accepted")) - min(times(log, "partitions_assigned")) >= HOLD_SECONDS / 2
