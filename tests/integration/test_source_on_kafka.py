"""The source on a real Kafka."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.core.partition.commit_metadata import CommitMetadata, format_metadata
from consumer.errors import DeadLettersError
from consumer.facts import KafkaStatistics
from consumer.kafka.source import KafkaSource
from consumer.ports import Commit, CommitRefused, Committed
from consumer.settings import KafkaSettings
from tests.support.kafka_members import Member, poll_until, publish

pytestmark = pytest.mark.integration

MakeTopic = Callable[..., str]
Join = Callable[..., Member]

REQUEST_SECONDS_MAX = 60.0
QUICK = {"session.timeout.ms": 6_000, "heartbeat.interval.ms": 300, "max.poll.interval.ms": 6_000}
"""With these, the group notices within seconds that a member does not poll."""


def settings(servers: str, *topics: str, group: str | None = None, **properties: str | int) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=servers,
        topics=list(topics),
        group_id=group or f"group-{uuid.uuid4().hex[:8]}",
        revoke_timeout=5.0,
        properties=dict(properties),
    )


def with_frequent_statistics(servers: str, topic: str) -> KafkaSettings:
    """Settings with which the client reports its statistics every 50 ms."""
    return settings(servers, topic).model_copy(update={"properties": {"statistics.interval.ms": 50}})


@pytest.fixture
def join(kafka: str) -> Iterator[Join]:
    """``join(*topics, group=None, **properties)``: a new member, which leaves when the test ends."""
    with ExitStack() as stack:

        def make(*topics: str, group: str | None = None, **properties: str | int) -> Member:
            member = Member.join(settings(kafka, *topics, group=group, **properties))
            stack.callback(member.source.close)
            return member

        yield make


def commit_one(member: Member, offset: int, metadata: str = "") -> Committed | CommitRefused:
    (assignment,) = member.held.values()
    return member.source.commit([Commit(assignment, offset, metadata)])


def test_messages_come_in_order_with_their_assignment_and_the_partition_ends(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
    name = topic(partitions=3)
    publish(kafka, name, [(number % 3, b"%d" % number) for number in range(30)])
    member = join(name)
    poll_until(lambda: len(member.ends) == 3, member)
    assert sorted(member.held) == [1, 2, 3]
    by_partition: dict[int, list[tuple[int, bytes | None]]] = {0: [], 1: [], 2: []}
    for (assignment_id, offset), value in zip(member.rows, member.values, strict=True):
        by_partition[member.held[assignment_id].partition].append((offset, value))
    assert by_partition == {
        partition: [(offset, b"%d" % (3 * offset + partition)) for offset in range(10)] for partition in range(3)
    }
    assert set(member.ends.values()) == {10}


def test_the_log_end_offset_is_known_for_paused_partitions_and_unknown_for_earlier_assignments(
    kafka: str, topic: MakeTopic
) -> None:
    name = topic(partitions=2)
    publish(kafka, name, [(0, b"x")] * 3)
    source = KafkaSource(with_frequent_statistics(kafka, name))
    member = Member.of(source)
    poll_until(lambda: len(member.ends) == 2, member)
    ids = {held.partition: held.assignment_id for held in member.held.values()}
    assert [source.log_end_offset(ids[partition]) for partition in range(2)] == [3, 0]

    source.pause(list(member.held))
    publish(kafka, name, [(0, b"x")] * 4)
    poll_until(lambda: source.log_end_offset(ids[0]) == 7, member)
    assert len(member.values) == 3, "a paused partition is not read"
    source.close()
    assert source.log_end_offset(ids[0]) is None


def test_the_statistics_count_what_is_fetched_for_all_partitions_together(kafka: str, topic: MakeTopic) -> None:
    name = topic(partitions=2)
    publish(kafka, name, [(number % 2, b"x" * 100) for number in range(20_000)])
    reports: list[KafkaStatistics] = []
    source = KafkaSource(with_frequent_statistics(kafka, name), reports.append)
    member = Member.of(source)
    poll_until(lambda: len(member.held) == 2, member, messages_max=1)

    def is_full() -> bool:
        time.sleep(0.01)  # so that the client fetches faster than we poll, on any machine
        return any(report.fetch_queue_messages > 10_000 for report in reports)

    # One message per poll: the others wait in the client's queue, which all partitions share.
    poll_until(is_full, member, messages_max=1)
    source.close()
    full = next(report for report in reports if report.fetch_queue_messages > 10_000)
    assert full.fetch_queue_messages <= 20_000
    # A hundred bytes per message; but the client counts messages before bytes, and some are taken in between.
    assert full.fetch_queue_bytes >= 99 * full.fetch_queue_messages
    assert full.brokers_up == 1
    assert full.received_bytes > 100_000 > full.sent_bytes > 0
    assert full.request_errors == 0
    # On a Kafka that has just started the client reconnects while it looks for its group coordinator.
    assert full.reconnects <= 5
    assert any(0 < times[0.5] <= times[0.99] < 10 for report in reports for times in report.round_trips.values())


def test_messages_have_timestamp_key_and_headers_and_a_tombstone_has_no_value(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
    name = topic()
    before_ms = int(time.time() * 1000)
    publish(kafka, name, [(0, b"first"), (0, None)])
    member = join(name)
    poll_until(lambda: len(member.values) == 2, member)
    batch = next(batch for batch in member.batches if len(batch))
    assert list(batch.values) == [b"first", None]
    assert all(stamp is not None and before_ms <= stamp <= time.time() * 1000 for stamp in batch.timestamps)
    assert batch.origin(1) == (b"key", [("trace", b"abc")])


def test_messages_of_several_topics_belong_to_the_assignments_of_their_topics(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
    one, other = topic(partitions=2), topic(partitions=2)
    for name in (one, other):
        publish(kafka, name, [(number % 2, f"{name}/{number % 2}".encode()) for number in range(10)])
    member = join(one, other)
    poll_until(lambda: len(member.values) == 20, member)
    for (assignment_id, _), value in zip(member.rows, member.values, strict=True):
        held = member.held[assignment_id]
        assert value == f"{held.topic}/{held.partition}".encode()


def test_an_assignment_has_the_log_bounds_and_the_topic_id_and_no_commit_of_a_new_group(
    kafka: str, topic: MakeTopic, join: Join, admin: AdminClient
) -> None:
    name = topic()
    publish(kafka, name, [(0, b"x")] * 7)
    member = join(name)
    poll_until(lambda: member.held, member)
    (assignment,) = member.held.values()
    described = admin.describe_topics(TopicCollection([name]))[name].result(REQUEST_SECONDS_MAX)
    assert (assignment.committed, assignment.metadata) == (None, "")
    assert (assignment.low, assignment.high) == (0, 7)
    assert assignment.topic_id == str(described.topic_id)


def test_the_next_owner_starts_at_the_commit_and_reads_its_metadata(kafka: str, topic: MakeTopic, join: Join) -> None:
    name = topic()
    publish(kafka, name, [(0, b"%d" % number) for number in range(10)])
    first = join(name, group=f"{name}-group")
    poll_until(lambda: len(first.values) == 10, first)
    metadata = format_metadata(CommitMetadata(9, True, next(iter(first.held.values())).topic_id))
    assert commit_one(first, 4, metadata) == Committed()
    first.source.close()
    second = join(name, group=f"{name}-group")
    poll_until(lambda: len(second.values) == 6, second)
    (assignment,) = second.held.values()
    assert (assignment.committed, assignment.metadata) == (4, metadata)
    assert [offset for _, offset in second.rows] == list(range(4, 10))


def test_a_commit_of_nothing_and_a_repeated_commit_are_committed(kafka: str, topic: MakeTopic, join: Join) -> None:
    name = topic()
    publish(kafka, name, [(0, b"x")])
    member = join(name)
    poll_until(lambda: member.values, member)
    assert member.source.commit([]) == Committed()
    assert commit_one(member, 1) == Committed()
    assert commit_one(member, 1) == Committed()


def test_the_commit_of_a_member_that_did_not_poll_is_refused_and_its_partitions_are_reported_lost(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
    name = topic()
    publish(kafka, name, [(0, b"x")])
    silent = join(name, group=f"{name}-group", **QUICK)
    poll_until(lambda: silent.values, silent)
    lost = tuple(silent.held)
    other = join(name, group=f"{name}-group", **QUICK)
    poll_until(lambda: other.held, other)
    refused = commit_one(silent, 1)
    assert isinstance(refused, CommitRefused)
    assert refused.fenced
    poll_until(lambda: ("lost", lost) in silent.rebalances, silent, other)
    assert not silent.held


def test_in_a_rebalance_a_member_keeps_the_partitions_that_stay_and_commits_those_that_move(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
    name = topic(partitions=4)
    publish(kafka, name, [(number % 4, b"x") for number in range(40)])
    first = join(name, group=f"{name}-group")
    poll_until(lambda: len(first.values) == 40, first)
    outcomes: list[Committed | CommitRefused] = []
    first.when_revoked = lambda assignment_ids: outcomes.append(
        first.source.commit([Commit(first.held[assignment_id], 10, "") for assignment_id in assignment_ids])
    )
    second = join(name, group=f"{name}-group")
    poll_until(lambda: len(second.held) == 2 and len(first.held) == 2, first, second)
    kinds = [kind for kind, assignment_ids in first.rebalances if assignment_ids]
    assert kinds == ["assigned", "revoked"]
    assert outcomes == [Committed()]
    assert {assignment.committed for assignment in second.held.values()} == {10}
    assert {assignment.partition for assignment in [*first.held.values(), *second.held.values()]} == {0, 1, 2, 3}
    publish(kafka, name, [(partition, b"new") for partition in range(4)])
    poll_until(lambda: len(first.values) == 42 and len(second.values) == 2, first, second)
    assert {assignment_id for assignment_id, _ in first.rows[40:]} == set(first.held)


def test_a_partition_that_is_assigned_again_has_a_new_assignment_id(kafka: str, topic: MakeTopic, join: Join) -> None:
    name = topic(partitions=2)
    first = join(name, group=f"{name}-group")
    poll_until(lambda: len(first.held) == 2, first)
    second = join(name, group=f"{name}-group")
    poll_until(lambda: len(second.held) == 1, first, second)
    second.source.close()
    poll_until(lambda: len(first.held) == 2, first)
    assert max(first.held) == 3
    assert ("revoked", (1,)) in second.rebalances


@pytest.mark.parametrize("strategy", ["range", "roundrobin"])
def test_with_an_eager_strategy_all_partitions_are_revoked_and_then_shared(
    kafka: str, topic: MakeTopic, join: Join, strategy: str
) -> None:
    name = topic(partitions=2)
    publish(kafka, name, [(0, b"x"), (1, b"x")])
    options = {"partition.assignment.strategy": strategy}
    first = join(name, group=f"{name}-group", **options)
    poll_until(lambda: len(first.values) == 2, first)
    second = join(name, group=f"{name}-group", **options)
    poll_until(lambda: len(second.held) == 1 and len(first.held) == 1, first, second)
    assert ("revoked", (1, 2)) in first.rebalances
    poll_until(lambda: set(second.held) <= set(second.ends), first, second)


def test_a_paused_partition_is_not_read_and_resumes_where_it_was(kafka: str, topic: MakeTopic, join: Join) -> None:
    name = topic(partitions=2)
    member = join(name)
    poll_until(lambda: len(member.ends) == 2, member)
    member.source.pause([1, 999])
    publish(kafka, name, [(number % 2, b"x") for number in range(200)])
    poll_until(lambda: len(member.values) == 100, member)
    for _ in range(5):
        member.poll()
    assert {assignment_id for assignment_id, _ in member.rows} == {2}
    member.source.pause([999])
    member.source.resume([1, 999])
    poll_until(lambda: len(member.values) == 200, member)
    assert [offset for assignment_id, offset in member.rows if assignment_id == 1] == list(range(100))


def test_a_partition_that_is_resumed_is_fetched_at_once_though_all_were_paused(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
    """The client itself asks for it only when its thread for that broker next wakes up, once a second."""
    name = topic()
    publish(kafka, name, [(0, b"x" * 50)] * 4_000)
    source = KafkaSource(settings(kafka, name))
    member = Member.of(source)
    poll_until(lambda: member.rows, member, messages_max=100)

    def waits_for(resume: Callable[[], None]) -> float:
        source.pause(list(member.held))
        paused_until = time.monotonic() + 0.3
        while time.monotonic() < paused_until:
            member.poll(timeout_seconds=0.05)
        before, resumed_at = len(member.rows), time.monotonic()
        resume()
        poll_until(lambda: len(member.rows) > before, member, messages_max=100)
        return time.monotonic() - resumed_at

    partition = TopicPartition(name, 0)
    ours = sum(waits_for(lambda: source.resume(list(member.held))) for _ in range(4))
    of_the_client = sum(waits_for(lambda: source._consumer.resume([partition])) for _ in range(4))
    source.close()
    assert ours < of_the_client / 2
    assert [offset for _, offset in member.rows] == list(range(len(member.rows)))


def test_nothing_is_lost_or_read_twice_while_a_busy_partition_is_paused_and_resumed(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
    name = topic(partitions=2)
    publish(kafka, name, [(number % 2, b"x" * 50) for number in range(40_000)])
    member = join(name)
    while len(member.rows) < 40_000:
        member.poll()
        member.source.pause(list(member.held))
        member.poll(timeout_seconds=0.001)
        member.source.resume(list(member.held))
        member.poll()
    for held_id in member.held:
        assert [offset for assignment_id, offset in member.rows if assignment_id == held_id] == list(range(20_000))
    assert not [kind for kind, _ in member.rebalances if kind == "lost"]


def test_the_partition_end_lies_past_the_markers_of_transactions(kafka: str, topic: MakeTopic, join: Join) -> None:
    name = topic()
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": name})
    producer.init_transactions(30.0)
    for outcome in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        producer.produce(name, value=b"x", partition=0)
        producer.flush(REQUEST_SECONDS_MAX)
        outcome(30.0)
    member = join(name)
    poll_until(lambda: member.ends.get(1) == 4, member)
    assert member.rows == [(1, 0)]


def test_if_retention_deleted_the_committed_offset_reading_starts_at_the_logs_start(
    kafka: str, topic: MakeTopic, join: Join, admin: AdminClient
) -> None:
    name = topic()
    publish(kafka, name, [(0, b"%d" % number) for number in range(10)])
    commit_from_outside(admin, f"{name}-group", TopicPartition(name, 0, 2))
    (deleted,) = admin.delete_records([TopicPartition(name, 0, 6)]).values()
    deleted.result(REQUEST_SECONDS_MAX)
    member = join(name, group=f"{name}-group")
    poll_until(lambda: len(member.values) == 4, member)
    (assignment,) = member.held.values()
    assert (assignment.committed, assignment.low, assignment.high) == (2, 6, 10)
    assert [offset for _, offset in member.rows] == [6, 7, 8, 9]


def test_if_the_committed_offset_is_past_the_logs_end_reading_starts_at_the_logs_start(
    kafka: str, topic: MakeTopic, join: Join, admin: AdminClient
) -> None:
    name = topic()
    publish(kafka, name, [(0, b"x")] * 3)
    commit_from_outside(admin, f"{name}-group", TopicPartition(name, 0, 50))
    member = join(name, group=f"{name}-group")
    poll_until(lambda: len(member.values) == 3, member)
    assert [assignment.committed for assignment in member.held.values()] == [50]


def test_a_commit_to_a_deleted_topic_of_the_same_name_is_ignored(
    kafka: str, topic: MakeTopic, join: Join, admin: AdminClient
) -> None:
    name = topic()
    publish(kafka, name, [(0, b"x")] * 3)
    metadata = format_metadata(CommitMetadata(3, False, "another-topic-id"))
    commit_from_outside(admin, f"{name}-group", TopicPartition(name, 0, 3, metadata=metadata))
    member = join(name, group=f"{name}-group")
    poll_until(lambda: len(member.values) == 3, member)
    assert [(assignment.committed, assignment.metadata) for assignment in member.held.values()] == [(None, "")]


def test_partitions_assigned_while_the_source_closes_are_neither_loaded_nor_reported(
    kafka: str, topic: MakeTopic
) -> None:
    """The client answers no requests while it closes: loading the partitions took a minute, and failed."""
    source = KafkaSource(settings(kafka, topic(partitions=2)))
    member = Member.of(source)
    source._closed = True  # as during ``close``, while the client makes its last callbacks
    poll_until(lambda: len(source._consumer.assignment()) == 2, member)
    source._consumer.close()
    assert member.rebalances == []


def test_an_error_of_the_listener_is_raised_by_the_poll(kafka: str, topic: MakeTopic, join: Join) -> None:
    name = topic(partitions=2)
    group = f"{name}-group"
    member = join(name, group=group)
    poll_until(lambda: member.held, member)

    def stop(assignment_ids: object) -> None:
        raise DeadLettersError("stop here")

    member.when_revoked = stop
    other = join(name, group=group)
    with pytest.raises(DeadLettersError, match="stop here"):
        poll_until(lambda: other.held, member, other)
    member.when_revoked = lambda assignment_ids: None


def commit_from_outside(admin: AdminClient, group: str, partition: TopicPartition) -> None:
    request = [ConsumerGroupTopicPartitions(group, [partition])]
    admin.alter_consumer_group_offsets(request)[group].result(REQUEST_SECONDS_MAX)
