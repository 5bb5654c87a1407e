"""The engine with the OMS's real limits: what is sent, when, and which offsets may be committed."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from consumer.core.changes.coalesce import coalesce
from consumer.core.changes.items import ASSIGNMENT, CHANGE_SCHEMA, ITEM_KEY, OFFSET, ChangeId
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.request import Request
from consumer.core.oms.answers import Accepted, AnswerKind, Hold, Retry, Stop
from tests.support.frames import change, frame

AGE = 300.0


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


def engine(**limits: Any) -> Engine:
    made = Engine(EngineLimits(**limits))
    made.assigned(1, start=0, read_up_to=None)
    return made


def give(made: Engine, rows: pl.DataFrame, now: float, assignment: int = 1) -> None:
    made.add(rows, [], {assignment: rows[OFFSET].to_list()[-1] + 1}, now)


def accept(made: Engine, requests: Sequence[Request], now: float) -> None:
    for request in requests:
        made.apply(request.request_id, Accepted("1"), now)


def committable_offsets(made: Engine, now: float = 0.0) -> dict[int, int]:
    return {point.assignment_id: point.offset for point in made.commit_points(now)}


def test_a_burst_of_21000_is_sent_as_12000_and_9000() -> None:
    made = engine()
    for poll in range(7):
        give(made, burst(3_000, first=3_000 * poll), now=0.1 * poll)

    first = made.due(1.0)
    accept(made, first, 2.0)
    assert made.due(2.0) == []
    second = made.due(AGE + 0.4)
    accept(made, second, AGE + 1)

    assert [request.items for request in first + second] == [12_000, 9_000]
    assert committable_offsets(made) == {1: 21_000}


def test_6001_items_of_which_the_newest_is_not_yet_due_are_6000_and_then_1_on_its_own_deadline() -> None:
    made = engine()
    give(made, burst(6_000), now=0.0)
    give(made, burst(1, first=6_000), now=100.0)

    first = made.due(AGE)
    accept(made, first, AGE + 1)
    assert made.due(AGE + 99) == []
    assert made.next_deadline(AGE) == AGE + 100
    second = made.due(AGE + 100)

    assert [request.items for request in first + second] == [6_000, 1]


def test_5900_due_items_are_one_request() -> None:
    made = engine()
    give(made, burst(5_900), now=0.0)

    assert [request.items for request in made.due(AGE)] == [5_900]


def test_nothing_is_sent_before_it_is_full_or_due() -> None:
    made = engine()
    give(made, burst(11_999), now=0.0)

    assert made.due(AGE - 0.1) == []
    assert committable_offsets(made) == {1: 0}


def test_ten_thousand_changes_of_one_item_are_one_item_and_do_not_fill_a_window() -> None:
    made = engine()
    rows = burst(15_000).with_columns(pl.lit("the same").alias("sku"))
    give(made, rows, now=0.0)

    assert made.due(1.0) == []
    (request,) = made.due(AGE)
    assert (request.items, request.rows.height) == (1, 15_000)
    accept(made, [request], AGE)
    assert committable_offsets(made) == {1: 15_000}


def test_a_location_has_one_request_in_flight_and_other_locations_send_meanwhile() -> None:
    made = engine()
    give(made, burst(24_000), now=0.0)
    give(made, burst(12_000, location="Rome", first=24_000), now=0.0)

    first = made.due(1.0)
    assert sorted(request.location for request in first) == ["Berlin", "Rome"]
    assert made.due(2.0) == []
    accept(made, first, 3.0)
    assert [request.location for request in made.due(3.0)] == ["Berlin"]


def test_the_oldest_deadlines_are_sent_first() -> None:
    made = engine(max_in_flight=2)
    for at, location in enumerate(["Rome", "Berlin", "Oslo"]):
        give(made, burst(1, location=location, first=at), now=float(at))

    assert [request.location for request in made.due(AGE + 10)] == ["Rome", "Berlin"]
    assert made.next_deadline(AGE) is None


def test_the_committable_offset_waits_for_the_slowest_location_of_a_partition() -> None:
    made = engine()
    give(
        made,
        frame([change("Rome", "a", offset=0), change("Berlin", "b", offset=1), change("Rome", "c", offset=2)]),
        0.0,
    )
    requests = {request.location: request for request in made.due(AGE)}

    accept(made, [requests["Berlin"]], AGE)
    assert committable_offsets(made) == {1: 0}
    accept(made, [requests["Rome"]], AGE)
    assert committable_offsets(made) == {1: 3}


def test_the_committable_offsets_of_all_partitions_in_a_request_wait_for_it() -> None:
    made = engine()
    made.assigned(2, start=50, read_up_to=None)
    give(made, frame([change("Rome", "a", offset=0)]), 0.0)
    give(made, frame([change("Rome", "b", offset=50, assignment=2)]), 0.0, assignment=2)
    requests = made.due(AGE)
    assert committable_offsets(made) == {1: 0, 2: 50}

    accept(made, requests, AGE)
    assert committable_offsets(made) == {1: 1, 2: 51}


def test_an_overfull_item_is_sent_with_its_newest_count_and_the_rest_holds_back_the_committable_offset() -> None:
    made = engine()
    changes = [
        change("Rome", "a", at, offset=at, attributes=[f"{at}-{number}" for number in range(40)]) for at in range(3)
    ]
    give(made, frame(changes), now=0.0)

    bodies = []
    for now in (300.0, 301.0, 302.0):
        (request,) = made.due(now)
        bodies.append(coalesce(request.taken.body, ITEM_KEY).row(0, named=True))
        accept(made, [request], now)
        assert committable_offsets(made) == {1: len(bodies)}
    assert [body["quantity"] for body in bodies] == [2, 2, 2]
    assert [body["attributes"][0] for body in bodies] == ["0-0", "1-0", "2-0"]


def test_a_failed_request_is_planned_again_with_newer_changes() -> None:
    made = engine()
    give(made, frame([change("Rome", "a", 1, offset=0), change("Rome", "b", 1, offset=1)]), 0.0)
    (request,) = made.due(AGE)
    give(made, frame([change("Rome", "a", 2, offset=2)]), AGE + 1)

    made.apply(request.request_id, Retry(after_seconds=5.0, whole_oms=False), AGE + 2)
    assert made.due(AGE + 6) == []
    (again,) = made.due(AGE + 7)

    assert again.items == 2
    assert again.rows.select("sku", "quantity").rows() == [("a", 1), ("b", 1), ("a", 2)]


def test_a_request_that_was_not_sent_is_planned_again_at_once_and_counts_as_no_failure() -> None:
    made = engine()
    give(made, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = made.due(AGE)
    made.apply(request.request_id, Retry(after_seconds=None, whole_oms=False), AGE)

    (again,) = made.due(AGE)
    assert made.locations.failures(again.request_id) == 0


def test_after_an_unknown_outcome_the_location_is_held_and_its_partition_is_in_doubt() -> None:
    made = engine()
    give(made, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = made.due(AGE)
    made.apply(request.request_id, Hold(seconds=120.0, breaker_seconds=0.0), AGE)

    assert made.due(AGE + 119) == []
    assert [point.in_doubt for point in made.commit_points(AGE + 119)] == [True]
    assert made.locations.held_locations(AGE + 119) == 1
    assert len(made.due(AGE + 120)) == 1


def test_a_hold_survives_the_revoke_of_its_partition() -> None:
    made = engine()
    give(made, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = made.due(AGE)
    made.apply(request.request_id, Hold(seconds=120.0, breaker_seconds=0.0), AGE)
    made.forget([1], 0.0)
    made.assigned(2, start=0, read_up_to=None)
    give(made, frame([change("Rome", "a", offset=0, assignment=2)]), AGE - 250, assignment=2)

    assert made.due(AGE + 60) == []
    assert len(made.due(AGE + 120)) == 1


def test_a_request_in_flight_blocks_its_location_after_a_revoke_and_its_answer_is_ignored() -> None:
    made = engine()
    give(made, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = made.due(AGE)
    made.forget([1], 0.0)
    made.assigned(2, start=0, read_up_to=None)
    give(made, frame([change("Rome", "a", offset=0, assignment=2)]), 0.0, assignment=2)

    assert made.due(AGE) == []
    accept(made, [request], AGE)
    assert committable_offsets(made) == {2: 0}
    assert len(made.due(AGE)) == 1


def test_only_rows_of_the_revoked_partition_are_dropped_from_a_mixed_window() -> None:
    made = engine()
    made.assigned(2, start=0, read_up_to=None)
    give(made, frame([change("Rome", "a", offset=0), change("Rome", "b", offset=1)]), 0.0)
    give(made, frame([change("Rome", "c", offset=0, assignment=2)]), 0.0, assignment=2)
    made.forget([1], 0.0)

    (request,) = made.due(AGE)
    assert request.rows["sku"].to_list() == ["c"]


def test_when_the_oms_is_unavailable_nothing_but_a_single_probe_is_sent() -> None:
    made = engine()
    for at in range(20):
        give(made, burst(1, location=f"store {at}", first=at), now=0.0)
    requests = made.due(AGE)
    assert len(requests) == 8
    for request in requests:
        made.apply(request.request_id, Retry(after_seconds=30.0, whole_oms=True), AGE + 1)

    assert made.breaker.failures == 1
    assert made.due(AGE + 30) == []
    probe = made.due(AGE + 31)
    assert len(probe) == 1
    accept(made, probe, AGE + 32)
    assert len(made.due(AGE + 32)) == 8


def test_after_refused_credentials_reading_goes_on_until_there_is_something_to_probe_with() -> None:
    made = engine()
    made.assigned(2, start=0, read_up_to=0)
    give(made, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = made.due(AGE)
    made.apply(request.request_id, Stop(AnswerKind.UNAUTHORISED, "credentials refused"), AGE)
    made.forget([1], 0.0)

    assert made.sending_stopped == "credentials refused"
    assert made.update_backpressure() == frozenset()
    give(made, frame([change("Rome", "b", offset=0, assignment=2)]), AGE, assignment=2)
    assert made.update_backpressure() == {2}


def test_while_the_oms_refuses_our_credentials_partitions_pause_and_slow_probes_go_on() -> None:
    made = engine()
    give(made, frame([change("Rome", "a", offset=0)]), 0.0)
    (request,) = made.due(AGE)
    made.apply(request.request_id, Stop(AnswerKind.UNAUTHORISED, "credentials refused"), AGE)

    assert made.sending_stopped == "credentials refused"
    assert made.update_backpressure() == {1}
    assert made.due(AGE + 59) == []
    probe = made.due(AGE + 60)
    accept(made, probe, AGE + 61)
    assert not made.sending_stopped
    assert made.update_backpressure() == frozenset()


def test_a_round_given_back_is_planned_again_unchanged() -> None:
    made = engine()
    give(made, burst(12_500), now=0.0)
    requests = made.due(0.0)
    made.give_back(requests, AGE)

    (again,) = made.due(0.0)
    assert again.rows["sku"].to_list() == requests[0].rows["sku"].to_list()
    assert made.locations.requests_in_flight == 1


def test_reading_pauses_above_the_budget_and_resumes_well_below_it() -> None:
    made = engine(max_pending_changes=10_000, max_age_seconds=1.0, max_in_flight=1)
    for at, location in enumerate(["Rome", "Berlin", "Oslo"]):
        give(made, burst(4_000, location=location, first=4_000 * at), now=float(at))
    assert made.update_backpressure() == {1}

    accept(made, made.due(10.0), 10.0)
    assert made.update_backpressure() == {1}
    accept(made, made.due(10.0), 10.0)
    assert made.update_backpressure() == frozenset()


def test_only_the_partition_with_too_many_uncommitted_offsets_pauses() -> None:
    made = engine(max_uncommitted_offsets=100)
    made.assigned(2, start=0, read_up_to=None)
    give(made, burst(101), now=0.0)
    give(made, burst(50, assignment=2), now=0.0, assignment=2)

    assert made.update_backpressure() == {1}
    accept(made, made.due(AGE), AGE)
    assert made.update_backpressure() == frozenset()


def test_a_reject_holds_back_the_committable_offset_until_its_dead_letter_is_confirmed() -> None:
    made = engine()
    made.add(frame([]), [ChangeId(1, 0)], {1: 1}, 0.0)
    assert (committable_offsets(made), made.partitions.unconfirmed) == ({1: 0}, 1)

    made.dead_lettered([ChangeId(1, 0)])
    assert (committable_offsets(made), made.partitions.unconfirmed) == ({1: 1}, 0)


def test_rows_rejects_and_confirmations_of_a_revoked_assignment_are_ignored() -> None:
    made = engine()
    made.add(frame([]), [ChangeId(1, 0)], {1: 1}, 0.0)
    made.forget([1], 0.0)
    made.dead_lettered([ChangeId(1, 0)])
    give(made, frame([change("Rome", "a", offset=1)]), 0.0)

    assert (made.pending_changes, made.partitions.unconfirmed, committable_offsets(made)) == (0, 0, {})


def test_nothing_is_committed_for_a_partition_whose_start_is_not_known() -> None:
    made = Engine(EngineLimits())
    made.assigned(1, start=None, read_up_to=None)
    assert committable_offsets(made) == {}

    made.add(frame([]), [], {1: 40}, 0.0)
    assert committable_offsets(made) == {1: 40}


def test_read_up_to_never_decreases() -> None:
    made = Engine(EngineLimits())
    made.assigned(1, start=10, read_up_to=500)
    give(made, frame([change("Rome", "a", offset=10)]), 0.0)

    assert [point.read_up_to for point in made.commit_points(0.0)] == [500]


def test_too_many_rejects_among_the_latest_changes_are_reported() -> None:
    made = engine(rejected_ratio_max=0.1)

    assert made.add(burst(800), [ChangeId(1, 800 + at) for at in range(200)], {1: 1_000}, 0.0)


def test_a_held_location_does_not_keep_the_blocks_of_its_polls_in_memory() -> None:
    made = engine(max_age_seconds=10.0)
    for poll in range(30):
        rows = pl.concat([burst(1_000, first=1_001 * poll), burst(1, location="held", first=1_001 * poll + 1_000)])
        give(made, rows, now=0.1 * poll)
    for now in range(13, 60):
        for request in made.due(float(now)):
            decision = Hold(seconds=1_000.0, breaker_seconds=0.0) if request.location == "held" else Accepted("1")
            made.apply(request.request_id, decision, float(now))
    assert made.pending_changes == 30
    assert sum(block.frame.height for block in made.locations._windows._blocks) == 30


@pytest.mark.parametrize("polls", [40, 200])
def test_a_trickle_of_small_polls_is_merged_into_few_blocks(polls: int) -> None:
    made = engine()
    for poll in range(polls):
        give(made, burst(10, first=10 * poll), now=0.1 * poll)

    assert made.locations._windows.blocks <= 33
    (request,) = made.due(AGE + 30)
    assert request.rows["sku"].to_list() == [f"sku-{number}" for number in range(10 * polls)]
