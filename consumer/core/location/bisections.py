"""The bisections of all locations, each from the first refusal to its last suspects (rule 18)."""

from collections.abc import Callable, Collection, Sequence

import polars as pl

from consumer.core.location.bisection import RefusedRequest, Unresolved, Verdict
from consumer.core.location.location import Location
from consumer.core.location.request import Refusal
from consumer.core.location.schedule import FlushSchedule
from consumer.core.location.window import Windows

KeepCurrent = Callable[[pl.DataFrame], pl.DataFrame]
"""Returns the rows without those of assignments that have ended (``Partitions.drop_stale``)."""


class Bisections:
    """Begins, continues and ends bisections. Each belongs to its location; its suspects wait in the window."""

    def __init__(
        self,
        windows: Windows,
        schedule: FlushSchedule,
        item_key: Sequence[str],
        chunk_items: int,
        *,
        requests_max: int,
        apart_seconds: float,
        keep_current: KeepCurrent,
    ) -> None:
        self._windows = windows
        self._schedule = schedule
        self._item_key = tuple(item_key)
        self._chunk_items = chunk_items
        self._requests_max = requests_max
        self._apart_seconds = apart_seconds
        self._keep_current = keep_current
        self._bisecting: dict[str, Location] = {}

    @property
    def locations(self) -> Collection[Location]:
        """The locations that are bisecting."""
        return list(self._bisecting.values())

    def refused(self, location: Location, refused: RefusedRequest, verdict: Verdict, now: float) -> bool:
        """Bisect a refused request. Returns True if it was a single change, which is bad."""
        if location.bisection is None and refused.alone:
            return verdict is Verdict.AT_ONCE
        bisection = location.bisection or location.begin_bisection(
            refused,
            self._item_key,
            chunk_items=self._chunk_items,
            requests_max=self._requests_max,
            apart_seconds=self._apart_seconds,
        )
        self._bisecting[location.name] = location
        return bisection.refused(refused, verdict, now)

    def go_on(self, location: Location) -> list[Refusal]:
        """Mark the location ready for its next suspects, or end its bisection if that is over or at its limit.

        Returns changes to be dead-lettered: the remaining suspects at the limit.
        """
        bisection = location.bisection
        if bisection is None or bisection.is_over or not location.window.rows:
            self.end(location)
            return []
        self._schedule.mark_ready(location.window)
        unresolved = bisection.unresolved()
        if unresolved is None:
            return []
        location.futile_bisections += not bisection.any_accepted
        self.end(location)
        return self._refuse_unresolved(location, unresolved)

    def drop_suspects_without_changes(self, location: Location) -> None:
        """Drop the suspects without a change in the window or in flight."""
        if location.bisection:
            frames = [self._windows.rows_of(location.window)]
            if location.in_flight:
                frames.append(self._keep_current(location.in_flight.request.rows))
            location.bisection.drop_without_changes(pl.concat(frames, how="diagonal"))
            self.end_if_over(location)

    def end_if_over(self, location: Location) -> None:
        """End the location's bisection if it has no suspects left."""
        if location.bisection and location.bisection.is_over:
            self.end(location)

    def _refuse_unresolved(self, location: Location, unresolved: Unresolved) -> list[Refusal]:
        """Take the changes of the remaining suspects, to be dead-lettered without being tried."""
        rows = self._windows.take_items(location.window, unresolved.keys, arrived_until=unresolved.arrived_until)
        return [Refusal(location.name, rows, unresolved.detail)] if rows.height else []

    def end(self, location: Location) -> None:
        """End the location's bisection, if it has one."""
        location.bisection = None
        self._bisecting.pop(location.name, None)
