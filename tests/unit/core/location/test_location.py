"""The life of one location, and that nothing is kept of an idle one."""

from collections.abc import Callable

import polars as pl
import pytest

from consumer.core.changes.items import ARRIVED
from consumer.core.location.location import TRANSITIONS, Location, LocationEvent, LocationState
from consumer.core.location.locations import Locations
from consumer.core.location.planner import ItemLimits
from consumer.core.location.window import Window
from consumer.errors import InvariantError
from tests.support.frames import change, frame

AGE = 300.0
HOLD = 120.0
GONE: set[int] = set()


def current(rows: pl.DataFrame) -> pl.DataFrame:
    """As ``Partitions.drop_stale``: without rows of assignments in ``GONE``."""
    return rows.filter(~pl.col("_assignment").is_in(list(GONE)))


@pytest.fixture
def locations() -> Locations:
    GONE.clear()
    return Locations(
        ["sku"],
        ItemLimits(chunk_items=3, max_items=12, flush_items=12),
        max_age_seconds=AGE,
        due_within_seconds=1.0,
        bisection_requests_max=200,
        keep_current=current,
    )


def rome(locations: Locations) -> Location:
    return locations._by_name["Rome"]


def add(locations: Locations, *skus: str, first_offset: int = 0) -> None:
    rows = [change("Rome", sku, offset=first_offset + at, arrived=0.0) for at, sku in enumerate(skus)]
    locations.add(frame(rows))


def start(locations: Locations, now: float = AGE) -> int:
    locations.advance(now)
    (request,) = locations.start_due(8, now)
    return request.request_id


Step = Callable[[Locations], None]


def pending(locations: Locations) -> None:
    add(locations, "a", "b")


def in_flight(locations: Locations) -> None:
    pending(locations)
    start(locations)


def bisecting(locations: Locations) -> None:
    in_flight(locations)
    locations.refuse(1, "no", (), AGE)


def backing_off(locations: Locations) -> None:
    in_flight(locations)
    locations.back_off(1, AGE + 5, AGE)


def held(locations: Locations) -> None:
    in_flight(locations)
    locations.hold(1, AGE + HOLD, AGE)


def lose_partition(locations: Locations) -> None:
    GONE.add(1)
    locations.forget([1], AGE)


def give_back_without_rows(locations: Locations) -> None:
    lose_partition(locations)
    locations.give_back(1, AGE)


@pytest.mark.parametrize(
    ("reach", "event", "after"),
    [
        pytest.param(pending, lambda found: add(found, "c", first_offset=9), LocationState.PENDING, id="more changes"),
        pytest.param(pending, start, LocationState.IN_FLIGHT, id="a request starts"),
        pytest.param(in_flight, lambda found: found.give_back(1, AGE), LocationState.PENDING, id="returned"),
        pytest.param(in_flight, lambda found: found.refuse(1, "no", (), AGE), LocationState.BISECTING, id="refused"),
        pytest.param(in_flight, lambda found: found.back_off(1, AGE + 5, AGE), LocationState.BACKING_OFF, id="failed"),
        pytest.param(in_flight, lambda found: found.hold(1, AGE + 5, AGE), LocationState.HELD, id="unknown outcome"),
        pytest.param(in_flight, lambda found: add(found, "c", first_offset=9), LocationState.IN_FLIGHT, id="busy"),
        pytest.param(in_flight, lose_partition, LocationState.IN_FLIGHT, id="a revoke does not end a request"),
        pytest.param(bisecting, start, LocationState.IN_FLIGHT, id="suspects are sent"),
        pytest.param(backing_off, lambda found: found.advance(AGE + 5), LocationState.BACKING_OFF, id="still in time"),
        pytest.param(held, lose_partition, LocationState.HELD, id="a hold outlives the revoke of its partition"),
        pytest.param(
            backing_off, lose_partition, LocationState.BACKING_OFF, id="a back-off outlives the revoke of its partition"
        ),
    ],
)
def test_each_event_leads_to_its_state(
    locations: Locations, reach: Step, event: Callable[[Locations], object], after: LocationState
) -> None:
    reach(locations)
    event(locations)

    assert rome(locations).state(AGE) is after


@pytest.mark.parametrize(("reach", "seconds"), [(backing_off, 5.0), (held, HOLD)])
def test_a_location_may_send_again_when_its_wait_is_over(locations: Locations, reach: Step, seconds: float) -> None:
    reach(locations)

    assert locations.start_due(8, AGE + seconds - 0.1) == []
    assert rome(locations).state(AGE + seconds) is LocationState.PENDING
    assert [request.items for request in locations.start_due(8, AGE + seconds)] == [2]


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda found: found.accept(1, AGE), id="everything was accepted"),
        pytest.param(give_back_without_rows, id="its rows are gone"),
    ],
)
def test_an_idle_location_is_dropped(locations: Locations, end: Callable[[Locations], object]) -> None:
    in_flight(locations)
    end(locations)

    assert locations._by_name == {}
    assert list(locations._schedule.ready) == []


@pytest.mark.parametrize("reach", [in_flight, held, backing_off])
def test_a_location_that_is_in_flight_or_waits_is_kept_without_any_pending_change(
    locations: Locations, reach: Step
) -> None:
    reach(locations)
    lose_partition(locations)
    locations.advance(AGE)

    assert "Rome" in locations._by_name


def test_a_held_location_without_pending_changes_is_dropped_when_its_hold_is_over(locations: Locations) -> None:
    held(locations)
    lose_partition(locations)
    assert locations.in_doubt(AGE + HOLD - 1) == {1}

    locations.advance(AGE + HOLD)
    assert locations._by_name == {}
    assert locations.in_doubt(AGE + HOLD) == set()


def test_asking_a_location_for_its_state_changes_nothing(locations: Locations) -> None:
    held(locations)
    for now in (AGE, AGE + HOLD, AGE + 2 * HOLD):
        rome(locations).state(now)
        locations.in_doubt(now)

    assert rome(locations).state(AGE) is LocationState.HELD


def test_a_change_of_state_that_the_table_does_not_list_is_a_bug() -> None:
    location = Location("Rome", Window("Rome"))

    with pytest.raises(InvariantError, match=r"'Rome' went from held to idle when: accepted"):
        location.check(LocationState.HELD, LocationEvent.ACCEPTED, 0.0)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {after for afters in TRANSITIONS.values() for after in afters}
    left = {before for before, _ in TRANSITIONS}

    assert reached == left == set(LocationState)
    assert {event for _, event in TRANSITIONS} == set(LocationEvent)


def test_rows_wait_with_their_arrival(locations: Locations) -> None:
    in_flight(locations)
    locations.give_back(1, AGE)

    assert locations._windows.rows_of(rome(locations).window)[ARRIVED].to_list() == [0.0, 0.0]
