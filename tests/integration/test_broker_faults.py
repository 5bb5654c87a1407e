"""Three brokers are killed and restarted while two members are working, as real processes."""

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
"""Much longer than a request needs to reach the OMS."""


@pytest.fixture
def fleet(cluster: Brokers, tmp_path: Path) -> Iterator[OpenFleet]:
    """A fleet on the three brokers, with a replica of every partition on each."""
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
def test_two_members_keep_working_while_brokers_are_killed_and_restarted_one_by_one(
    fleet: OpenFleet, cluster: Brokers, protocol: str
) -> None:
    ours = fleet(protocol=protocol)
    start_two(ours)
    with ours.stock.publishing():
        for broker in cluster.ids:
            cluster.kill(broker)
            accepted = len(ours.ledger.counts())
            ours.wait_until(lambda before=accepted: len(ours.ledger.counts()) > before, "the OMS receives new items")  # type: ignore[misc]
            cluster.restore()
    ours.finish()


def test_the_group_coordinator_is_killed_while_requests_are_in_flight(fleet: OpenFleet, cluster: Brokers) -> None:
    ours = fleet()
    start_two(ours)
    with ours.stock.publishing():
        ours.wait_until(lambda: ours.members["a"].snapshot()["requests_in_flight"] > 0, "a sends")
        coordinator = cluster.coordinator(ours.group)
        cluster.kill(coordinator)
        ours.wait_until(lambda: cluster.coordinator(ours.group) != coordinator, "another broker coordinates the group")
        accepted = len(ours.ledger.counts())
        ours.wait_until(lambda: len(ours.ledger.counts()) > accepted, "the OMS receives new items")
    ours.finish()


def test_no_request_leaves_while_all_brokers_are_down(fleet: OpenFleet, cluster: Brokers) -> None:
    ours = fleet(session_ms=10_000)
    for name in ("a", "b"):
        ours.start(name, window={"max_age": 10})  # longer than everything that happens before the brokers are killed
    ours.wait_until_shared("a", "b")
    ours.stock.publish(3)
    ours.wait_until(lambda: all(member.snapshot()["pending_changes"] for member in ours.members.values()), "both wait")
    ours.wait_until(
        lambda: read_up_to(ours) == ours.end(), "the commits say that everything was read, so none is in progress"
    )
    cluster.kill(*cluster.ids)
    assert ours.ledger.counts() == {}, "changes were sent before the brokers were killed"
    wait_until_refused(ours, all)
    assert_nothing_is_sent(ours, {})
    cluster.restore()
    ours.stock.publish()
    ours.finish()


def test_a_commit_that_too_few_replicas_can_store_is_refused_and_its_requests_are_sent_later(
    fleet: OpenFleet, cluster: Brokers
) -> None:
    ours = fleet(**LONG_SESSIONS)
    start_two(ours)
    ours.stock.publish()
    ours.finish()
    coordinator = cluster.coordinator(ours.group)  # a new one could not admit members with too few replicas
    require_replicas(cluster, 3)
    try:
        cluster.kill(next(broker for broker in cluster.ids if broker != coordinator))
        ours.stock.publish()
        accepted = ours.ledger.counts()
        wait_until_refused(ours, any)
        assert_nothing_is_sent(ours, accepted)
    finally:
        require_replicas(cluster, 2)
    ours.finish()


def read_up_to(ours: Fleet) -> dict[int, int]:
    """By partition, how far it was read according to the metadata of its commit."""
    committed = ours.outside_client.committed(ours.partitions(), timeout=REQUEST_SECONDS_MAX)
    return {
        found.partition: parse_metadata(found.metadata or "", committed=found.offset).read_up_to for found in committed
    }


def wait_until_refused(ours: Fleet, of_members: Callable[[Iterable[bool]], bool]) -> None:
    """Wait until a commit of all members, or of any, was refused."""
    ours.wait_until(
        lambda: of_members(bool(member.events("commit_refused")) for member in ours.members.values()),
        "a commit is refused",
    )


def assert_nothing_is_sent(ours: Fleet, accepted: dict[Item, list[int]]) -> None:
    """Nothing is sent while commits are refused."""
    checked_at = time.monotonic() + REQUEST_SECONDS
    ours.wait_until(lambda: time.monotonic() > checked_at, "a request would have arrived by now")
    assert ours.ledger.counts() == accepted, "a request was sent without a commit"


def require_replicas(cluster: Brokers, replicas: int) -> None:
    """How many replicas must be in sync for a commit to be accepted."""
    entry = ConfigEntry("min.insync.replicas", str(replicas), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, OFFSETS_TOPIC, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    admin.incremental_alter_configs([resource])[resource].result(PUBLISH_SECONDS_MAX)
