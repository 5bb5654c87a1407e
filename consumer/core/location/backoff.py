"""When a location may send again: back-off after a failure, hold after an unknown outcome.

Both belong to the location and not to its window: they outlast an empty window and a revoke (rule 15 of
docs/protocol.md). Times are monotonic seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_LONG_AGO: Final = float("-inf")


@dataclass(slots=True)
class LocationBackoff:
    """The failures of a location in a row, and the time from which it may send again."""

    failures: int = 0
    retry_at: float = _LONG_AGO
    in_doubt: frozenset[int] = frozenset()
    """Ids of assignments with changes in a request that the OMS may have queued; if any, the wait is a hold."""
    unknown_outcomes: int = 0
    """In a row, since a request was accepted or refused."""

    def back_off(self, until: float, *, in_doubt: Iterable[int] = ()) -> None:
        """Wait until this time after a failure, or longer if the location already had to."""
        self.failures += 1
        self.retry_at = max(until, self.retry_at)
        self.unknown_outcomes += bool(in_doubt)
        self.in_doubt = self.in_doubt.union(in_doubt)

    def reset(self) -> None:
        """The OMS accepted a request of the location or refused it for its content: end the wait."""
        self.failures, self.retry_at, self.in_doubt, self.unknown_outcomes = 0, _LONG_AGO, frozenset(), 0

    def is_waiting(self, now: float) -> bool:
        return self.retry_at > now

    def is_hold(self, now: float) -> bool:
        """Whether the wait is a hold, because a request has an unknown outcome."""
        return bool(self.in_doubt) and self.is_waiting(now)
