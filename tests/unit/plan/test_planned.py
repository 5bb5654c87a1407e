"""A planned run: the engine on a virtual clock, with an OMS that accepts everything."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from consumer.core.changes.barriers import barrier_columns
from consumer.core.changes.items import ITEM_KEY, ChangeId, RejectReason
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import ItemLimits, SendReason
from consumer.plan.planned import PlannedRun, SimulatedOms
from consumer.ports import Decoded, Reject
from tests.support.frames import change, frame

CHUNK = 10
LIMITS = EngineLimits(
    items=ItemLimits(chunk_items=CHUNK, max_items=4 * CHUNK, flush_items=2 * CHUNK),
    max_age_seconds=100.0,
    due_within_seconds=0.0,
)


class Shop:
    """Feeds a run with changes of one partition; keeps the bodies."""

    def __init__(self, limits: EngineLimits = LIMITS, **oms: Any) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.run = PlannedRun(
            limits,
            ITEM_KEY,
            SimulatedOms({}, **oms),
            on_body=lambda body: self.bodies.append(json.loads(body)),
        )
        self.run.assign([(1, 0)], 0.0)
        self.offset = 0

    def read(
        self,
        at: float,
        changes: Iterable[tuple[str, str, int]],
        rejects: Sequence[RejectReason] = (),
        barrier: tuple[str, str] | None = None,
    ) -> None:
        """``barrier`` is location and item of a last change whose count cannot be sent."""
        rows = [
            change(location, sku, quantity, offset=self.offset + index)
            for index, (location, sku, quantity) in enumerate(changes)
        ]
        rows.sort(key=lambda row: str(row["locationName"]))
        self.offset += len(rows)
        rejected = []
        for reason in rejects:
            rejected.append(Reject(ChangeId(1, self.offset), reason, "", b""))
            self.offset += 1
        barriers = None
        if barrier is not None:
            rejected.append(Reject(ChangeId(1, self.offset), RejectReason.NEGATIVE_QUANTITY, "", b""))
            row = change(*barrier, -1, offset=self.offset)
            barriers = frame([row]).select(barrier_columns(ITEM_KEY))
            self.offset += 1
        decoded = Decoded(frame(rows), tuple(rejected), 0, {1: self.offset}, at, barriers=barriers)
        self.run.add(decoded, at, arrived=at, messages=len(rows) + len(rejected), ends={1})

    @property
    def quantities(self) -> list[list[int]]:
        return [[item["quantity"] for item in body["items"]] for body in self.bodies]


def items(location: str, count: int, first: int = 0) -> list[tuple[str, str, int]]:
    return [(location, f"sku-{number}", number) for number in range(first, first + count)]


def test_a_change_leaves_when_it_is_max_age_old_and_a_full_window_at_once() -> None:
    shop = Shop()
    shop.read(0.0, items("Rome", 3))
    shop.read(50.0, items("Oslo", 2 * CHUNK))
    shop.run.finish()

    totals = shop.run.totals
    assert [body["locationName"] for body in shop.bodies] == ["Oslo", "Rome"]
    assert totals.requests == {SendReason.FULL: 1, SendReason.AGE: 1}
    assert totals.age_seconds(0.5) == 0.0
    assert totals.age_seconds(0.99) == pytest.approx(100.0, abs=0.2)


def test_changes_of_an_item_that_come_within_max_age_leave_as_one_item_with_the_newest_count() -> None:
    shop = Shop()
    shop.read(0.0, [("Rome", "a", 1)])
    shop.read(60.0, [("Rome", "a", 2)])
    shop.read(130.0, [("Rome", "a", 3)])
    shop.run.finish()

    assert shop.quantities == [[2], [3]]
    assert (shop.run.totals.changes, shop.run.totals.items) == (3, 2)


def test_a_longer_max_age_needs_fewer_chunks_for_the_same_records() -> None:
    def chunks(max_age_seconds: float) -> int:
        shop = Shop(EngineLimits(items=LIMITS.items, max_age_seconds=max_age_seconds))
        for minute in range(20):
            shop.read(60.0 * minute, items("Rome", 1, first=minute))
        shop.run.finish()
        assert shop.run.totals.fewest_chunks == 2
        return shop.run.totals.chunks

    assert (chunks(60.0), chunks(300.0), chunks(3_600.0)) == (20, 4, 2)


def test_the_fewest_chunks_are_those_of_each_locations_items_rounded_up() -> None:
    shop = Shop()
    shop.read(0.0, items("Rome", CHUNK - 1) + items("Oslo", 1))
    shop.read(500.0, items("Rome", CHUNK - 1))
    shop.run.finish()

    assert (shop.run.totals.chunks, shop.run.totals.fewest_chunks) == (3, 3)
    assert shop.run.totals.items == 2 * CHUNK - 1


def test_a_location_sends_its_next_request_only_after_the_answer() -> None:
    shop = Shop(answer_seconds=30.0)
    shop.read(0.0, items("Rome", 2 * CHUNK))
    shop.read(1.0, items("Rome", 2 * CHUNK, first=100))
    shop.run.finish()

    assert shop.run.totals.requests.total() == 2
    assert shop.run.totals.age_seconds(0.99) == pytest.approx(29.0, abs=0.2)


def test_a_backlog_is_sent_in_full_requests_and_its_rest_by_age() -> None:
    shop = Shop()
    for first in range(0, 100, 5):
        shop.read(0.0, items("Rome", 5, first=first))
    shop.run.finish()

    totals = shop.run.totals
    assert totals.items == 100
    assert totals.chunks == totals.fewest_chunks == 10


NEAR = replace(LIMITS, items=ItemLimits(20, 80, 40), max_uncommitted_offsets=15)
"""What holds the committable offset back soon makes requests leave early."""


def read_more(shop: Shop) -> None:
    """Three windows, each nearly as long as the committable offset may be behind."""
    for second in (1_000.0, 2_000.0, 3_000.0):
        shop.read(second, items("Oslo", 7))
        shop.read(second + 10.0, items("Oslo", 7, first=7))


def test_rejects_are_counted_by_reason_and_hold_nothing_back() -> None:
    shop = Shop(NEAR)
    shop.read(0.0, items("Rome", 1), [RejectReason.NO_QUANTITY, RejectReason.NO_QUANTITY, RejectReason.CORRUPT])
    read_more(shop)
    shop.run.finish()

    assert shop.run.totals.requests == {SendReason.AGE: 4}
    assert shop.run.totals.rejects == {RejectReason.NO_QUANTITY: 2, RejectReason.CORRUPT: 1}
    assert shop.run.totals.messages == 46
    assert not shop.run.totals.stops


def test_a_change_before_one_that_cannot_be_sent_is_not_sent_and_holds_nothing_back() -> None:
    shop = Shop(NEAR)
    shop.read(0.0, items("Rome", 2))
    shop.read(1.0, [], barrier=("Rome", "sku-0"))
    read_more(shop)
    shop.run.finish()

    assert shop.run.totals.rejects == {RejectReason.NEGATIVE_QUANTITY: 1, RejectReason.SUPERSEDED_BY_REJECT: 1}
    assert shop.run.totals.requests == {SendReason.AGE: 4}
    assert shop.quantities[0] == [1]


def test_a_single_change_with_too_large_a_body_is_a_reject_and_holds_nothing_back() -> None:
    shop = Shop(replace(NEAR, request_bytes_max=2_000))
    shop.read(0.0, [("Rome", "s" * 3_000, 1)])
    read_more(shop)
    shop.run.finish()

    assert shop.run.totals.rejects == {RejectReason.REFUSED_BY_OMS: 1}
    assert shop.run.totals.requests == {SendReason.AGE: 3}


def test_so_many_rejects_that_the_service_would_stop_are_reported_and_the_run_goes_on() -> None:
    shop = Shop()
    shop.read(0.0, [], [RejectReason.CORRUPT] * 1_000)
    shop.read(1.0, items("Rome", 1))
    shop.run.finish()

    assert shop.run.totals.stops
    assert shop.run.totals.items == 1


def test_a_body_above_the_limit_is_planned_smaller_and_not_counted() -> None:
    whole = Shop()
    whole.read(0.0, items("Rome", 2 * CHUNK))
    limit = whole.run.totals.body_bytes_max - 1

    shop = Shop(EngineLimits(items=LIMITS.items, request_bytes_max=limit))
    shop.read(0.0, items("Rome", 2 * CHUNK))
    shop.run.finish()

    assert [len(body["items"]) for body in shop.bodies] == [CHUNK, CHUNK]
    assert shop.run.totals.body_bytes_max <= limit


def test_a_full_memory_lets_requests_leave_early_and_nothing_is_lost() -> None:
    shop = Shop(EngineLimits(max_pending_bytes=200_000, max_uncommitted_bytes=100_000, coalescing_bytes_max=50_000))
    for first in range(0, 20_000, 500):
        shop.read(0.0, [(f"store {number % 7}", f"sku-{number}", 1) for number in range(first, first + 500)])
    shop.run.finish()

    totals = shop.run.totals
    assert totals.requests[SendReason.PRESSURE]
    assert totals.items == 20_000
    # The age counts from the reading, which waited for room.
    assert totals.age_seconds(0.9) == 0.0


@pytest.mark.parametrize("begin", [0.0, 1_506.4, 1_780_000_000.1])
def test_a_limit_of_requests_spreads_them_over_time(begin: float) -> None:
    shop = Shop(replace(LIMITS, max_requests_per_second=10.0, max_in_flight=1), answer_seconds=0.001)
    shop.read(begin, [(f"store {number}", "a", 1) for number in range(300)])
    shop.run.finish()

    assert shop.run.totals.requests == {SendReason.AGE: 300}
    assert shop.run.totals.age_seconds(1.0) == pytest.approx(100.0 + 30.0, abs=2.0)


def test_with_the_seconds_of_a_chunk_the_queue_of_the_oms_is_known() -> None:
    shop = Shop(chunk_seconds=60.0, answer_seconds=1.0)
    shop.read(0.0, items("Rome", 2 * CHUNK) + items("Oslo", 2 * CHUNK))
    shop.run.finish()

    assert shop.run.totals.oms_behind_seconds_max == 4 * 60.0


def test_while_too_many_jobs_are_unfinished_nothing_leaves() -> None:
    shop = Shop(chunk_seconds=1_000.0, answer_seconds=1.0, unfinished_jobs_max=1)
    shop.read(0.0, items("Rome", 2 * CHUNK))
    shop.read(10.0, items("Oslo", 2 * CHUNK))
    shop.run.finish()

    assert shop.run.totals.requests.total() == 2
    assert shop.run.totals.age_seconds(0.99) == pytest.approx(2_000.0 + 1.0 - 10.0, abs=0.2)


def test_adaptive_windows_grow_with_the_queue_of_the_oms() -> None:
    limits = EngineLimits(
        items=ItemLimits(chunk_items=CHUNK, max_items=4 * CHUNK, flush_items=CHUNK), max_age_seconds=100.0
    )
    shop = Shop(limits, chunk_seconds=1_000.0, answer_seconds=0.5, adapts_flush_items=True)
    for second in range(6):
        shop.read(float(second), items("Rome", CHUNK, first=second * CHUNK))
    shop.run.finish()

    assert [len(body["items"]) for body in shop.bodies] == [CHUNK, 2 * CHUNK, 3 * CHUNK]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_limits_everything_leaves_and_the_newest_counts_are_the_last_sent(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - a test case, not a secret
    chunk_items, pending_bytes = random.choice([1, 3, 10]), random.choice([20_000, 60_000, 10**8])
    limits = EngineLimits(
        items=ItemLimits(chunk_items, 4 * chunk_items, random.randint(1, 4) * chunk_items),
        max_age_seconds=random.choice([0.3, 5.0, 100.0]),
        max_pending_bytes=pending_bytes,
        max_uncommitted_bytes=pending_bytes // 2,
        coalescing_bytes_max=pending_bytes // 4,
        max_uncommitted_offsets=random.choice([5, 30, 10**6]),
        max_in_flight=random.choice([1, 2, 8]),
        max_requests_per_second=random.choice([None, 0.5, 10.0]),
        request_bytes_max=random.choice([None, 200, 1_000]),
    )
    shop = Shop(
        limits,
        answer_seconds=random.choice([0.001, 1.0, 60.0]),
        chunk_seconds=random.choice([None, 0.0, 2.0, 100.0]),
        unfinished_jobs_max=random.choice([None, 1, 5]),
    )
    newest: dict[tuple[str, str], int] = {}
    at = 0.0
    for _ in range(random.randint(1, 40)):
        at += random.choice([0.0, 0.1, 3.0, 500.0])
        changes = [(f"L{random.randrange(4)}", f"s{random.randrange(40)}", random.randrange(99)) for _ in range(20)]
        newest |= {(location, sku): quantity for location, sku, quantity in changes}
        shop.read(at, changes)
    shop.run.finish()

    sent = {(body["locationName"], item["sku"]): item["quantity"] for body in shop.bodies for item in body["items"]}
    assert sent == newest
    assert shop.run.totals.chunks >= shop.run.totals.fewest_chunks
