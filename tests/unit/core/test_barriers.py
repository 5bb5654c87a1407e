"""Rule 27: once a count that cannot be sent has been read, no older count of its item leaves."""

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from consumer.core.changes.barriers import barrier_columns, barriers_among, superseded_by
from consumer.core.changes.items import CHANGE_ID, ITEM_KEY, LINE, OFFSET, ChangeId, RejectReason
from consumer.core.changes.rules import check
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.request import Refusal, Request
from consumer.core.oms.answers import Accepted, Hold, Refused, Retry
from tests.support.frames import change, frame

AGE = 300.0


def build_engine(*, read_up_to: int | None = None) -> Engine:
    engine = Engine(EngineLimits(max_age_seconds=AGE), size_of=len)
    engine.assigned(1, start=0, read_up_to=read_up_to)
    return engine


def read(engine: Engine, *changes: dict[str, Any], now: float = 0.0) -> None:
    """Give changes to the engine as the decoder does: a negative count is a reject."""
    good, broken = check(frame(changes))
    rejects = [ChangeId(*row) for row in broken.select(CHANGE_ID).iter_rows()]
    next_offsets: dict[int, int] = {}
    for row in changes:
        next_offsets[row["_assignment"]] = max(row[OFFSET] + 1, next_offsets.get(row["_assignment"], 0))
    engine.add(good, rejects, next_offsets, now, barriers=barriers_among(broken, ITEM_KEY))


def sent(requests: Iterable[Request]) -> list[tuple[str, int]]:
    rows = [request.rows.sort(OFFSET, LINE).select("sku", "quantity").rows() for request in requests]
    return [row for part in rows for row in part]


def superseded(refusals: Sequence[Refusal]) -> list[tuple[int, int]]:
    """Offset and line of what is to be dead-lettered because of a barrier."""
    assert all(refusal.reason is RejectReason.SUPERSEDED_BY_REJECT for refusal in refusals)
    return sorted(row for refusal in refusals for row in refusal.rows.select(OFFSET, LINE).iter_rows())


def committable(engine: Engine) -> int:
    return engine.commit_points(0.0)[0].offset


def test_older_changes_of_its_item_that_wait_are_dead_lettered_with_a_barrier_and_newer_ones_go() -> None:
    engine = build_engine()
    read(engine, change("Rome", "a", 4, offset=0), change("Rome", "b", 5, offset=1))
    read(engine, change("Rome", "a", -2, offset=2), change("Rome", "a", 7, offset=3))

    assert superseded(engine.take_superseded()) == [(0, 0)]
    assert sent(engine.due(AGE)) == [("b", 5), ("a", 7)]


def test_a_barrier_of_the_same_poll_separates_older_from_newer_changes() -> None:
    engine = build_engine()
    read(engine, *(change("Rome", "a", count, offset=at) for at, count in enumerate([4, -1, 6, -2, 8])))

    assert superseded(engine.take_superseded()) == [(0, 0), (2, 0)]
    assert sent(engine.due(AGE)) == [("a", 8)]


def test_of_two_lines_of_one_event_a_barrier_supersedes_the_earlier() -> None:
    engine = build_engine()
    lines = [change("Rome", "a", count, offset=5, line=line) for line, count in enumerate([4, -1, 6])]
    read(engine, *lines)

    assert superseded(engine.take_superseded()) == [(5, 0)]
    assert sent(engine.due(AGE)) == [("a", 6)]
    assert committable(engine) == 5


def test_the_dead_letter_names_the_barrier() -> None:
    engine = build_engine()
    read(engine, change("Rome", "a", 4, offset=0), change("Rome", "b", 5, offset=1))
    read(engine, change("Rome", "a", -2, offset=17), change("Rome", "b", -2, offset=18))

    details = {refusal.rows["sku"][0]: refusal.detail for refusal in engine.take_superseded()}
    assert details == {
        "a": "the newer change of the item at offset 17 has a count that cannot be sent",
        "b": "the newer change of the item at offset 18 has a count that cannot be sent",
    }


def test_offsets_of_superseded_changes_are_open_until_their_dead_letters_are_confirmed() -> None:
    engine = build_engine()
    read(engine, change("Rome", "a", 4, offset=0), change("Rome", "a", -2, offset=1))
    (refusal,) = engine.take_superseded()

    engine.dead_lettered([ChangeId(1, 1)])
    assert committable(engine) == 0
    engine.dead_lettered([ChangeId(*row) for row in refusal.rows.select(CHANGE_ID).iter_rows()])
    assert committable(engine) == 2


def test_an_accepted_change_stays_accepted() -> None:
    engine = build_engine()
    read(engine, change("Rome", "a", 4, offset=0))
    (request,) = engine.due(AGE)
    read(engine, change("Rome", "a", -2, offset=1), now=AGE)
    engine.apply(request.request_id, Accepted("1"), AGE)

    assert engine.take_superseded() == []
    assert committable(engine) == 1


def test_an_older_change_that_comes_back_from_a_failed_request_never_leaves_again() -> None:
    for failure in (Hold(60.0, 0.0), Retry(1.0, whole_oms=False), Retry(None, whole_oms=False)):
        engine = build_engine()
        read(engine, change("Rome", "a", 4, offset=0), change("Rome", "b", 5, offset=1))
        (request,) = engine.due(AGE)
        read(engine, change("Rome", "a", -2, offset=2), change("Rome", "a", 7, offset=3), now=AGE)
        assert engine.take_superseded() == []

        engine.apply(request.request_id, failure, AGE)
        assert superseded(engine.take_superseded()) == [(0, 0)]
        assert sent(engine.due(3 * AGE)) == [("b", 5), ("a", 7)], failure


def test_an_older_change_that_comes_back_from_a_refused_request_is_not_bisected() -> None:
    engine = build_engine()
    read(engine, change("Rome", "a", 4, offset=0), change("Rome", "b", 5, offset=1))
    (request,) = engine.due(AGE)
    read(engine, change("Rome", "a", -2, offset=2), now=AGE)

    settled = engine.apply(request.request_id, Refused("HTTP 400"), AGE)
    assert not settled.refusals
    assert superseded(engine.take_superseded()) == [(0, 0)]
    assert sent(engine.due(AGE)) == [("b", 5)]


def test_suspects_of_a_bisection_that_a_barrier_supersedes_are_dropped() -> None:
    engine = build_engine()
    read(engine, *(change("Rome", sku, 4, offset=at) for at, sku in enumerate("abcd")))
    (request,) = engine.due(AGE)
    engine.apply(request.request_id, Refused("HTTP 400"), AGE)
    (first,) = engine.due(AGE)
    waiting = sorted(set("abcd") - {sku for sku, _ in sent([first])})

    read(engine, *(change("Rome", sku, -1, offset=10 + at) for at, sku in enumerate(waiting)), now=AGE)
    engine.apply(first.request_id, Accepted("1"), AGE)

    assert len(superseded(engine.take_superseded())) == len(waiting)
    assert engine.due(2 * AGE) == []
    assert engine.locations.bisecting_locations == 0


def test_a_barrier_also_supersedes_changes_of_a_partition_in_recovery() -> None:
    engine = build_engine(read_up_to=5)
    read(engine, change("Rome", "a", 4, offset=0), change("Rome", "b", 5, offset=1))
    read(engine, change("Rome", "a", -2, offset=2))
    assert superseded(engine.take_superseded()) == [(0, 0)]

    read(engine, change("Rome", "b", 6, offset=4))
    assert sent(engine.due(AGE)) == [("b", 5), ("b", 6)]


def test_what_a_row_had_superseded_while_it_waited_is_dead_lettered_with_it() -> None:
    engine = Engine(EngineLimits(max_age_seconds=AGE, max_pending_bytes=1), size_of=len)
    engine.assigned(1, start=0, read_up_to=None)
    read(engine, change("Rome", "a", 4, offset=0), change("Rome", "a", 5, offset=1))
    read(engine, change("Rome", "a", -2, offset=2))

    (refusal,) = engine.take_superseded()
    assert (refusal.rows[OFFSET].to_list(), refusal.rows["_superseded"].to_list()) == ([1], [[0]])
    assert committable(engine) == 0


def test_between_partitions_the_later_time_is_newer() -> None:
    engine = build_engine()
    engine.assigned(2, start=0, read_up_to=None)
    read(
        engine,
        change("Rome", "a", 4, assignment=2, occurred_at=10),
        change("Rome", "b", 5, assignment=2, offset=1, occurred_at=30),
    )
    read(engine, *(change("Rome", sku, -2, offset=at, occurred_at=20) for at, sku in enumerate("ab")))

    assert [refusal.rows["sku"].to_list() for refusal in engine.take_superseded()] == [["a"]]
    assert sent(engine.due(AGE)) == [("b", 5)]


def test_a_barrier_of_an_assignment_that_has_ended_supersedes_nothing() -> None:
    engine = build_engine()
    engine.assigned(2, start=0, read_up_to=None)
    read(engine, change("Rome", "a", 4, assignment=2, occurred_at=10))
    engine.forget([1], 0.0)
    read(engine, change("Rome", "a", -2, occurred_at=20))

    assert engine.take_superseded() == []


def test_other_locations_and_items_are_untouched() -> None:
    engine = build_engine()
    read(engine, change("Oslo", "a", 4, offset=0), change("Rome", "a", 5, offset=1, binID=7))
    read(engine, change("Rome", "a", -2, offset=2))

    assert engine.take_superseded() == []
    assert sent(sorted(engine.due(AGE), key=lambda request: request.location)) == [("a", 4), ("a", 5)]


def test_a_reject_is_a_barrier_only_if_its_item_is_known_and_its_count_is_at_fault() -> None:
    rows = frame(
        [
            change("Rome", "negative", -1),
            change("Rome", "beyond exact integers", 2**60),
            change("Rome", "no count", 1) | {"quantity": None},
            change("Rome", "another field", 1) | {"binID": 0},
            change("Rome", "no location", -1) | {"locationName": None},
            change("Rome", "no item", -1) | {"sku": None},
        ]
    )
    _, broken = check(rows)

    assert barriers_among(broken, ITEM_KEY)["sku"].to_list() == ["negative", "beyond exact integers"]


def test_columns_of_the_item_key_without_a_value_may_be_missing() -> None:
    rows = frame([change("Rome", "a", 4)]).select("locationName", "sku", *CHANGE_ID, "_timestamp", "_occurredAt")
    barriers = frame([change("Rome", "a", -1, offset=1)]).select(barrier_columns(ITEM_KEY))

    assert superseded_by(rows, barriers, ITEM_KEY).rows() == [(1, 0, 0, 1)]
    assert superseded_by(rows, barriers.with_columns(pl.lit(3).alias("binID")), ITEM_KEY).is_empty()
