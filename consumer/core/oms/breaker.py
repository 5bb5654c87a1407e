"""One view of the OMS's health, for all locations: a circuit breaker and a quota. Times are monotonic seconds.

The breaker is closed while the OMS is well. Any failure that is not the request's own opens it for a back-off (or the
OMS's Retry-After); then it is half-open: a single request goes out as the probe, and only a good answer to a request
that was sent after the failure closes it again.
"""

from enum import StrEnum
from math import floor
from typing import Final

from consumer.core.oms.rate_limit import RateLimiter

_LONG_AGO: Final = float("-inf")


class BreakerState(StrEnum):
    """The one list, also in metrics and on the status page."""

    CLOSED = "closed"
    """The OMS is well: requests leave as they are due."""
    OPEN = "open"
    """Nothing is sent: the OMS failed, and is given time."""
    HALF_OPEN = "half_open"
    """One request at a time, to see whether the OMS is well again."""


class CircuitBreaker:
    """Breaker and quota."""

    def __init__(self, max_in_flight: int, quota: RateLimiter) -> None:
        self._max_in_flight = max_in_flight
        self.quota = quota
        self._failed_at = _LONG_AGO
        self._rests_until = _LONG_AGO
        self.failures = 0
        """Failures of the OMS as a whole since it was last well."""

    def state(self, now: float) -> BreakerState:
        if not self.failures:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._rests_until else BreakerState.HALF_OPEN

    def failed(self, *, sent_at: float, now: float, rest_seconds: float) -> None:
        """Count a failure of the OMS as a whole, once for all requests under way together, and let it rest."""
        if sent_at >= self._failed_at:
            self.failures += 1
            self._failed_at = now
        self._rests_until = max(self._rests_until, now + rest_seconds)

    def well(self, *, sent_at: float) -> None:
        """The OMS took a request, or looked at it and refused it: it is well, if that was sent after it failed.

        What was under way when it failed proves nothing: an over-quota answer with its Retry-After often comes in
        between good ones.
        """
        if sent_at >= self._failed_at:
            self.failures = 0
            self._rests_until = _LONG_AGO

    def slots(self, in_flight: int, now: float) -> int:
        """How many more requests may leave now: one is the probe while the breaker is half-open."""
        if now < self._rests_until:
            return 0
        free = (1 if self.failures else self._max_in_flight) - in_flight
        return max(0, free if free <= 0 else floor(min(float(free), self.quota.allowed(now))))

    def free_at(self, in_flight: int, now: float) -> float | None:
        """When ``slots`` will be more than 0; None: not before an answer comes."""
        if (1 if self.failures else self._max_in_flight) <= in_flight:
            return None
        return max(self._rests_until, self.quota.free_at(now))

    def side_calls(self, now: float) -> int:
        """How many calls besides refresh requests may leave now: none that could take a probe's place or its quota."""
        if self.failures:
            return 0
        return floor(min(float(self._max_in_flight), self.quota.allowed(now)))
