"""Recovery: nothing of a partition is sent before it is read as far as its previous owner had read (rules 7 to 10)."""

from typing import Any

import polars as pl
import pytest

from consumer.core.changes.coalesce import holding_change_ids, superseded
from consumer.core.changes.items import ARRIVED, LINES_MAX, LOCATION, OFFSET, SUPERSEDED, ChangeId
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import SendReason
from consumer.core.oms.answers import Accepted, Refused, RetryLimits
from consumer.core.oms.offset_codec import pack_changes, unpack_offsets
from consumer.loop.failed_changes import refused_changes
from tests.support.fakes import assignment
from tests.support.frames import change, frame

AGE = 300.0
HOLD = 120.0


def take_over(*, start: int | None = 0, read_up_to: int | None, in_doubt: bool = False, **limits: Any) -> Engine:
    retry = RetryLimits(unknown_hold_seconds=HOLD)
    engine = Engine(EngineLimits(max_age_seconds=AGE, retry=retry, **limits), item_key=["sku"], size_of=len)
    engine.assigned(1, start=start, read_up_to=read_up_to, in_doubt=in_doubt, now=0.0)
    return engine


def add(
    engine: Engine, *offsets: int, now: float = 0.0, assignment: int = 1, ends: bool = False, **fields: Any
) -> None:
    rows = [
        change("Rome", fields.get("sku", f"sku-{offset}"), offset, offset=offset, assignment=assignment)
        for offset in offsets
    ]
    engine.add(frame(rows), [], {assignment: offsets[-1] + 1}, now, [assignment] if ends else ())


def send(engine: Engine, now: float) -> list[list[int]]:
    return [request.rows[OFFSET].to_list() for request in engine.due(now)]


def test_nothing_is_sent_before_the_row_below_read_up_to_was_read() -> None:
    engine = take_over(read_up_to=3)
    add(engine, 0, 1)
    assert send(engine, AGE) == []
    assert list(engine.partitions.recovering) == [1]

    add(engine, 2)
    assert send(engine, AGE) == [[0, 1, 2]]
    assert list(engine.partitions.recovering) == []


def test_a_row_after_a_gap_at_read_up_to_completes_recovery() -> None:
    engine = take_over(read_up_to=3)
    add(engine, 0, 5)

    assert send(engine, AGE) == [[0, 5]]


def test_the_end_of_the_partition_completes_recovery() -> None:
    engine = take_over(read_up_to=3)
    add(engine, 0, 1, ends=True)

    assert send(engine, AGE) == [[0, 1]]


def test_an_item_read_again_is_sent_with_its_newest_count_only() -> None:
    engine = take_over(read_up_to=2)
    add(engine, 0, sku="a")
    add(engine, 1, sku="a", now=1.0)

    (request,) = engine.due(AGE + 1)
    assert request.items == 1
    assert request.rows["quantity"].max() == 1


def test_rows_of_other_partitions_in_the_same_window_are_sent_during_recovery() -> None:
    engine = take_over(read_up_to=3)
    engine.assigned(2, start=0, read_up_to=0, in_doubt=False, now=0.0)
    add(engine, 0)
    add(engine, 7, assignment=2)

    (request,) = engine.due(AGE)
    assert request.rows[OFFSET].to_list() == [7]


def test_recovery_waits_out_the_hold_if_a_request_is_in_doubt() -> None:
    engine = take_over(read_up_to=1, in_doubt=True)
    add(engine, 0, now=-AGE)

    assert send(engine, HOLD - 0.1) == []
    assert engine.next_deadline(1.0) == HOLD
    assert send(engine, HOLD) == [[0]]


def test_an_inherited_doubt_is_committed_until_the_hold_has_passed() -> None:
    engine = take_over(read_up_to=0, in_doubt=True)

    assert [point.in_doubt for point in engine.commit_points(HOLD - 0.1)] == [True]
    assert [point.in_doubt for point in engine.commit_points(HOLD)] == [False]


def test_read_up_to_of_the_previous_owner_is_committed_until_more_was_read() -> None:
    engine = take_over(read_up_to=500)
    add(engine, 0, 1)

    assert [(point.offset, point.read_up_to) for point in engine.commit_points(0.0)] == [(0, 500)]


@pytest.mark.parametrize(("start", "read_up_to"), [(None, None), (7, 7), (7, 3)])
def test_a_partition_with_nothing_to_read_again_skips_recovery(start: int | None, read_up_to: int | None) -> None:
    assert take_over(start=start, read_up_to=read_up_to).partitions.recovering == []


def test_a_partition_revoked_during_recovery_leaves_nothing_behind() -> None:
    engine = take_over(read_up_to=9)
    add(engine, 0, 1)
    engine.forget([1], 0.0)

    assert (engine.pending_changes, list(engine.partitions.recovering)) == (0, [])


def test_changes_read_during_recovery_count_as_pending_and_keep_their_age() -> None:
    engine = take_over(read_up_to=9)
    add(engine, 0, 1, now=5.0)
    add(engine, 8, now=50.0)

    assert engine.pending_changes == 3
    assert engine.oldest_arrival() == 5.0
    assert send(engine, AGE + 4.9) == []
    assert send(engine, AGE + 5.0) == [[0, 1, 8]]


# Limits


def take_over_three(**limits: Any) -> Engine:
    """Three partitions, of each of which 8 changes must be read again."""
    engine = Engine(EngineLimits(max_age_seconds=AGE, **limits), item_key=["sku"], size_of=len)
    for assignment_id in (1, 2, 3):
        engine.assigned(assignment_id, start=0, read_up_to=8, in_doubt=False, now=0.0)
    return engine


def test_with_half_of_the_memory_used_recovering_partitions_are_read_one_after_another() -> None:
    engine = take_over_three(max_pending_bytes=16)
    add(engine, 0, 1, 2, assignment=1)
    add(engine, 0, 1, 2, 3, 4, assignment=2)
    assert engine.update_backpressure(0.0) == set()

    add(engine, 3, assignment=1)
    assert engine.update_backpressure(0.0) == {1, 3}
    add(engine, 5, 6, assignment=2)
    assert engine.update_backpressure(0.0) == {1, 3}


def test_a_recovered_partition_is_sent_before_the_next_one_is_read() -> None:
    engine = take_over_three(max_pending_bytes=16)
    add(engine, 0, 1, 2, 3, assignment=1)
    add(engine, 0, 1, 2, 3, 4, assignment=2)
    engine.update_backpressure(0.0)
    add(engine, 5, 6, 7, 8, assignment=2)
    assert engine.update_backpressure(0.0) == {1, 2, 3}
    assert engine.must_free_memory

    (request,) = engine.due(1.0)
    assert (request.reason, request.rows.height) == (SendReason.PRESSURE, 9)
    assert engine.update_backpressure(0.0) == {1, 2, 3}
    engine.apply(request.request_id, Accepted("1"), 1.0)
    assert engine.update_backpressure(0.0) == {2, 3}


def test_a_partition_is_read_again_although_what_the_others_hold_back_cannot_leave() -> None:
    engine = take_over_three(max_pending_bytes=16)
    for assignment_id in (1, 2, 3):
        add(engine, 0, 1, 2, 3, 4, assignment=assignment_id)
    assert engine.update_backpressure(0.0) == {2, 3}


def test_active_partitions_wait_until_all_have_recovered() -> None:
    engine = take_over_three(max_pending_bytes=16)
    add(engine, 8, assignment=1, now=0.0)
    add(engine, *range(7), assignment=2)
    add(engine, 0, assignment=3)
    assert engine.update_backpressure(0.0) == {1, 3}

    add(engine, 8, assignment=2)
    engine.update_backpressure(0.0)
    for request in engine.due(1.0):
        engine.apply(request.request_id, Accepted("1"), 1.0)
    assert engine.update_backpressure(0.0) == {1, 2}
    add(engine, 8, assignment=3)
    assert engine.update_backpressure(0.0) == set()


def test_what_was_taken_over_does_not_fit_if_it_exceeds_the_memory_even_coalesced() -> None:
    engine = take_over(read_up_to=1_000, max_pending_bytes=20, in_hand_bytes_max=5)
    add(engine, *range(100), sku="a")
    assert (engine.pending_changes, engine.recovery_does_not_fit) == (1, False)

    add(engine, *range(100, 124))
    assert not engine.recovery_does_not_fit
    add(engine, 124)
    assert engine.recovery_does_not_fit


def test_the_limit_of_uncommitted_offsets_does_not_pause_recovery() -> None:
    engine = take_over(read_up_to=100, max_uncommitted_offsets=10)
    add(engine, 0, 50)
    assert engine.update_backpressure(0.0) == frozenset()

    add(engine, 99)
    assert engine.update_backpressure(0.0) == {1}


def recovering_over_budget(**last: Any) -> Engine:
    """A recovering partition with 24,000 changes of two items, far over the budget of pending changes."""
    engine = take_over(read_up_to=24_000, max_pending_bytes=100)
    for first in range(0, 24_000, 6_000):
        rows = [change("Rome", f"sku-{at % 2}", at, offset=at) for at in range(first, first + 6_000)]
        if first == 18_000:
            rows[-1] |= last
        engine.add(frame(rows), [], {1: first + 6_000}, float(first))
    return engine


def test_changes_read_during_recovery_are_coalesced_in_place() -> None:
    engine = recovering_over_budget()

    assert engine.pending_changes <= 12_000
    (request,) = engine.due(24_000.0)
    assert request.items == 2
    assert request.rows.sort(OFFSET)["quantity"].to_list()[-2:] == [23_998, 23_999]


def test_superseded_offsets_are_dead_lettered_too_if_the_job_fails() -> None:
    engine = recovering_over_budget()
    (request,) = engine.due(24_000.0)
    (packed,) = pack_changes(request.rows, {1: ("changes", 0)})

    assert unpack_offsets(packed.offsets) == tuple(range(24_000))


def test_superseded_offsets_hold_back_the_committable_offset() -> None:
    engine = recovering_over_budget()
    assert [point.offset for point in engine.commit_points(0.0)] == [0]

    (request,) = engine.due(24_000.0)
    engine.apply(request.request_id, Accepted("1"), 24_000.0)
    assert [point.offset for point in engine.commit_points(24_000.0)] == [24_000]


def test_a_refused_change_is_dead_lettered_together_with_its_superseded_offsets() -> None:
    engine = Engine(EngineLimits(max_pending_bytes=1), item_key=["sku"], size_of=len)
    engine.assigned(1, start=0, read_up_to=0, in_doubt=False, now=0.0)
    add(engine, 0, 1, 2, sku="a")
    (request,) = engine.due(AGE)
    assert request.rows[OFFSET].to_list() == [2]
    (refusal,) = engine.apply(request.request_id, Refused("no"), AGE).refusals

    assert refusal.rows[OFFSET].to_list() == [2]
    (changes,) = refused_changes(refusal, {1: assignment(1)})
    assert changes.change_ids == (ChangeId(1, 0), ChangeId(1, 1), ChangeId(1, 2))
    assert list(changes.items) == [ChangeId(1, 2)]
    for confirmed, committable_offset in ((0, 1), (2, 1), (1, 3)):
        engine.dead_lettered([ChangeId(1, confirmed)])
        assert [point.offset for point in engine.commit_points(AGE)] == [committable_offset]


def test_windows_over_the_budget_are_coalesced_in_place_before_reading_pauses() -> None:
    engine = Engine(EngineLimits(max_pending_bytes=100), item_key=["sku"], size_of=len)
    engine.assigned(1, start=0, read_up_to=0, in_doubt=False, now=0.0)
    rows = [change("Rome", f"sku-{at % 10}", at, offset=at) for at in range(101)]
    engine.add(frame(rows), [], {1: 101}, 0.0)

    assert engine.pending_changes == 10
    assert engine.update_backpressure(0.0) == frozenset()
    assert [point.offset for point in engine.commit_points(0.0)] == [0]
    (request,) = engine.due(AGE)
    assert sorted(request.rows["quantity"]) == list(range(91, 101))


# Superseded rows


def superseded_offsets(rows: pl.DataFrame) -> list[list[int] | None]:
    return [older and [position // LINES_MAX for position in older] for older in rows[SUPERSEDED].to_list()]


def rows_left(*rows: dict[str, Any]) -> list[tuple[int, list[int] | None]]:
    pending = frame([row | {ARRIVED: 1.0 + at} for at, row in enumerate(rows)])
    staying, released = superseded(pending, [LOCATION, "sku"])
    released_offsets = set(released[OFFSET])
    open_offsets = set(holding_change_ids(staying)[OFFSET])
    assert released_offsets.isdisjoint(open_offsets)
    assert released_offsets | open_offsets == {row[OFFSET] for row in rows}
    return sorted(zip(staying[OFFSET], superseded_offsets(staying), strict=True))


def test_a_row_with_a_field_that_no_newer_row_has_is_not_superseded() -> None:
    price = change("Rome", "a", 1, offset=0, retailPrice=9.5)
    count = change("Rome", "a", 2, offset=1)
    newer = change("Rome", "a", 3, offset=2)

    assert rows_left(price, count, newer) == [(0, None), (2, [1])]


def test_a_row_with_attributes_of_its_own_is_not_superseded() -> None:
    first = change("Rome", "a", 1, offset=0, attributes=["X"])
    second = change("Rome", "a", 2, offset=1, attributes=["Y"])
    third = change("Rome", "a", 3, offset=2, attributes=["X"])

    assert rows_left(first, second, third) == [(1, None), (2, [0])]


def test_rows_of_another_location_item_or_partition_are_not_superseded() -> None:
    rows = (
        change("Rome", "a", offset=0),
        change("Oslo", "a", offset=1),
        change("Rome", "b", offset=2),
        change("Rome", "a", offset=3, assignment=2),
    )

    assert rows_left(*rows) == [(0, None), (1, None), (2, None), (3, None)]


def test_a_coalesced_row_can_be_superseded_again_with_all_of_its_offsets() -> None:
    once, _ = superseded(
        frame([change("Rome", "a", at, offset=at, arrived=float(at)) for at in (3, 4)]), [LOCATION, "sku"]
    )
    newer = frame([change("Rome", "a", 9, offset=9, arrived=9.0)])
    staying, released = superseded(pl.concat([once, newer], how="diagonal"), [LOCATION, "sku"])

    assert (staying[OFFSET].to_list(), superseded_offsets(staying), staying[ARRIVED].to_list()) == (
        [9],
        [[3, 4]],
        [3.0],
    )
    assert released[OFFSET].to_list() == [9]
