"""What each location does and when it may send next, for the status page. Times are monotonic seconds."""

from collections.abc import Iterable
from typing import NamedTuple

from consumer.core.location.location import Location, LocationState


class LocationView(NamedTuple):
    """A location with something to do. A named tuple, because there may be 10,000 of them at once.

    ``pending_changes`` and ``pending_items`` are in the window and in flight; the items are counted from above.
    ``oldest_arrived`` is when the oldest pending change was read; None if none is pending. ``send_at`` is the earliest
    time at which the next request is due; None if that depends on the answer to the present one. A request that is due
    may still have to wait for a free slot.
    """

    name: str
    state: LocationState
    pending_changes: int
    pending_items: int
    oldest_arrived: float | None
    send_at: float | None


def location_views(
    locations: Iterable[Location], *, max_age_seconds: float, flush_items: int, now: float
) -> list[LocationView]:
    """Views of all locations that are not idle. Takes about 2 us each: too slow for every turn of the loop."""
    views = []
    for location in locations:
        state = location.state(now)
        if state is LocationState.IDLE:
            continue
        window, in_flight = location.window, location.in_flight
        changes, items, arrived = window.rows, min(window.items_max, window.rows), window.first_arrived
        if in_flight:
            request = in_flight.request
            changes, items = changes + request.taken.height, items + request.items
            arrived = min(arrived, request.taken.first_arrived())
        send_at = None
        if state in (LocationState.BACKING_OFF, LocationState.HELD):
            send_at = location.backoff.retry_at
        elif state is LocationState.PENDING and window.items_max < flush_items:
            send_at = window.first_arrived + max_age_seconds
        elif not in_flight:
            send_at = now
        views.append(LocationView(location.name, state, changes, items, arrived if changes else None, send_at))
    return views
