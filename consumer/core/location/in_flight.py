"""Requests in flight: at most one per location, whatever happens to its window or partitions meanwhile."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from consumer.core.changes.items import ASSIGNMENT, distinct_ids
from consumer.core.location.bisection import Key, RefusedRequest, Suspects
from consumer.core.location.request import Request


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request without an answer yet. ``assignment_ids`` are those of its changes."""

    request: Request
    sent_at: float
    size_bytes: int
    """Memory of its rows."""
    assignment_ids: frozenset[int]
    suspects: Suspects | None = None
    """The suspects of a bisection that it was sent for; None for an ordinary request."""

    def refused(self, rows: pl.DataFrame, detail: str, named: Sequence[Key]) -> RefusedRequest:
        """The request as one that was refused. ``rows`` are those of its changes whose assignments have not ended."""
        taken = self.request.taken
        one_change = self.suspects is not None and self.suspects.one_change_at_a_time
        alone = taken.height == 1 and (one_change or taken.overlay is None)
        return RefusedRequest(rows, self.suspects, alone, detail, named)


class InFlightRequests:
    """All requests in flight, by request id."""

    def __init__(self) -> None:
        self._by_id: dict[int, InFlight] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[InFlight]:
        return iter(self._by_id.values())

    def get(self, request_id: int) -> InFlight:
        return self._by_id[request_id]

    def start(self, request: Request, now: float, suspects: Suspects | None, size_bytes: int) -> InFlight:
        """The request is being sent. ``suspects`` are those that it is sent for, if any."""
        assignment_ids = distinct_ids(request.taken.column(ASSIGNMENT))
        in_flight = self._by_id[request.request_id] = InFlight(request, now, size_bytes, assignment_ids, suspects)
        return in_flight

    def finish(self, request_id: int) -> InFlight:
        """The request was answered, or given back without being sent."""
        return self._by_id.pop(request_id)

    @property
    def rows(self) -> int:
        """Number of rows in all requests."""
        return sum(in_flight.request.taken.height for in_flight in self)

    def assignment_ids(self) -> set[int]:
        """The assignments with changes in flight."""
        return {assignment_id for in_flight in self for assignment_id in in_flight.assignment_ids}

    @property
    def size_bytes(self) -> int:
        """Memory of their rows."""
        return sum(in_flight.size_bytes for in_flight in self)

    def requests_with_rows_of(self, assignment_ids: Collection[int]) -> int:
        """Number of requests with changes of these assignments."""
        return sum(not in_flight.assignment_ids.isdisjoint(assignment_ids) for in_flight in self)

    def first_arrived(self) -> float | None:
        """When the oldest change in flight was read; None without one."""
        return min((in_flight.request.taken.first_arrived() for in_flight in self), default=None)
