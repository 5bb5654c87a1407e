"""The requests in flight: at most one per location, whatever happens to its window or its partitions meanwhile."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from consumer.core.changes.items import ASSIGNMENT
from consumer.core.location.bisection import Suspects
from consumer.core.location.request import Request


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request whose answer is outstanding. ``assignments`` are those of its rows."""

    request: Request
    sent_at: float
    assignments: frozenset[int]
    suspects: Suspects | None = None
    """What the request is to find out about a refused one, if anything."""


class InFlightRequests:
    """By request id."""

    def __init__(self) -> None:
        self._by_id: dict[int, InFlight] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[InFlight]:
        return iter(self._by_id.values())

    def get(self, request_id: int) -> InFlight:
        return self._by_id[request_id]

    def start(self, request: Request, now: float, suspects: Suspects | None) -> InFlight:
        """The request leaves."""
        assignments = frozenset(request.taken.column(ASSIGNMENT).unique().to_list())
        in_flight = self._by_id[request.request_id] = InFlight(request, now, assignments, suspects)
        return in_flight

    def finish(self, request_id: int) -> InFlight:
        """The request is answered, or was given back unsent."""
        return self._by_id.pop(request_id)

    @property
    def rows(self) -> int:
        """Changes in all of them."""
        return sum(in_flight.request.taken.height for in_flight in self)

    def assignments(self) -> set[int]:
        """The assignments with rows in flight."""
        return {assignment for in_flight in self for assignment in in_flight.assignments}

    def with_rows_of(self, assignments: Collection[int]) -> int:
        """How many requests have rows of these assignments."""
        return sum(not in_flight.assignments.isdisjoint(assignments) for in_flight in self)

    def first_arrived(self) -> float | None:
        """When the oldest of their changes was read; None without any."""
        return min((in_flight.request.taken.first_arrived() for in_flight in self), default=None)
