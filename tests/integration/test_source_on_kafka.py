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
"""So that the group notices a silent member within seconds."""


def settings(servers: str, *topics: str, group: str = "", **properties: str | int) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=servers,
        topics=list(topics),
        group_id=group or f"group-{uuid.uuid4().hex[:8]}",
        revoke_timeout=5.0,
        properties=dict(properties),
    )


def telling_often(servers: str, topic: str) -> KafkaSettings:
    """Settings with which the client tells of itself every 50 ms."""
    return settings(servers, topic).model_copy(update={"properties": {"statistics.interval.ms": 50}})


@pytest.fixture
def join(kafka: str) -> Iterator[Join]:
    """``join(*topics, group="", **properties)``: a new member, which leaves when the test ends."""
    with ExitStack() as stack:

        def make(*topics: str, group: str = "", **properties: str | int) -> Member:
            member = Member.join(settings(kafka, *topics, group=group, **properties))
            stack.callback(member.source.close)
            return member

        yield make


def commit_one(member: Member, offset: int, metadata: str = "") -> Committed | CommitRefused:
    (assignment,) = member.held.values()
    return member.source.commit([Commit(assignment, offset, metadata)])


def test_messages_come_in_order_with_their_assignment_and_the_ends_are_told(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
    name = topic(partitions=3)
    publish(kafka, name, [(number % 3, b"%d" % number) for number in range(30)])
    member = join(name)
    poll_until(lambda: len(member.ends) == 3, member)
    assert sorted(member.held) == [1, 2, 3]
    by_partition: dict[int, list[tuple[int, bytes | None]]] = {0: [], 1: [], 2: []}
    for (number, offset), value in zip(member.rows, member.values, strict=True):
        by_partition[member.held[number].partition].append((offset, value))
    assert by_partition == {
        partition: [(at, b"%d" % (3 * at + partition)) for at in range(10)] for partition in range(3)
    }
    assert set(member.ends.values()) == {10}


def test_the_end_of_a_log_is_heard_while_its_partition_is_paused_and_of_none_that_went(
    kafka: str, topic: MakeTopic
) -> None:
    name = topic(partitions=2)
    publish(kafka, name, [(0, b"x")] * 3)
    source = KafkaSource(telling_often(kafka, name))
    member = Member.of(source)
    poll_until(lambda: len(member.ends) == 2, member)
    number_of = {each.partition: each.assignment_id for each in member.held.values()}
    assert [source.log_end(number_of[partition]) for partition in range(2)] == [3, 0]

    source.pause(list(member.held))
    publish(kafka, name, [(0, b"x")] * 4)
    poll_until(lambda: source.log_end(number_of[0]) == 7, member)
    assert len(member.values) == 3, "a paused partition is not read"
    source.close()
    assert source.log_end(number_of[0]) is None


def test_the_client_tells_what_it_has_fetched_of_all_partitions_together(kafka: str, topic: MakeTopic) -> None:
    name = topic(partitions=2)
    publish(kafka, name, [(number % 2, b"x" * 100) for number in range(20_000)])
    told: list[KafkaStatistics] = []
    source = KafkaSource(telling_often(kafka, name), told.append)
    member = Member.of(source)
    poll_until(lambda: len(member.held) == 2, member, messages_max=1)

    def is_full() -> bool:
        time.sleep(0.01)  # so that fetching is quicker than we are, on any machine
        return any(each.fetch_queue_messages > 15_000 for each in told)

    # One message a poll: the rest waits in the client's queue, which all partitions share.
    poll_until(is_full, member, messages_max=1)
    source.close()
    full = next(each for each in told if each.fetch_queue_messages > 15_000)
    assert full.fetch_queue_messages <= 20_000
    # A hundred each; but the client counts messages a moment before bytes, and some are taken meanwhile.
    assert full.fetch_queue_bytes >= 99 * full.fetch_queue_messages
    assert full.brokers_up == 1
    assert full.received_bytes > 100_000 > full.sent_bytes > 0
    assert full.request_errors == 0
    # On a Kafka that has just started the client asks for its coordinator until there is one, and connects anew.
    assert full.reconnects <= 5
    assert any(0 < times[0.5] <= times[0.99] < 10 for each in told for times in each.round_trips.values())


def test_a_message_has_its_timestamp_key_and_headers_and_a_tombstone_no_value(
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


def test_messages_of_several_topics_have_the_assignments_of_their_own_topics(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
    one, other = topic(partitions=2), topic(partitions=2)
    for name in (one, other):
        publish(kafka, name, [(number % 2, f"{name}/{number % 2}".encode()) for number in range(10)])
    member = join(one, other)
    poll_until(lambda: len(member.values) == 20, member)
    for (number, _), value in zip(member.rows, member.values, strict=True):
        held = member.held[number]
        assert value == f"{held.topic}/{held.partition}".encode()


def test_an_assignment_tells_the_log_and_the_topic_and_that_nothing_is_committed(
    kafka: str, topic: MakeTopic, join: Join, admin: AdminClient
) -> None:
    name = topic()
    publish(kafka, name, [(0, b"x")] * 7)
    member = join(name)
    poll_until(lambda: member.held, member)
    (assignment,) = member.held.values()
    known = admin.describe_topics(TopicCollection([name]))[name].result(REQUEST_SECONDS_MAX)
    assert (assignment.committed, assignment.metadata) == (None, "")
    assert (assignment.low, assignment.high) == (0, 7)
    assert assignment.topic_id == str(known.topic_id)


def test_a_successor_begins_at_the_commit_and_reads_what_stood_beside_it(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
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


def test_a_commit_of_nothing_and_the_same_commit_again_are_committed(kafka: str, topic: MakeTopic, join: Join) -> None:
    name = topic()
    publish(kafka, name, [(0, b"x")])
    member = join(name)
    poll_until(lambda: member.values, member)
    assert member.source.commit([]) == Committed()
    assert commit_one(member, 1) == Committed()
    assert commit_one(member, 1) == Committed()


def test_a_member_that_was_silent_too_long_is_refused_its_commit_and_told_that_it_lost_its_partitions(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
    name = topic()
    publish(kafka, name, [(0, b"x")])
    silent = join(name, group=f"{name}-group", **QUICK)
    poll_until(lambda: silent.values, silent)
    had = tuple(silent.held)
    other = join(name, group=f"{name}-group", **QUICK)
    poll_until(lambda: other.held, other)
    refused = commit_one(silent, 1)
    assert isinstance(refused, CommitRefused)
    assert refused.fenced
    poll_until(lambda: ("lost", had) in silent.told, silent, other)
    assert not silent.held


def test_during_a_rebalance_a_member_keeps_what_stays_and_commits_what_goes(
    kafka: str, topic: MakeTopic, join: Join
) -> None:
    name = topic(partitions=4)
    publish(kafka, name, [(number % 4, b"x") for number in range(40)])
    first = join(name, group=f"{name}-group")
    poll_until(lambda: len(first.values) == 40, first)
    outcomes: list[Committed | CommitRefused] = []
    first.when_revoked = lambda numbers: outcomes.append(
        first.source.commit([Commit(first.held[number], 10, "") for number in numbers])
    )
    second = join(name, group=f"{name}-group")
    poll_until(lambda: len(second.held) == 2 and len(first.held) == 2, first, second)
    kinds = [kind for kind, numbers in first.told if numbers]
    assert kinds == ["assigned", "revoked"]
    assert outcomes == [Committed()]
    assert {each.committed for each in second.held.values()} == {10}
    assert {each.partition for each in [*first.held.values(), *second.held.values()]} == {0, 1, 2, 3}
    publish(kafka, name, [(partition, b"new") for partition in range(4)])
    poll_until(lambda: len(first.values) == 42 and len(second.values) == 2, first, second)
    assert {number for number, _ in first.rows[40:]} == set(first.held)


def test_a_partition_that_comes_back_has_a_new_number(kafka: str, topic: MakeTopic, join: Join) -> None:
    name = topic(partitions=2)
    first = join(name, group=f"{name}-group")
    poll_until(lambda: len(first.held) == 2, first)
    second = join(name, group=f"{name}-group")
    poll_until(lambda: len(second.held) == 1, first, second)
    second.source.close()
    poll_until(lambda: len(first.held) == 2, first)
    assert max(first.held) == 3
    assert ("revoked", (1,)) in second.told


@pytest.mark.parametrize("strategy", ["range", "roundrobin"])
def test_a_group_with_an_eager_strategy_gives_everything_back_and_takes_its_share(
    kafka: str, topic: MakeTopic, join: Join, strategy: str
) -> None:
    name = topic(partitions=2)
    publish(kafka, name, [(0, b"x"), (1, b"x")])
    options = {"partition.assignment.strategy": strategy}
    first = join(name, group=f"{name}-group", **options)
    poll_until(lambda: len(first.values) == 2, first)
    second = join(name, group=f"{name}-group", **options)
    poll_until(lambda: len(second.held) == 1 and len(first.held) == 1, first, second)
    assert ("revoked", (1, 2)) in first.told
    poll_until(lambda: set(second.held) <= set(second.ends), first, second)


def test_a_paused_partition_rests_and_goes_on_where_it_was(kafka: str, topic: MakeTopic, join: Join) -> None:
    name = topic(partitions=2)
    member = join(name)
    poll_until(lambda: len(member.ends) == 2, member)
    member.source.pause([1, 999])
    publish(kafka, name, [(number % 2, b"x") for number in range(200)])
    poll_until(lambda: len(member.values) == 100, member)
    for _ in range(5):
        member.poll()
    assert {number for number, _ in member.rows} == {2}
    member.source.pause([999])
    member.source.resume([1, 999])
    poll_until(lambda: len(member.values) == 200, member)
    assert [offset for number, offset in member.rows if number == 1] == list(range(100))


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
    for number in member.held:
        assert [offset for at, offset in member.rows if at == number] == list(range(20_000))
    assert not [kind for kind, _ in member.told if kind == "lost"]


def test_a_transactions_markers_lie_below_the_end_that_is_told(kafka: str, topic: MakeTopic, join: Join) -> None:
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


def test_a_committed_offset_that_retention_has_passed_starts_at_the_logs_start_and_tells_both(
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


def test_a_committed_offset_behind_the_end_starts_at_the_logs_start(
    kafka: str, topic: MakeTopic, join: Join, admin: AdminClient
) -> None:
    name = topic()
    publish(kafka, name, [(0, b"x")] * 3)
    commit_from_outside(admin, f"{name}-group", TopicPartition(name, 0, 50))
    member = join(name, group=f"{name}-group")
    poll_until(lambda: len(member.values) == 3, member)
    assert [each.committed for each in member.held.values()] == [50]


def test_a_commit_to_an_earlier_topic_of_the_same_name_is_ignored(
    kafka: str, topic: MakeTopic, join: Join, admin: AdminClient
) -> None:
    name = topic()
    publish(kafka, name, [(0, b"x")] * 3)
    metadata = format_metadata(CommitMetadata(3, False, "another-topic-id"))
    commit_from_outside(admin, f"{name}-group", TopicPartition(name, 0, 3, metadata=metadata))
    member = join(name, group=f"{name}-group")
    poll_until(lambda: len(member.values) == 3, member)
    assert [(each.committed, each.metadata) for each in member.held.values()] == [(None, "")]


def test_what_is_assigned_while_a_member_leaves_is_not_asked_about_and_nobody_is_told(
    kafka: str, topic: MakeTopic
) -> None:
    """The client answers no question then: to describe the partitions took a minute, and failed."""
    source = KafkaSource(settings(kafka, topic(partitions=2)))
    member = Member.of(source)
    source._closed = True  # as ``close`` has it while it serves the last callbacks
    poll_until(lambda: len(source._consumer.assignment()) == 2, member)
    source._consumer.close()
    assert member.told == []


def test_an_error_of_the_listener_comes_out_of_the_poll(kafka: str, topic: MakeTopic, join: Join) -> None:
    name = topic(partitions=2)
    group = f"{name}-group"
    member = join(name, group=group)
    poll_until(lambda: member.held, member)

    def stop(numbers: object) -> None:
        raise DeadLettersError("stop here")

    member.when_revoked = stop
    other = join(name, group=group)
    with pytest.raises(DeadLettersError, match="stop here"):
        poll_until(lambda: other.held, member, other)
    member.when_revoked = lambda numbers: None


def commit_from_outside(admin: AdminClient, group: str, partition: TopicPartition) -> None:
    request = [ConsumerGroupTopicPartitions(group, [partition])]
    admin.alter_consumer_group_offsets(request)[group].result(REQUEST_SECONDS_MAX)
