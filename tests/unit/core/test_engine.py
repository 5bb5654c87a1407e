"""The engine with the OMS's real limits: what is sent, when, and which offsets may be committed."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from consumer.core.changes.coalesce import coalesce
from consumer.core.changes.items import ASSIGNMENT, CHANGE_SCHEMA, ITEM_KEY, OFFSET, ChangeId
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.pending import Pending
from consumer.core.location.planner import ItemLimits, SendReason
from consumer.core.location.request import Request
from consumer.core.oms.answers import Accepted, AnswerKind, Hold, Retry, Shrink, Stop
from consumer.core.settlement import Settled
from tests.support.frames import change, frame

AGE = 300.0
FULL_AT_THREE = ItemLimits(chunk_items=3, max_items=3, flush_items=3)


def burst(count: int, *, location: str = "Berlin", first: int = 0, assignment: int = 1) -> pl.DataFrame:
    """``count`` changes of different items, at offsets from ``first``."""
    return pl.DataFrame(
        {
            "locationName": [location] * count,
            "sku": [f"sku-{number}" for number in range(first, first + count)],
            "quantity": range(count),
            OFFSET: range(first, first + count),
        },
        schema_overrides={OFFSET: pl.Int64, "quantity": pl.Int64},
    ).select(
        pl.col(name).cast(dtype)
        if name in {"locationName", "sku", "quantity", OFFSET}
        else pl.lit({ASSIGNMENT: assignment}.get(name)).cast(dtype).alias(name)
        for name, dtype in CHANGE_SCHEMA.items()
    )


def build_engine(**limits: Any) -> Engine:
    engine = Engine(EngineLimits(**limits), size_of=len)
    engine.assigned(1, start=0, read_up_to=None)
    return engine


def add(engine: Engine, rows: pl.DataFrame, now: float, assignment_id: int = 1) -> None:
    engine.add(rows, [], {assignment_id: rows[OFFSET].to_list()[-1] + 1}, now)


def accept(engine: Engine, requests: Sequence[Request], now: float) -> None:
    for request in requests:
        engine.apply(request.request_id, Accepted("1"), now)


def committable_offsets(engine: Engine, now: float = 0.0) -> dict[int, int]:
    return {point.assignment_id: point.offset for point in engine.commit_points(now)}


def test_a_burst_of_21000_is_sent_as_12000_and_9000() -> None:
    engine = build_engine()
    for poll in range(7):
        add(engine, burst(3_000, first=3_000 * poll), now=0.1 * poll)

    first = engine.due(1.0)
    accept(engine, first, 2.0)
    assert engine.due(2.0) == []
    second = engine.due(AGE + 0.4)
    accept(engine, second, AGE + 1)

    assert [request.items for request in first + second] == [12_000, 9_000]
    assert committable_offsets(engine) == {1: 21_000}


def test_6001_items_of_which_the_newest_is_not_yet_due_are_6000_and_then_1_on_its_own_deadline() -> None:
    engine = build_engine()
    add(engine, burst(6_000), now=0.0)
    add(engine, burst(1, first=6_000), now=100.0)

    first = engine.due(AGE)
    accept(engine, first, AGE + 1)
    assert engine.due(AGE + 99) == []
    assert engine.next_deadline(AGE) == AGE + 100
    second = engine.due(AGE + 100)

    assert [request.items for request in first + second] == [6_000, 1]


def test_5900_due_items_are_one_request() -> None:
    engine = build_engine()
    add(engine, burst(5_900), now=0.0)

    assert [request.items for request in engine.due(AGE)] == [5_900]


def test_nothing_is_sent_before_it_is_full_or_due() -> None:
    engine = build_engine()
    add(engine, burst(11_999), now=0.0)

    assert engine.due(AGE - 0.1) == []
    assert committable_offsets(engine) == {1: 0}


def test_ten_thousand_changes_of_one_item_are_one_item_and_do_not_fill_a_window() -> None:
    engine = build_engine()
    rows = burst(15_000).with_columns(pl.lit("the same").alias("sku"))
    add(engine, rows, now=0.0)

    assert engine.due(1.0) == []
    (request,) = engine.due(AGE)
    assert (request.items, request.rows.height) == (1, 15_000)
    accept(engine, [request], AGE)
    assert committable_offsets(engine) == {1: 15_000}


def test_a_location_has_one_request_in_flight_and_other_locations_send_meanwhile() -> None:
    engine = build_engine()
    add(engine, burst(24_000), now=0.0)
    add(engine, burst(12_000, location="Rome", first=24_000), now=0.0)

    first = engine.due(1.0)
    assert sorted(request.location for request in first) == ["Berlin", "Rome"]
    assert engine.due(2.0) == []
    accept(engine, first, 3.0)
    assert [request.location for request in engine.due(3.0)] == ["Berlin"]


def test_the_oldest_deadlines_are_sent_first() -> None:
    engine = build_engine(max_in_flight=2)
    for at, location in enumerate(["Rome", "Berlin", "Oslo"]):
        add(engine, burst(1, location=location, first=at), now=float(at))

    assert [request.location for request in engine.due(AGE + 10)] == ["Rome", "Berlin"]
    assert engine.next_deadline(AGE) is None


def test_the_committable_offset_waits_for_the_slowest_location_of_a_partition() -> None:
    engine = build_engine()
    add(
        engine,
        frame([change("Rome", "a", offset=0), change("Berlin", "b", offset=1), change("Rome", "c", offset=2)]),
        0.0,
    )
    requests = {request.location: request for request in engine.due(AGE)}

    accept(engine, [requests["Berlin"]], AGE)
    assert committable_offsets(engine) == {1: 0}
    accept(engine, [requests["Rome"]], AGE)
    assert committable_offsets(engine) == {1: 3}


def test_the_committable_offsets_of_all_partitions_in_a_request_wait_for_it() -> None:
    engine = build_engine()
    engine.assigned(2, start=50, read_up_to=None)
    add(engine, frame([change("Rome", "a", offset=0)]), 0.0)
    add(engine, frame([change("Rome", "b", offset=50, assignment=2)]), 0.0, assignment_id=2)
    requests = engine.due(AGE)
    assert committable_offsets(engine) == {1: 0, 2: 50}

    accept(engine, requests, AGE)
    assert committable_offsets(engine) == {1: 1, 2: 51}


def test_an_overfull_item_is_sent_with_its_newest_count_and_the_rest_holds_back_the_committable_offset() -> None:
    engine = build_engine()
    changes = [
        change("Rome", "a", at, offset=at, attributes=[f"{at}-{number}" for number in range(40)]) for at in range(3)
    ]
    add(engine, frame(changes), now=0.0)

    bodies = []
    for now in (300.0, 301.0, 302.0):
        (request,) = engine.due(now)
        bodies.append(coalesce(request.taken.body, ITEM_KEY).row(0, named=True))
        accept(engine, [request], now)
        assert committable_offsets(engine) == {1: len(bodies)}
    assert [body["quantity"] for body in bodies] == [2, 2, 2]
    assert [body["attributes"][0] for body in bodies] == ["0-0", "1-0", "2-0"]


def test_a_failed_request_is_planned_again_with_newer_changes() -> None:
    engine = build_engine()
    add(engine, frame([change("Rome", "a", 1, offset=0), change("Rome", "b", 1, offset=1)]), 0.0)
    (request,) = engine.due(AGE)
    add(engine, frame([change("Rome", "a", 2, offset=2)]), AGE + 1)

    engine.apply(request.request_id, Retry(after_seconds=5.0, whole_oms=False), AGE + 2)
    assert engine.due(AGE + 6) == []
    (again,) = engine.due(AGE + 7)

    assert again.items == 2
    assert again.rows.select("sku", "quantity").rows() == [("a", 1), ("b", 1), ("a", 2)]


def test_a_request_that_was_not_sent_is_planned_again_at_once_and_counts_as_no_failure() -> None:
    engine = build_engine()
    add(engine, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = engine.due(AGE)
    engine.apply(request.request_id, Retry(after_seconds=None, whole_oms=False), AGE)

    (again,) = engine.due(AGE)
    assert engine.locations.failures(again.request_id) == 0


def test_after_an_unknown_outcome_the_location_is_held_and_its_partition_is_in_doubt() -> None:
    engine = build_engine()
    add(engine, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = engine.due(AGE)
    engine.apply(request.request_id, Hold(seconds=120.0, breaker_seconds=0.0), AGE)

    assert engine.due(AGE + 119) == []
    assert [point.in_doubt for point in engine.commit_points(AGE + 119)] == [True]
    assert engine.locations.held_locations(AGE + 119) == 1
    assert len(engine.due(AGE + 120)) == 1


def test_a_hold_survives_the_revoke_of_its_partition() -> None:
    engine = build_engine()
    add(engine, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = engine.due(AGE)
    engine.apply(request.request_id, Hold(seconds=120.0, breaker_seconds=0.0), AGE)
    engine.forget([1], 0.0)
    engine.assigned(2, start=0, read_up_to=None)
    add(engine, frame([change("Rome", "a", offset=0, assignment=2)]), AGE - 250, assignment_id=2)

    assert engine.due(AGE + 60) == []
    assert len(engine.due(AGE + 120)) == 1


def test_a_request_in_flight_blocks_its_location_after_a_revoke_and_its_answer_is_ignored() -> None:
    engine = build_engine()
    add(engine, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = engine.due(AGE)
    engine.forget([1], 0.0)
    engine.assigned(2, start=0, read_up_to=None)
    add(engine, frame([change("Rome", "a", offset=0, assignment=2)]), 0.0, assignment_id=2)

    assert engine.due(AGE) == []
    accept(engine, [request], AGE)
    assert committable_offsets(engine) == {2: 0}
    assert len(engine.due(AGE)) == 1


def test_only_rows_of_the_revoked_partition_are_dropped_from_a_mixed_window() -> None:
    engine = build_engine()
    engine.assigned(2, start=0, read_up_to=None)
    add(engine, frame([change("Rome", "a", offset=0), change("Rome", "b", offset=1)]), 0.0)
    add(engine, frame([change("Rome", "c", offset=0, assignment=2)]), 0.0, assignment_id=2)
    engine.forget([1], 0.0)

    (request,) = engine.due(AGE)
    assert request.rows["sku"].to_list() == ["c"]


def test_when_the_oms_is_unavailable_nothing_but_a_single_probe_is_sent() -> None:
    engine = build_engine()
    for at in range(20):
        add(engine, burst(1, location=f"store {at}", first=at), now=0.0)
    requests = engine.due(AGE)
    assert len(requests) == 8
    for request in requests:
        engine.apply(request.request_id, Retry(after_seconds=30.0, whole_oms=True), AGE + 1)

    assert engine.breaker.failures == 1
    assert engine.due(AGE + 30) == []
    probe = engine.due(AGE + 31)
    assert len(probe) == 1
    accept(engine, probe, AGE + 32)
    assert len(engine.due(AGE + 32)) == 8 + 1, "and one to wait at the client, as one was answered meanwhile"


def test_after_refused_credentials_reading_goes_on_until_there_is_something_to_probe_with() -> None:
    engine = build_engine()
    engine.assigned(2, start=0, read_up_to=0)
    add(engine, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = engine.due(AGE)
    engine.apply(request.request_id, Stop(AnswerKind.UNAUTHORISED, "credentials refused"), AGE)
    engine.forget([1], 0.0)

    assert engine.sending_stopped == "credentials refused"
    assert engine.update_backpressure(0.0) == frozenset()
    add(engine, frame([change("Rome", "b", offset=0, assignment=2)]), AGE, assignment_id=2)
    assert engine.update_backpressure(0.0) == {2}


def test_while_the_oms_refuses_our_credentials_partitions_pause_and_slow_probes_go_on() -> None:
    engine = build_engine()
    add(engine, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = engine.due(AGE)
    engine.apply(request.request_id, Stop(AnswerKind.UNAUTHORISED, "credentials refused"), AGE)

    assert engine.sending_stopped == "credentials refused"
    assert engine.update_backpressure(0.0) == {1}
    assert engine.due(AGE + 59) == []
    probe = engine.due(AGE + 60)
    accept(engine, probe, AGE + 61)
    assert not engine.sending_stopped
    assert engine.update_backpressure(0.0) == frozenset()


def test_a_round_given_back_is_planned_again_unchanged() -> None:
    engine = build_engine()
    add(engine, burst(12_500), now=0.0)
    requests = engine.due(0.0)
    engine.give_back(requests, AGE)

    (again,) = engine.due(0.0)
    assert again.rows["sku"].to_list() == requests[0].rows["sku"].to_list()
    assert engine.locations.requests_in_flight == 1


def test_reading_pauses_above_the_budget_and_resumes_well_below_it() -> None:
    engine = build_engine(max_pending_bytes=10_000, max_age_seconds=1.0, max_in_flight=1)
    for at, location in enumerate(["Rome", "Berlin", "Oslo"]):
        add(engine, burst(4_000, location=location, first=4_000 * at), now=float(at))
    assert engine.update_backpressure(0.0) == {1}

    accept(engine, engine.due(10.0), 10.0)
    assert engine.update_backpressure(0.0) == {1}
    accept(engine, engine.due(10.0), 10.0)
    assert engine.update_backpressure(0.0) == frozenset()


def test_only_the_partition_with_too_many_uncommitted_offsets_pauses() -> None:
    engine = build_engine(max_uncommitted_offsets=100)
    engine.assigned(2, start=0, read_up_to=None)
    add(engine, burst(101), now=0.0)
    add(engine, burst(50, assignment=2), now=0.0, assignment_id=2)

    assert engine.update_backpressure(0.0) == {1}
    accept(engine, engine.due(AGE), AGE)
    assert engine.update_backpressure(0.0) == frozenset()


def test_a_reject_holds_back_the_committable_offset_until_its_dead_letter_is_confirmed() -> None:
    engine = build_engine()
    engine.add(frame([]), [ChangeId(1, 0)], {1: 1}, 0.0)
    assert (committable_offsets(engine), engine.partitions.unconfirmed) == ({1: 0}, 1)

    engine.dead_lettered([ChangeId(1, 0)])
    assert (committable_offsets(engine), engine.partitions.unconfirmed) == ({1: 1}, 0)


def test_rows_rejects_and_confirmations_of_a_revoked_assignment_are_ignored() -> None:
    engine = build_engine()
    engine.add(frame([]), [ChangeId(1, 0)], {1: 1}, 0.0)
    engine.forget([1], 0.0)
    engine.dead_lettered([ChangeId(1, 0)])
    add(engine, frame([change("Rome", "a", offset=1)]), 0.0)

    assert (engine.pending_changes, engine.partitions.unconfirmed, committable_offsets(engine)) == (0, 0, {})


def test_nothing_is_committed_for_a_partition_whose_start_is_not_known() -> None:
    engine = Engine(EngineLimits(), size_of=len)
    engine.assigned(1, start=None, read_up_to=None)
    assert committable_offsets(engine) == {}

    engine.add(frame([]), [], {1: 40}, 0.0)
    assert committable_offsets(engine) == {1: 40}


def test_read_up_to_never_decreases() -> None:
    engine = Engine(EngineLimits(), size_of=len)
    engine.assigned(1, start=10, read_up_to=500)
    add(engine, frame([change("Rome", "a", offset=10)]), 0.0)

    assert [point.read_up_to for point in engine.commit_points(0.0)] == [500]


def test_too_many_rejects_among_the_latest_changes_are_reported() -> None:
    engine = build_engine(rejected_ratio_max=0.1)

    assert engine.add(burst(800), [ChangeId(1, 800 + at) for at in range(200)], {1: 1_000}, 0.0)


def test_a_held_location_does_not_keep_the_blocks_of_its_polls_in_memory() -> None:
    engine = build_engine(max_age_seconds=10.0)
    for poll in range(30):
        rows = pl.concat([burst(1_000, first=1_001 * poll), burst(1, location="held", first=1_001 * poll + 1_000)])
        add(engine, rows, now=0.1 * poll)
    for now in range(13, 60):
        for request in engine.due(float(now)):
            decision = Hold(seconds=1_000.0, breaker_seconds=0.0) if request.location == "held" else Accepted("1")
            engine.apply(request.request_id, decision, float(now))
    assert engine.pending_changes == 30
    assert sum(block.frame.height for block in engine.locations._windows._blocks) == 30


@pytest.mark.parametrize("polls", [40, 200])
def test_a_trickle_of_small_polls_is_merged_into_few_blocks(polls: int) -> None:
    engine = build_engine()
    for poll in range(polls):
        add(engine, burst(10, first=10 * poll), now=0.1 * poll)

    assert engine.locations._windows.blocks <= 33
    (request,) = engine.due(AGE + 30)
    assert request.rows["sku"].to_list() == [f"sku-{number}" for number in range(10 * polls)]


# Pending changes


def add_items(engine: Engine, location: str, *offsets: int, now: float, assignment_id: int = 1) -> None:
    rows = [change(location, f"sku-{offset}", offset=offset, assignment=assignment_id) for offset in offsets]
    add(engine, frame(rows), now, assignment_id)


def test_pending_changes_of_a_location_include_rows_in_flight_and_in_recovery() -> None:
    engine = Engine(EngineLimits(items=FULL_AT_THREE), size_of=len)
    engine.assigned(1, start=0, read_up_to=None)
    engine.assigned(2, start=0, read_up_to=100)
    add_items(engine, "Rome", 0, 1, 2, now=10.0)
    (request,) = engine.due(11.0)
    add_items(engine, "Rome", 3, now=20.0)
    add_items(engine, "Oslo", 4, 5, now=30.0)
    add_items(engine, "Oslo", 0, now=25.0, assignment_id=2)
    add_items(engine, "Bern", 1, now=40.0, assignment_id=2)
    add_items(engine, "Bern", 2, now=45.0, assignment_id=2)

    pending = engine.pending_by_location()
    assert pending == {"Rome": Pending(4, 10.0), "Oslo": Pending(3, 25.0), "Bern": Pending(2, 40.0)}
    assert sum(location.changes for location in pending.values()) == engine.pending_changes

    engine.apply(request.request_id, Accepted("1"), 50.0)
    engine.forget([2], 0.0)
    assert engine.pending_by_location() == {"Rome": Pending(1, 20.0), "Oslo": Pending(2, 30.0)}


def test_a_request_counts_the_changes_that_were_coalesced_in_place() -> None:
    engine = Engine(EngineLimits(items=FULL_AT_THREE, max_pending_bytes=3), size_of=len)
    engine.assigned(1, start=0, read_up_to=None)
    rows = [change("Rome", sku, offset, offset=offset) for offset, sku in enumerate("aabab")]
    engine.add(frame(rows), [], {1: 5}, 0.0)
    assert engine.pending_changes == 2

    (request,) = engine.due(300.0)
    assert (request.taken.height, request.items, request.changes) == (2, 2, 5)


# Memory pressure


def over_budget(**sizes: int) -> Engine:
    """An engine over a budget of 100 rows, with windows of these sizes, none of them full or due."""
    engine = Engine(EngineLimits(max_pending_bytes=100), size_of=len)
    engine.assigned(1, start=0, read_up_to=None)
    offset = 0
    for location, items in sizes.items():
        rows = [change(location, f"sku-{at}", offset=offset + at) for at in range(items)]
        offset += items
        engine.add(frame(rows), [], {1: offset}, 0.0)
    assert engine.update_backpressure(0.0) == {1}
    return engine


def test_over_the_budget_the_fullest_windows_are_sent_instead_of_waiting_for_their_age() -> None:
    engine = over_budget(small=5, large=80, middle=40)
    requests = engine.due(1.0)

    assert [(request.location, request.items, request.reason) for request in requests] == [
        ("large", 80, SendReason.PRESSURE)
    ]


def test_no_more_is_sent_under_pressure_than_lets_reading_resume() -> None:
    engine = over_budget(first=30, second=30, third=30, fourth=30)
    requests = engine.due(1.0)
    assert len(requests) == 2, "60 of 120 are in flight: 75 may stay"

    for request in requests:
        engine.apply(request.request_id, Accepted("1"), 2.0)
    assert engine.update_backpressure(0.0) == frozenset()


def test_rows_in_flight_count_as_memory_until_they_are_accepted() -> None:
    engine = over_budget(first=90, second=40)
    (request,) = engine.due(1.0)
    assert engine.pending_bytes == 130
    assert engine.update_backpressure(0.0) == {1}
    assert engine.due(1.1) == []

    engine.apply(request.request_id, Accepted("1"), 2.0)
    assert engine.pending_bytes == 40


def test_well_below_the_budget_nothing_is_sent_before_it_is_full_or_due() -> None:
    engine = Engine(EngineLimits(max_pending_bytes=100), size_of=len)
    engine.assigned(1, start=0, read_up_to=None)
    engine.add(frame([change("Rome", f"sku-{at}", offset=at) for at in range(90)]), [], {1: 90}, 0.0)
    engine.update_backpressure(0.0)

    assert engine.due(1.0) == []


# Rounds


def test_a_fast_oms_gets_more_requests_per_round_than_it_has_slots() -> None:
    engine = Engine(EngineLimits(max_age_seconds=1.0, max_in_flight=2))
    engine.assigned(1, start=0, read_up_to=None)
    rows = [change(f"store {at:02}", "a", offset=at) for at in range(40)]
    engine.add(frame(rows), [], {1: 40}, 0.0)
    sizes = []
    for turn in range(4):
        requests = engine.due(2.0 + turn)
        sizes.append(len(requests))
        for request in requests:
            engine.apply(request.request_id, Accepted("1"), 2.0 + turn)

    assert sizes == [2, 4, 6, 8]


def test_a_slow_oms_gets_no_more_requests_than_it_has_slots() -> None:
    engine = Engine(EngineLimits(max_age_seconds=1.0, max_in_flight=2))
    engine.assigned(1, start=0, read_up_to=None)
    engine.add(frame([change(f"store {at:02}", "a", offset=at) for at in range(40)]), [], {1: 40}, 0.0)

    assert [len(engine.due(2.0 + turn)) for turn in range(4)] == [2, 0, 0, 0]


def too_large(engine: Engine, request: Request, body_bytes: int, *, now: float, by_gateway: bool = False) -> Settled:
    shrink = Shrink(body_bytes, by_gateway=by_gateway, after_seconds=7.0, detail="too large")
    return engine.apply(request.request_id, shrink, now)


def test_a_body_that_is_too_large_is_planned_again_at_once_with_fewer_whole_chunks() -> None:
    engine = build_engine(request_bytes_max=700_000)
    add(engine, burst(12_000), now=0.0)

    (first,) = engine.due(1.0)
    assert not too_large(engine, first, 1_200_000, now=1.0).refusals
    (second,) = engine.due(1.1)

    assert (first.items, second.items, second.reason) == (12_000, 6_000, SendReason.FULL)
    assert engine.bytes_max(second) == 700_000
    assert committable_offsets(engine) == {1: 0}


def test_a_limit_below_a_chunk_is_filled_with_items() -> None:
    engine = build_engine(request_bytes_max=50_000)
    add(engine, burst(3_000), now=0.0)

    (first,) = engine.due(AGE)
    too_large(engine, first, 300_000, now=AGE)
    sizes: list[int] = []
    while requests := engine.due(AGE + len(sizes)):
        sizes += [request.items for request in requests]
        accept(engine, requests, AGE + len(sizes))

    assert sizes == [500] * 6
    assert committable_offsets(engine) == {1: 3_000}


def test_locations_without_a_measure_are_planned_by_that_of_others() -> None:
    engine = build_engine(request_bytes_max=50_000)
    add(engine, burst(2, location="Rome"), now=0.0)
    add(engine, burst(1_000, location="Oslo", first=2), now=1.0)

    (rome,) = engine.due(AGE)
    too_large(engine, rome, 200_000, now=AGE)
    requests = engine.due(AGE + 1.0)

    assert sorted((request.location, request.items) for request in requests) == [("Oslo", 1), ("Rome", 1)]


def test_a_413_teaches_a_limit_that_a_single_change_may_exceed() -> None:
    engine = build_engine()
    add(engine, burst(4), now=0.0)

    (first,) = engine.due(AGE)
    too_large(engine, first, 40_000, now=AGE, by_gateway=True)
    (second,) = engine.due(AGE + 0.1)

    assert second.items == 2
    assert engine.bytes_max(second) == 20_000
    too_large(engine, second, 20_001, now=AGE + 0.1)
    (third,) = engine.due(AGE + 0.2)
    assert third.items == 1
    assert engine.bytes_max(third) is None


def test_a_single_change_whose_body_is_too_large_is_dead_lettered() -> None:
    engine = build_engine(request_bytes_max=50_000)
    add(engine, burst(1), now=0.0)

    (request,) = engine.due(AGE)
    (refusal,) = too_large(engine, request, 60_000, now=AGE).refusals

    assert (refusal.rows.height, refusal.detail) == (1, "too large")
    assert engine.due(AGE + 1.0) == []


def test_an_item_whose_changes_are_too_large_together_is_sent_one_change_at_a_time() -> None:
    engine = build_engine(request_bytes_max=50_000)
    add(engine, burst(2).with_columns(pl.lit("the same").alias("sku")), now=0.0)

    (request,) = engine.due(AGE)
    assert not too_large(engine, request, 60_000, now=AGE).refusals
    (part,) = engine.due(AGE + 0.1)

    assert (request.taken.height, part.taken.height, part.reason) == (2, 1, SendReason.BISECTION)


def test_a_413_for_a_body_that_is_too_large_for_nobody_only_backs_off_its_location() -> None:
    engine = build_engine()
    add(engine, burst(1), now=0.0)

    (request,) = engine.due(AGE)
    assert not too_large(engine, request, 200, now=AGE, by_gateway=True).refusals

    assert engine.due(AGE + 6.9) == []
    assert [again.items for again in engine.due(AGE + 7.0)] == [1]
    assert engine.request_size.bytes_max is None
