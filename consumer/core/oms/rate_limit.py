"""How many calls per second the OMS may be sent: a token bucket that learns from throttled answers.

A throttled answer halves the rate, which then recovers slowly: a gateway counts the calls of all members of the group
and of other users of the key, so the right rate can only be found by trying. Times are monotonic seconds.
"""

from collections import deque
from math import exp, log
from typing import Final

BURST_SECONDS: Final = 1.0
"""The bucket holds the calls of this time, at least one."""
THROTTLED_SHARE: Final = 0.5
"""A throttled answer leaves this share of the rate."""
RECOVERY_PER_MINUTE: Final = 2.0
"""The rate grows by this factor per minute: from half of it back to the whole."""
RATE_MIN: Final = 1.0
"""Calls per second, however often the OMS throttles: low enough, as Retry-After and the breaker's back-off apply too.
With less, small requests and the queries for their jobs lag behind for minutes."""
FORGET_FACTOR: Final = 4.0
"""Without a configured limit, a learned one is dropped once it has recovered to this multiple of its lowest."""
_GROWTH: Final = log(RECOVERY_PER_MINUTE) / 60.0
_GROWTH_SECONDS_MAX: Final = 3_600.0
"""Growth ends here: the number would overflow one day."""
_OBSERVED_SECONDS: Final = 1.0
"""Gateways count by the second: where no limit is known, the calls of this time are the rate that was too much."""


class RateLimiter:
    """The bucket. ``max_per_second`` None: no limit until a throttled answer teaches one."""

    def __init__(self, max_per_second: float | None) -> None:
        self._max = max_per_second
        self._learned: float | None = None
        self._learned_at = 0.0
        self._calls = BURST_SECONDS * (max_per_second or 0.0)
        self._filled_at = float("-inf")
        self._recent: deque[tuple[float, int]] = deque()

    def limit(self, now: float) -> float | None:
        """Calls per second that may leave now; None: no limit but that of requests in flight."""
        if self._learned is None:
            return self._max
        learned = self._learned * exp(_GROWTH * min(now - self._learned_at, _GROWTH_SECONDS_MAX))
        if self._max is not None:
            return min(self._max, learned)
        return learned if learned < FORGET_FACTOR * self._learned else None

    def available(self, now: float) -> float:
        """How many calls may leave now, to be rounded down by the caller; infinite without a limit."""
        limit = self.limit(now)
        if limit is None:
            return float("inf")
        self._fill(limit, now)
        return self._calls

    def next_at(self, now: float) -> float:
        """When the next call may leave."""
        limit = self.limit(now)
        missing = 1.0 - self.available(now)
        return now if limit is None or missing <= 0 else now + missing / limit

    def spend(self, calls: int, now: float) -> None:
        """These calls leave now."""
        if calls:
            self._recent.append((now, calls))
        self._forget(before=now - _OBSERVED_SECONDS)
        if self.limit(now) is not None:
            self.available(now)
            self._calls -= calls

    def on_throttled(self, *, sent_at: float, now: float) -> None:
        """A call was throttled: slow down, once for all calls that were in flight together."""
        if self._learned is not None and sent_at < self._learned_at:
            return
        limit = self.limit(now)
        if limit is None:
            self._forget(before=sent_at - _OBSERVED_SECONDS)
            limit = sum(calls for _, calls in self._recent) / _OBSERVED_SECONDS
        self._learned = max(RATE_MIN, THROTTLED_SHARE * limit)
        if self._max is not None:
            self._learned = min(self._learned, self._max)
        self._learned_at = now
        self._calls = 0.0
        self._filled_at = now

    def _forget(self, before: float) -> None:
        while self._recent and self._recent[0][0] < before:
            self._recent.popleft()

    def _fill(self, limit: float, now: float) -> None:
        size = max(1.0, BURST_SECONDS * limit)
        self._calls = min(size, self._calls + limit * max(now - self._filled_at, 0.0))
        self._filled_at = now
