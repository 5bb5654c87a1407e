"""When the planner must look at each window: once it may be full, and when its oldest change is due (rule 21).

The schedule only makes sure that the planner is asked in time; it decides nothing. Times are monotonic seconds.
"""

import heapq
from collections.abc import Collection, Iterable
from itertools import count

from consumer.core.location.small_windows import SmallWindows
from consumer.core.location.window import Window


class FlushSchedule:
    """Windows by the age of their oldest change, and *ready* windows: the planner must look at these when it can."""

    def __init__(
        self,
        *,
        flush_items: int,
        max_age_seconds: float,
        due_within_seconds: float,
        small_windows: SmallWindows | None = None,
    ) -> None:
        """``small_windows`` hear of every change, too."""
        self._small_windows = small_windows
        self._flush_items = flush_items
        self._max_age_seconds = max_age_seconds
        self._due_within_seconds = due_within_seconds
        self._deadlines: list[tuple[float, int, Window]] = []
        """A heap of (first arrival, tie-breaker, window). Entries that disagree with ``_queued`` are stale."""
        self._order = count()
        """Tie-breakers for windows with the same first arrival."""
        self._queued: dict[Window, float] = {}
        """The first arrival with which a window is in the heap."""
        self._ready: set[Window] = set()
        self._ready_queue: list[tuple[float, float, int, Window]] = []
        """A heap of ready windows, by their last refusal and their oldest change. Entries that disagree with
        ``_entries`` are stale."""
        self._entries: dict[Window, int] = {}
        """The tie-breaker with which a ready window is in the heap; those that were taken out of it are not here."""

    @property
    def ready(self) -> Collection[Window]:
        return self._ready

    def schedule(self, window: Window) -> None:
        """Make sure that the window is looked at when it is full or due. Must be called after every change to it."""
        if window.items_max >= self._flush_items and window not in self._ready:
            self.mark_ready(window)
        if window.rows and window.first_arrived < self._queued.get(window, float("inf")):
            self._queued[window] = window.first_arrived
            heapq.heappush(self._deadlines, (window.first_arrived, next(self._order), window))
        if self._small_windows:
            self._small_windows.schedule(window)

    def mark_ready(self, window: Window, *, is_waiting: bool = False) -> None:
        """Look at the window as soon as its location may send, whatever its size and age.

        With ``is_waiting``, the location may not send yet, and the caller calls ``queue_again`` once it may.
        """
        self._ready.add(window)
        if not is_waiting:
            self.queue_again(window)

    def queue_again(self, window: Window) -> None:
        """The location of a ready window may send again: let ``take_ready`` return it once more."""
        if window in self._ready and window not in self._entries:
            self._entries[window] = entry = next(self._order)
            heapq.heappush(self._ready_queue, (window.refused_at, window.first_arrived, entry, window))

    def take_ready(self) -> Window | None:
        """The ready window with the oldest change; None if there is none.

        Those of locations that were refused whole come behind all others, the latest refused last (rule 30). The window
        stays ready. If its location may not send now, ``queue_again`` must be called once it may.
        """
        while self._ready_queue:
            *_, entry, window = heapq.heappop(self._ready_queue)
            if self._entries.get(window) == entry:
                del self._entries[window]
                return window
        return None

    @property
    def has_queued(self) -> bool:
        """Whether ``take_ready`` returns a window."""
        return bool(self._entries)

    def unmark_ready(self, window: Window) -> None:
        """The planner is looking at the window now. It is ready again once something changes."""
        self._ready.discard(window)
        self._entries.pop(window, None)

    def drop(self, window: Window) -> None:
        """Forget a window that no longer exists."""
        self.unmark_ready(window)
        self._queued.pop(window, None)
        if self._small_windows:
            self._small_windows.drop(window)

    def set_flush_items(self, flush_items: int, windows: Iterable[Window]) -> None:
        """Change the number of items that makes a window full. ``windows`` are all windows."""
        if flush_items < self._flush_items:
            for window in windows:
                if window.items_max >= flush_items:
                    self.mark_ready(window)
        self._flush_items = flush_items

    def promote_due(self, now: float) -> None:
        """Make all windows ready whose oldest change is due."""
        while self._deadlines and self._deadlines[0][0] + self._max_age_seconds <= now:
            arrived, _, window = heapq.heappop(self._deadlines)
            if self._queued.get(window) != arrived:
                continue
            del self._queued[window]
            if self._is_due(window, now):
                self.mark_ready(window)
            else:
                self.schedule(window)

    def due_arrived(self, window: Window, now: float) -> float:
        """Changes of the window that arrived up to this time are due; minus infinity if none is."""
        if not self._is_due(window, now):
            return float("-inf")
        arrived = now - self._max_age_seconds + self._due_within_seconds
        return max(arrived, window.first_arrived)

    def next_deadline(self) -> float | None:
        """Earliest time at which ``promote_due`` may find a window; None if there is none."""
        return self._deadlines[0][0] + self._max_age_seconds if self._deadlines else None

    def _is_due(self, window: Window, now: float) -> bool:
        return window.first_arrived + self._max_age_seconds <= now
