"""The rate limiter for all calls of the OMS: a token bucket that learns its rate from throttled answers.

A throttled answer halves the rate, which then recovers slowly. The right rate can only be found by trying, because a
gateway counts the calls of all members of the group and of other users of the API key. Times are monotonic seconds.
"""

from collections import deque
from math import exp, log
from typing import Final

BURST_SECONDS: Final = 1.0
"""The bucket's capacity: the calls of this many seconds, at least one call."""
THROTTLED_SHARE: Final = 0.5
"""A throttled answer multiplies the rate by this."""
RECOVERY_PER_MINUTE: Final = 2.0
"""The learned rate grows by this factor per minute, so it is back after one minute."""
RATE_MIN: Final = 1.0
"""Calls per second; the learned rate never drops below this. It is low enough, because Retry-After and the breaker's
back-off apply as well. With a lower one, small requests and the queries of their jobs would lag behind for minutes."""
FORGET_FACTOR: Final = 4.0
"""Without a configured limit, the learned one is forgotten once it has grown by this factor."""
_GROWTH: Final = log(RECOVERY_PER_MINUTE) / 60.0
_GROWTH_SECONDS_MAX: Final = 3_600.0
"""Growth is not computed past this, because the number would overflow eventually."""
_OBSERVED_SECONDS: Final = 1.0
"""Without a known limit, the rate that was too high is the number of calls from this long before the throttled one."""


class RateLimiter:
    """``max_per_second`` None means no limit until a throttled answer teaches one."""

    def __init__(self, max_per_second: float | None) -> None:
        self._max = max_per_second
        self._learned: float | None = None
        self._learned_at = 0.0
        self._calls = BURST_SECONDS * (max_per_second or 0.0)
        self._filled_at = float("-inf")
        self._recent: deque[tuple[float, int]] = deque()

    def limit(self, now: float) -> float | None:
        """Calls per second allowed at present; None without a limit."""
        if self._learned is None:
            return self._max
        learned = self._learned * exp(_GROWTH * min(now - self._learned_at, _GROWTH_SECONDS_MAX))
        if self._max is not None:
            return min(self._max, learned)
        return learned if learned < FORGET_FACTOR * self._learned else None

    def available(self, now: float) -> float:
        """How many calls may be sent now, as a fraction that the caller rounds down; infinite without a limit."""
        limit = self.limit(now)
        if limit is None:
            return float("inf")
        self._fill(limit, now)
        return self._calls

    def spare(self, share: float, now: float) -> float:
        """How many calls may be sent now so that this share of the bucket is left; infinite without a limit."""
        limit = self.limit(now)
        return float("inf") if limit is None else self.available(now) - share * _size(limit)

    def next_at(self, now: float) -> float:
        """Earliest time at which a call may be sent."""
        limit = self.limit(now)
        missing = 1.0 - self.available(now)
        return now if limit is None or missing <= 0 else now + missing / limit

    def spend(self, calls: int, now: float) -> None:
        """Record that this many calls are sent now."""
        if calls:
            self._recent.append((now, calls))
        self._forget(before=now - _OBSERVED_SECONDS)
        if self.limit(now) is not None:
            self.available(now)
            self._calls -= calls

    def on_throttled(self, *, sent_at: float, now: float) -> None:
        """A call was throttled: slow down. Calls that were in flight together slow it down once."""
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
        self._calls = min(_size(limit), self._calls + limit * max(now - self._filled_at, 0.0))
        self._filled_at = now


def _size(limit: float) -> float:
    """The bucket's capacity in calls, at this many per second."""
    return max(1.0, BURST_SECONDS * limit)
