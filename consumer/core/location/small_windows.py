"""Windows with few items of quiet locations: with smart refresh they may leave long before ``window.max_age``.

A location is quiet unless a window of it was full, or had to leave early for memory, within the last ``max_age``: then
whole chunks may be under way, and small requests would only add to them. Times are monotonic seconds.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from consumer.core.location.planner import SendReason
from consumer.core.location.window import Window

RETRY_SHARE: Final = 0.5
"""Of ``max_age_seconds``: after this long a window that was due and could not leave is looked at again."""
_BUSY: Final = frozenset({SendReason.FULL, SendReason.PRESSURE})

MayUseSmart = Callable[[str, int, float], bool]
"""From a location, a number of items and the time: whether a request of that size may use smart refresh (rule 34)."""


@dataclass(frozen=True, slots=True)
class SmallLimits:
    """Up to ``items`` of a quiet location leave once they are ``max_age_seconds`` old; with no items, none do."""

    items: int = 25
    max_age_seconds: float = 10.0


class SmallWindows:
    """When to look at each small window. It only finds them in time: the caller decides whether they may leave."""

    def __init__(self, limits: SmallLimits, quiet_seconds: float) -> None:
        """A location is quiet again ``quiet_seconds`` after its last full window."""
        self.limits = limits
        self._quiet_seconds = quiet_seconds
        self._times: list[tuple[float, int, Window]] = []
        """A heap of (when to look, tie-breaker, window). Entries that disagree with ``_queued`` are stale."""
        self._order = count()
        self._queued: dict[Window, float] = {}
        self._busy_at: dict[str, float] = {}
        """When a window of each location was last full, oldest first."""

    def schedule(self, window: Window) -> None:
        """Must be called after every change to a window."""
        if 0 < window.items_max <= self.limits.items and window not in self._queued:
            self._look_at(window, window.first_arrived + self.limits.max_age_seconds)

    def drop(self, window: Window) -> None:
        """Forget a window that no longer exists."""
        self._queued.pop(window, None)

    def started(self, location: str, reason: SendReason, now: float) -> None:
        """A request of this location is being sent."""
        if reason not in _BUSY:
            return
        self._busy_at.pop(location, None)
        self._busy_at[location] = now
        while (oldest := next(iter(self._busy_at))) and now - self._busy_at[oldest] > self._quiet_seconds:
            del self._busy_at[oldest]

    def is_quiet(self, location: str, now: float) -> bool:
        """Whether no window of the location was full lately."""
        return now - self._busy_at.get(location, float("-inf")) > self._quiet_seconds

    def next_at(self) -> float | None:
        """Earliest time at which ``take_due`` may return a window; None without one."""
        return self._times[0][0] if self._times else None

    def is_due(self, now: float) -> bool:
        """Whether ``take_due`` may return a window."""
        return bool(self._times) and self._times[0][0] <= now

    def take_due(self, now: float) -> Window | None:
        """The small window that is due for longest; None if there is none. It is looked at again if it stays."""
        while self.is_due(now):
            at, _, window = heapq.heappop(self._times)
            if self._queued.get(window) != at:
                continue
            del self._queued[window]
            if not 0 < window.items_max <= self.limits.items:
                continue
            due_at = window.first_arrived + self.limits.max_age_seconds
            if due_at > now:
                self._look_at(window, due_at)
                continue
            self._look_at(window, now + RETRY_SHARE * self.limits.max_age_seconds)
            return window
        return None

    def _look_at(self, window: Window, at: float) -> None:
        self._queued[window] = at
        heapq.heappush(self._times, (at, next(self._order), window))
