"""What is shown of each location: its state, and when it may send next."""

import pytest

from consumer.core.location.location import LocationState
from consumer.core.location.locations import Locations
from consumer.core.location.planner import ItemLimits
from consumer.core.location.views import LocationView, location_views
from tests.support.frames import change, frame

AGE = 300.0


@pytest.fixture
def locations() -> Locations:
    return Locations(
        ["sku"],
        ItemLimits(chunk_items=3, max_items=12, flush_items=12),
        max_age_seconds=AGE,
        due_within_seconds=1.0,
        bisection_requests_max=200,
        keep_current=lambda rows: rows,
    )


def add(locations: Locations, count: int, *, first: int = 0, arrived: float = 0.0) -> None:
    skus = range(first, first + count)
    locations.add(frame([change("Rome", f"s{sku}", offset=sku, arrived=arrived) for sku in skus]))


def start(locations: Locations, now: float = AGE) -> int:
    locations.advance(now)
    (request,) = locations.start_due(8, now)
    return request.request_id


def view(locations: Locations, now: float) -> LocationView:
    (found,) = location_views(locations, max_age_seconds=AGE, flush_items=12, now=now)
    return found


def test_a_pending_location_sends_when_its_oldest_change_is_due(locations: Locations) -> None:
    add(locations, 2, arrived=10.0)
    assert view(locations, 20.0) == LocationView("Rome", LocationState.PENDING, 2, 2, 10.0, 10.0 + AGE)


def test_a_full_one_is_due_now(locations: Locations) -> None:
    add(locations, 12)
    assert view(locations, 20.0).send_at == 20.0


def test_what_is_in_flight_counts_as_pending_and_nothing_is_due_before_the_answer(locations: Locations) -> None:
    add(locations, 2)
    start(locations)
    add(locations, 1, first=5, arrived=AGE)
    assert view(locations, AGE + 1) == LocationView("Rome", LocationState.IN_FLIGHT, 3, 3, 0.0, None)


def test_a_waiting_location_sends_when_its_wait_is_over(locations: Locations) -> None:
    add(locations, 2)
    locations.back_off(start(locations), AGE + 5, AGE)
    assert view(locations, AGE + 1)[1:] == (LocationState.BACKING_OFF, 2, 2, 0.0, AGE + 5)
    locations.advance(AGE + 5)
    locations.hold(start(locations, AGE + 5), AGE + 125, AGE + 5)
    assert view(locations, AGE + 6)[1:] == (LocationState.HELD, 2, 2, 0.0, AGE + 125)


def test_idle_locations_are_not_shown(locations: Locations) -> None:
    add(locations, 2)
    locations.accept(start(locations), AGE)
    assert location_views(locations, max_age_seconds=AGE, flush_items=12, now=AGE) == []
