"""What is pending of each location: for people, and dearer than a count of all."""

from dataclasses import dataclass

from consumer.core.location.in_flight import InFlightRequests
from consumer.core.location.window import Windows
from consumer.core.partition.recovery import Recoveries


@dataclass(slots=True)
class Pending:
    """A location's changes that were read and are not yet accepted, and when the oldest was read (monotonic)."""

    changes: int = 0
    first_arrived: float = float("inf")

    def add(self, changes: int, first_arrived: float) -> None:
        self.changes += changes
        self.first_arrived = min(self.first_arrived, first_arrived)


def pending_by_location(windows: Windows, flights: InFlightRequests, gatherings: Recoveries) -> dict[str, Pending]:
    """All that ``Engine.pending_changes`` counts, by location."""
    found = {window.location: Pending(window.rows, window.first_arrived) for window in windows}
    for flight in flights:
        request = flight.request
        found.setdefault(request.location, Pending()).add(request.taken.height, request.taken.first_arrived())
    for location, changes, first_arrived in gatherings.by_location():
        found.setdefault(location, Pending()).add(changes, first_arrived)
    return found
