"""Dead letters on a real Kafka."""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.core.changes.items import ChangeId, RejectReason
from consumer.dead_letters.writer import KafkaDeadLetters
from consumer.errors import DeadLettersError
from consumer.ports import Assignment, FailedChanges, Reject
from consumer.settings import DeadLetterSettings, KafkaSettings

pytestmark = pytest.mark.integration

MakeTopic = Callable[..., str]
Open = Callable[[str], KafkaDeadLetters]

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

        def make(topic: str) -> KafkaDeadLetters:
            opened = KafkaDeadLetters(
                KafkaSettings(bootstrap_servers=kafka, topics=["changes"], unreachable_timeout=60.0),
                DeadLetterSettings(topic=topic),
            )
            stack.callback(opened.close)
            return opened

        yield make


def confirmations(letters: KafkaDeadLetters, count: int) -> Sequence[ChangeId]:
    found: list[ChangeId] = []
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while len(found) < count and time.monotonic() < deadline:
        found += letters.confirmed()
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


def test_a_confirmed_dead_letter_has_the_changes_own_key_value_and_headers_and_its_reason(
    kafka: str, topic: MakeTopic, dead_letters: Open
) -> None:
    name = topic()
    letters = dead_letters(name)
    letters.check()
    letters.publish([REJECT], {5: ASSIGNMENT})
    assert confirmations(letters, 1) == [ChangeId(5, 77)]
    assert letters.confirmed() == []
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


def test_a_reject_of_an_earlier_assignment_is_passed_over(topic: MakeTopic, dead_letters: Open) -> None:
    letters = dead_letters(topic())
    letters.publish([REJECT], {})
    letters.close()
    assert letters.confirmed() == []


def test_a_change_too_large_for_the_topic_goes_without_its_value(
    kafka: str, topic: MakeTopic, dead_letters: Open
) -> None:
    name = topic(config={"max.message.bytes": "20000", "compression.type": "producer"})
    letters = dead_letters(name)
    large = os.urandom(50_000)
    small = [Reject(ChangeId(5, offset), RejectReason.CORRUPT, "", b"small") for offset in range(20)]
    letters.publish([*small, Reject(ChangeId(5, 20), RejectReason.CORRUPT, "", large)], {5: ASSIGNMENT})
    assert sorted(confirmations(letters, 21)) == [ChangeId(5, offset) for offset in range(21)]
    messages = read(kafka, name, 21)
    assert [message.value() for message in messages] == [b"small"] * 20 + [None]
    assert dict(messages[-1].headers() or [])["inventory_refresh.value_bytes"] == str(len(large)).encode()


def test_a_missing_topic_is_named_at_the_start(dead_letters: Open) -> None:
    with pytest.raises(DeadLettersError, match=r'dead_letters\.topic: there is no topic "not-there" at'):
        dead_letters("not-there").check()


def test_a_dead_letter_that_cannot_be_delivered_stops_the_service(
    topic: MakeTopic, dead_letters: Open, admin: AdminClient
) -> None:
    name = topic(config={"min.insync.replicas": "1", "max.message.bytes": "10"})
    letters = dead_letters(name)
    letters.publish([REJECT], {5: ASSIGNMENT})
    with pytest.raises(DeadLettersError, match=f'cannot be delivered to "{name}"'):
        confirmations(letters, 1)


# What was sent, and is found again in its topic


SENT_AT = round(time.time() * 1000)
"""Retention would take what is older, within the test."""


def publish_changes(kafka: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(count):
        trace: list[tuple[str, str | bytes | None]] = [("trace", str(number))]
        producer.produce(topic, f"value {number}", key=f"key {number}", headers=trace, timestamp=SENT_AT)
    assert producer.flush(WAIT_SECONDS_MAX) == 0


def sent(topic: str, *offsets: int, **more: Any) -> FailedChanges:
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


def test_a_change_that_was_sent_in_vain_is_found_again_by_its_offset_as_it_came(
    kafka: str, topic: MakeTopic, dead_letters: Open
) -> None:
    source, name = topic(), topic()
    publish_changes(kafka, source, 5_000)
    letters = dead_letters(name)
    letters.fetch_and_publish(
        [sent(source, 3, 4, 4_999), sent(source, 8, reason=RejectReason.REFUSED_BY_OMS, job_id=None)]
    )
    assert letters.fetching() == 4

    assert sorted(confirmations(letters, 4)) == [ChangeId(5, 3), ChangeId(5, 4), ChangeId(5, 8), ChangeId(5, 4_999)]
    assert letters.fetching() == 0
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


def test_a_change_that_retention_took_is_kept_as_its_item_or_at_least_named(
    kafka: str, topic: MakeTopic, dead_letters: Open, admin: AdminClient
) -> None:
    source, name = topic(), topic()
    publish_changes(kafka, source, 10)
    (deleted,) = admin.delete_records([TopicPartition(source, 0, 5)]).values()
    deleted.result(WAIT_SECONDS_MAX)
    letters = dead_letters(name)
    letters.fetch_and_publish([sent(source, 2, 3, 7, items={2: b'{"sku": "a"}'})])

    assert sorted(confirmations(letters, 3)) == [ChangeId(5, 2), ChangeId(5, 3), ChangeId(5, 7)]
    found = {headers_of(message)["offset"]: message for message in read(kafka, name, 3)}
    assert [found[at].value() for at in (b"2", b"3", b"7")] == [b'{"sku": "a"}', None, b"value 7"]
    assert [headers_of(found[at]).get("gone") for at in (b"2", b"3", b"7")] == [b"1", b"1", None]


def test_items_that_were_refused_one_by_one_are_found_in_one_go(
    kafka: str, topic: MakeTopic, dead_letters: Open
) -> None:
    source, name = topic(), topic()
    publish_changes(kafka, source, 3_000)
    letters = dead_letters(name)
    letters.fetch_and_publish([*(sent(source, offset) for offset in range(3_000)), sent(source, 7, assignment=6)])

    assert sorted(confirmations(letters, 3_001)) == [*(ChangeId(5, offset) for offset in range(3_000)), ChangeId(6, 7)]


def test_an_offset_that_has_no_message_is_gone_and_those_beside_it_are_found(
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
    letters = dead_letters(name)
    letters.fetch_and_publish([sent(source, 0, 1, 3)])

    assert sorted(confirmations(letters, 3)) == [ChangeId(5, 0), ChangeId(5, 1), ChangeId(5, 3)]
    found = {headers_of(message)["offset"]: message for message in read(kafka, name, 3)}
    assert [found[at].value() for at in (b"0", b"1", b"3")] == [b"value 0", None, b"value 0"]
    assert [headers_of(found[at]).get("gone") for at in (b"0", b"1", b"3")] == [None, b"1", None]


def test_a_change_that_is_found_again_names_its_schema_where_its_bytes_tell(kafka: str, topic: MakeTopic) -> None:
    source, name = topic(), topic()
    publish_changes(kafka, source, 2)
    settings = KafkaSettings(bootstrap_servers=kafka, topics=["changes"])
    with closing(
        KafkaDeadLetters(
            settings, DeadLetterSettings(topic=name), schema_id_of=lambda value: 42 if value == b"value 1" else None
        )
    ) as letters:
        letters.fetch_and_publish([sent(source, 0, 1)])
        confirmations(letters, 2)
    assert [headers_of(message).get("schema_id") for message in read(kafka, name, 2)] == [None, b"42"]


def test_closing_waits_for_what_is_being_found(kafka: str, topic: MakeTopic, dead_letters: Open) -> None:
    source, name = topic(), topic()
    publish_changes(kafka, source, 3)
    letters = dead_letters(name)
    letters.fetch_and_publish([sent(source, 0, 1, 2, assignment=0)])
    letters.close()
    assert letters.fetching() == 0
    assert len(read(kafka, name, 3)) == 3


def test_changes_of_a_topic_that_is_no_more_are_gone(kafka: str, topic: MakeTopic, dead_letters: Open) -> None:
    name = topic()
    letters = dead_letters(name)
    letters.fetch_and_publish([sent("never-was", 2)])

    assert confirmations(letters, 1) == [ChangeId(5, 2)]
    (message,) = read(kafka, name, 1)
    assert headers_of(message)["gone"] == b"1"


def test_a_broker_that_stays_away_confirms_nothing_and_closing_does_not_wait_for_it(kafka: str) -> None:
    letters = KafkaDeadLetters(
        KafkaSettings(bootstrap_servers="localhost:1", topics=["changes"]), DeadLetterSettings(topic="dead")
    )
    letters.fetch_and_publish([sent("changes", 2)])
    started = time.monotonic()
    while time.monotonic() - started < 2.0:
        assert letters.confirmed() == []

    letters.close()
    assert letters.fetching() == 1
