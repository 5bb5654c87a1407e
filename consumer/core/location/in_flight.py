"""The requests in flight: at most one a location, whatever becomes of its window or its partitions meanwhile."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from consumer.core.changes.items import ASSIGNMENT
from consumer.core.location.bisection import Suspects
from consumer.core.location.request import Request


@dataclass(frozen=True, slots=True)
class Flight:
    """A request whose answer is awaited. ``assignments`` are those of its rows."""

    request: Request
    sent_at: float
    assignments: frozenset[int]
    part: Suspects | None = None
    """What it is to find out about a refused request, if anything."""


class InFlightRequests:
    """By the request's number."""

    def __init__(self) -> None:
        self._flights: dict[int, Flight] = {}
        self._by_location: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._flights.values())

    def __getitem__(self, number: int) -> Flight:
        return self._flights[number]

    def at(self, location: str) -> Flight | None:
        """The location's request, if one is under way."""
        return self._by_location.get(location)

    def depart(self, request: Request, now: float, part: Suspects | None) -> None:
        """The request leaves. Its location must have none under way."""
        if request.location in self._by_location:
            msg = f"a second request for {request.location!r} would leave while one is under way"
            raise AssertionError(msg)
        assignments = frozenset(request.taken.column(ASSIGNMENT).unique().to_list())
        flight = Flight(request, now, assignments, part)
        self._flights[request.request_id] = self._by_location[request.location] = flight

    def land(self, number: int) -> Flight:
        """The request is answered, or given back."""
        flight = self._flights.pop(number)
        del self._by_location[flight.request.location]
        return flight

    @property
    def rows(self) -> int:
        """Changes in all of them."""
        return sum(flight.request.taken.height for flight in self._flights.values())

    def assignments(self) -> set[int]:
        """The assignments with rows under way."""
        return {number for flight in self._flights.values() for number in flight.assignments}

    def with_rows_of(self, assignments: Collection[int]) -> int:
        """How many have rows of these assignments."""
        return sum(not flight.assignments.isdisjoint(assignments) for flight in self._flights.values())

    def first_arrived(self) -> float | None:
        """When the oldest of their changes was read; None without any."""
        return min((flight.request.taken.first_arrived() for flight in self._flights.values()), default=None)
