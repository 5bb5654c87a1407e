"""Bisection of a refused request: what is sent, in which order, and with how many requests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, log2
from typing import Any

import polars as pl
import pytest

from consumer.core.changes.coalesce import coalesce
from consumer.core.changes.items import ASSIGNMENT, ITEM_KEY, OFFSET, ChangeId
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.bisection import REQUESTS_MIN
from consumer.core.location.planner import SendReason
from consumer.core.location.request import Refusal, Request
from consumer.core.oms.answers import Accepted, Hold, Refused, Retry
from tests.support.frames import change, frame

AGE = 300.0
LATER = AGE + 1.0


@dataclass
class Oms:
    """Refuses every request with a ``bad`` change, and keeps all requests."""

    engine: Engine
    bad: Callable[[dict[str, Any]], bool]
    named: tuple[tuple[str], ...] = ()
    sent: list[Request] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    accepted_items: int = 0

    def answer(self, request: Request, now: float) -> bool:
        self.sent.append(request)
        newest = request.taken.body.sort(OFFSET).unique("sku", keep="last", maintain_order=True)
        refused = any(self.bad(row) for row in newest.iter_rows(named=True))
        decision = Refused(f"refused {len(self.sent)}", self.named) if refused else Accepted("1")
        settled = self.engine.apply(request.request_id, decision, now)
        self.accepted_items += 0 if refused else request.items
        self.refusals += settled.refusals
        return refused

    def settle_all(self, now: float = LATER) -> None:
        while requests := self.engine.due(now):
            for request in requests:
                self.answer(request, now)

    @property
    def dead_lettered_offsets(self) -> list[int]:
        return [offset for refusal in self.refusals for offset in refusal.rows[OFFSET]]

    @property
    def sizes(self) -> list[int]:
        return [request.items for request in self.sent]


def stage(count: int, bad: Callable[[dict[str, Any]], bool], **limits: Any) -> Oms:
    """One location with ``count`` items of one change each, all due."""
    engine = Engine(EngineLimits(**limits), item_key=["sku"], size_of=len)
    engine.assigned(1, start=0, read_up_to=None)
    rows = pl.DataFrame({"sku": [f"sku-{at}" for at in range(count)], OFFSET: range(count)})
    template = frame([change("Rome", "", offset=0)])
    items = template.drop("sku", OFFSET).join(rows, how="cross")
    filled = items.select(pl.col(name).cast(dtype) for name, dtype in template.schema.items())
    engine.add(filled, [], {1: count}, 0.0)
    return Oms(engine, bad)


def is_one_of(*numbers: int) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row["sku"] in {f"sku-{number}" for number in numbers}


@pytest.mark.parametrize("bad", [0, 2_999, 3_000, 7_777, 11_999])
def test_one_bad_item_of_12000_is_found_with_at_most_2_log2_n_further_requests(bad: int) -> None:
    oms = stage(12_000, is_one_of(bad))
    oms.settle_all()

    assert oms.dead_lettered_offsets == [bad]
    assert len(oms.sent) - 1 <= 2 * ceil(log2(12_000))
    confirm(oms)
    assert [point.offset for point in oms.engine.commit_points(LATER)] == [12_000]


def confirm(oms: Oms) -> None:
    oms.engine.dead_lettered(ChangeId(1, offset) for offset in oms.dead_lettered_offsets)


def test_the_first_halves_end_at_chunk_boundaries() -> None:
    oms = stage(11_000, is_one_of(7_777))
    oms.settle_all()

    assert oms.sizes[:6] == [11_000, 6_000, 5_000, 3_000, 1_500, 1_500]
    assert {request.reason for request in oms.sent[1:]} == {SendReason.BISECTION}


def test_several_bad_items_are_found_and_every_other_item_is_accepted() -> None:
    bad = (3, 4, 2_500, 5_999, 8_000)
    oms = stage(9_000, is_one_of(*bad))
    oms.settle_all()

    assert sorted(oms.dead_lettered_offsets) == list(bad)
    assert oms.accepted_items == 9_000 - len(bad)
    assert oms.engine.pending_changes == 0


def test_a_dead_letter_has_the_oms_message_of_its_own_refusal() -> None:
    oms = stage(4, is_one_of(2))
    oms.settle_all()

    alone = next(at for at, request in enumerate(oms.sent, 1) if request.rows["sku"].to_list() == ["sku-2"])
    assert [refusal.detail for refusal in oms.refusals] == [f"refused {alone}"]


def test_an_item_that_the_oms_names_is_tried_first_and_found_with_two_further_requests() -> None:
    oms = stage(12_000, is_one_of(7_777))
    oms.named = (("sku-7777",),)
    oms.settle_all()

    assert oms.sizes == [12_000, 1, 11_999]
    assert oms.dead_lettered_offsets == [7_777]


@pytest.mark.parametrize(
    "named",
    [pytest.param("sku-5", id="another item of the request"), pytest.param("sku-99999", id="no item of the request")],
)
def test_a_wrongly_named_item_is_only_a_hint(named: str) -> None:
    oms = stage(3_000, is_one_of(7))
    oms.named = ((named,),)
    oms.settle_all()

    assert oms.dead_lettered_offsets == [7]
    assert len(oms.sent) - 1 <= 2 * ceil(log2(3_000)) + 2


def test_a_refused_request_with_a_single_change_is_dead_lettered_at_once() -> None:
    oms = stage(1, is_one_of(0))
    oms.settle_all()

    assert oms.dead_lettered_offsets == [0]
    assert len(oms.sent) == 1


def one_item(*changes: dict[str, Any]) -> Oms:
    """One item with these changes; an OMS that refuses every floor below 0."""
    engine = Engine(EngineLimits(), size_of=len)
    engine.assigned(1, start=0, read_up_to=None)
    engine.add(frame(list(changes)), [], {1: len(changes)}, 0.0)
    oms = Oms(engine, lambda row: False)
    refuse_floors_below_0(oms, LATER)
    return oms


def refuse_floors_below_0(oms: Oms, now: float) -> None:
    """Send everything due; the OMS refuses every request that has a change with a floor below 0."""
    while requests := oms.engine.due(now):
        (request,) = requests
        oms.sent.append(request)
        refused = bool((request.taken.body["floor"] < 0).any())
        settled = oms.engine.apply(request.request_id, Refused("floor") if refused else Accepted("1"), now)
        oms.refusals += settled.refusals


def test_a_bad_field_of_an_old_change_does_not_dead_letter_a_newer_count() -> None:
    oms = one_item(
        change("Rome", "a", 5, offset=0),
        change("Rome", "a", 6, offset=1, floor=-1),
        change("Rome", "a", 7, offset=2),
    )

    assert [request.rows[OFFSET].to_list() for request in oms.sent] == [[0, 1, 2], [2], [1], [0]]
    assert oms.dead_lettered_offsets == [1]


def test_changes_sent_one_at_a_time_never_go_back_to_an_older_count() -> None:
    oms = one_item(
        change("Rome", "a", 5, offset=0, retailPrice=1.0),
        change("Rome", "a", 6, offset=1, floor=-1),
        change("Rome", "a", 7, offset=2, attributes=["new"]),
    )

    bodies = [coalesce(request.taken.body, ITEM_KEY).row(0, named=True) for request in oms.sent[1:]]
    assert [body["quantity"] for body in bodies] == [7, 7, 7]
    assert [body["retailPrice"] for body in bodies] == [None, None, 1.0]
    assert [body["attributes"] for body in bodies] == [["new"], None, None]


def test_if_only_the_newest_change_is_refused_the_count_before_it_is_sent() -> None:
    oms = one_item(change("Rome", "a", 5, offset=0), change("Rome", "a", 6, offset=1, floor=-1))

    assert [request.rows[OFFSET].to_list() for request in oms.sent] == [[0, 1], [1], [0]]
    assert coalesce(oms.sent[-1].taken.body, ITEM_KEY)["quantity"].to_list() == [5]
    assert oms.dead_lettered_offsets == [1]


def test_a_change_that_arrives_during_a_bisection_is_sent_after_it() -> None:
    engine = Engine(EngineLimits(), size_of=len)
    engine.assigned(1, start=0, read_up_to=None)
    engine.add(frame([change("Rome", "a", 5, offset=0), change("Rome", "a", 6, offset=1, floor=-1)]), [], {1: 2}, 0.0)
    oms = Oms(engine, lambda row: row.get("floor") == -1)
    oms.answer(engine.due(LATER)[0], LATER)
    oms.answer(engine.due(LATER)[0], LATER)
    engine.add(frame([change("Rome", "a", 7, offset=2)]), [], {1: 3}, LATER)
    oms.settle_all()
    oms.settle_all(LATER + AGE)

    assert [request.rows[OFFSET].to_list() for request in oms.sent] == [[0, 1], [1], [0], [2]]
    assert oms.dead_lettered_offsets == [1]


def test_a_suspect_superseded_between_two_attempts_once_let_an_older_count_follow_it() -> None:
    """Its outcome is unknown, so the OMS may have it; meanwhile a newer change with the same fields supersedes it."""
    engine = Engine(EngineLimits(max_pending_bytes=5), size_of=len)
    engine.assigned(1, start=0, read_up_to=None)
    suspects = [
        change("Rome", "a", 5, offset=0, retailPrice=1.0),
        change("Rome", "a", 6, offset=1, floor=-1),
        change("Rome", "a", 7, offset=2),
    ]
    engine.add(frame(suspects), [], {1: 3}, 0.0)
    oms = Oms(engine, lambda row: False)
    (together,) = engine.due(LATER)
    engine.apply(together.request_id, Refused("floor"), LATER)
    (alone,) = engine.due(LATER)
    engine.apply(alone.request_id, Hold(120.0, breaker_seconds=1.0), LATER)
    newer = [
        change("Rome", "a", 8, offset=3, ltd=2.0),
        change("Rome", "a", 9, offset=4),
        change("Rome", "a", 9, offset=5),
    ]
    engine.add(frame(newer), [], {1: 6}, LATER)
    refuse_floors_below_0(oms, LATER + 121.0)

    assert alone.rows[OFFSET].to_list() == [2]
    bodies = [coalesce(request.taken.body, ITEM_KEY).row(0, named=True) for request in oms.sent]
    assert [body["quantity"] for body in bodies] == [9, 9, 9, 9]
    assert oms.dead_lettered_offsets == [1]
    assert engine.pending_changes == 0


def test_past_the_limit_of_bisection_requests_the_rest_is_dead_lettered() -> None:
    oms = stage(12_000, lambda row: int(row["sku"][4:]) % 2 == 1, bisection_requests_max=40)
    oms.settle_all()

    assert len(oms.sent) - 1 == 40
    assert oms.engine.pending_changes == 0
    confirm(oms)
    assert [point.offset for point in oms.engine.commit_points(LATER)] == [12_000]


@pytest.mark.parametrize("polled_at", [LATER - 1, LATER + 1], ids=["polled before it was sent", "polled after"])
def test_a_change_newer_than_the_refused_request_is_not_dead_lettered_with_it(polled_at: float) -> None:
    oms = stage(12_000, lambda row: row["quantity"] != 99, bisection_requests_max=32)
    (first,) = oms.engine.due(LATER)
    newer = frame([change("Rome", "sku-11999", 99, offset=12_000)])
    oms.engine.add(newer, [], {1: 12_001}, LATER + 1, arrived=polled_at)
    oms.answer(first, LATER + 2)
    oms.settle_all(LATER + 2)
    oms.settle_all(LATER + AGE + 2)

    assert len(oms.dead_lettered_offsets) > 11_000
    assert 12_000 not in oms.dead_lettered_offsets
    assert oms.sent[-1].rows[OFFSET].to_list() == [12_000]


def test_a_location_that_is_refused_entirely_gets_fewer_bisection_requests_every_time() -> None:
    oms = stage(12_000, lambda _: True, bisection_requests_max=200)
    costs = []
    for turn in range(1, 6):
        before = len(oms.sent)
        oms.settle_all(LATER * turn)
        costs.append(len(oms.sent) - before - 1)
        fresh = [change("Rome", f"sku-{at}", offset=12_000 * turn + at) for at in range(1_000)]
        oms.engine.add(frame(fresh), [], {1: 12_000 * (turn + 1)}, LATER * turn)

    assert costs == [200, 100, 50, REQUESTS_MIN, REQUESTS_MIN]


def test_only_a_refusal_bisects_and_any_other_failure_retries_the_same_suspects() -> None:
    oms = stage(8, is_one_of(5))
    (first,) = oms.engine.due(LATER)
    oms.answer(first, LATER)
    (part,) = oms.engine.due(LATER)
    oms.engine.apply(part.request_id, Hold(seconds=60.0, breaker_seconds=1.0), LATER)

    assert oms.engine.due(LATER + 59) == []
    (again,) = oms.engine.due(LATER + 60)
    assert again.rows["sku"].to_list() == part.rows["sku"].to_list()
    oms.engine.apply(again.request_id, Retry(after_seconds=5.0, whole_oms=False), LATER + 60)
    oms.settle_all(LATER + 70)
    assert oms.dead_lettered_offsets == [5]


def test_newer_changes_of_a_suspect_are_sent_with_it_and_may_fix_it() -> None:
    oms = stage(8, lambda row: row["sku"] == "sku-5" and row["quantity"] != 99)
    (first,) = oms.engine.due(LATER)
    oms.answer(first, LATER)
    oms.engine.add(frame([change("Rome", "sku-5", 99, offset=8)]), [], {1: 9}, LATER)
    oms.settle_all()

    assert oms.dead_lettered_offsets == []
    assert oms.engine.pending_changes == 0


def test_a_bisection_has_one_request_in_flight_and_other_locations_go_on() -> None:
    oms = stage(8, is_one_of(5))
    (first,) = oms.engine.due(LATER)
    oms.answer(first, LATER)
    oms.engine.add(frame([change("Oslo", "a", offset=8)]), [], {1: 9}, 0.0)

    requests = oms.engine.due(LATER)
    assert sorted((request.location, request.items) for request in requests) == [("Oslo", 1), ("Rome", 4)]
    assert oms.engine.due(LATER) == []


def test_the_other_items_of_a_location_wait_for_its_bisection() -> None:
    oms = stage(8, is_one_of(5))
    (first,) = oms.engine.due(LATER)
    oms.answer(first, LATER)
    oms.engine.add(frame([change("Rome", "other", offset=8)]), [], {1: 9}, 0.0)
    oms.settle_all()

    assert oms.sent[-1].rows["sku"].to_list() == ["other"]
    assert oms.dead_lettered_offsets == [5]


def test_only_the_suspects_of_a_revoked_partition_are_dropped() -> None:
    engine = Engine(EngineLimits(), size_of=len)
    for assignment_id in (1, 2):
        engine.assigned(assignment_id, start=0, read_up_to=None)
        changes = [change("Rome", f"sku-{assignment_id}{at}", offset=at, assignment=assignment_id) for at in range(4)]
        engine.add(frame(changes), [], {assignment_id: 4}, 0.0)
    oms = Oms(engine, lambda row: row["sku"] in {"sku-11", "sku-22"})
    (first,) = engine.due(LATER)
    oms.answer(first, LATER)
    engine.forget([1], 0.0)
    oms.settle_all()

    assert [(row[0], row[1]) for refusal in oms.refusals for row in refusal.rows.select(ASSIGNMENT, OFFSET).rows()] == [
        (2, 2)
    ]
    assert engine.locations.bisecting_locations == 0


def test_suspects_in_flight_survive_the_revoke_of_another_partition() -> None:
    engine = Engine(EngineLimits(), size_of=len)
    for assignment_id in (1, 2):
        engine.assigned(assignment_id, start=0, read_up_to=None)
    engine.add(frame([change("Rome", f"sku-{at}", offset=at) for at in range(2)]), [], {1: 2}, 0.0)
    oms = Oms(engine, is_one_of(0))
    (first,) = engine.due(LATER)
    oms.answer(first, LATER)
    (part,) = engine.due(LATER)
    engine.forget([2], 0.0)
    assert engine.locations.bisecting_locations == 1
    oms.answer(part, LATER)
    oms.settle_all()

    assert oms.dead_lettered_offsets == [0]
    assert engine.locations.bisecting_locations == 0


def test_a_reassigned_partition_has_no_suspects() -> None:
    oms = stage(4, is_one_of(0))
    (first,) = oms.engine.due(LATER)
    oms.answer(first, LATER)
    oms.engine.forget([1], 0.0)
    assert oms.engine.locations.bisecting_locations == 0

    oms.engine.assigned(2, start=0, read_up_to=0)
    again = [change("Rome", f"sku-{at}", offset=at, assignment=2) for at in range(4)]
    oms.engine.add(frame(again), [], {2: 4}, 0.0)
    assert [request.reason for request in oms.engine.due(LATER)] == [SendReason.AGE]


def test_a_refusal_closes_the_circuit_breaker() -> None:
    oms = stage(2, is_one_of(0))
    (first,) = oms.engine.due(LATER)
    oms.engine.apply(first.request_id, Retry(after_seconds=5.0, whole_oms=True), LATER)
    assert oms.engine.breaker.failures == 1
    (probe,) = oms.engine.due(LATER + 5)
    oms.answer(probe, LATER + 5)

    assert oms.engine.breaker.failures == 0
