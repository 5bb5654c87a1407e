"""Starts requests: takes the changes that leave out of their window."""

from consumer.core.changes.blocks import Rows
from consumer.core.location.bisection import Bisection, Suspects
from consumer.core.location.bisections import Bisections
from consumer.core.location.body_sizes import BodySizes
from consumer.core.location.in_flight import InFlightRequests
from consumer.core.location.location import Location
from consumer.core.location.planner import ItemLimits, Planner, SendReason, chunks
from consumer.core.location.request import Request
from consumer.core.location.schedule import FlushSchedule
from consumer.core.location.small_windows import MayUseSmart, SmallWindows
from consumer.core.location.window import Windows
from consumer.errors import InvariantError


class RequestStarter:
    """Starts a location's next request: with the next suspects of its bisection, or else as planned."""

    def __init__(
        self,
        windows: Windows,
        schedule: FlushSchedule,
        in_flight: InFlightRequests,
        bisections: Bisections,
        body_sizes: BodySizes,
        item_key: tuple[str, ...],
        may_use_smart: MayUseSmart,
        small_windows: SmallWindows | None,
    ) -> None:
        self._may_use_smart = may_use_smart
        self._small_windows = small_windows
        self._windows = windows
        self._schedule = schedule
        self._in_flight = in_flight
        self._bisections = bisections
        self._body_sizes = body_sizes
        self._item_key = item_key
        self._requests_started = 0

    def start(self, location: Location, limits: ItemLimits, plan: Planner, now: float) -> Request | None:
        """Start the next request of the location; None if the planner wants to send nothing."""
        window = location.window
        row_bytes = self._windows.row_bytes
        self._schedule.unmark_ready(window)
        while location.bisection:
            request = self._start_suspects(location, location.bisection, limits, row_bytes, now)
            if request:
                return request
        if not window.rows:
            return None
        due_arrived = self._schedule.due_arrived(window, now)
        plan = self._body_sizes.within(location, plan)
        taken = self._windows.take(window, due_arrived=due_arrived, limits=limits, plan=plan)
        if taken is None or taken.plan.reason is None:
            self._schedule.schedule(window)
            return None
        size_bytes = int(taken.rows.height * row_bytes)
        return self._start_request(location, taken.rows, taken.plan.items, limits, taken.plan.reason, size_bytes, now)

    def _start_suspects(
        self, location: Location, bisection: Bisection, limits: ItemLimits, row_bytes: float, now: float
    ) -> Request | None:
        """Start a request with the next suspects; None if they have no pending changes any more and are dropped."""
        suspects = bisection.next_suspects
        rows = self._windows.take_items(location.window, suspects.keys) if location.window.rows else None
        if rows is not None and rows.height:
            selection = suspects.select(rows, self._item_key)
            self._windows.put_back(location.window, selection.staying)
            if selection.leaving.height:
                leaving = Rows(selection.leaving, overlay=selection.overlay)
                items, size_bytes = suspects.keys.height, int(leaving.height * row_bytes)
                return self._start_request(
                    location, leaving, items, limits, SendReason.BISECTION, size_bytes, now, suspects
                )
        bisection.drop(suspects)
        self._bisections.end_if_over(location)
        return None

    def _start_request(
        self,
        location: Location,
        rows: Rows,
        items: int,
        limits: ItemLimits,
        reason: SendReason,
        size_bytes: int,
        now: float,
        suspects: Suspects | None = None,
    ) -> Request:
        self._schedule.schedule(location.window)
        self._requests_started += 1
        is_smart = self._may_use_smart(location.name, items, now)
        whole_chunks = chunks(items, limits.chunk_items)
        request = Request(self._requests_started, location.name, rows, items, whole_chunks, reason, is_smart)
        if location.in_flight:
            raise InvariantError(f"location {location.name!r} already has a request in flight")
        if self._small_windows:
            self._small_windows.started(location.name, reason, now)
        location.in_flight = self._in_flight.start(request, now, suspects, size_bytes)
        return request
