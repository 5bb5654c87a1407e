"""What a planned run adds up to."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from consumer.core.changes.items import RejectReason, SkipReason
from consumer.core.location.planner import SendReason, chunks
from consumer.core.location.request import Request


@dataclass(slots=True)
class Totals:
    """Counts of one run. Ages are counted in steps of ``age_step_seconds``, so that memory stays bounded."""

    chunk_items: int
    age_step_seconds: float
    messages: int = 0
    changes: int = 0
    """Changes that follow the item rules."""
    tombstones: int = 0
    rejects: Counter[RejectReason] = field(default_factory=Counter)
    skipped: Counter[SkipReason] = field(default_factory=Counter)
    requests: Counter[SendReason] = field(default_factory=Counter)
    items: int = 0
    chunks: int = 0
    items_max: int = 0
    """Of one request."""
    body_bytes: int = 0
    body_bytes_max: int = 0
    items_by_location: Counter[str] = field(default_factory=Counter)
    stops: bool = False
    """So many of the latest changes were rejects that the service would have stopped."""
    oms_behind_seconds_max: float = 0.0
    """The longest time that a request would have waited, and been processed, in the OMS's queue."""
    _ages: Counter[int] = field(default_factory=Counter)

    def add_request(self, request: Request, body_bytes: int, ages: Mapping[int, int]) -> None:
        """Count a request that leaves; ``ages`` has, by steps of the age, the number of changes."""
        self.requests[request.reason] += 1
        self.items += request.items
        self.chunks += request.chunks
        self.items_max = max(self.items_max, request.items)
        self.body_bytes += body_bytes
        self.body_bytes_max = max(self.body_bytes_max, body_bytes)
        self.items_by_location[request.location] += request.items
        self._ages.update(ages)

    @property
    def fewest_chunks(self) -> int:
        """Chunks that would do for these items if each location's items had left in full chunks."""
        return sum(chunks(items, self.chunk_items) for items in self.items_by_location.values())

    def age_seconds(self, share: float) -> float | None:
        """The age that this share of the changes had at most when they left; None without any.

        A change that was coalesced into a newer one while it waited is not counted.
        """
        wanted = share * self._ages.total()
        counted = 0
        for steps in sorted(self._ages):
            counted += self._ages[steps]
            if counted >= wanted:
                return steps * self.age_step_seconds
        return None
