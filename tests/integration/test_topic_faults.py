"""Topics get more partitions, are recreated, and have commits made by others: real processes on a real Kafka."""

from collections.abc import Mapping

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from tests.support.fleet import CLASSIC, CONSUMER, LONG_SESSIONS, REQUEST_SECONDS_MAX, Fleet, OpenFleet, both_protocols
from tests.support.service_process import wait_until
from tests.support.topics import wait_until_usable

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

QUICK_METADATA = {"topic.metadata.refresh.interval.ms": 500}


def test_added_partitions_are_shared_and_read_from_their_start(fleet: OpenFleet, admin: AdminClient) -> None:
    ours = fleet(partitions=2, **QUICK_METADATA)
    add_partitions(ours, admin)
    ours.finish()


def test_a_partition_that_the_group_knows_before_its_members_do_does_not_stop_them(
    fleet: OpenFleet, admin: AdminClient
) -> None:
    ours = fleet(
        partitions=2, protocol=CONSUMER
    )  # the broker assigns it; their own metadata is refreshed every five minutes
    add_partitions(ours, admin)
    ours.finish()


def add_partitions(ours: Fleet, admin: AdminClient) -> None:
    """From two to four, while two members are working."""
    for name in ("a", "b"):
        ours.start(name)
    ours.wait_until_shared("a", "b")
    with ours.stock.publishing():
        admin.create_partitions([NewPartitions(ours.topic, 4)])[ours.topic].result(REQUEST_SECONDS_MAX)
        ours.wait_until(lambda: len(ours.partitions()) == 4, "the topic has four partitions")
        for item in range(12):
            ours.stock.add("Store 0", f"new-{item}", 2 + item % 2)
        ours.wait_until_shared("a", "b")


def test_a_log_line_of_the_client_while_partitions_are_assigned_does_not_abort_the_process(fleet: OpenFleet) -> None:
    ours = fleet(debug="cgrp,topic")
    member = ours.start("a")
    ours.wait_until_shared("a")
    ours.stock.publish()
    ours.finish()
    assert member.stop() == 0


# Recreated topics


def recreate(ours: Fleet, admin: AdminClient, partitions: int) -> None:
    before = topic_id(admin, ours.topic)
    admin.delete_topics([ours.topic])[ours.topic].result(REQUEST_SECONDS_MAX)

    def is_created() -> bool:
        created = admin.create_topics([NewTopic(ours.topic, partitions, 1)])[ours.topic]
        return created.exception(REQUEST_SECONDS_MAX) is None

    wait_until(is_created, "the topic is created again")
    wait_until(lambda: topic_id(admin, ours.topic) not in {None, before}, "the broker reports a new topic id")
    wait_until_usable(admin, ours.topic, partitions)


def topic_id(admin: AdminClient, topic: str) -> str | None:
    """The id that the broker reports; None while the topic is unknown."""
    request = admin.describe_topics(TopicCollection([topic]))[topic]
    return None if request.exception(REQUEST_SECONDS_MAX) else str(request.result().topic_id)


@pytest.mark.parametrize("rounds", [pytest.param(1, id="shorter than it was"), pytest.param(5, id="longer")])
def test_a_topic_recreated_while_no_member_runs_is_read_from_its_start(
    fleet: OpenFleet, admin: AdminClient, rounds: int
) -> None:
    ours = fleet(partitions=2, items=12)
    first = ours.start("first")
    ours.stock.publish(3)
    ours.finish()
    assert first.stop() == 0
    old_commits = ours.outside_client.committed(ours.partitions(), timeout=REQUEST_SECONDS_MAX)
    recreate(ours, admin, 2)
    ours.wait_until(lambda: max(ours.committed().values(), default=0) < 0, "Kafka has deleted the commits")
    commit_from_outside(admin, ours.group, old_commits)  # like a member that has not noticed yet
    ours.stock.publish(rounds)
    second = ours.start("second")
    ours.finish()
    assert second.events("commit_of_deleted_topic_ignored")


@both_protocols
def test_a_topic_recreated_while_members_run_is_read_from_its_start(
    fleet: OpenFleet, admin: AdminClient, protocol: str
) -> None:
    ours = fleet(partitions=2, items=12, protocol=protocol, **QUICK_METADATA)
    for name in ("a", "b"):
        ours.start(name)
    ours.wait_until_shared("a", "b")
    ours.stock.publish(3)
    ours.finish()
    recreate(ours, admin, 2)
    ours.stock.publish(5)  # now the log is longer than it was
    ours.supervise()
    ours.finish()


# Commits made by others

METADATA: Mapping[int, str] = {0: "", 1: "x", 2: "v1;9;0", 3: "v1;-3;1;id", 4: "v2;9;0;", 5: "v1;999999;0;"}
"""Partition to commit metadata: none, foreign, malformed (three ways), read up to an offset past the log's end."""


def test_a_commit_with_missing_foreign_or_malformed_metadata_counts_as_in_doubt_at_its_offset(
    fleet: OpenFleet, admin: AdminClient
) -> None:
    ours = fleet(partitions=len(METADATA), locations=1, items=len(METADATA), **LONG_SESSIONS)
    ours.stock.publish(3)
    done = ours.end()
    ours.stock.held.clear()
    ours.stock.publish(3)
    offsets = [
        TopicPartition(ours.topic, partition, done[partition], metadata=text) for partition, text in METADATA.items()
    ]
    commit_from_outside(admin, ours.group, offsets)
    member = ours.start("a", oms={"unknown_hold": 12})
    ours.wait_until(lambda: len(member.held()) == len(METADATA), "the member has all partitions")
    recovering = {view["partition"] for view in member.snapshot()["partitions"] if view["recovering"]}
    assert recovering >= {0, 1, 2, 3, 4}, "unreadable metadata counts as in doubt, and the hold is waited out"
    ours.finish()
    assert ours.ledger.repeated() == {}


@pytest.mark.parametrize("protocol", [CLASSIC, CONSUMER])
def test_after_a_manual_offset_reset_changes_are_read_again_and_the_newest_counts_win(
    fleet: OpenFleet, admin: AdminClient, protocol: str
) -> None:
    ours = fleet(partitions=2, items=12, protocol=protocol)
    first = ours.start("first")
    ours.stock.publish(4)
    ours.finish()
    assert first.stop() == 0
    commit_from_outside(admin, ours.group, [TopicPartition(ours.topic, partition, 0) for partition in range(2)])
    ours.start("second")
    ours.wait_until(lambda: bool(ours.ledger.repeated()), "changes are sent again")
    ours.finish()


def commit_from_outside(admin: AdminClient, group: str, offsets: list[TopicPartition]) -> None:
    """Like ``kafka-consumer-groups --reset-offsets``, but with metadata."""
    request = [ConsumerGroupTopicPartitions(group, offsets)]
    admin.alter_consumer_group_offsets(request)[group].result(REQUEST_SECONDS_MAX)
