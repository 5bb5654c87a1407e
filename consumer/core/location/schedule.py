"""Which windows are to be looked at, and when: those that may be full, and those whose oldest change comes of age.

Looking is the windows' and the planner's; here nothing is decided, but that each is looked at in time (rule 21 of
docs/protocol.md). Times are monotonic seconds.
"""

import heapq

from consumer.core.location.window import Window, Windows


class FlushSchedule:
    """Locations to look at, by name: a location stands here at least as long as it has something to send."""

    def __init__(
        self, windows: Windows, *, flush_items: int, max_age_seconds: float, due_within_seconds: float
    ) -> None:
        self._windows = windows
        self._flush_items = flush_items
        self._max_age_seconds = max_age_seconds
        self._due_within_seconds = due_within_seconds
        self._deadlines: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}
        self.ready: set[str] = set()
        """To be looked at as soon as their location may send."""

    def watch(self, window: Window) -> None:
        """See to it that the window is looked at when it is full, and when its oldest change is due."""
        location = window.location
        if window.items_max >= self._flush_items:
            self.ready.add(location)
        if window.first_arrived < self._queued.get(location, float("inf")):
            self._queued[location] = window.first_arrived
            heapq.heappush(self._deadlines, (window.first_arrived, location))

    def aim(self, flush_items: int) -> None:
        """Windows are full from another number of items on."""
        if flush_items < self._flush_items:
            self.ready.update(window.location for window in self._windows if window.items_max >= flush_items)
        self._flush_items = flush_items

    def ripen(self, now: float) -> None:
        """Move windows whose oldest change is due from the queue of deadlines to the ready ones."""
        while self._deadlines and self._deadlines[0][0] + self._max_age_seconds <= now:
            arrived, location = heapq.heappop(self._deadlines)
            if self._queued.get(location) != arrived:
                continue
            del self._queued[location]
            window = self._windows.get(location)
            if window is None:
                continue
            if self._is_due(window, now):
                self.ready.add(location)
            else:
                self.watch(window)

    def due_arrived(self, window: Window, now: float) -> float:
        """Rows that arrived until then are due: none while the oldest is not."""
        if not self._is_due(window, now):
            return float("-inf")
        soon = now - self._max_age_seconds + self._due_within_seconds
        return max(soon, window.first_arrived)

    def next_deadline(self) -> float | None:
        """When the next window may come of age; None without any."""
        return self._deadlines[0][0] + self._max_age_seconds if self._deadlines else None

    def _is_due(self, window: Window, now: float) -> bool:
        return window.first_arrived + self._max_age_seconds <= now
