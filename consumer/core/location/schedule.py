"""When each window must be looked at: once it may be full, and when its oldest change comes of age (rule 21).

Nothing is decided here: the planner decides, the schedule makes sure that it is asked in time. Times are monotonic
seconds.
"""

import heapq
from collections.abc import Collection, Iterable
from itertools import count

from consumer.core.location.window import Window


class FlushSchedule:
    """Windows by their next deadline, and the ready ones: those to look at as soon as their location may send."""

    def __init__(self, *, flush_items: int, max_age_seconds: float, due_within_seconds: float) -> None:
        self._flush_items = flush_items
        self._max_age_seconds = max_age_seconds
        self._due_within_seconds = due_within_seconds
        self._deadlines: list[tuple[float, int, Window]] = []
        """A heap of first arrivals; entries that disagree with ``_queued`` are stale."""
        self._order = count()
        """Breaks ties between windows of the same first arrival."""
        self._queued: dict[Window, float] = {}
        self._ready: dict[Window, None] = {}

    @property
    def ready(self) -> Collection[Window]:
        return self._ready.keys()

    def schedule(self, window: Window) -> None:
        """Look at the window when it is full, and when its oldest change is due. To be called after every change."""
        if window.items_max >= self._flush_items:
            self._ready[window] = None
        if window.rows and window.first_arrived < self._queued.get(window, float("inf")):
            self._queued[window] = window.first_arrived
            heapq.heappush(self._deadlines, (window.first_arrived, next(self._order), window))

    def mark_ready(self, window: Window) -> None:
        """Look at the window as soon as its location may send, whatever its size and age."""
        self._ready[window] = None

    def unmark_ready(self, window: Window) -> None:
        """The window is being looked at; it is ready again only when something changes."""
        self._ready.pop(window, None)

    def drop(self, window: Window) -> None:
        """The location is gone, and its window with it."""
        self._ready.pop(window, None)
        self._queued.pop(window, None)

    def set_flush_items(self, flush_items: int, windows: Iterable[Window]) -> None:
        """Change the number of items from which a window is full; ``windows`` are all of them."""
        if flush_items < self._flush_items:
            self._ready.update((window, None) for window in windows if window.items_max >= flush_items)
        self._flush_items = flush_items

    def promote_due(self, now: float) -> None:
        """Make the windows ready whose oldest change is due."""
        while self._deadlines and self._deadlines[0][0] + self._max_age_seconds <= now:
            arrived, _, window = heapq.heappop(self._deadlines)
            if self._queued.get(window) != arrived:
                continue
            del self._queued[window]
            if self._is_due(window, now):
                self._ready[window] = None
            else:
                self.schedule(window)

    def due_arrived(self, window: Window, now: float) -> float:
        """Rows that arrived until this time are due; minus infinity while the oldest is not due."""
        if not self._is_due(window, now):
            return float("-inf")
        soon = now - self._max_age_seconds + self._due_within_seconds
        return max(soon, window.first_arrived)

    def next_deadline(self) -> float | None:
        """When the next window may come of age; None without any."""
        return self._deadlines[0][0] + self._max_age_seconds if self._deadlines else None

    def _is_due(self, window: Window, now: float) -> bool:
        return window.first_arrived + self._max_age_seconds <= now
