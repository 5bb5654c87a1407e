"""Requests with what is neither a full window nor due: to free memory, to let reading go on, or because it is small."""

from collections.abc import Mapping

from consumer.core.location.blocking import BlockingLocations
from consumer.core.location.fullest import fullest
from consumer.core.location.in_flight import InFlightRequests
from consumer.core.location.location import Location
from consumer.core.location.planner import ItemLimits, Planner, plan_small, plan_under_pressure
from consumer.core.location.request import Request
from consumer.core.location.request_starter import RequestStarter
from consumer.core.location.small_windows import MayUseSmart, SmallWindows


class EarlyRequests:
    """Starts them, at most one per location. Part of ``Locations``, whose state it shares. Times are monotonic."""

    def __init__(
        self,
        by_name: Mapping[str, Location],
        items: ItemLimits,
        starter: RequestStarter,
        in_flight: InFlightRequests,
        blocking: BlockingLocations,
        small_windows: SmallWindows | None,
        may_use_smart: MayUseSmart,
    ) -> None:
        """``small_windows`` is None if nothing leaves because it is small."""
        self.items = items
        self._by_name = by_name
        self._starter = starter
        self._in_flight = in_flight
        self._blocking = blocking
        self._small_windows = small_windows
        self._may_use_smart = may_use_smart

    def start_fullest(self, requests_max: int, free_bytes: float, now: float) -> list[Request]:
        """Start requests to free memory, since nothing more can be read.

        Locations with the most whole chunks go first, then those that free most. Ends once this many bytes of rows are
        in flight.
        """
        requests: list[Request] = []
        for location in fullest(self._by_name.values(), requests_max, self.items, now):
            if free_bytes <= 0:
                break
            request = self._starter.start(location, self.items, plan_under_pressure, now)
            if request:
                free_bytes -= self._in_flight.get(request.request_id).size_bytes
                requests.append(request)
        return requests

    def start_blocking(self, requests_max: int, offsets: Mapping[int, int], now: float, plan: Planner) -> list[Request]:
        """Start requests with the oldest changes; ``offsets`` are the committable offsets at which reading resumes."""
        requests: list[Request] = []
        for found in self._blocking.take(offsets, now):
            location = self._by_name.get(found.location)
            if not location or not plan(location.window.items_max, 0, self.items).items:
                continue  # counting its items would be in vain
            if location.window.first_arrived <= found.last_arrived and location.may_send(now):
                request = self._starter.start(location, self.items, plan, now)
                requests += [request] if request else []
            if len(requests) == requests_max:
                break
        return requests

    def next_small_at(self) -> float | None:
        """Earliest time at which ``start_small`` may start a request; None if there is nothing small."""
        return self._small_windows.next_at() if self._small_windows else None

    def start_small(self, requests_max: int, now: float) -> list[Request]:
        """Start requests with the few changes of quiet locations that may use smart refresh."""
        requests: list[Request] = []
        small = self._small_windows
        while small and len(requests) < requests_max and (window := small.take_due(now)):
            location = self._by_name[window.location]
            may_leave = location.may_send(now) and not location.bisection and small.is_quiet(location.name, now)
            if may_leave and self._may_use_smart(location.name, window.items_max, now):
                request = self._starter.start(location, self.items, plan_small(small.limits.items), now)
                requests += [request] if request else []
        return requests
