"""Rebalances between real processes on a real Kafka, and what the OMS is sent meanwhile."""

import time

import pytest

from tests.support.fleet import CONSUMER, LONG_SESSIONS, WAIT_SECONDS_MAX, OpenFleet, both_protocols

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

NOT_BY_AGE = 600
"""Seconds: with this ``window.max_age`` no change is sent because of its age during a test."""


def test_the_next_owner_of_a_partition_recovers_first_and_never_sends_an_older_count(fleet: OpenFleet) -> None:
    ours = fleet(partitions=1, items=0, one_offs=False)
    full_at_two = {"oms": {"chunk_items": 2}, "window": {"flush_items": 2, "max_age": NOT_BY_AGE}}
    first = ours.start("first", **full_at_two)
    ours.wait_until_shared("first")
    ours.stock.add("Quiet", "waits", 0)  # its only change holds the committable offset back
    ours.stock.publish()
    ours.stock.remove("Quiet", "waits")
    for sku in ("one", "other"):
        ours.stock.add("Busy", sku, 0)
    ours.stock.publish(300)
    ours.wait_until(lambda: ours.ledger.held().get(("Busy", "one")) == ours.stock.round, "the newest counts are sent")
    ours.wait_until(lambda: first.snapshot()["pending_changes"] == 1, "all but the quiet change are answered")
    ours.kill("first")
    assert ours.committed() == {0: 0}

    # One message per poll: without recovery it would send every old count as it reads it.
    ours.start(
        "second",
        kafka={"poll_messages_max": 1, "properties": ours.properties},
        oms={"chunk_items": 2},
        window={"flush_items": 2},
    )
    ours.finish()


def test_a_revoked_partition_leaves_a_mixed_window_and_is_read_again_from_its_commit_when_reassigned(
    fleet: OpenFleet,
) -> None:
    ours = fleet(partitions=2, locations=1, items=12, one_offs=False, **LONG_SESSIONS)
    waits = {"oms": {"chunk_items": 16}, "window": {"flush_items": 16, "max_age": NOT_BY_AGE}}
    first = ours.start("first", **waits)
    ours.wait_until_shared("first")
    ours.stock.publish()
    ours.wait_until(lambda: first.snapshot()["pending_changes"] == 12, "a window of two partitions")
    ours.start("second", **waits)
    ours.wait_until_shared("first", "second")
    assert first.snapshot()["pending_changes"] == 6
    assert ours.members["second"].stop() == 0
    ours.wait_until(lambda: first.snapshot()["pending_changes"] == 12, "the revoked partition is back")
    assert set(ours.committed().values()) <= {0, -1001}
    for item in range(10):
        ours.stock.add("Store 0", f"new-{item}", 0)
    ours.stock.publish()  # now the window has at least 16 items and is full; the rest is sent at the end
    ours.wait_until(lambda: bool(ours.ledger.counts()), "the window is sent")
    assert first.stop() == 0
    ours.start("third")
    ours.finish()
    assert ours.ledger.repeated() == {}


def test_partitions_move_between_members_with_an_eager_strategy_too(fleet: OpenFleet) -> None:
    ours = fleet(**LONG_SESSIONS, **{"partition.assignment.strategy": "range"})
    ours.start("a")
    ours.wait_until_shared("a")
    with ours.stock.publishing():
        ours.start("b")
        ours.wait_until_shared("a", "b")
        assert ours.members["a"].stop() == 0
        ours.wait_until_shared("b")
    ours.finish()
    assert ours.ledger.repeated() == {}


# A request in flight at a revoke


@both_protocols
def test_a_revoke_waits_for_a_slow_answer_and_accepted_changes_are_not_sent_again(
    fleet: OpenFleet, protocol: str
) -> None:
    ours = fleet(protocol=protocol, locations=1, **LONG_SESSIONS)
    first = ours.start("first", kafka={"properties": ours.properties, "revoke_timeout": 40})
    ours.wait_until_shared("first")
    ours.add_faults(answers=[{"hang_seconds": 8, "queue": True}])
    ours.stock.publish()
    ours.wait_until(lambda: bool(ours.ledger.held()), "the OMS has queued the request but not answered it")
    started_at = time.monotonic()
    ours.start("second")
    ours.wait_until(lambda: bool(first.events("partitions_revoked")), "the first member's partitions are revoked")
    assert time.monotonic() - started_at > 2, "it did not wait for the answer"
    ours.wait_until_shared("first", "second")
    ours.finish()
    assert [event["unanswered_requests"] for event in first.events("partitions_revoked")] == [0]
    assert ours.ledger.repeated() == {}


def test_an_answer_after_the_revoke_timeout_is_ignored_and_the_next_owner_waits_out_the_hold(
    fleet: OpenFleet,
) -> None:
    ours = fleet(partitions=1, locations=1, items=6, one_offs=False, **LONG_SESSIONS)
    first = ours.start("first", kafka={"properties": ours.properties, "revoke_timeout": 0.5})
    ours.wait_until_shared("first")
    ours.add_faults(answers=[{"hang_seconds": 15}])  # the sandbox queues it only then, even if the client has gone
    ours.stock.publish()
    ours.wait_until(lambda: first.snapshot()["requests_in_flight"] == 1, "the first member's request is in flight")
    ours.stock.publish()
    assert first.stop() == 0
    assert [event["unanswered_requests"] for event in first.events("partitions_revoked")] == [1]
    second = ours.start("second", oms={"unknown_hold": 18})
    ours.wait_until(lambda: second.held() == [0], "the second has the partition")
    assert second.snapshot()["partitions"][0]["recovering"]
    ours.finish()
    assert ours.ledger.counts() == {("Store 0", f"sku-{item}"): [1, 2] for item in range(6)}


# Static members


@both_protocols
def test_a_static_member_that_restarts_in_time_keeps_its_partitions_without_a_rebalance(
    fleet: OpenFleet, protocol: str
) -> None:
    ours = fleet(protocol=protocol, **LONG_SESSIONS)
    ours.start_static("a", "one")
    ours.wait_until_shared("a")
    other = ours.start_static("b", "two")  # only now: the last to join sees no further rebalance once it has its share
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


def test_of_two_members_with_the_same_instance_id_the_older_is_fenced_and_sends_nothing_more(
    fleet: OpenFleet,
) -> None:
    ours = fleet(**LONG_SESSIONS)
    older = ours.start_static("older", "one", window={"max_age": NOT_BY_AGE})
    ours.wait_until_shared("older")
    ours.stock.publish()
    ours.wait_until(lambda: older.snapshot()["pending_changes"] > 0, "the older has changes to send")
    ours.start_static("newer", "one")
    assert older.process.wait(WAIT_SECONDS_MAX) == 3
    ours.wait_until_shared("newer")
    ours.finish()
    assert ours.ledger.repeated() == {}
    assert_names_instance_id(older.output())


def test_with_the_protocol_consumer_the_newer_of_two_members_with_the_same_instance_id_is_refused(
    fleet: OpenFleet,
) -> None:
    ours = fleet(protocol=CONSUMER, **LONG_SESSIONS)
    ours.start_static("older", "one")
    ours.wait_until_shared("older")
    newer = ours.start_static("newer", "one")
    assert newer.process.wait(WAIT_SECONDS_MAX) == 3
    ours.stock.publish()
    ours.finish()
    assert_names_instance_id(newer.output())


def assert_names_instance_id(output: str) -> None:
    (line,) = [line for line in output.splitlines() if line.startswith("inventory-refresh: ")]
    assert "group.instance.id" in line
