"""Judgements of the consumer group."""

from typing import Any

import pytest

from consumer.checks.findings import Status
from consumer.checks.group import deleted_before_accepted, judge_group, judge_lag, judge_session, older_than
from consumer.errors import SettingsError
from consumer.kafka.cluster_state import NO_CONTROLLER, GroupState, Member, Unanswered
from consumer.kafka.options import GroupTimes
from consumer.settings import KafkaSettings

READ = frozenset({"READ"})
OURS = Member("inventory-refresh", "10.0.0.7")
THEIRS = Member("reporting", "10.0.0.8")
SILENT = Unanswered("no answer within 5 s")


def settings(**properties: str) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers="kafka:9092",
        topics=["stock"],
        group_id="shop",
        properties={name.replace("_", "."): value for name, value in properties.items()},
    )


@pytest.mark.parametrize(
    ("group", "status", "words"),
    [
        (GroupState("classic", [], READ), Status.OK, "shop: may be joined, has no members"),
        (GroupState("classic", [OURS], READ), Status.OK, "1 member by protocol classic: inventory-refresh at 10.0.0.7"),
        (GroupState("classic", [OURS], None), Status.OK, "1 member"),
        (GroupState("classic", [OURS] * 5, READ), Status.OK, "10.0.0.7 and 2 more"),
        (GroupState("classic", [OURS, THEIRS], READ), Status.WARNING, "reporting at 10.0.0.8"),
        (GroupState("consumer", [OURS], READ), Status.WARNING, "but group.protocol is classic"),
        (GroupState("classic", [], frozenset({"DESCRIBE"})), Status.ERROR, "may not join"),
        (Unanswered("denied", is_denied=True), Status.ERROR, "may not use group"),
        (SILENT, Status.ERROR, "no answer"),
        (NO_CONTROLLER, Status.SKIPPED, "does not say"),
    ],
)
def test_a_group_is_judged_by_members_protocol_and_permission(group: Any, status: Status, words: str) -> None:
    found = judge_group(group, settings())
    assert found.status is status, found
    assert words in found.text


def test_members_are_ours_by_the_client_id_of_the_settings() -> None:
    group = GroupState("classic", [Member("refresh-of-the-shop", "h")], READ)
    assert judge_group(group, settings()).status is Status.WARNING
    assert judge_group(group, settings(client_id="refresh-of-the-shop")).status is Status.OK


def test_lag_counts_from_the_committed_offset_or_else_from_the_start_of_the_log() -> None:
    found = judge_lag({("a", 0): (5, 25), ("a", 1): (0, 10), ("b", 0): SILENT}, {("a", 0): 20, ("a", 1): None})
    assert found.status is Status.OK
    assert found.text.startswith("15 messages in 2 partitions; nothing is committed in 1 of them yet")


def test_a_committed_offset_before_the_start_of_the_log_counts_what_is_left() -> None:
    bounds, committed = {("a", 0): (100, 130), ("a", 1): (0, 9)}, {("a", 0): 40, ("a", 1): None}
    assert judge_lag(bounds, committed).text.startswith("39 messages")
    assert deleted_before_accepted(bounds, committed) == [("a", 0)]
    assert deleted_before_accepted(bounds, SILENT) == []


def test_a_committed_offset_after_the_end_of_the_log_is_a_warning() -> None:
    found = judge_lag({("a", 0): (0, 10), ("a", 1): (0, 10)}, {("a", 0): 11, ("a", 1): 10})
    assert found.status is Status.WARNING
    assert "a [0]" in found.text
    assert "a [1]" not in found.text


@pytest.mark.parametrize(("bounds", "committed"), [({("a", 0): (0, 1)}, SILENT), ({("a", 0): SILENT}, {}), ({}, {})])
def test_lag_that_cannot_be_known_is_skipped(bounds: Any, committed: Any) -> None:
    assert judge_lag(bounds, committed).status is Status.SKIPPED


@pytest.mark.parametrize(
    ("edge", "committed", "old"),
    [
        (50, 40, True),
        (50, 50, False),
        (50, 60, False),
        (-1, 60, True),  # every record is older
        (-1, 100, False),  # nothing is uncommitted
        (-1, None, False),  # a group that never ran is not late
        (30, 5, True),  # deleted up to 20, and the next is old
        (20, 5, False),
    ],
)
def test_an_uncommitted_change_is_old_if_it_lies_before_the_offset_of_that_time(
    edge: int,
    committed: int | None,
    old: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    partition = ("a", 0)
    found = older_than({partition: edge}, {partition: (20, 100)}, {partition: committed})
    assert (found == [partition]) is old


def test_a_partition_whose_time_could_not_be_asked_is_not_old() -> None:
    assert older_than({}, {("a", 0): (0, 9)}, {("a", 0): 1}) == []


@pytest.mark.parametrize(
    ("protocol", "limits", "status"),
    [
        ("classic", (6.0, 1800.0), Status.OK),
        ("classic", (6.0, 30.0), Status.ERROR),
        ("classic", (60.0, 90.0), Status.ERROR),
        ("classic", SILENT, Status.OK),
        ("consumer", (6.0, 30.0), Status.OK),
    ],
)
def test_a_session_timeout_that_the_brokers_do_not_permit_is_an_error(
    protocol: str, limits: Any, status: Status
) -> None:
    found = judge_session(GroupTimes(45.0, 3.0, 300.0), protocol, limits)
    assert found.status is status
    if status is Status.ERROR:
        assert found.error is SettingsError
