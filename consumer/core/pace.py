"""When the OMS may be sent to: rests of locations, the health of the OMS as a whole. Times are monotonic seconds."""

from collections.abc import Iterable
from dataclasses import dataclass

_LONG_AGO = float("-inf")


@dataclass(frozen=True, slots=True)
class _Rest:
    """Until when a location may not send.

    ``assignments`` are those whose rows may still be queued at the OMS (a hold); none after a plain back-off.
    """

    until: float = _LONG_AGO
    assignments: frozenset[int] = frozenset()


class Pace:
    """Rests and failures. They belong to locations, not windows: they outlive an empty window and a revoke."""

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._rests: dict[str, _Rest] = {}
        self._attempts: dict[str, int] = {}
        self._failed_at = _LONG_AGO
        self._rests_until = _LONG_AGO
        self.oms_failures = 0
        """Failures of the OMS as a whole since its last jobID."""

    def attempt(self, location: str) -> int:
        """How often in a row this location, or the OMS as a whole, has failed."""
        return max(self._attempts.get(location, 0), self.oms_failures)

    def rest(self, location: str, until: float, *, queued: Iterable[int] = ()) -> None:
        """Let a location rest after a failure; a longer rest that it has already stays.

        ``queued`` are the assignments with rows in a request that the OMS may have queued: then the rest is a hold.
        """
        self._attempts[location] = self._attempts.get(location, 0) + 1
        before = self._rests.get(location, _Rest())
        self._rests[location] = _Rest(max(until, before.until), before.assignments.union(queued))

    def oms_failed(self, *, sent_at: float, now: float, rest_seconds: float) -> None:
        """Count a failure of the OMS as a whole, once for all requests under way together, and let it rest."""
        if sent_at >= self._failed_at:
            self.oms_failures += 1
            self._failed_at = now
        self._rests_until = max(self._rests_until, now + rest_seconds)

    def accepted(self, location: str) -> None:
        """A jobID came back: the OMS is well, and so is the location."""
        self._attempts.pop(location, None)
        self._rests.pop(location, None)
        self.oms_failures = 0
        self._rests_until = _LONG_AGO

    def slots(self, in_flight: int) -> int:
        """How many more requests may be under way, time aside.

        After a failure of the OMS one request is the probe, until a jobID shows that it is well again.
        """
        return (1 if self.oms_failures else self._max_in_flight) - in_flight

    def oms_free_at(self) -> float:
        return self._rests_until

    def free_at(self, location: str) -> float:
        rest = self._rests.get(location)
        return rest.until if rest else _LONG_AGO

    def held_assignments(self, now: float) -> set[int]:
        """The assignments with rows in a request whose outcome is unknown, as long as its location is held."""
        return {number for rest in self._rests.values() if rest.until > now for number in rest.assignments}

    def held_locations(self, now: float) -> int:
        """Locations held after an unknown outcome."""
        return sum(bool(rest.assignments) and rest.until > now for rest in self._rests.values())
