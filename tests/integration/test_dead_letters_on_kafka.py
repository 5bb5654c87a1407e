"""Dead letters on a real Kafka."""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.avro.bundled import schema_path
from consumer.avro.wire import CONFLUENT, confluent_prefix
from consumer.core.changes.items import ChangeId, RejectReason
from consumer.dead_letters.writer import DeadLetterWriter
from consumer.errors import DeadLettersError
from consumer.ports import Assignment, FailedChanges, Reject
from consumer.sandbox.oms.faults.rules import Refuse
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SandboxSettings
from consumer.settings import DeadLetterSettings, KafkaSettings
from tests.support.dead_letters import ENCODER, SCHEMA_ID
from tests.support.service_process import running_service, service_config

pytestmark = pytest.mark.integration

MakeTopic = Callable[..., str]
Open = Callable[[str], DeadLetterWriter]

WAIT_SECONDS_MAX = 90.0

ASSIGNMENT = Assignment(
    assignment_id=5, topic="changes", partition=3, committed=None, metadata="", low=0, high=9, topic_id=None
)
REJECT = Reject(
    change_id=ChangeId(5, 77),
    reason=RejectReason.CORRUPT,
    detail="truncated — after 3 bytes",
    value=b"\x00\x01",
    key=b"item",
    headers=[("trace", b"abc"), ("empty", None)],
    timestamp=1_700_000_000_000,
    schema_id=42,
)


@pytest.fixture
def dead_letters(kafka: str) -> Iterator[Open]:
    with ExitStack() as stack:

        def make(topic: str) -> DeadLetterWriter:
            opened = DeadLetterWriter(
                KafkaSettings(bootstrap_servers=kafka, topics=["changes"], unreachable_timeout=60.0),
                DeadLetterSettings(topic=topic),
                schema_id_of=CONFLUENT.schema_id_of,
            )
            stack.callback(opened.close)
            return opened

        yield make


def confirmations(writer: DeadLetterWriter, count: int) -> Sequence[ChangeId]:
    found: list[ChangeId] = []
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while len(found) < count and time.monotonic() < deadline:
        found += writer.confirmed()
        time.sleep(0.01)
    return found


def read(kafka: str, topic: str, count: int) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return consumer.consume(count, WAIT_SECONDS_MAX)
    finally:
        consumer.close()


def wait_for_end(kafka: str, topic: str, end: int) -> None:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": uuid.uuid4().hex})
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    try:
        while (found := consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=WAIT_SECONDS_MAX)[1]) < end:
            assert time.monotonic() < deadline, f"the log of {topic} still ends at {found}, not at {end}"
            time.sleep(0.01)
    finally:
        consumer.close()


def test_a_confirmed_dead_letter_has_the_key_value_and_headers_of_the_change_and_its_reason(
    kafka: str, topic: MakeTopic, dead_letters: Open
) -> None:
    name = topic()
    writer = dead_letters(name)
    writer.check()
    writer.publish([REJECT], {5: ASSIGNMENT})
    assert confirmations(writer, 1) == [ChangeId(5, 77)]
    assert writer.confirmed() == []
    (message,) = read(kafka, name, 1)
    assert (message.key(), message.value()) == (b"item", b"\x00\x01")
    assert message.headers() == [
        ("trace", b"abc"),
        ("empty", None),
        ("inventory_refresh.reason", b"corrupt"),
        ("inventory_refresh.detail", "truncated — after 3 bytes".encode()),
        ("inventory_refresh.topic", b"changes"),
        ("inventory_refresh.partition", b"3"),
        ("inventory_refresh.offset", b"77"),
        ("inventory_refresh.timestamp", b"1700000000000"),
        ("inventory_refresh.schema_id", b"42"),
    ]


def test_a_reject_of_an_earlier_assignment_is_ignored(topic: MakeTopic, dead_letters: Open) -> None:
    writer = dead_letters(topic())
    writer.publish([REJECT], {})
    writer.close()
    assert writer.confirmed() == []


def test_a_change_too_large_for_the_topic_is_written_without_its_value(
    kafka: str, topic: MakeTopic, dead_letters: Open
) -> None:
    name = topic(config={"max.message.bytes": "20000", "compression.type": "producer"})
    writer = dead_letters(name)
    large = os.urandom(50_000)
    small = [Reject(ChangeId(5, offset), RejectReason.CORRUPT, "", b"small") for offset in range(20)]
    writer.publish([*small, Reject(ChangeId(5, 20), RejectReason.CORRUPT, "", large)], {5: ASSIGNMENT})
    assert sorted(confirmations(writer, 21)) == [ChangeId(5, offset) for offset in range(21)]
    messages = read(kafka, name, 21)
    assert [message.value() for message in messages] == [b"small"] * 20 + [None]
    assert dict(messages[-1].headers() or [])["inventory_refresh.value_bytes"] == str(len(large)).encode()


def test_a_missing_topic_is_named_at_startup(dead_letters: Open) -> None:
    with pytest.raises(DeadLettersError, match=r'dead_letters\.topic: there is no topic "not-there" at'):
        dead_letters("not-there").check()


def test_a_dead_letter_that_cannot_be_delivered_stops_the_service(
    topic: MakeTopic, dead_letters: Open, admin: AdminClient
) -> None:
    name = topic(config={"min.insync.replicas": "1", "max.message.bytes": "10"})
    writer = dead_letters(name)
    writer.publish([REJECT], {5: ASSIGNMENT})
    with pytest.raises(DeadLettersError, match=f'cannot be delivered to "{name}"'):
        confirmations(writer, 1)


# Failed changes, whose originals are fetched from their topic


SENT_AT = round(time.time() * 1000)
"""Retention would delete older records during the test."""


def publish_changes(kafka: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(count):
        trace: list[tuple[str, str | bytes | None]] = [("trace", str(number))]
        producer.produce(topic, f"value {number}", key=f"key {number}", headers=trace, timestamp=SENT_AT)
    assert producer.flush(WAIT_SECONDS_MAX) == 0


def failed(topic: str, *offsets: int, **more: Any) -> FailedChanges:
    known = {"reason": RejectReason.JOB_FAILED, "detail": "no such location", "location": "Rome", "job_id": "7"}
    assignment = more.pop("assignment", 5)
    items = {ChangeId(assignment, offset): item for offset, item in more.pop("items", {}).items()}
    change_ids = tuple(ChangeId(assignment, offset) for offset in offsets)
    return FailedChanges(topic=topic, partition=0, change_ids=change_ids, items=items, **(known | more))


def headers_of(message: Message) -> dict[str, bytes | None]:
    headers = dict(message.headers() or [])
    return {
        name.removeprefix("inventory_refresh."): value.encode() if isinstance(value, str) else value
        for name, value in headers.items()
    }


def test_the_original_of_a_failed_change_is_fetched_by_its_offset_unchanged(
    kafka: str, topic: MakeTopic, dead_letters: Open
) -> None:
    source, name = topic(), topic()
    publish_changes(kafka, source, 5_000)
    writer = dead_letters(name)
    writer.fetch_and_publish(
        [failed(source, 3, 4, 4_999), failed(source, 8, reason=RejectReason.REFUSED_BY_OMS, job_id=None)]
    )
    assert writer.fetching() == 4

    assert sorted(confirmations(writer, 4)) == [ChangeId(5, 3), ChangeId(5, 4), ChangeId(5, 8), ChangeId(5, 4_999)]
    assert writer.fetching() == 0
    messages = sorted(read(kafka, name, 4), key=lambda message: int(headers_of(message)["offset"] or 0))
    assert [message.key() for message in messages] == [b"key 3", b"key 4", b"key 8", b"key 4999"]
    assert [message.value() for message in messages] == [b"value 3", b"value 4", b"value 8", b"value 4999"]
    assert messages[0].headers() == [
        ("trace", b"3"),
        ("inventory_refresh.reason", b"job_failed"),
        ("inventory_refresh.detail", b"no such location"),
        ("inventory_refresh.topic", source.encode()),
        ("inventory_refresh.partition", b"0"),
        ("inventory_refresh.offset", b"3"),
        ("inventory_refresh.timestamp", str(SENT_AT).encode()),
        ("inventory_refresh.location", b"Rome"),
        ("inventory_refresh.job_id", b"7"),
    ]
    assert headers_of(messages[2])["reason"] == b"refused_by_oms"
    assert "job_id" not in headers_of(messages[2])


def test_a_change_deleted_by_retention_is_kept_as_its_item_or_by_its_position(
    kafka: str, topic: MakeTopic, dead_letters: Open, admin: AdminClient
) -> None:
    source, name = topic(), topic()
    publish_changes(kafka, source, 10)
    (deleted,) = admin.delete_records([TopicPartition(source, 0, 5)]).values()
    deleted.result(WAIT_SECONDS_MAX)
    writer = dead_letters(name)
    writer.fetch_and_publish([failed(source, 2, 3, 7, items={2: b'{"sku": "a"}'})])

    assert sorted(confirmations(writer, 3)) == [ChangeId(5, 2), ChangeId(5, 3), ChangeId(5, 7)]
    found = {headers_of(message)["offset"]: message for message in read(kafka, name, 3)}
    assert [found[at].value() for at in (b"2", b"3", b"7")] == [b'{"sku": "a"}', None, b"value 7"]
    assert [headers_of(found[at]).get("missing") for at in (b"2", b"3", b"7")] == [b"1", b"1", None]


def test_originals_of_items_refused_one_by_one_are_fetched_together(
    kafka: str, topic: MakeTopic, dead_letters: Open
) -> None:
    source, name = topic(), topic()
    publish_changes(kafka, source, 3_000)
    writer = dead_letters(name)
    writer.fetch_and_publish([*(failed(source, offset) for offset in range(3_000)), failed(source, 7, assignment=6)])

    assert sorted(confirmations(writer, 3_001)) == [*(ChangeId(5, offset) for offset in range(3_000)), ChangeId(6, 7)]


def test_an_offset_without_a_record_is_missing_and_those_next_to_it_are_fetched(
    kafka: str, topic: MakeTopic, dead_letters: Open
) -> None:
    source, name = topic(), topic()
    publish_changes(kafka, source, 1)
    aborting = Producer({"bootstrap.servers": kafka, "transactional.id": source})
    aborting.init_transactions(WAIT_SECONDS_MAX)
    aborting.begin_transaction()
    aborting.produce(source, "aborted")
    aborting.flush(WAIT_SECONDS_MAX)
    aborting.abort_transaction(WAIT_SECONDS_MAX)
    wait_for_end(kafka, source, 3)  # the coordinator answers before the partition has the marker
    publish_changes(kafka, source, 1)
    writer = dead_letters(name)
    writer.fetch_and_publish([failed(source, 0, 1, 3)])

    assert sorted(confirmations(writer, 3)) == [ChangeId(5, 0), ChangeId(5, 1), ChangeId(5, 3)]
    found = {headers_of(message)["offset"]: message for message in read(kafka, name, 3)}
    assert [found[at].value() for at in (b"0", b"1", b"3")] == [b"value 0", None, b"value 0"]
    assert [headers_of(found[at]).get("missing") for at in (b"0", b"1", b"3")] == [None, b"1", None]


def test_a_failed_change_has_the_schema_id_of_its_original(kafka: str, topic: MakeTopic, dead_letters: Open) -> None:
    source, name = topic(), topic()
    producer = Producer({"bootstrap.servers": kafka})
    for value in (b"{}", confluent_prefix(42) + b"event"):
        producer.produce(source, value, timestamp=SENT_AT)
    assert producer.flush(WAIT_SECONDS_MAX) == 0
    writer = dead_letters(name)
    writer.fetch_and_publish([failed(source, 0, 1)])
    confirmations(writer, 2)
    assert [headers_of(message).get("schema_id") for message in read(kafka, name, 2)] == [None, b"42"]


def test_dead_letters_of_refused_changes_lacked_the_schema_id_because_the_service_did_not_pass_it_on(
    kafka: str, topic: MakeTopic, tmp_path: Path
) -> None:
    changes, dead = topic(), topic()
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(changes, ENCODER.encode({"locationName": "Rome", "sku": "refused", "quantity": 1}))
    assert producer.flush(WAIT_SECONDS_MAX) == 0
    refusing = SandboxSettings(time_scale=0.0, faults=(Refuse(item=("refused",)),))
    with SandboxServer(refusing) as sandbox:
        config = service_config(
            kafka, changes, sandbox, avro={"schema_file": str(schema_path())}, dead_letters={"topic": dead}
        )
        with running_service(config, tmp_path):
            (message,) = read(kafka, dead, 1)
    assert headers_of(message)["reason"] == b"refused_by_oms"
    assert headers_of(message)["schema_id"] == str(SCHEMA_ID).encode()


def test_closing_waits_for_originals_that_are_being_fetched(kafka: str, topic: MakeTopic, dead_letters: Open) -> None:
    source, name = topic(), topic()
    publish_changes(kafka, source, 3)
    writer = dead_letters(name)
    writer.fetch_and_publish([failed(source, 0, 1, 2, assignment=0)])
    writer.close()
    assert writer.fetching() == 0
    assert len(read(kafka, name, 3)) == 3


def test_changes_of_a_deleted_topic_are_missing(kafka: str, topic: MakeTopic, dead_letters: Open) -> None:
    name = topic()
    writer = dead_letters(name)
    writer.fetch_and_publish([failed("never-was", 2)])

    assert confirmations(writer, 1) == [ChangeId(5, 2)]
    (message,) = read(kafka, name, 1)
    assert headers_of(message)["missing"] == b"1"


def test_an_unavailable_broker_confirms_nothing_and_closing_does_not_wait_for_it(kafka: str) -> None:
    writer = DeadLetterWriter(
        KafkaSettings(bootstrap_servers="localhost:1", topics=["changes"]),
        DeadLetterSettings(topic="dead"),
        schema_id_of=CONFLUENT.schema_id_of,
    )
    writer.fetch_and_publish([failed("changes", 2)])
    started = time.monotonic()
    while time.monotonic() - started < 2.0:
        assert writer.confirmed() == []

    writer.close()
    assert writer.fetching() == 1
