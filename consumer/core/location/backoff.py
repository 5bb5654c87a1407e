"""When a location may send again: back-off after a failure, hold after an unknown outcome.

Both belong to the location and not to its window: they outlive an empty window and a revoke (rule 15 of
docs/protocol.md). Times are monotonic seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_LONG_AGO: Final = float("-inf")


@dataclass(slots=True)
class LocationBackoff:
    """``failures`` in a row, and the time from which the location may send again."""

    failures: int = 0
    retry_at: float = _LONG_AGO
    in_doubt: frozenset[int] = frozenset()
    """Assignments with rows in a request that the OMS may have queued: the back-off is a hold then."""

    def back_off(self, until: float, *, in_doubt: Iterable[int] = ()) -> None:
        """Wait after a failure; a longer wait that is already set stays."""
        self.failures += 1
        self.retry_at = max(until, self.retry_at)
        self.in_doubt = self.in_doubt.union(in_doubt)

    def reset(self) -> None:
        """The OMS accepted a request of the location, or looked at it and refused it."""
        self.failures, self.retry_at, self.in_doubt = 0, _LONG_AGO, frozenset()

    def is_waiting(self, now: float) -> bool:
        return self.retry_at > now

    def is_hold(self, now: float) -> bool:
        """Whether the location waits for a request of unknown outcome."""
        return bool(self.in_doubt) and self.is_waiting(now)
