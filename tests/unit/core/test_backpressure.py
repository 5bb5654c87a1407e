"""A partition that was read too far past its committable offset, and what leaves then (rule 10)."""

from typing import Any

import polars as pl

from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import ItemLimits, SendReason
from consumer.core.oms.answers import Accepted
from tests.support.frames import change, frame

ITEMS = ItemLimits(chunk_items=3, max_items=12, flush_items=12)


def build_engine(**limits: Any) -> Engine:
    engine = Engine(EngineLimits(items=ITEMS, **limits), item_key=["sku"], size_of=len)
    for assignment_id in (1, 2):
        engine.assigned(assignment_id, start=0, read_up_to=None)
    return engine


def add(engine: Engine, offsets: range, location: str = "Rome", *, assignment: int = 1, end: bool = False) -> None:
    rows = [change(location, f"sku-{offset}", offset=offset, assignment=assignment) for offset in offsets]
    engine.add(frame(rows), [], {assignment: offsets.stop}, float(offsets.start), [assignment] if end else ())


def accept_all(engine: Engine, now: float) -> list[tuple[str, int]]:
    requests = engine.due(now)
    for request in requests:
        assert request.reason is SendReason.PRESSURE
        engine.apply(request.request_id, Accepted("1"), now)
    return [(request.location, request.items) for request in requests]


def test_a_partition_is_read_only_as_far_as_another_member_can_read_again_though_it_was_sent() -> None:
    engine = build_engine(max_pending_bytes=100, max_uncommitted_bytes=20)
    add(engine, range(1), "Oslo")
    for first in (1, 13):
        add(engine, range(first, first + 12))
        for request in engine.due(0.0):
            engine.apply(request.request_id, Accepted("1"), 0.0)

    assert engine.pending_changes == 1
    assert engine.update_backpressure(0.0) == {1}


def test_what_holds_the_committable_offset_back_leaves_if_nothing_else_is_read() -> None:
    engine = build_engine(max_pending_bytes=100, max_uncommitted_bytes=20)
    add(engine, range(1), "Oslo")
    add(engine, range(1, 10))
    add(engine, range(10, 21), "Bern", end=True)
    assert engine.update_backpressure(0.0) == {1}
    assert engine.must_free_memory

    assert accept_all(engine, 30.0) == [("Oslo", 1), ("Rome", 9)]
    assert engine.update_backpressure(30.0) == frozenset()
    assert accept_all(engine, 31.0) == []


def test_near_the_budget_changes_leave_while_reading_goes_on() -> None:
    """Reading and sending took turns, although neither needs to wait for the other."""
    engine = build_engine(max_pending_bytes=10)
    add(engine, range(9))
    assert engine.update_backpressure(0.0) == frozenset()
    assert accept_all(engine, 0.0) == []

    add(engine, range(9, 10))
    assert engine.update_backpressure(1.0) == frozenset()
    assert accept_all(engine, 1.0) == [("Rome", 9)]
    assert engine.update_backpressure(2.0) == frozenset()
    assert accept_all(engine, 2.0) == []


def test_what_holds_an_offset_back_is_looked_up_at_once_for_another_partition() -> None:
    engine = build_engine(max_pending_bytes=100, max_uncommitted_bytes=10)
    add(engine, range(11))
    engine.update_backpressure(0.0)
    assert accept_all(engine, 0.0) == [("Rome", 9)]

    add(engine, range(11), "Oslo", assignment=2)
    engine.update_backpressure(0.1)
    assert ("Oslo", 9) in accept_all(engine, 0.1)


def test_only_whole_chunks_leave_while_another_partition_has_a_backlog() -> None:
    engine = build_engine(max_pending_bytes=100, max_uncommitted_bytes=20)
    add(engine, range(1), "Oslo")
    add(engine, range(1, 21))
    add(engine, range(2), "Bern", assignment=2)
    assert engine.update_backpressure(0.0) == {1}
    assert not engine.must_free_memory

    assert [(request.location, request.items) for request in engine.due(0.0)] == [("Rome", 12)]
    add(engine, range(21, 25), "Lima")
    assert accept_all(engine, 1.0) == []


def test_partitions_with_a_backlog_are_read_in_turns_while_memory_is_short() -> None:
    engine = build_engine(max_pending_bytes=100, max_age_seconds=60.0)
    engine.assigned(3, start=0, read_up_to=None)
    add(engine, range(1), "Oslo", assignment=3, end=True)
    for assignment_id in (1, 2):
        add(engine, range(11), f"Rome {assignment_id}", assignment=assignment_id)
        add(engine, range(11, 22), f"Bern {assignment_id}", assignment=assignment_id)
    assert engine.update_backpressure(0.0) == frozenset()

    add(engine, range(22, 30), "Lima")
    assert engine.update_backpressure(0.0) == {2}
    assert engine.update_backpressure(31.0) == {1}
    add(engine, range(22, 23), assignment=2, end=True)
    assert engine.update_backpressure(32.0) == frozenset()


def test_recovering_rows_are_coalesced_some_locations_at_a_time() -> None:
    engine = Engine(
        EngineLimits(max_pending_bytes=50, in_hand_bytes_max=0, coalescing_bytes_max=100), item_key=["sku"], size_of=len
    )
    engine.assigned(1, start=0, read_up_to=1_000)
    rows = [change(f"store {at % 20}", "a", at, offset=at) for at in range(200)]
    engine.add(frame(rows[:100]), [], {1: 100}, 0.0)
    engine.add(frame(rows[100:]), [], {1: 200}, 1.0)
    assert engine.pending_changes == 20

    engine.add(frame([]), [], {1: 1_000}, 2.0)
    assert [(point.offset, point.read_up_to) for point in engine.commit_points(2.0)] == [(0, 1_000)]
    kept = pl.concat(engine.locations._windows.rows_of(found.window) for found in engine.locations._by_name.values())
    assert sorted(kept["quantity"]) == list(range(180, 200))


def test_many_locations_with_few_changes_each_count_as_memory_too() -> None:
    engine = build_engine(max_pending_bytes=1_000, location_bytes=90)
    for offset in range(11):
        add(engine, range(offset, offset + 1), f"store {offset}")
    assert engine.pending_bytes == 11 * (90 + 1)

    engine.update_backpressure(0.0)
    assert engine.is_over_budget
    assert accept_all(engine, 0.0)
    assert engine.pending_bytes <= 750
