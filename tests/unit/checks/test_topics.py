"""Judgements of brokers and topics."""

from collections.abc import Mapping
from typing import Any

import pytest

from consumer.checks.findings import Status
from consumer.checks.topics import (
    judge_brokers,
    judge_dead_letters,
    judge_permissions,
    judge_retention,
    judge_topic,
    retention_ms,
)
from consumer.kafka.cluster_state import NO_CONTROLLER, MissingTopic, PartitionState, TopicState, Unanswered

HEALTHY = PartitionState(leader=1, replicas=3, in_sync=3)
DENIED = Unanswered("Topic authorization failed (TOPIC_AUTHORIZATION_FAILED)", is_denied=True)
SILENT = Unanswered("no answer within 5 s")
WEEK_MS = 7 * 24 * 3_600_000


def topic(*partitions: PartitionState, operations: Any = frozenset({"READ", "WRITE"}), **configs: str) -> TopicState:
    named = {name.replace("_", "."): value for name, value in configs.items()}
    return TopicState(dict(enumerate(partitions or (HEALTHY,))), operations, named)


def test_brokers_that_answer_only_at_the_bootstrap_address_are_an_error() -> None:
    assert judge_brokers(3, {}, "kafka:9092").text == "3 brokers at kafka:9092"
    found = judge_brokers(1, {"kafka-1.internal:9092": SILENT}, "127.0.0.1:9092")
    assert found.status is Status.ERROR
    assert found.text == "1 broker at 127.0.0.1:9092, but kafka-1.internal:9092 cannot be asked: no answer within 5 s"
    assert found.advice is not None
    assert "advertised.listeners" in found.advice


def test_a_topic_whose_partitions_all_have_a_leader_that_answers_is_ok() -> None:
    found = judge_topic("stock", topic(HEALTHY, HEALTHY), {("stock", 0): (0, 7), ("stock", 1): (0, 0)})
    assert (found.status, found.text) == (Status.OK, "stock: 2 partitions, all with a leader")


@pytest.mark.parametrize(
    ("similar", "advice"),
    [
        ([], "create it, or correct kafka.topics"),
        (["stock", "stocks"], "create it, or correct kafka.topics; did you mean stock or stocks?"),
    ],
)
def test_a_missing_topic_is_an_error_that_names_similar_ones(similar: list[str], advice: str) -> None:
    found = judge_topic("stok", MissingTopic(similar), {})
    assert (found.status, found.text, found.advice) == (Status.ERROR, 'there is no topic "stok"', advice)


def test_a_topic_that_may_not_be_seen_is_an_error_that_says_what_to_grant() -> None:
    found = judge_topic("stock", DENIED, {})
    assert found.status is Status.ERROR
    assert found.advice == 'grant READ on topic "stock" to this user'


def test_partitions_without_a_leader_or_with_a_silent_one_are_an_error() -> None:
    leaderless = judge_topic("stock", topic(HEALTHY, PartitionState(None, 3, 0)), {})
    assert (leaderless.status, leaderless.text) == (Status.ERROR, "stock [1]: no leader")
    silent = judge_topic("stock", topic(), {("other", 3): SILENT, ("stock", 0): SILENT})
    assert silent.status is Status.ERROR
    assert silent.text == "stock [0]: the leader does not answer: no answer within 5 s"


@pytest.mark.parametrize(
    ("operations", "status"),
    [
        (frozenset({"READ", "DESCRIBE"}), Status.OK),
        (frozenset({"DESCRIBE", "WRITE"}), Status.ERROR),
        (None, Status.SKIPPED),
        (SILENT, Status.SKIPPED),
    ],
)
def test_only_the_permission_to_read_lets_a_topic_be_read(operations: Any, status: Status) -> None:
    assert judge_permissions("stock", topic(operations=operations)).status is status


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (topic(), Status.OK, "may be written"),
        (topic(operations=frozenset({"READ", "DESCRIBE"})), Status.ERROR, "may not write"),
        (topic(operations=None), Status.SKIPPED, "unknown"),
        (topic(operations=SILENT), Status.SKIPPED, "no answer within 5 s"),
        (TopicState({0: HEALTHY}), Status.SKIPPED, NO_CONTROLLER.reason),
        (MissingTopic([]), Status.ERROR, "there is no topic"),
        (DENIED, Status.ERROR, "may not see"),
        (SILENT, Status.ERROR, "no answer"),
        (topic(PartitionState(None, 3, 0)), Status.ERROR, "no leader"),
        (topic(PartitionState(1, 3, 1), min_insync_replicas="2"), Status.ERROR, "min.insync.replicas=2"),
        (topic(PartitionState(1, 3, 2), min_insync_replicas="2"), Status.OK, "may be written"),
        (topic(cleanup_policy="compact"), Status.WARNING, "compacted"),
        (topic(max_message_bytes="900"), Status.WARNING, "less than that of stock"),
        (topic(max_message_bytes="1000"), Status.OK, "may be written"),
    ],
)
def test_the_dead_letter_topic_is_judged_by_what_the_broker_says(found: Any, status: Status, words: str) -> None:
    judged = judge_dead_letters("dead", found, {"stock": topic(max_message_bytes="1000"), "other": DENIED})
    assert judged.status is status, judged
    assert words in judged.text
    assert (judged.advice is None) == (status in {Status.OK, Status.SKIPPED})


@pytest.mark.parametrize(
    ("configs", "limit"),
    [
        ({"retention.ms": "1000", "cleanup.policy": "delete"}, 1000),
        ({"retention.ms": "1000", "cleanup.policy": "compact,delete"}, 1000),
        ({"retention.ms": "1000", "cleanup.policy": "compact"}, None),
        ({"retention.ms": "-1"}, None),
        ({}, None),
        (SILENT, None),
    ],
)
def test_a_topic_that_is_only_compacted_keeps_changes_without_a_limit(
    configs: Mapping[str, str] | Unanswered, limit: int | None
) -> None:
    assert retention_ms(configs) == limit


@pytest.mark.parametrize(
    ("configs", "deleted", "old", "status", "words"),
    [
        ({"retention.ms": str(WEEK_MS)}, [], [], Status.OK, "168 h"),
        ({"retention.ms": "-1"}, [], [], Status.OK, "without a limit"),
        ({"retention.ms": "-1", "retention.bytes": "5000"}, [], [], Status.OK, "at most 5,000 bytes a partition"),
        ({"retention.ms": str(WEEK_MS)}, [], [2], Status.WARNING, "stock [2]: uncommitted changes are older than half"),
        ({"retention.ms": str(WEEK_MS)}, [1], [2], Status.WARNING, "stock [1]: changes were deleted"),
        (DENIED, [], [], Status.SKIPPED, "may not see its configs"),
        (SILENT, [], [], Status.SKIPPED, "no answer"),
    ],
)
def test_retention_is_judged_against_what_is_uncommitted(
    configs: Any, deleted: list[int], old: list[int], status: Status, words: str
) -> None:
    found = judge_retention("stock", configs, deleted, old)
    assert found.status is status
    assert words in found.text
