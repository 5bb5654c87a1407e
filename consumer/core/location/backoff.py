"""Which locations may not send yet: rests after a failure, holds after an unknown outcome.

They belong to locations, not to windows: they outlive an empty window and a revoke (rule 15 of docs/protocol.md). Times
are monotonic seconds.
"""

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


class LocationBackoff:
    """Rests and failures in a row, by location."""

    def __init__(self) -> None:
        self._rests: dict[str, _Rest] = {}
        self._attempts: dict[str, int] = {}

    def attempt(self, location: str) -> int:
        """How often in a row this location has failed."""
        return self._attempts.get(location, 0)

    def rest(self, location: str, until: float, *, queued: Iterable[int] = ()) -> None:
        """Let a location rest after a failure; a longer rest that it has already stays.

        ``queued`` are the assignments with rows in a request that the OMS may have queued: then the rest is a hold.
        """
        self._attempts[location] = self._attempts.get(location, 0) + 1
        before = self._rests.get(location, _Rest())
        self._rests[location] = _Rest(max(until, before.until), before.assignments.union(queued))

    def well(self, location: str) -> None:
        """The OMS took a request of the location, or looked at it and refused it."""
        self._attempts.pop(location, None)
        self._rests.pop(location, None)

    def free_at(self, location: str) -> float:
        rest = self._rests.get(location)
        return rest.until if rest else _LONG_AGO

    def held_assignments(self, now: float) -> set[int]:
        """The assignments with rows in a request whose outcome is unknown, as long as its location is held."""
        return {number for rest in self._rests.values() if rest.until > now for number in rest.assignments}

    def held_locations(self, now: float) -> int:
        """Locations held after an unknown outcome."""
        return sum(bool(rest.assignments) and rest.until > now for rest in self._rests.values())
