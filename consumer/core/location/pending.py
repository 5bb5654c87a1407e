"""What is pending of a location, for metrics and the status page."""

from collections.abc import Iterable
from dataclasses import dataclass

from consumer.core.location.in_flight import InFlight
from consumer.core.location.window import Window


@dataclass(slots=True)
class Pending:
    """How many changes of a location are pending, and when the oldest was read (monotonic seconds)."""

    changes: int = 0
    first_arrived: float = float("inf")

    def add(self, changes: int, first_arrived: float) -> None:
        self.changes += changes
        self.first_arrived = min(self.first_arrived, first_arrived)


def pending_by_location(windows: Iterable[Window], in_flight: Iterable[InFlight]) -> dict[str, Pending]:
    """What is pending in windows and in flight, by location."""
    pending = {window.location: Pending(window.rows, window.first_arrived) for window in windows if window.rows}
    for request in (sent.request for sent in in_flight):
        pending.setdefault(request.location, Pending()).add(request.taken.height, request.taken.first_arrived())
    return pending
