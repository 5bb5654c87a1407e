"""What is pending of each location adds up to what the budget bounds, wherever the rows are."""

from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.locations import Pending
from consumer.core.location.planner import ItemLimits
from consumer.core.oms.answers import Accepted
from tests.support.frames import change, frame

FULL_AT_THREE = EngineLimits(items=ItemLimits(chunk_items=3, max_items=3, flush_items=3))


def give(made: Engine, location: str, *offsets: int, now: float, assignment: int = 1) -> None:
    rows = [change(location, f"sku-{offset}", offset=offset, assignment=assignment) for offset in offsets]
    made.add(frame(rows), [], {assignment: offsets[-1] + 1}, now)


def test_pending_changes_of_a_location_include_rows_in_flight_and_in_recovery() -> None:
    made = Engine(FULL_AT_THREE)
    made.assigned(1, start=0, read_up_to=None)
    made.assigned(2, start=0, read_up_to=100)
    give(made, "Rome", 0, 1, 2, now=10.0)
    (request,) = made.due(11.0)
    give(made, "Rome", 3, now=20.0)
    give(made, "Oslo", 4, 5, now=30.0)
    give(made, "Oslo", 0, now=25.0, assignment=2)
    give(made, "Bern", 1, now=40.0, assignment=2)
    give(made, "Bern", 2, now=45.0, assignment=2)

    pending = made.pending_by_location()
    assert pending == {"Rome": Pending(4, 10.0), "Oslo": Pending(3, 25.0), "Bern": Pending(2, 40.0)}
    assert sum(each.changes for each in pending.values()) == made.pending_changes

    made.apply(request.request_id, Accepted("1"), 50.0)
    made.forget([2], 0.0)
    assert made.pending_by_location() == {"Rome": Pending(1, 20.0), "Oslo": Pending(2, 30.0)}


def test_a_request_counts_the_changes_that_were_coalesced_in_place() -> None:
    made = Engine(EngineLimits(items=ItemLimits(chunk_items=3, max_items=3, flush_items=3), max_pending_changes=3))
    made.assigned(1, start=0, read_up_to=None)
    rows = [change("Rome", sku, offset, offset=offset) for offset, sku in enumerate("aabab")]
    made.add(frame(rows), [], {1: 5}, 0.0)
    assert made.pending_changes == 2

    (request,) = made.due(300.0)
    assert (request.taken.height, request.items, request.changes) == (2, 2, 5)
