"""Topics grow, are made anew, and have commits of other hands: the service as processes on a real Kafka."""

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


def test_partitions_that_are_added_are_shared_and_read_from_their_beginning(
    fleet: OpenFleet, admin: AdminClient
) -> None:
    ours = fleet(partitions=2, **QUICK_METADATA)
    add_partitions(ours, admin)
    ours.finish()


def test_a_partition_of_which_the_group_knows_sooner_than_its_members_does_not_end_them(
    fleet: OpenFleet, admin: AdminClient
) -> None:
    ours = fleet(partitions=2, protocol=CONSUMER)  # the broker hands it out; they would ask for it in five minutes
    add_partitions(ours, admin)
    ours.finish()


def add_partitions(ours: Fleet, admin: AdminClient) -> None:
    """From two to four, under two members that work."""
    for name in ("a", "b"):
        ours.start(name)
    ours.wait_until_shared("a", "b")
    with ours.stock.publishing():
        admin.create_partitions([NewPartitions(ours.topic, 4)])[ours.topic].result(REQUEST_SECONDS_MAX)
        ours.wait_until(lambda: len(ours.partitions()) == 4, "the topic has four partitions")
        for number in range(12):
            ours.stock.add("Store 0", f"new-{number}", 2 + number % 2)
        ours.wait_until_shared("a", "b")


def test_a_log_line_of_the_client_while_partitions_are_assigned_does_not_abort_the_process(fleet: OpenFleet) -> None:
    ours = fleet(debug="cgrp,topic")
    member = ours.start("a")
    ours.wait_until_shared("a")
    ours.stock.publish()
    ours.finish()
    assert member.stop() == 0


# Made anew under its name


def make_anew(ours: Fleet, admin: AdminClient, partitions: int) -> None:
    before = topic_id(admin, ours.topic)
    admin.delete_topics([ours.topic])[ours.topic].result(REQUEST_SECONDS_MAX)

    def is_made() -> bool:
        made = admin.create_topics([NewTopic(ours.topic, partitions, 1)])[ours.topic]
        return made.exception(REQUEST_SECONDS_MAX) is None

    wait_until(is_made, "the topic is there again")
    wait_until(lambda: topic_id(admin, ours.topic) not in {None, before}, "it is told that it is another one")
    wait_until_usable(admin, ours.topic, partitions)


def topic_id(admin: AdminClient, topic: str) -> str | None:
    """As the broker tells it; None while it knows of no such topic."""
    asked = admin.describe_topics(TopicCollection([topic]))[topic]
    return None if asked.exception(REQUEST_SECONDS_MAX) else str(asked.result().topic_id)


@pytest.mark.parametrize("rounds", [pytest.param(1, id="shorter than it was"), pytest.param(5, id="longer")])
def test_a_topic_made_anew_while_nobody_ran_is_read_from_its_beginning(
    fleet: OpenFleet, admin: AdminClient, rounds: int
) -> None:
    ours = fleet(partitions=2, items=12)
    first = ours.start("first")
    ours.stock.publish(3)
    ours.finish()
    assert first.stop() == 0
    left = ours.outside_client.committed(ours.partitions(), timeout=REQUEST_SECONDS_MAX)
    make_anew(ours, admin, 2)
    ours.wait_until(lambda: max(ours.committed().values(), default=0) < 0, "Kafka has dropped what was committed")
    commit_from_outside(admin, ours.group, left)  # as one does who has not yet heard
    ours.stock.publish(rounds)
    second = ours.start("second")
    ours.finish()
    assert "was made anew since offset" in second.output()


@both_protocols
def test_a_topic_made_anew_while_the_members_run_is_read_from_its_beginning(
    fleet: OpenFleet, admin: AdminClient, protocol: str
) -> None:
    ours = fleet(partitions=2, items=12, protocol=protocol, **QUICK_METADATA)
    for name in ("a", "b"):
        ours.start(name)
    ours.wait_until_shared("a", "b")
    ours.stock.publish(3)
    ours.finish()
    make_anew(ours, admin, 2)
    ours.stock.publish(5)  # now it is longer than it was
    ours.supervise()
    ours.finish()


# Commits of other hands

METADATA: Mapping[int, str] = {0: "", 1: "x", 2: "v1;9;0", 3: "v1;-3;1;id", 4: "v2;9;0;", 5: "v1;999999;0;"}
"""Partition to what stands beside its commit: nothing, foreign, malformed (three ways), a mark beyond the log's end."""


def test_commits_with_missing_foreign_or_malformed_metadata_are_taken_as_open_at_their_offset(
    fleet: OpenFleet, admin: AdminClient
) -> None:
    ours = fleet(partitions=len(METADATA), locations=1, items=len(METADATA), **LONG_SESSIONS)
    ours.stock.publish(3)
    done = ours.end()
    ours.stock.held.clear()
    ours.stock.publish(3)
    offsets = [TopicPartition(ours.topic, number, done[number], metadata=text) for number, text in METADATA.items()]
    commit_from_outside(admin, ours.group, offsets)
    member = ours.start("a", oms={"unknown_hold": 12})
    ours.wait_until(lambda: len(member.held()) == len(METADATA), "it has all partitions")
    gathering = {each["partition"] for each in member.snapshot()["partitions"] if each["recovering"]}
    assert gathering >= {0, 1, 2, 3, 4}, "what cannot be read counts as open, and the hold is waited out"
    ours.finish()
    assert ours.ledger.repeated() == {}


@pytest.mark.parametrize("protocol", [CLASSIC, CONSUMER])
def test_offsets_that_were_set_back_by_hand_are_read_again_and_end_with_the_newest_counts(
    fleet: OpenFleet, admin: AdminClient, protocol: str
) -> None:
    ours = fleet(partitions=2, items=12, protocol=protocol)
    first = ours.start("first")
    ours.stock.publish(4)
    ours.finish()
    assert first.stop() == 0
    commit_from_outside(admin, ours.group, [TopicPartition(ours.topic, number, 0) for number in range(2)])
    ours.start("second")
    ours.wait_until(lambda: bool(ours.ledger.repeated()), "it is sent again")
    ours.finish()


def commit_from_outside(admin: AdminClient, group: str, offsets: list[TopicPartition]) -> None:
    """As ``kafka-consumer-groups --reset-offsets`` does, but for the metadata."""
    request = [ConsumerGroupTopicPartitions(group, offsets)]
    admin.alter_consumer_group_offsets(request)[group].result(REQUEST_SECONDS_MAX)
