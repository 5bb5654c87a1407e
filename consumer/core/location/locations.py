"""All locations that have something to do, and their requests.

``start_due`` asks the planner about every ready location, and starts the requests that it plans. Each request must end
with exactly one call of ``accept``, ``refuse``, ``refuse_whole``, ``shrink``, ``back_off``, ``hold`` or ``give_back``.
Idle locations are dropped, unless they must remember futile bisections. Times are monotonic seconds.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import polars as pl

from consumer.core.changes.blocks import SizeOf, frame_bytes
from consumer.core.changes.items import LOCATION
from consumer.core.location.bisection import Key, Verdict
from consumer.core.location.bisections import Bisections, KeepCurrent
from consumer.core.location.blocking import BlockingLocations
from consumer.core.location.body_sizes import BodySizes
from consumer.core.location.early_requests import EarlyRequests
from consumer.core.location.in_flight import InFlight, InFlightRequests
from consumer.core.location.location import Location, LocationEvent
from consumer.core.location.pending import Pending, pending_by_location
from consumer.core.location.planner import ItemLimits, plan_items
from consumer.core.location.request import Refusal, Request
from consumer.core.location.request_starter import RequestStarter
from consumer.core.location.schedule import FlushSchedule
from consumer.core.location.set_aside import IsFar, SetAsideLimits, SetAsideLocations, WholeRefusal
from consumer.core.location.small_windows import MayUseSmart, SmallLimits, SmallWindows
from consumer.core.location.superseded import SupersededChanges
from consumer.core.location.window import Window, Windows

COALESCE_GROWTH: Final = 1.25
"""Windows are coalesced in place again once they have grown by this factor; a few million rows take about a second."""


class Locations:
    """All locations that have something to do, by name."""

    def __init__(
        self,
        item_key: Sequence[str],
        items: ItemLimits,
        *,
        max_age_seconds: float,
        due_within_seconds: float,
        bisection_requests_max: int,
        keep_current: KeepCurrent,
        size_of: SizeOf = frame_bytes,
        coalescing_bytes_max: int = 24 * 1024 * 1024,
        location_bytes: int = 0,
        set_aside: SetAsideLimits = SetAsideLimits(),  # noqa: B008 - it is frozen
        may_use_smart: MayUseSmart | None = None,
        small: SmallLimits = SmallLimits(),  # noqa: B008 - it is frozen
    ) -> None:
        """Without ``may_use_smart`` all requests go to plain refresh, and nothing is sent because it is ``small``."""
        self._location_bytes = location_bytes
        self._item_key = tuple(item_key)
        self._items = items
        self._keep_current = keep_current
        self._by_name: dict[str, Location] = {}
        self._windows = Windows(
            self._item_key, lambda name: self._get_or_create(name).window, size_of, coalescing_bytes_max
        )
        small_windows = SmallWindows(small, max_age_seconds) if may_use_smart and small.items else None
        self._schedule = FlushSchedule(
            flush_items=items.flush_items,
            max_age_seconds=max_age_seconds,
            due_within_seconds=due_within_seconds,
            small_windows=small_windows,
        )
        self._in_flight = InFlightRequests()
        self._waiting: dict[str, Location] = {}
        """Locations that back off or are held, so that they are found without visiting all."""
        self.set_aside = SetAsideLocations(set_aside)
        self.body_sizes = BodySizes()
        self._coalesce_from = 0
        blocking = BlockingLocations(self._windows.blocking_locations)
        self._bisections = Bisections(
            self._windows,
            self._schedule,
            item_key,
            items.chunk_items,
            requests_max=bisection_requests_max,
            apart_seconds=set_aside.probe_seconds_min,
            keep_current=keep_current,
        )
        self._starter = RequestStarter(
            self._windows,
            self._schedule,
            self._in_flight,
            self._bisections,
            self.body_sizes,
            self._item_key,
            may_use_smart or _never,
            small_windows,
        )
        self.early = EarlyRequests(
            self._by_name, items, self._starter, self._in_flight, blocking, small_windows, may_use_smart or _never
        )
        self.superseded = SupersededChanges(item_key)
        self.matching = self._windows.matching

    def __iter__(self) -> Iterator[Location]:
        return iter(self._by_name.values())

    # Changes in

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows with arrival times to the windows of their locations."""
        for window in self._windows.add(rows):
            self._schedule.schedule(window)

    def forget(self, assignment_ids: Collection[int], now: float) -> None:
        """Drop the rows and suspects of these assignments, which have ended. Requests stay in flight."""
        before = {name: location.state(now) for name, location in self._by_name.items()}
        self._windows.forget(assignment_ids)
        for location in self._bisections.locations:
            self._bisections.drop_suspects_without_changes(location)
        for name, location in list(self._by_name.items()):
            if before[name] is not location.state(now):
                location.check(before[name], LocationEvent.PARTITIONS_GONE, now)
            self._drop_if_idle(location, now)

    def supersede(self, barriers: pl.DataFrame, now: float) -> None:
        """Take out what is older than these barriers (rule 27)."""
        for (name,), of_location in barriers.partition_by(LOCATION, as_dict=True).items():
            location = self._by_name.get(str(name))
            if location is None:
                continue
            before = location.state(now)
            if self.superseded.apply(self._windows, location, of_location):
                self._schedule.schedule(location.window)
                self._bisections.drop_suspects_without_changes(location)
            if before is not location.state(now):
                location.check(before, LocationEvent.SUPERSEDED, now)
            self._drop_if_idle(location, now)

    def coalesce(self) -> list[pl.DataFrame]:
        """Make room: of an item's changes that wait and say the same fields, the newest is enough (rule 10).

        Does nothing and returns None until the windows have grown enough since the last time.
        """
        if self._windows.rows < self._coalesce_from:
            return []
        windows, released = self._windows.coalesce()
        self._coalesce_from = int(COALESCE_GROWTH * self._windows.rows)
        for window in windows:
            self._schedule.schedule(window)
        return released

    def allow_coalescing(self) -> None:
        """There is room again: the next ``coalesce`` need not wait for the windows to grow."""
        self._coalesce_from = 0

    def set_flush_items(self, items: ItemLimits) -> None:
        """Change the number of items that makes a window full."""
        self._items = self.early.items = items
        self._schedule.set_flush_items(items.flush_items, (location.window for location in self._by_name.values()))

    # Requests out

    def advance(self, now: float) -> bool:
        """Update due windows and ended waits. Returns whether any window is ready."""
        self._schedule.promote_due(now)
        for location in [found for found in self._waiting.values() if not found.backoff.is_waiting(now)]:
            del self._waiting[location.name]
            self._schedule.queue_again(location.window)
            self._drop_if_idle(location, now)
        return self._schedule.has_queued

    def start_due(self, requests_max: int, now: float) -> list[Request]:
        """Start the requests that the planner wants to send now, oldest first and at most one per location."""
        requests: list[Request] = []
        while len(requests) < requests_max and (window := self._schedule.take_ready()):
            location = self._by_name[window.location]
            may_send = location.may_send(now)
            request = self._starter.start(location, self._items, plan_items, now) if may_send else None
            if request:
                requests.append(request)
        return requests

    def give_back(self, request_id: int, now: float) -> None:
        """The request was not sent, or failed for a reason that does not concern its location: its rows wait again."""
        self._finish(self._in_flight.get(request_id), LocationEvent.RETURNED, now)

    def next_deadline(self) -> float | None:
        """Earliest time at which ``start_due`` may find something; None if it first needs an answer or new changes."""
        if self._schedule.has_queued:
            return float("-inf")
        ready = self._schedule.ready
        times = [found.backoff.retry_at for found in self._waiting.values() if found.window in ready]
        next_age = self._schedule.next_deadline()
        return min(times if next_age is None else [*times, next_age], default=None)

    # Answers in

    def in_flight(self, request_id: int) -> InFlight:
        """The request with this id, which must be in flight."""
        return self._in_flight.get(request_id)

    def failures(self, request_id: int) -> int:
        """Number of failures in a row of the request's location, before this request."""
        return self._by_name[self._in_flight.get(request_id).request.location].backoff.failures

    def accept(self, request_id: int, now: float) -> list[Refusal]:
        """The OMS accepted the request, and so its location.

        Returns changes to be dead-lettered: the remaining suspects, if the bisection has reached its limit.
        """
        in_flight = self._in_flight.get(request_id)
        request, location = in_flight.request, self._by_name[in_flight.request.location]
        location.end_wait()
        location.futile_bisections = 0
        if location.bisection:
            location.bisection.accepted(in_flight.suspects, request.rows)
        refusals = self._finish(in_flight, LocationEvent.ACCEPTED, now)
        self.set_aside.accepted(location)
        return refusals

    def refuse_some(self, request_id: int, refused: pl.DataFrame, detail: str, now: float) -> list[Refusal]:
        """The OMS accepted the request but for the items of these of its rows: they are bisected.

        Returns the changes that must be dead-lettered.
        """
        in_flight = self._in_flight.get(request_id)
        location = self._by_name[in_flight.request.location]
        location.end_wait()
        location.futile_bisections = 0
        self.set_aside.accepted(location)
        return self._bisect(in_flight, detail, (), Verdict.AT_ONCE, LocationEvent.REFUSED, now, refused)

    def refuse(
        self, request_id: int, detail: str, named: Sequence[Key], now: float, *, wait_until: float | None = None
    ) -> list[Refusal]:
        """The OMS refused the request for its content. Returns the changes that must be dead-lettered.

        ``named`` are item keys that its message ``detail`` seems to name. With ``wait_until``, because it refuses most
        locations, none is dead-lettered now, and the location waits until this time (rule 32).
        """
        in_flight = self._in_flight.get(request_id)
        location = self._by_name[in_flight.request.location]
        location.backoff.reset()
        if wait_until is None:
            return self._bisect(in_flight, detail, named, Verdict.AT_ONCE, LocationEvent.REFUSED, now)
        location.wait_after_refusal(wait_until, now)
        return self._bisect(in_flight, detail, named, Verdict.NOT_NOW, LocationEvent.NOT_QUEUED, now)

    def refuse_whole(self, request_id: int, said: WholeRefusal, now: float, *, refuses_all: bool) -> list[Refusal]:
        """The request was refused whatever is in it: its location waits, and may be set aside (rule 30).

        ``refuses_all``: most locations are. Returns the changes that must be dead-lettered.
        """
        in_flight = self._in_flight.get(request_id)
        location = self._by_name[in_flight.request.location]
        rows = self._keep_current(in_flight.request.rows)
        location.wait_after_refusal(self.set_aside.refused(location, rows, said, now), now)
        if location not in self.set_aside:
            return self._finish(in_flight, LocationEvent.NOT_QUEUED, now)
        verdict = Verdict.NOT_NOW if refuses_all else Verdict.TWICE
        refusals = self._bisect(in_flight, said.detail, (), verdict, LocationEvent.NOT_QUEUED, now)
        if refusals and not location.bisection:  # what is bad has been found
            self.set_aside.forget(location)
            location.end_wait()
        return refusals

    def end_set_aside(self, is_far: IsFar, now: float) -> list[Refusal]:
        """End what has been set aside long enough. Returns the changes that must be dead-lettered.

        These are the pending changes of refused requests; later ones are sent as usual.
        """
        refusals = []
        for location in self.set_aside.ended(is_far, now):
            ended = self.set_aside.end(location)
            self._bisections.end(location)
            rows = self._windows.take_changes(location.window, ended.change_ids)
            self._schedule.schedule(location.window)
            location.end_wait()
            refusals += [Refusal(location.name, rows, ended.said.detail)] if rows.height else []
        return refusals

    def shrink(self, request_id: int, body_bytes: int, detail: str, now: float) -> list[Refusal]:
        """The request's body was too large and was not taken: its location sends fewer items at once.

        What cannot be planned smaller is bisected. Returns the changes that must be dead-lettered: a single change
        whose body is too large.
        """
        in_flight = self._in_flight.get(request_id)
        request = in_flight.request
        if not request.can_shrink:
            return self.refuse(request_id, detail, (), now)
        self.body_sizes.measure(self._by_name[request.location], request.items, body_bytes)
        return self._finish(in_flight, LocationEvent.RETURNED, now)

    def back_off(self, request_id: int, until: float, now: float) -> None:
        """The request was certainly not queued: its location waits until this time."""
        in_flight = self._in_flight.get(request_id)
        self._by_name[in_flight.request.location].backoff.back_off(until)
        self._finish(in_flight, LocationEvent.NOT_QUEUED, now)

    def hold(self, request_id: int, until: float, now: float) -> None:
        """The request may have been queued: its location is held until this time (rule 15)."""
        in_flight = self._in_flight.get(request_id)
        self._by_name[in_flight.request.location].backoff.back_off(until, in_doubt=in_flight.assignment_ids)
        self._finish(in_flight, LocationEvent.OUTCOME_UNKNOWN, now)

    def end_hold(self, name: str, now: float) -> float | None:
        """End a hold early (rule 33). Returns how long it still had to last; None if there is none any more."""
        location = self._by_name.get(name)
        if location is None or location.in_flight or not location.backoff.is_hold(now):
            return None
        seconds_left = location.backoff.retry_at - now
        location.backoff.reset()
        return seconds_left

    # Questions

    def find(self, name: str) -> Location | None:
        """The location of this name, to be looked at; None if it has nothing to do."""
        return self._by_name.get(name)

    @property
    def rows(self) -> int:
        """Number of rows in windows and in flight."""
        return self._windows.rows + self._in_flight.rows

    @property
    def size_bytes(self) -> float:
        """Memory of the locations, and of their rows in windows and in flight."""
        rows_bytes = self._windows.size_bytes + self._in_flight.size_bytes
        return rows_bytes + self._location_bytes * len(self._by_name) + self.set_aside.size_bytes

    @property
    def in_flight_bytes(self) -> int:
        """Memory of the rows in flight, which is freed unless their requests fail."""
        return self._in_flight.size_bytes

    @property
    def pending_locations(self) -> int:
        return sum(bool(location.window.rows) for location in self._by_name.values())

    def are_others_pending(self, names: Collection[str]) -> bool:
        """Whether other locations than these have pending changes."""
        pending = (location for location in self._by_name.values() if location.window.rows or location.in_flight)
        return any(location.name not in names for location in pending)

    @property
    def requests_in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def bisecting_locations(self) -> int:
        return len(self._bisections.locations)

    def requests_with_rows_of(self, assignment_ids: Collection[int]) -> int:
        """Number of requests in flight with changes of these assignments."""
        return self._in_flight.requests_with_rows_of(assignment_ids)

    def may_send(self, now: float) -> bool:
        """Whether any location has changes and may send them. Visits all locations."""
        return any(location.window.rows and location.may_send(now) for location in self._by_name.values())

    def in_doubt(self, now: float) -> set[int]:
        """The assignments with changes in a request that the OMS may still queue: one in flight, or behind a hold."""
        held = (found.backoff.in_doubt for found in self._waiting.values() if found.backoff.is_waiting(now))
        return self._in_flight.assignment_ids().union(*held)

    def held_locations(self, now: float) -> int:
        """Number of locations held after an unknown outcome."""
        return sum(location.backoff.is_hold(now) for location in self._waiting.values())

    def first_arrived(self) -> float | None:
        """When the oldest pending change was read; None without one."""
        windows = min((location.window.first_arrived for location in self._by_name.values()), default=float("inf"))
        oldest = min(windows, self._in_flight.first_arrived() or float("inf"))
        return None if oldest == float("inf") else oldest

    def pending(self) -> dict[str, Pending]:
        """Pending changes by location. Visits all locations, which is too slow for every turn of the loop."""
        return pending_by_location((location.window for location in self._by_name.values()), self._in_flight)

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
            self.set_aside.forget(location)
            del self._by_name[location.name]

    def _bisect(
        self,
        in_flight: InFlight,
        detail: str,
        named: Sequence[Key],
        verdict: Verdict,
        event: LocationEvent,
        now: float,
        refused: pl.DataFrame | None = None,
    ) -> list[Refusal]:
        """End a refused request, and bisect it, or these of its rows.

        Returns the changes that must be dead-lettered.
        """
        location = self._by_name[in_flight.request.location]
        refusals = []
        rows = self._keep_current(in_flight.request.rows if refused is None else refused)
        if rows.height and self._bisections.refused(location, in_flight.refused(rows, detail, named), verdict, now):
            refusals.append(Refusal(location.name, rows, detail))
            rows = rows.clear()
        return refusals + self._finish(in_flight, event, now, rows)

    def _finish(
        self, in_flight: InFlight, event: LocationEvent, now: float, rows: pl.DataFrame | None = None
    ) -> list[Refusal]:
        """End the request. Unless it was accepted, its current rows (or ``rows``) return to the window.

        Returns changes to be dead-lettered, if the location's bisection has reached its limit.
        """
        location = self._by_name[in_flight.request.location]
        before = location.state(now)
        self._in_flight.finish(in_flight.request.request_id)
        location.in_flight = None
        if event is not LocationEvent.ACCEPTED:
            returning = self._keep_current(in_flight.request.rows) if rows is None else rows
            self._windows.put_back(location.window, self.superseded.without_superseded(location, returning))
            self._schedule.schedule(location.window)
            if location.window.rows:
                self._schedule.mark_ready(location.window, is_waiting=location.backoff.is_waiting(now))
        location.barriers = None
        refusals = self._bisections.go_on(location)
        location.check(before, event, now)
        if location.backoff.is_waiting(now):
            self._waiting[location.name] = location
        else:
            self._schedule.queue_again(location.window)
        self._drop_if_idle(location, now)
        return refusals


def _never(_location: str, _items: int, _now: float) -> bool:
    """No location may use smart refresh."""
    return False
