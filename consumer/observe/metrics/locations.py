"""Metrics per location, if switched on: of the first ``locations_max`` locations seen, until the process ends.

A location whose partition was revoked, or that is no longer published, keeps its series, with nothing pending.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from consumer.core.location.pending import Pending
from consumer.core.oms.answers import AnswerKind
from consumer.observe.metrics.definitions import CounterDefinition, GaugeDefinition, MetricDescription

UNTRACKED_MAX: Final = 100_000
"""Further locations are counted by their hashes, up to this many: names from upstream may be without end."""

_PENDING: Final = GaugeDefinition(
    "location_pending_changes", "Changes of the location that were read and are not accepted yet.", ("location",)
)
_OLDEST: Final = GaugeDefinition(
    "location_oldest_pending_seconds", "Time since the location's oldest pending change was read.", ("location",)
)
_ACCEPTED_AT: Final = GaugeDefinition(
    "location_last_accepted_timestamp_seconds",
    "When a request of the location was last accepted, with a jobID or applied at once, as Unix time.",
    ("location",),
)
_ITEMS: Final = CounterDefinition(
    "location_items_accepted", "Items of the location that the OMS has accepted.", ("location",)
)
_REQUESTS: Final = CounterDefinition(
    "location_requests_answered", "The location's answered requests, by outcome.", ("location", "outcome")
)
_UNTRACKED: Final = GaugeDefinition(
    "locations_untracked",
    f"Locations seen beyond metrics.locations_max, which have no series; counted up to {UNTRACKED_MAX:,}.",
)


@dataclass(slots=True)
class _Location:
    pending: int = 0
    oldest_seconds: float = 0.0
    accepted_at: float | None = None
    items_accepted: int = 0
    requests: Tally[str] = field(default_factory=Tally)


class LocationCollector(Collector):
    """The metrics of at most ``locations_max`` locations, and how many others there are.

    The loop's thread writes and the scrape's thread reads: what a scrape iterates over is copied first, which is atomic
    in CPython.
    """

    def __init__(self, locations_max: int) -> None:
        self._locations_max = locations_max
        self._locations: dict[str, _Location] = {}
        self._untracked: set[int] = set()

    def set_pending(self, pending_by_location: Mapping[str, Pending], now: float) -> None:
        """Set what is pending of each location; a location that is missing has nothing pending."""
        for name in pending_by_location:
            self._get_or_add(name)
        for name, location in self._locations.items():
            pending = pending_by_location.get(name)
            location.pending = pending.changes if pending else 0
            location.oldest_seconds = max(now - pending.first_arrived, 0.0) if pending else 0.0

    def answered(self, name: str, outcome: AnswerKind) -> None:
        """Count a request's answer."""
        location = self._get_or_add(name)
        if location:
            location.requests[outcome] += 1

    def accepted(self, name: str, items: int, wall: float) -> None:
        """Count an accepted request's items; ``wall`` is the time of the answer in seconds since 1970."""
        location = self._get_or_add(name)
        if location:
            location.items_accepted += items
            location.accepted_at = wall

    def _get_or_add(self, name: str) -> _Location | None:
        """The location; None if it is one too many."""
        location = self._locations.get(name)
        if location is None and len(self._locations) < self._locations_max:
            location = self._locations[name] = _Location()
        elif location is None and len(self._untracked) < UNTRACKED_MAX:
            self._untracked.add(hash(name))
        return location

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
    def descriptions() -> list[MetricDescription]:
        definitions = (_PENDING, _OLDEST, _ACCEPTED_AT, _ITEMS, _REQUESTS, _UNTRACKED)
        return [definition.description() for definition in definitions]
