"""The circuit breaker for the OMS as a whole, over the rate limiter. Times are monotonic seconds.

The breaker is closed while the OMS works. A failure that is not the request's own opens it for a back-off (or the OMS's
Retry-After). Then it is half-open: a single request leaves as the probe, and only a good answer to a request that was
sent after the failure closes it again.
"""

from enum import StrEnum
from math import floor
from typing import Final

from consumer.core.oms.rate_limit import RateLimiter

_LONG_AGO: Final = float("-inf")


class BreakerState(StrEnum):
    """The one list, also in metrics and on the status page."""

    CLOSED = "closed"
    """The OMS works: requests leave as they are due."""
    OPEN = "open"
    """Nothing is sent: the OMS failed and gets time to recover."""
    HALF_OPEN = "half_open"
    """One request at a time, to find out whether the OMS works again."""


class CircuitBreaker:
    """How many calls may leave now. The loop's thread alone uses it, for requests and for the job follower's calls."""

    def __init__(self, max_in_flight: int, rate_limiter: RateLimiter) -> None:
        self._max_in_flight = max_in_flight
        self.rate_limiter = rate_limiter
        self._failed_at = _LONG_AGO
        self._open_until = _LONG_AGO
        self.failures = 0
        """Failures of the OMS as a whole since it last worked."""

    def state(self, now: float) -> BreakerState:
        if not self.failures:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def record_failure(self, *, sent_at: float, now: float, backoff_seconds: float) -> None:
        """The OMS as a whole failed: counted once for all requests in flight together."""
        if sent_at >= self._failed_at:
            self.failures += 1
            self._failed_at = now
        self._open_until = max(self._open_until, now + backoff_seconds)

    def record_success(self, *, sent_at: float) -> None:
        """The OMS accepted a request, or looked at it and refused it. That closes the breaker if it was sent later.

        Requests that were in flight when the OMS failed prove nothing: an over-quota answer with its Retry-After often
        arrives between good ones.
        """
        if sent_at >= self._failed_at:
            self.failures = 0
            self._open_until = _LONG_AGO

    def permits(self, in_flight: int, now: float) -> int:
        """How many more requests may leave now; one while the breaker is half-open, as the probe."""
        if now < self._open_until:
            return 0
        free = (1 if self.failures else self._max_in_flight) - in_flight
        return max(0, free if free <= 0 else floor(min(float(free), self.rate_limiter.available(now))))

    def next_permit_at(self, in_flight: int, now: float) -> float | None:
        """When ``permits`` is more than 0 by time alone; None: not before an answer arrives."""
        if (1 if self.failures else self._max_in_flight) <= in_flight:
            return None
        return max(self._open_until, self.rate_limiter.next_at(now))

    def background_permits(self, now: float) -> int:
        """How many calls other than requests may leave now: none that could take a probe's place or its quota."""
        if self.failures:
            return 0
        return floor(min(float(self._max_in_flight), self.rate_limiter.available(now)))
