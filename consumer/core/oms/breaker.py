"""The circuit breaker for the OMS as a whole, on top of the rate limiter. Times are monotonic seconds.

The breaker is closed while the OMS works. A failure that is not due to the request's content opens it for the back-off
or the OMS's Retry-After. After that it is half-open: a single request is sent as a probe. The breaker closes when the
OMS accepts or refuses a request that was sent after the failure.
"""

from enum import StrEnum
from math import floor
from typing import Final

from consumer.core.oms.rate_limit import RateLimiter

_LONG_AGO: Final = float("-inf")


class BreakerState(StrEnum):
    """As shown in metrics and on the status page."""

    CLOSED = "closed"
    """The OMS works: requests are sent when they are due."""
    OPEN = "open"
    """The OMS failed: nothing is sent until the back-off is over."""
    HALF_OPEN = "half_open"
    """One request at a time is sent, to find out whether the OMS works again."""


class CircuitBreaker:
    """How many calls may be sent now: requests, and as background calls the job follower's queries."""

    def __init__(self, max_in_flight: int, rate_limiter: RateLimiter) -> None:
        self._max_in_flight = max_in_flight
        self.rate_limiter = rate_limiter
        self._failed_at = _LONG_AGO
        self._open_until = _LONG_AGO
        self.failures = 0
        """Failures of the OMS as a whole in a row; those of requests in flight together count once."""

    def state(self, now: float) -> BreakerState:
        if not self.failures:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def record_failure(self, *, sent_at: float, now: float, backoff_seconds: float) -> None:
        """The OMS as a whole failed: open the breaker. ``sent_at`` is when the failed request was sent."""
        if sent_at >= self._failed_at:
            self.failures += 1
            self._failed_at = now
        self._open_until = max(self._open_until, now + backoff_seconds)

    def record_success(self, *, sent_at: float) -> None:
        """The OMS accepted or refused a request: close the breaker if it was sent after the failure.

        Requests that were in flight when the OMS failed prove nothing: a throttled answer often arrives between
        accepted ones.
        """
        if sent_at >= self._failed_at:
            self.failures = 0
            self._open_until = _LONG_AGO

    def permits(self, in_flight: int, now: float) -> int:
        """How many more requests may be sent now. While the breaker is half-open that is one, the probe."""
        if now < self._open_until:
            return 0
        free = (1 if self.failures else self._max_in_flight) - in_flight
        return max(0, free if free <= 0 else floor(min(float(free), self.rate_limiter.available(now))))

    def next_permit_at(self, in_flight: int, now: float) -> float | None:
        """Earliest time at which ``permits`` is above 0; None if an answer must arrive first."""
        if (1 if self.failures else self._max_in_flight) <= in_flight:
            return None
        return max(self._open_until, self.rate_limiter.next_at(now))

    def background_permits(self, now: float) -> int:
        """How many calls other than requests may be sent now; none while the breaker is not closed.

        They must not use up the quota that the probe needs.
        """
        if self.failures:
            return 0
        return floor(min(float(self._max_in_flight), self.rate_limiter.available(now)))
