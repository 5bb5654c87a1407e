"""Members come, go, die and sleep: what the OMS is sent meanwhile, by the service as processes on a real Kafka."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from consumer.sandbox.oms_server import SandboxServer
from consumer.sandbox.oms_settings import SandboxSettings
from tests.support.fleet import CLASSIC, CONSUMER, Fleet, open_fleet

pytestmark = pytest.mark.integration

OpenFleet = Callable[..., Fleet]

both_protocols = pytest.mark.parametrize("protocol", [CLASSIC, CONSUMER])


@pytest.fixture
def fleet(kafka: str, topic: Callable[..., str], tmp_path: Path) -> Iterator[OpenFleet]:
    """``fleet(partitions=4, ...)``: a topic with a sandbox, a publisher, and no members yet."""
    with ExitStack() as stack:

        def make(*, partitions: int = 4, **more: object) -> Fleet:
            sandbox = stack.enter_context(SandboxServer(SandboxSettings(time_scale=0.0)))
            return stack.enter_context(
                open_fleet(kafka, topic(partitions), sandbox, tmp_path, partitions=partitions, **more)  # type: ignore[arg-type]
            )

        yield make


@both_protocols
def test_a_member_killed_in_the_middle_of_its_work_is_followed_by_the_others(fleet: OpenFleet, protocol: str) -> None:
    ours = fleet(protocol=protocol)
    ours.start("a")
    ours.start("b")
    ours.wait_until_shared("a", "b")
    with ours.stock.publishing():
        ours.wait_until(lambda: ours.stock.round > 10, "some rounds are published")
        ours.wait_until(lambda: ours.members["a"].snapshot()["in_flight"] > 0, "a sends")
        ours.members["a"].stop(signal.SIGKILL)
        ours.wait_until_shared("b")
    ours.finish()


@both_protocols
def test_a_member_that_slept_past_its_session_sends_nothing_old_on_waking(fleet: OpenFleet, protocol: str) -> None:
    ours = fleet(protocol=protocol)
    slow = {"max_age": 3}
    sleeper = ours.start("sleeper", window=slow)
    ours.start("other")
    ours.wait_until_shared("sleeper", "other")
    ours.stock.publish()
    ours.wait_until(lambda: sleeper.snapshot()["pending_changes"] > 0, "the sleeper has changes to send")
    sleeper.process.send_signal(signal.SIGSTOP)
    ours.stock.publish()
    ours.wait_until_shared("other")
    ours.wait_until_held()
    sleeper.process.send_signal(signal.SIGCONT)
    ours.wait_until(lambda: bool(sleeper.events("partitions_lost")), "the sleeper hears what it lost")
    ours.wait_until_shared("sleeper", "other")
    ours.stock.publish()
    ours.finish()


@both_protocols
def test_three_members_are_restarted_one_after_the_other_while_changes_come(fleet: OpenFleet, protocol: str) -> None:
    ours = fleet(protocol=protocol, partitions=6)
    names = ("a", "b", "c")
    for name in names:
        ours.start(name)
    ours.wait_until_shared(*names)
    with ours.stock.publishing():
        for name in names:
            assert ours.members[name].stop() == 0
            ours.start(name)
            ours.wait_until_shared(*names)
    ours.finish()
    assert ours.ledger.repeated() == {}, "what left in good order is not sent again"


def test_an_eager_strategy_hands_partitions_on_too(fleet: OpenFleet) -> None:
    ours = fleet(**{"partition.assignment.strategy": "range"})
    ours.start("a")
    ours.wait_until_shared("a")
    with ours.stock.publishing():
        ours.start("b")
        ours.wait_until_shared("a", "b")
        assert ours.members["a"].stop() == 0
        ours.wait_until_shared("b")
    ours.finish()
    assert ours.ledger.repeated() == {}


@both_protocols
def test_partitions_that_are_added_are_shared_and_read_from_their_beginning(
    fleet: OpenFleet, admin: AdminClient, protocol: str
) -> None:
    ours = fleet(protocol=protocol, partitions=2, **{"topic.metadata.refresh.interval.ms": 500})
    ours.start("a")
    ours.start("b")
    ours.wait_until_shared("a", "b")
    with ours.stock.publishing():
        admin.create_partitions([NewPartitions(ours.topic, 4)])[ours.topic].result(30.0)
        ours.wait_until(lambda: len(ours.partitions()) == 4, "the topic has four partitions")
        for number in range(12):
            ours.stock.add("Store 0", f"new-{number}", 2 + number % 2)
        ours.wait_until_shared("a", "b")
    ours.finish()


def test_who_takes_a_partition_over_gathers_first_and_never_sends_what_was_sent_newer(fleet: OpenFleet) -> None:
    ours = fleet(partitions=1, items=0)
    full_at_two = {"oms": {"chunk_items": 2}, "window": {"flush_items": 2, "max_age": 60}}
    first = ours.start("first", **full_at_two)
    ours.wait_until_shared("first")
    ours.stock.add("Quiet", "waits", 0)  # its only change keeps the watermark back
    ours.stock.publish()
    ours.stock.remove("Quiet", "waits")
    for sku in ("one", "other"):
        ours.stock.add("Busy", sku, 0)
    ours.stock.publish(300)
    ours.wait_until(lambda: ours.ledger.held().get(("Busy", "one")) == ours.stock.round, "the newest counts are sent")
    ours.wait_until(lambda: first.snapshot()["pending_changes"] == 1, "all but the quiet change is answered")
    first.stop(signal.SIGKILL)
    assert ours.committed() == {0: 0}

    # One message a poll: it would send every old count as it reads it, if it did not gather.
    ours.start(
        "second",
        kafka={"poll_messages_max": 1, "properties": ours.properties},
        oms={"chunk_items": 2},
        window={"flush_items": 2},
    )
    ours.finish()


def test_only_the_rows_of_partitions_that_go_leave_a_window_that_mixes_them(fleet: OpenFleet) -> None:
    ours = fleet(partitions=2, locations=1, items=12)
    first = ours.start("first", oms={"chunk_items": 16}, window={"flush_items": 16, "max_age": 60})
    ours.wait_until_shared("first")
    ours.stock.publish()
    ours.wait_until(lambda: first.snapshot()["pending_changes"] == 12, "a window of two partitions")
    ours.start("second")
    ours.wait_until_shared("first", "second")
    assert first.snapshot()["pending_changes"] == 6
    (kept,) = first.held()
    for number in range(10):
        ours.stock.add("Store 0", f"new-{number}", kept)
    ours.stock.publish()  # now the window has 16 items, and leaves by that
    ours.finish()
    assert ours.ledger.repeated() == {}


@both_protocols
def test_a_static_member_that_is_back_in_time_finds_its_partitions_and_nobody_else_is_disturbed(
    fleet: OpenFleet, protocol: str
) -> None:
    ours = fleet(protocol=protocol, session_ms=20_000)
    ours.start_static("a", "one")
    other = ours.start_static("b", "two")
    ours.wait_until_shared("a", "b")
    mine = ours.members["a"].held()
    rebalances = len(other.events("partitions_assigned")), len(other.events("partitions_revoked"))
    with ours.stock.publishing():
        assert ours.members["a"].stop() == 0
        ours.start_static("a", "one")
        ours.wait_until_shared("a", "b")
    ours.finish()
    assert ours.members["a"].held() == mine
    assert (len(other.events("partitions_assigned")), len(other.events("partitions_revoked"))) == rebalances


def test_of_two_members_with_the_same_instance_id_the_older_is_shut_out_and_sends_nothing_more(
    fleet: OpenFleet,
) -> None:
    ours = fleet()
    older = ours.start_static("older", "one", window={"max_age": 4})
    ours.wait_until_shared("older")
    ours.stock.publish()
    ours.wait_until(lambda: older.snapshot()["pending_changes"] > 0, "the older has changes to send")
    ours.start_static("newer", "one")
    assert older.process.wait(30.0) == 3
    ours.wait_until_shared("newer")
    ours.finish()
    assert ours.ledger.repeated() == {}
    (line,) = [line for line in older.output().splitlines() if line.startswith("inventory-refresh: ")]
    assert "group.instance.id" in line


def test_with_the_protocol_consumer_it_is_the_newer_of_two_with_the_same_instance_id_that_is_refused(
    fleet: OpenFleet,
) -> None:
    ours = fleet(protocol=CONSUMER)
    ours.start_static("older", "one")
    ours.wait_until_shared("older")
    newer = ours.start_static("newer", "one")
    assert newer.process.wait(30.0) == 3
    ours.stock.publish()
    ours.finish()
    (line,) = [line for line in newer.output().splitlines() if line.startswith("inventory-refresh: ")]
    assert "group.instance.id" in line
