"""Events with several changes in the engine: a change is its assignment, offset and line."""

from typing import Any

from consumer.core.changes.coalesce import coalesce
from consumer.core.changes.items import ITEM_KEY, LINE, OFFSET, ChangeId
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import ItemLimits
from consumer.core.location.request import Request
from consumer.core.oms.answers import Accepted, Refused
from consumer.core.oms.offset_codec import pack_changes
from tests.support.frames import change, frame

AGE = 300.0


def build_engine(**limits: Any) -> Engine:
    engine = Engine(EngineLimits(max_age_seconds=AGE, **limits), size_of=len)
    engine.assigned(1, start=0, read_up_to=None)
    return engine


def read(engine: Engine, *changes: dict[str, Any], rejects: tuple[ChangeId, ...] = ()) -> None:
    next_offset = max([row[OFFSET] for row in changes] + [change_id.offset for change_id in rejects]) + 1
    engine.add(frame(changes), rejects, {1: next_offset}, 0.0)


def committable(engine: Engine) -> int:
    return engine.commit_points(0.0)[0].offset


def lines_of(request: Request) -> list[tuple[int, int]]:
    return request.rows.sort(OFFSET, LINE).select(OFFSET, LINE).rows()


def test_an_event_is_committed_once_all_of_its_lines_are_covered() -> None:
    engine = build_engine()
    read(
        engine,
        change("Rome", "a", offset=0, line=0),
        change("Oslo", "a", offset=0, line=1),
        change("Rome", "b", offset=1),
        rejects=(ChangeId(1, 0, 2),),
    )

    rome, oslo = sorted(engine.due(AGE), key=lambda request: -request.items)
    engine.apply(rome.request_id, Accepted("1"), AGE)
    assert committable(engine) == 0
    engine.apply(oslo.request_id, Accepted("2"), AGE)
    assert committable(engine) == 0
    engine.dead_lettered([ChangeId(1, 0, 2)])
    assert committable(engine) == 2


def test_of_two_lines_of_one_item_the_later_is_newer() -> None:
    engine = build_engine()
    read(engine, change("Rome", "a", 4, offset=0, line=0, floor=1), change("Rome", "a", 5, offset=0, line=1))

    (request,) = engine.due(AGE)
    assert coalesce(request.taken.body, ITEM_KEY).select("quantity", "floor").rows() == [(5, 1)]
    engine.apply(request.request_id, Accepted("1"), AGE)
    assert committable(engine) == 1


def test_lines_that_newer_lines_supersede_are_released_and_dead_lettered_one_by_one() -> None:
    engine = build_engine(max_pending_bytes=1)
    read(engine, *(change("Rome", "a", count, offset=0, line=count) for count in range(4)))
    read(engine, change("Rome", "b", offset=1))

    (request,) = engine.due(AGE)
    assert lines_of(request) == [(0, 3), (1, 0)]
    (packed,) = pack_changes(request.rows, {1: ("changes", 0)})
    assert packed.change_ids() == (*(ChangeId(1, 0, line) for line in range(4)), ChangeId(1, 1))
    assert committable(engine) == 0
    engine.apply(request.request_id, Accepted("1"), AGE)
    assert committable(engine) == 2


def test_the_line_that_the_oms_refuses_is_dead_lettered_and_the_others_are_sent() -> None:
    engine = build_engine(items=ItemLimits(chunk_items=10, max_items=10, flush_items=10))
    read(engine, *(change("Rome", sku, offset=0, line=line) for line, sku in enumerate("abc")))

    dead: list[tuple[int, int]] = []
    for _ in range(10):
        for request in engine.due(AGE):
            is_bad = "b" in request.rows["sku"].to_list()
            decision = Refused("HTTP 400") if is_bad else Accepted("1")
            settled = engine.apply(request.request_id, decision, AGE)
            dead += [row for refusal in settled.refusals for row in refusal.rows.select(OFFSET, LINE).iter_rows()]

    assert dead == [(0, 1)]
    assert committable(engine) == 0
    engine.dead_lettered([ChangeId(1, 0, 1)])
    assert committable(engine) == 1


def test_changes_of_one_item_in_one_event_are_bisected_line_by_line_newest_first() -> None:
    engine = build_engine()
    read(engine, *(change("Rome", "a", count, offset=0, line=count) for count in range(3)))
    (request,) = engine.due(AGE)
    engine.apply(request.request_id, Refused("HTTP 400"), AGE)

    tried = []
    while requests := engine.due(AGE):
        tried += lines_of(requests[0])
        engine.apply(requests[0].request_id, Accepted("1"), AGE)
    assert tried == [(0, 2), (0, 1), (0, 0)]
    assert committable(engine) == 1
