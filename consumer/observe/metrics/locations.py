"""Series of single locations, where they are switched on: of the first so many that are seen, until the process ends.

A location that went to another process, or out of business, keeps its series here, with nothing pending.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from consumer.core.oms.answers import AnswerKind
from consumer.core.pending import Pending
from consumer.observe.metrics.described import Counters, Described, Gauges

UNTRACKED_MAX: Final = 100_000
"""So many further locations are told apart, by their hashes: what upstream takes for names could be without end."""

_PENDING: Final = Gauges("location_pending_changes", "The location's changes read and not yet accepted.", ("location",))
_OLDEST: Final = Gauges(
    "location_oldest_pending_seconds", "How long ago the location's oldest pending change was read.", ("location",)
)
_ACCEPTED_AT: Final = Gauges(
    "location_accepted_timestamp_seconds", "When a request of the location last got a jobID.", ("location",)
)
_ITEMS: Final = Counters("location_items_accepted", "Items in the location's requests that got a jobID.", ("location",))
_REQUESTS: Final = Counters(
    "location_requests", "The location's requests by what their answer means.", ("location", "outcome")
)
_UNTRACKED: Final = Gauges(
    "locations_untracked",
    f"Locations seen beyond metrics.locations_max, which have no series of their own; counted up to {UNTRACKED_MAX:,}.",
)


@dataclass(slots=True)
class _Location:
    pending: int = 0
    oldest_seconds: float = 0.0
    accepted_at: float | None = None
    items_accepted: int = 0
    requests: Tally[str] = field(default_factory=Tally)


class Locations(Collector):
    """At most ``locations_max`` locations, by name, and how many others there are.

    The loop's thread writes, Prometheus's reads: what it walks over is copied in one step of the interpreter first.
    """

    def __init__(self, locations_max: int) -> None:
        self._locations_max = locations_max
        self._locations: dict[str, _Location] = {}
        self._untracked: set[int] = set()

    def set_pending(self, pending: Mapping[str, Pending], now: float) -> None:
        """Take what is pending of every location; one that is not named has nothing."""
        for name in pending:
            self._of(name)
        for name, location in self._locations.items():
            each = pending.get(name)
            location.pending = each.changes if each else 0
            location.oldest_seconds = max(now - each.first_arrived, 0.0) if each else 0.0

    def answered(self, name: str, outcome: AnswerKind) -> None:
        tracked = self._of(name)
        if tracked:
            tracked.requests[outcome] += 1

    def accepted(self, name: str, items: int, wall: float) -> None:
        tracked = self._of(name)
        if tracked:
            tracked.items_accepted += items
            tracked.accepted_at = wall

    def _of(self, name: str) -> _Location | None:
        known = self._locations.get(name)
        if known is None and len(self._locations) < self._locations_max:
            known = self._locations[name] = _Location()
        elif known is None and len(self._untracked) < UNTRACKED_MAX:
            self._untracked.add(hash(name))
        return known

    def collect(self) -> Iterable[Metric]:
        pending, oldest, accepted_at = _PENDING.family(), _OLDEST.family(), _ACCEPTED_AT.family()
        items, requests = _ITEMS.family(), _REQUESTS.family()
        for name, location in list(self._locations.items()):
            labels = (name,)
            pending.add_metric(labels, location.pending)
            oldest.add_metric(labels, location.oldest_seconds)
            if location.accepted_at is not None:
                accepted_at.add_metric(labels, location.accepted_at)
            items.add_metric(labels, location.items_accepted)
            for outcome, count in list(location.requests.items()):
                requests.add_metric((name, outcome), count)
        untracked = _UNTRACKED.family()
        untracked.add_metric((), len(self._untracked))
        yield from (pending, oldest, accepted_at, items, requests, untracked)

    @staticmethod
    def described() -> list[Described]:
        families = (_PENDING, _OLDEST, _ACCEPTED_AT, _ITEMS, _REQUESTS, _UNTRACKED)
        return [family.described() for family in families]
