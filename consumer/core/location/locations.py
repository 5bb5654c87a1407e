"""All locations that have anything to do, and the requests they start.

``start_due`` asks the planner about every location that may be ready, and starts what it plans. The answer to a request
comes back through exactly one of ``accept``, ``refuse``, ``back_off``, ``hold`` and ``give_back``. Idle locations are
dropped. Times are monotonic seconds.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from consumer.core.changes.blocks import Rows
from consumer.core.location.bisection import REQUESTS_MIN, Bisection, Key, RefusedRequest, Suspects, Unresolved
from consumer.core.location.in_flight import InFlight, InFlightRequests
from consumer.core.location.location import Location, LocationEvent
from consumer.core.location.planner import ItemLimits, SendReason, chunks
from consumer.core.location.request import Refusal, Request
from consumer.core.location.schedule import FlushSchedule
from consumer.core.location.window import Window, Windows
from consumer.errors import InvariantError

COALESCE_GROWTH: Final = 1.25
"""Windows are coalesced in place again once they have grown by this factor: it takes about a second per few million
rows."""

KeepCurrent = Callable[[pl.DataFrame], pl.DataFrame]
"""Returns the rows without those of assignments that are gone (``Partitions.drop_stale``)."""


@dataclass(slots=True)
class Pending:
    """A location's changes that were read and are not accepted yet, and when the oldest was read (monotonic)."""

    changes: int = 0
    first_arrived: float = float("inf")

    def add(self, changes: int, first_arrived: float) -> None:
        self.changes += changes
        self.first_arrived = min(self.first_arrived, first_arrived)


class Locations:
    """By name. Only locations that are not idle exist."""

    def __init__(
        self,
        item_key: Sequence[str],
        items: ItemLimits,
        *,
        max_age_seconds: float,
        due_within_seconds: float,
        bisection_requests_max: int,
        keep_current: KeepCurrent,
    ) -> None:
        self._item_key = tuple(item_key)
        self._items = items
        self._bisection_requests_max = bisection_requests_max
        self._keep_current = keep_current
        self._by_name: dict[str, Location] = {}
        self._windows = Windows(self._item_key, lambda name: self._get_or_create(name).window)
        self._schedule = FlushSchedule(
            flush_items=items.flush_items, max_age_seconds=max_age_seconds, due_within_seconds=due_within_seconds
        )
        self._in_flight = InFlightRequests()
        self._waiting: dict[str, Location] = {}
        """Locations that back off or are held, to find them without walking over all."""
        self._bisecting: dict[str, Location] = {}
        self._requests_started = 0
        self._coalesce_from = 0

    # Changes in

    def add(self, rows: pl.DataFrame) -> None:
        """Put rows, each with its arrival, into their windows."""
        for window in self._windows.add(rows):
            self._schedule.schedule(window)

    def forget(self, assignments: Collection[int], now: float) -> None:
        """Drop the pending rows of these assignments, which are gone; requests in flight stay."""
        before = {name: location.state(now) for name, location in self._by_name.items()}
        self._windows.forget(assignments)
        for location in list(self._bisecting.values()):
            self._keep_suspects(location)
        for name, location in list(self._by_name.items()):
            if before[name] is not location.state(now):
                location.check(before[name], LocationEvent.PARTITIONS_GONE, now)
            self._drop_if_idle(location, now)

    def coalesce(self) -> pl.DataFrame | None:
        """Make room: of an item's changes that wait and say the same fields, the newest is enough (rule 10).

        Does nothing until the windows have clearly grown since the last time. Returns the released change ids.
        """
        if self._windows.rows < self._coalesce_from:
            return None
        windows, released = self._windows.coalesce()
        self._coalesce_from = int(COALESCE_GROWTH * self._windows.rows)
        for window in windows:
            self._schedule.schedule(window)
        return released

    def allow_coalescing(self) -> None:
        """There is room again: the next shortage coalesces at once."""
        self._coalesce_from = 0

    def set_flush_items(self, items: ItemLimits) -> None:
        """Change the number of items from which a window is full."""
        self._items = items
        self._schedule.set_flush_items(items.flush_items, (location.window for location in self._by_name.values()))

    # Requests out

    def advance(self, now: float) -> bool:
        """Let time pass: windows come of age, waits end. Returns whether any location may have something to send."""
        self._schedule.promote_due(now)
        for location in [found for found in self._waiting.values() if not found.backoff.is_waiting(now)]:
            del self._waiting[location.name]
            self._drop_if_idle(location, now)
        return bool(self._schedule.ready)

    def start_due(self, requests_max: int, now: float) -> list[Request]:
        """Start what the planner lets leave now, oldest first: at most one request per location."""
        requests: list[Request] = []
        sendable = sorted(self._sendable(now), key=lambda found: (found.window.first_arrived, found.name))
        for location in sendable:
            if len(requests) == requests_max:
                break
            request = self._start(location, now)
            if request:
                requests.append(request)
        return requests

    def give_back(self, request_id: int, now: float) -> None:
        """The request was not sent, or failed for a reason that is not its location's: its rows wait again."""
        in_flight = self._in_flight.get(request_id)
        self._finish(in_flight, LocationEvent.RETURNED, now)

    def next_deadline(self) -> float | None:
        """The earliest time at which a location may have something to send by time alone; None: no such time."""
        ready = (self._by_name[window.location] for window in self._schedule.ready)
        times = [location.backoff.retry_at for location in ready if not location.in_flight]
        next_age = self._schedule.next_deadline()
        return min(times if next_age is None else [*times, next_age], default=None)

    # Answers in

    def in_flight(self, request_id: int) -> InFlight:
        """A request whose answer is outstanding."""
        return self._in_flight.get(request_id)

    def failures(self, request_id: int) -> int:
        """How often in a row the request's location has failed before."""
        return self._by_name[self._in_flight.get(request_id).request.location].backoff.failures

    def accept(self, request_id: int, now: float) -> list[Refusal]:
        """A jobID covers the request. Returns what its bisection has to give up, if it is at its limit."""
        in_flight = self._in_flight.get(request_id)
        request, location = in_flight.request, self._by_name[in_flight.request.location]
        location.backoff.reset()
        location.futile_bisections = 0
        if location.bisection:
            location.bisection.accepted(in_flight.suspects, request.rows)
        return self._finish(in_flight, LocationEvent.ACCEPTED, now)

    def refuse(self, request_id: int, detail: str, named: Sequence[Key], now: float) -> list[Refusal]:
        """The OMS refused the request for its content. Returns the changes that are to be dead-lettered for it.

        ``named`` are item keys that its words seem to name.
        """
        in_flight = self._in_flight.get(request_id)
        location = self._by_name[in_flight.request.location]
        location.backoff.reset()
        refusals = []
        rows = self._keep_current(in_flight.request.rows)
        if rows.height and self._is_bad_change(location, in_flight, rows, detail, named):
            refusals.append(Refusal(location.name, rows, detail))
            rows = rows.clear()
        return refusals + self._finish(in_flight, LocationEvent.REFUSED, now, rows)

    def back_off(self, request_id: int, until: float, now: float) -> None:
        """The request surely was not queued: its location waits, and is planned again."""
        in_flight = self._in_flight.get(request_id)
        self._by_name[in_flight.request.location].backoff.back_off(until)
        self._finish(in_flight, LocationEvent.NOT_QUEUED, now)

    def hold(self, request_id: int, until: float, now: float) -> None:
        """The request may have been queued: its location is held, and is planned again after that (rule 15)."""
        in_flight = self._in_flight.get(request_id)
        self._by_name[in_flight.request.location].backoff.back_off(until, in_doubt=in_flight.assignments)
        self._finish(in_flight, LocationEvent.OUTCOME_UNKNOWN, now)

    # Questions

    @property
    def rows(self) -> int:
        """Pending rows, in windows and in flight."""
        return self._windows.rows + self._in_flight.rows

    @property
    def pending_locations(self) -> int:
        return sum(bool(location.window.rows) for location in self._by_name.values())

    @property
    def requests_in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def bisecting_locations(self) -> int:
        return len(self._bisecting)

    def with_rows_of(self, assignments: Collection[int]) -> int:
        """How many requests in flight have rows of these assignments."""
        return self._in_flight.with_rows_of(assignments)

    def in_doubt(self, now: float) -> set[int]:
        """The assignments with rows that may be queued at the OMS: in flight, or of a location that is held."""
        held = (found.backoff.in_doubt for found in self._waiting.values() if found.backoff.is_waiting(now))
        return self._in_flight.assignments().union(*held)

    def held_locations(self, now: float) -> int:
        """Locations held after an unknown outcome."""
        return sum(location.backoff.is_hold(now) for location in self._waiting.values())

    def first_arrived(self) -> float | None:
        """When the oldest pending change was read; None without any."""
        windows = min((location.window.first_arrived for location in self._by_name.values()), default=float("inf"))
        oldest = min(windows, self._in_flight.first_arrived() or float("inf"))
        return None if oldest == float("inf") else oldest

    def pending(self) -> dict[str, Pending]:
        """What is pending per location. It walks over all of them: not for every turn of the loop."""
        windows = (location.window for location in self._by_name.values())
        pending = {window.location: Pending(window.rows, window.first_arrived) for window in windows if window.rows}
        for in_flight in self._in_flight:
            request = in_flight.request
            pending.setdefault(request.location, Pending()).add(request.taken.height, request.taken.first_arrived())
        return pending

    # Inside

    def _get_or_create(self, name: str) -> Location:
        location = self._by_name.get(name)
        if location is None:
            location = self._by_name[name] = Location(name, Window(name))
        return location

    def _drop_if_idle(self, location: Location, now: float) -> None:
        if location.may_be_dropped(now):
            self._schedule.drop(location.window)
            self._waiting.pop(location.name, None)
            del self._by_name[location.name]

    def _sendable(self, now: float) -> Iterable[Location]:
        ready = (self._by_name[window.location] for window in self._schedule.ready)
        return (location for location in ready if location.window.rows and location.may_send(now))

    def _start(self, location: Location, now: float) -> Request | None:
        """What the location lets leave now, in flight from here on; None: nothing."""
        window = location.window
        self._schedule.unmark_ready(window)
        while location.bisection:
            request = self._start_suspects(location, location.bisection, now)
            if request:
                return request
        if not window.rows:
            return None
        due_arrived = self._schedule.due_arrived(window, now)
        taken = self._windows.take(window, due_arrived=due_arrived, limits=self._items)
        if taken is None or taken.plan.reason is None:
            self._schedule.schedule(window)
            return None
        return self._depart(location, taken.rows, taken.plan.items, taken.plan.reason, now)

    def _start_suspects(self, location: Location, bisection: Bisection, now: float) -> Request | None:
        """Send the next suspects; None: they have no pending changes any more, and are dropped."""
        suspects = bisection.next_suspects
        rows = self._windows.take_items(location.window, suspects.keys) if location.window.rows else None
        if rows is not None and rows.height:
            selection = suspects.select(rows, self._item_key)
            self._windows.put_back(location.window, selection.staying)
            if selection.leaving.height:
                leaving = Rows(selection.leaving, overlay=selection.overlay)
                return self._depart(location, leaving, suspects.keys.height, SendReason.BISECTION, now, suspects)
        bisection.drop(suspects)
        self._end_bisection_if_over(location)
        return None

    def _depart(
        self,
        location: Location,
        rows: Rows,
        items: int,
        reason: SendReason,
        now: float,
        suspects: Suspects | None = None,
    ) -> Request:
        self._schedule.schedule(location.window)
        self._requests_started += 1
        size = chunks(items, self._items.chunk_items)
        request = Request(self._requests_started, location.name, rows, items, size, reason)
        if location.in_flight:
            raise InvariantError(f"a second request for {location.name!r} would leave while one is in flight")
        location.in_flight = self._in_flight.start(request, now, suspects)
        return request

    def _finish(
        self, in_flight: InFlight, event: LocationEvent, now: float, rows: pl.DataFrame | None = None
    ) -> list[Refusal]:
        """Settle the request: its rows (``rows`` if given) wait again, unless it was accepted."""
        location = self._by_name[in_flight.request.location]
        before = location.state(now)
        self._in_flight.finish(in_flight.request.request_id)
        location.in_flight = None
        if event is not LocationEvent.ACCEPTED:
            returning = self._keep_current(in_flight.request.rows) if rows is None else rows
            self._windows.put_back(location.window, returning)
            self._schedule.schedule(location.window)
            if location.window.rows:
                self._schedule.mark_ready(location.window)
        refusals = self._continue_bisection(location)
        location.check(before, event, now)
        if location.backoff.is_waiting(now):
            self._waiting[location.name] = location
        self._drop_if_idle(location, now)
        return refusals

    def _is_bad_change(
        self,
        location: Location,
        in_flight: InFlight,
        rows: pl.DataFrame,
        detail: str,
        named: Sequence[Key],
    ) -> bool:
        """Bisect a refused request. True: it was a single change, which is bad."""
        suspects, taken = in_flight.suspects, in_flight.request.taken
        one_by_one = suspects is not None and suspects.one_change_at_a_time
        alone = taken.height == 1 and (one_by_one or taken.overlay is None)
        refused = RefusedRequest(rows, suspects, alone, detail, named)
        if location.bisection is None:
            if alone:
                return True
            requests = max(REQUESTS_MIN, self._bisection_requests_max >> location.futile_bisections)
            location.bisection = Bisection(
                refused,
                self._item_key,
                chunk_items=self._items.chunk_items,
                requests_max=min(requests, self._bisection_requests_max),
            )
            self._bisecting[location.name] = location
        return location.bisection.refused(refused)

    def _continue_bisection(self, location: Location) -> list[Refusal]:
        """Look at the location again for its next suspects, or give up the rest of them at the limit."""
        bisection = location.bisection
        if bisection is None or bisection.is_over or not location.window.rows:
            self._end_bisection(location)
            return []
        self._schedule.mark_ready(location.window)
        unresolved = bisection.unresolved()
        if unresolved is None:
            return []
        if not bisection.any_accepted:
            location.futile_bisections += 1
        self._end_bisection(location)
        return self._give_up(location, unresolved)

    def _give_up(self, location: Location, unresolved: Unresolved) -> list[Refusal]:
        rows = self._windows.take_items(location.window, unresolved.keys, arrived_until=unresolved.arrived_until)
        return [Refusal(location.name, rows, unresolved.detail)] if rows.height else []

    def _keep_suspects(self, location: Location) -> None:
        """Drop suspects without a pending change, in the window or in flight."""
        if location.bisection:
            frames = [self._windows.rows_of(location.window)]
            if location.in_flight:
                frames.append(self._keep_current(location.in_flight.request.rows))
            location.bisection.keep(pl.concat(frames, how="diagonal"))
            self._end_bisection_if_over(location)

    def _end_bisection_if_over(self, location: Location) -> None:
        if location.bisection and location.bisection.is_over:
            self._end_bisection(location)

    def _end_bisection(self, location: Location) -> None:
        location.bisection = None
        self._bisecting.pop(location.name, None)
