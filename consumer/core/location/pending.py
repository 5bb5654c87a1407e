"""What is pending of a location, for metrics and the status page."""

from dataclasses import dataclass


@dataclass(slots=True)
class Pending:
    """How many changes of a location are pending, and when the oldest was read (monotonic seconds)."""

    changes: int = 0
    first_arrived: float = float("inf")

    def add(self, changes: int, first_arrived: float) -> None:
        self.changes += changes
        self.first_arrived = min(self.first_arrived, first_arrived)
