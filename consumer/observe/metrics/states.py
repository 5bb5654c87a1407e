"""The gauges that show the latest snapshot, and the settings that they are to be read against."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from consumer.core.location.request import EngineLimits
from consumer.core.oms.breaker import BreakerState
from consumer.facts import PartitionView, Snapshot
from consumer.observe.metrics.described import Counters, Described, Gauges

_TOKENS: Final = Counters("tokens_fetched", "Access tokens got from the OMS: the first, and each renewal.")
_BREAKER: Final = Gauges(
    "oms_breaker_state",
    "1 for the breaker's state: closed (the OMS is well), open (nothing is sent), half_open (one probe at a time).",
    ("state",),
)


def _distance(partition: PartitionView) -> float | None:
    if partition.next_offset is None or partition.committable_offset is None:
        return None
    return partition.next_offset - partition.committable_offset


def _lag(partition: PartitionView) -> float | None:
    if partition.end_offset is None or partition.committable_offset is None:
        return None
    return max(partition.end_offset - partition.committable_offset, 0)


_STATES: Final[Sequence[tuple[str, str, Callable[[Snapshot], float]]]] = (
    ("partitions_assigned", "Partitions this process reads.", lambda snapshot: len(snapshot.partitions)),
    ("pending_changes", "Changes read and not yet accepted, in memory.", lambda snapshot: snapshot.pending_changes),
    ("pending_locations", "Locations with pending changes.", lambda snapshot: snapshot.pending_locations),
    (
        "oldest_pending_seconds",
        "How long ago the oldest pending change was read.",
        lambda snapshot: snapshot.oldest_pending_seconds or 0.0,
    ),
    ("requests_in_flight", "Requests whose answer is awaited.", lambda snapshot: snapshot.requests_in_flight),
    (
        "held_locations",
        "Locations that may not send yet, after a request with an unknown outcome.",
        lambda snapshot: snapshot.held_locations,
    ),
    (
        "dead_letters_unconfirmed",
        "Dead letters whose confirmation by the broker is awaited.",
        lambda snapshot: snapshot.unconfirmed_dead_letters,
    ),
    (
        "oms_failures_in_a_row",
        "Failures of the OMS as a whole since its last jobID; 0 while it is well.",
        lambda snapshot: snapshot.oms_consecutive_failures,
    ),
    (
        "oms_requests_per_second_max",
        "Calls a second that the OMS is sent at most, as set or learned from over-quota answers; +Inf without a limit.",
        lambda snapshot: math.inf if snapshot.requests_per_second_max is None else snapshot.requests_per_second_max,
    ),
    (
        "bisecting_locations",
        "Locations of which a refused request is being narrowed down to the items that cause it.",
        lambda snapshot: snapshot.bisecting_locations,
    ),
    ("jobs_unfinished", "Jobs of ours whose end the OMS has not told yet.", lambda snapshot: snapshot.unfinished_jobs),
    (
        "jobs_unfinished_items",
        "Items of jobs of ours whose end the OMS has not told yet.",
        lambda snapshot: snapshot.unfinished_job_items,
    ),
    (
        "jobs_oldest_unfinished_seconds",
        "How long the oldest of these jobs has been followed.",
        lambda snapshot: snapshot.oldest_job_seconds or 0.0,
    ),
    (
        "job_status_unavailable",
        "1 while the OMS tells nothing of jobs: get-job is refused, over-quota or unreachable.",
        lambda snapshot: bool(snapshot.job_status_unavailable),
    ),
    ("flush_items", "Items from which on a window is full.", lambda snapshot: snapshot.flush_items),
    (
        "sending_stopped",
        "1 while nothing is sent until a person changes something; the log and the status page say what.",
        lambda snapshot: bool(snapshot.sending_stopped),
    ),
    (
        "decoding_waits",
        "1 while decoding waits for something outside, such as the schema registry.",
        lambda snapshot: bool(snapshot.waiting_for),
    ),
)
"""Gauges of the whole process: name, description, value."""

_PARTITION_STATES: Final[Sequence[tuple[str, str, Callable[[PartitionView], float | None]]]] = (
    (
        "partition_watermark_offset",
        "Lowest offset that no jobID covers yet: what is committed next.",
        lambda partition: partition.committable_offset,
    ),
    ("partition_committed_offset", "Offset last committed.", lambda partition: partition.committed_offset),
    (
        "partition_end_offset",
        "End of the partition's log, as last heard.",
        lambda partition: partition.end_offset,
    ),
    ("partition_lag_offsets", "Offsets between the watermark and the log's end, as last heard.", _lag),
    ("partition_next_offset", "Offset after the last change taken in.", lambda partition: partition.next_offset),
    (
        "partition_unaccepted_offsets",
        "Offsets between the watermark and the last change taken in: what a successor would read again.",
        _distance,
    ),
    ("partition_paused", "1 while the partition is not read on.", lambda partition: partition.paused),
    (
        "partition_recovering",
        "1 while nothing of the partition leaves, as what its last owner had read is read again first.",
        lambda partition: partition.recovering,
    ),
)
"""Gauges of a partition: name, description, value (None: not known yet, so not shown)."""

_SETTINGS: Final[Sequence[tuple[str, str, Callable[[EngineLimits], float]]]] = (
    (
        "max_age_seconds",
        "The setting window.max_age: how long a change may wait while the OMS is well.",
        lambda limits: limits.max_age_seconds,
    ),
    (
        "max_pending_changes",
        "The setting window.max_pending_changes: above it reading pauses.",
        lambda limits: limits.max_pending_changes,
    ),
    (
        "max_uncommitted_offsets_offsets",
        "The setting kafka.max_uncommitted_offsets: a partition read further past its watermark is paused.",
        lambda limits: limits.max_uncommitted_offsets,
    ),
    (
        "unknown_hold_seconds",
        "The setting oms.unknown_hold: how long a location sends nothing after an unknown outcome.",
        lambda limits: limits.unknown_hold_seconds,
    ),
)
"""Gauges of settings, so that alerts and dashboards can draw the limit: name, description, value."""


class States(Collector):
    """The gauges of the latest snapshot and of the settings, made when they are asked for."""

    def __init__(self, limits: EngineLimits) -> None:
        self.latest = Snapshot(at=0.0)
        self.tokens_fetched: Callable[[], int] = lambda: 0
        self._limits = limits

    def collect(self) -> Iterable[Metric]:
        snapshot = self.latest
        tokens = _TOKENS.family()
        tokens.add_metric((), self.tokens_fetched())
        yield tokens
        breaker = _BREAKER.family()
        for state in BreakerState:
            breaker.add_metric((state,), float(snapshot.breaker is state))
        yield breaker
        for name, description, value_of in _STATES:
            yield _single(Gauges(name, description), value_of(snapshot))
        for name, description, value_set in _SETTINGS:
            yield _single(Gauges(name, description), value_set(self._limits))
        for name, description, value_in in _PARTITION_STATES:
            family = _of_partitions(name, description).family()
            for partition in snapshot.partitions:
                value = value_in(partition)
                if value is not None:
                    family.add_metric((partition.topic, str(partition.partition)), float(value))
            yield family

    @staticmethod
    def described() -> list[Described]:
        whole = [Gauges(name, text).described() for table in (_STATES, _SETTINGS) for name, text, _ in table]
        partitions = [_of_partitions(name, text).described() for name, text, _ in _PARTITION_STATES]
        return [_TOKENS.described(), _BREAKER.described(), *whole, *partitions]


def _of_partitions(name: str, description: str) -> Gauges:
    return Gauges(name, description, ("topic", "partition"))


def _single(gauge: Gauges, value: float) -> GaugeMetricFamily:
    family = gauge.family()
    family.add_metric((), float(value))
    return family
