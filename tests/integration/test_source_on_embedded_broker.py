"""The embedded broker behaves like a real Kafka, as far as it can."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition

from consumer.core.partition.commit_metadata import CommitMetadata, format_metadata
from consumer.dead_letters.writer import DeadLetterWriter
from consumer.errors import BrokerError
from consumer.facts import KafkaStatistics
from consumer.kafka.source import KafkaSource
from consumer.ports import Commit, Committed
from consumer.sandbox.embedded_broker import PARTITIONS, EmbeddedBroker
from consumer.settings import DeadLetterSettings, KafkaSettings
from tests.support.kafka_members import Member, poll_until, publish

TOPIC = "changes"


@pytest.fixture
def embedded() -> Iterator[KafkaSettings]:
    with EmbeddedBroker([TOPIC, "dead-letters"]) as broker:
        yield KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers,
            topics=[TOPIC],
            unreachable_timeout=60.0,
        )


def test_messages_are_read_in_order_and_a_commit_is_kept(embedded: KafkaSettings) -> None:
    publish(embedded.bootstrap_servers, TOPIC, [(number % PARTITIONS, b"%d" % number) for number in range(40)])
    first = Member.join(embedded)
    source = first.source
    assert isinstance(source, KafkaSource)
    assert source.partitions_total() is None
    poll_until(lambda: len(first.ends) == PARTITIONS, first)
    assert source.partitions_total() == PARTITIONS
    assert len(first.values) == 40
    assert set(first.ends.values()) == {10}
    for held_id in first.held:
        assert [offset for assignment_id, offset in first.rows if assignment_id == held_id] == list(range(10))
    metadata = format_metadata(CommitMetadata(10, in_doubt=False))
    assert first.source.commit([Commit(assignment, 7, metadata) for assignment in first.held.values()]) == Committed()
    first.source.close()
    assert ("revoked", tuple(sorted(first.rebalances[0][1]))) in first.rebalances
    assert committed(embedded) == {(7, metadata)}


def committed(embedded: KafkaSettings) -> set[tuple[int, str | None]]:
    """Read from outside the group: this broker admits a second member only after many seconds."""
    reader = Consumer({"bootstrap.servers": embedded.bootstrap_servers, "group.id": embedded.group_id})
    try:
        partitions = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
        return {(answer.offset, answer.metadata) for answer in reader.committed(partitions, timeout=60.0)}
    finally:
        reader.close()


def test_the_checks_before_the_start_work_as_on_a_real_broker(embedded: KafkaSettings) -> None:
    KafkaSource(embedded).check_broker()
    DeadLetterWriter(
        embedded, DeadLetterSettings(topic="dead-letters"), schema_id_of=lambda _value, _headers: None
    ).check()
    with pytest.raises(BrokerError, match=r"did you mean changes\?"):
        KafkaSource(embedded.model_copy(update={"topics": ["change"]})).check_broker()


def test_statistics_and_the_log_end_offsets_of_paused_partitions_are_reported(embedded: KafkaSettings) -> None:
    statistics: list[KafkaStatistics] = []
    often = embedded.model_copy(update={"properties": {"statistics.interval.ms": 100}})
    source = KafkaSource(often, statistics.append)
    member = Member.of(source)
    poll_until(lambda: len(member.ends) == PARTITIONS, member)
    source.pause(list(member.held))
    publish(embedded.bootstrap_servers, TOPIC, [(number % PARTITIONS, b"x") for number in range(40)])
    poll_until(lambda: {source.log_end_offset(assignment_id) for assignment_id in member.held} == {10}, member)
    assert statistics[-1].brokers_up == 1
    source.close()


def test_a_partition_whose_offsets_go_backwards_is_lost_and_read_again_from_its_start(embedded: KafkaSettings) -> None:
    publish(embedded.bootstrap_servers, TOPIC, [(0, b"%d" % number) for number in range(10)])
    member = Member.join(embedded)
    poll_until(lambda: len(member.values) == 10, member)
    (before,) = [held.assignment_id for held in member.held.values() if held.partition == 0]
    # The client does this by itself if the log no longer has the offset that it wants.
    assert isinstance(member.source, KafkaSource)
    member.source._consumer.seek(TopicPartition(TOPIC, 0, 4))
    poll_until(lambda: len(member.values) == 20, member)
    assert ("lost", (before,)) in member.rebalances
    (after,) = [held.assignment_id for held in member.held.values() if held.partition == 0]
    assert after > max(before, PARTITIONS)
    assert [offset for assignment_id, offset in member.rows if assignment_id == after] == list(range(10))
    member.source.close()
