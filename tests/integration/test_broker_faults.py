"""Brokers die and come back under two members that work: three brokers, real processes."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from consumer.core.partition.commit_metadata import parse_metadata
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SandboxSettings
from tests.support.brokers import OFFSETS_TOPIC, Brokers
from tests.support.fleet import (
    LONG_SESSIONS,
    PUBLISH_SECONDS_MAX,
    REQUEST_SECONDS_MAX,
    Fleet,
    Item,
    OpenFleet,
    both_protocols,
    open_fleet,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PARTITIONS = 4
REQUEST_SECONDS = 2.0
"""A request that leaves is at the OMS by then, and much sooner."""


@pytest.fixture
def fleet(cluster: Brokers, tmp_path: Path) -> Iterator[OpenFleet]:
    """On the three brokers, with a copy of everything on each."""
    with ExitStack() as stack:

        def make(**more: Any) -> Fleet:
            topic = f"changes-{uuid.uuid4().hex[:12]}"
            admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
            admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(PUBLISH_SECONDS_MAX)
            sandbox = stack.enter_context(SandboxServer(SandboxSettings(time_scale=0.0)))
            quick = {"reconnect.backoff.max.ms": 500, "topic.metadata.refresh.interval.ms": 1_000}
            return stack.enter_context(
                open_fleet(cluster.bootstrap_servers, topic, sandbox, tmp_path, partitions=PARTITIONS, **(quick | more))
            )

        yield make


def start_two(ours: Fleet) -> None:
    for name in ("a", "b"):
        ours.start(name)
    ours.wait_until_shared("a", "b")


@both_protocols
def test_brokers_are_killed_and_started_again_one_after_the_other_while_two_members_work(
    fleet: OpenFleet, cluster: Brokers, protocol: str
) -> None:
    ours = fleet(protocol=protocol)
    start_two(ours)
    with ours.stock.publishing():
        for broker in cluster.ids:
            cluster.kill(broker)
            accepted = len(ours.ledger.counts())
            ours.wait_until(lambda before=accepted: len(ours.ledger.counts()) > before, "the OMS hears of new items")  # type: ignore[misc]
            cluster.restore()
    ours.finish()


def test_the_groups_coordinator_is_killed_while_requests_are_under_way(fleet: OpenFleet, cluster: Brokers) -> None:
    ours = fleet()
    start_two(ours)
    with ours.stock.publishing():
        ours.wait_until(lambda: ours.members["a"].snapshot()["requests_in_flight"] > 0, "a sends")
        coordinator = cluster.coordinator(ours.group)
        cluster.kill(coordinator)
        ours.wait_until(lambda: cluster.coordinator(ours.group) != coordinator, "another broker looks after the group")
        accepted = len(ours.ledger.counts())
        ours.wait_until(lambda: len(ours.ledger.counts()) > accepted, "the OMS hears of new items")
    ours.finish()


def test_all_brokers_are_away_while_changes_wait_in_memory(fleet: OpenFleet, cluster: Brokers) -> None:
    ours = fleet(session_ms=10_000)
    for name in ("a", "b"):
        ours.start(name, window={"max_age": 10})  # long enough for all that comes before the brokers are gone
    ours.wait_until_shared("a", "b")
    ours.stock.publish(3)
    ours.wait_until(lambda: all(member.snapshot()["pending_changes"] for member in ours.members.values()), "both wait")
    ours.wait_until(lambda: read_marks(ours) == ours.end(), "all that was read is noted, so no commit is under way")
    cluster.kill(*cluster.ids)
    assert ours.ledger.counts() == {}, "the changes left before the brokers were gone"
    wait_until_refused(ours, all)
    expect_rounds_to_stay(ours, {})
    cluster.restore()
    ours.stock.publish()
    ours.finish()


def test_a_commit_that_too_few_brokers_could_keep_is_refused_and_its_requests_leave_later(
    fleet: OpenFleet, cluster: Brokers
) -> None:
    ours = fleet(**LONG_SESSIONS)
    start_two(ours)
    ours.stock.publish()
    ours.finish()
    coordinator = cluster.coordinator(ours.group)  # another one could let nobody into the group for want of copies
    want_copies(cluster, 3)
    try:
        cluster.kill(next(broker for broker in cluster.ids if broker != coordinator))
        ours.stock.publish()
        accepted = ours.ledger.counts()
        wait_until_refused(ours, any)
        expect_rounds_to_stay(ours, accepted)
    finally:
        want_copies(cluster, 2)
    ours.finish()


def read_marks(ours: Fleet) -> dict[int, int]:
    """By partition, how far the members' commits say that it was read."""
    committed = ours.outside_client.committed(ours.partitions(), timeout=REQUEST_SECONDS_MAX)
    return {each.partition: parse_metadata(each.metadata or "", committed=each.offset).read_up_to for each in committed}


def wait_until_refused(ours: Fleet, of_members: Callable[[Iterable[bool]], bool]) -> None:
    """All members, or any, are refused a commit."""
    ours.wait_until(
        lambda: of_members(bool(member.events("commit_refused")) for member in ours.members.values()),
        "a commit is refused",
    )


def expect_rounds_to_stay(ours: Fleet, accepted: dict[Item, list[int]]) -> None:
    """Nothing leaves while commits are refused."""
    look_at = time.monotonic() + REQUEST_SECONDS
    ours.wait_until(lambda: time.monotonic() > look_at, "a request would have come by now")
    assert ours.ledger.counts() == accepted, "a request left without a commit"


def want_copies(cluster: Brokers, copies: int) -> None:
    """So many copies must be in step for a commit to be taken."""
    entry = ConfigEntry("min.insync.replicas", str(copies), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, OFFSETS_TOPIC, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    admin.incremental_alter_configs([resource])[resource].result(PUBLISH_SECONDS_MAX)
