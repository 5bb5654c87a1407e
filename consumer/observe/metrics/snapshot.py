"""Gauges of the latest snapshot, and of the settings that limit what they show."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from consumer.core.limits import EngineLimits
from consumer.core.oms.breaker import BreakerState
from consumer.facts import PartitionView, Snapshot
from consumer.observe.metrics.definitions import CounterDefinition, GaugeDefinition, MetricDescription

_TOKENS: Final = CounterDefinition("oms_tokens_fetched", "Access tokens fetched from the OMS, renewals included.")
_CLOCK_SKEW: Final = GaugeDefinition(
    "oms_clock_skew_seconds",
    "How far the OMS's clock is ahead of ours, by the Date header of its answers; exact to about a second.",
)
_BREAKER: Final = GaugeDefinition(
    "oms_breaker_state",
    "1 for the circuit breaker's current state: closed (requests are sent), open (none is sent), half_open (one probe "
    "at a time).",
    ("state",),
)


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """The budget, the limit against which use is judged, and the use; None: unknown."""

    budget_bytes: int | None = None
    limit_bytes: int | None = None
    used_bytes: Callable[[], int | None] = lambda: None


def _uncommitted(partition: PartitionView) -> float | None:
    if partition.next_offset is None or partition.committable_offset is None:
        return None
    return partition.next_offset - partition.committable_offset


def _lag(partition: PartitionView) -> float | None:
    if partition.end_offset is None or partition.committable_offset is None:
        return None
    return max(partition.end_offset - partition.committable_offset, 0)


_PROCESS_GAUGES: Final[Sequence[tuple[str, str, Callable[[Snapshot], float]]]] = (
    ("assigned_partitions", "Partitions assigned to this process.", lambda snapshot: len(snapshot.partitions)),
    (
        "pending_changes",
        "Changes that were read and are not accepted yet, held in memory.",
        lambda snapshot: snapshot.pending_changes,
    ),
    (
        "pending_bytes",
        "Memory that pending changes take, with their offsets.",
        lambda snapshot: snapshot.pending_bytes,
    ),
    ("pending_locations", "Locations with pending changes.", lambda snapshot: snapshot.pending_locations),
    (
        "oldest_pending_seconds",
        "Time since the oldest pending change was read; 0 if none is pending.",
        lambda snapshot: snapshot.oldest_pending_seconds or 0.0,
    ),
    ("requests_in_flight", "Requests that await an answer.", lambda snapshot: snapshot.requests_in_flight),
    (
        "held_locations",
        "Locations on hold after a request with an unknown outcome: they send nothing until the hold ends.",
        lambda snapshot: snapshot.held_locations,
    ),
    (
        "unconfirmed_dead_letters",
        "Dead letters that the broker has not confirmed yet.",
        lambda snapshot: snapshot.unconfirmed_dead_letters,
    ),
    (
        "oms_consecutive_failures",
        "Failures of the OMS as a whole since its last success; 0 while it is healthy.",
        lambda snapshot: snapshot.oms_consecutive_failures,
    ),
    (
        "oms_requests_per_second_max",
        "Rate limit for calls to the OMS, as configured or learned from over-quota answers; +Inf if there is none.",
        lambda snapshot: math.inf if snapshot.requests_per_second_max is None else snapshot.requests_per_second_max,
    ),
    (
        "bisecting_locations",
        "Locations where a refused request is being bisected to find the items that cause the refusal.",
        lambda snapshot: snapshot.bisecting_locations,
    ),
    (
        "set_aside_locations",
        "Locations that the OMS refuses whole while it accepts others; the log and the status page name them.",
        lambda snapshot: snapshot.set_aside_locations,
    ),
    ("unfinished_jobs", "Jobs of this process that have not ended.", lambda snapshot: snapshot.unfinished_jobs),
    ("unfinished_job_items", "Items in unfinished jobs.", lambda snapshot: snapshot.unfinished_job_items),
    (
        "oldest_unfinished_job_seconds",
        "How long the oldest unfinished job has been followed; 0 if there is none.",
        lambda snapshot: snapshot.oldest_job_seconds or 0.0,
    ),
    (
        "job_status_unavailable",
        "1 while the OMS does not report the status of jobs: get-job is refused, over quota or unreachable.",
        lambda snapshot: bool(snapshot.job_status_unavailable),
    ),
    (
        "job_queue_full",
        "1 while nothing is sent because too many jobs of this process are unfinished (oms.unfinished_jobs_max).",
        lambda snapshot: bool(snapshot.job_queue_full),
    ),
    ("flush_items", "Distinct items that make a window full.", lambda snapshot: snapshot.flush_items),
    (
        "sending_stopped",
        "1 while nothing is sent until an operator intervenes; the log and the status page show the reason.",
        lambda snapshot: bool(snapshot.sending_stopped),
    ),
    (
        "decoding_blocked",
        "1 while decoding waits for something external, such as the schema registry.",
        lambda snapshot: bool(snapshot.decoding_blocked),
    ),
    (
        "parked_messages",
        "Messages that are read but not decoded: their partition waits for a schema that the registry does not know.",
        lambda snapshot: snapshot.parked_messages,
    ),
    (
        "memory_pressure",
        "1 while more than 85 % of the container's memory limit is in use: the process makes room instead of reading.",
        lambda snapshot: snapshot.memory_pressure,
    ),
)
"""Gauges of the whole process: name, help text, value."""

_PARTITION_GAUGES: Final[Sequence[tuple[str, str, Callable[[PartitionView], float | None]]]] = (
    (
        "partition_committable_offset",
        "Lowest offset that is not accepted yet: the next one to commit.",
        lambda partition: partition.committable_offset,
    ),
    ("partition_committed_offset", "Offset last committed.", lambda partition: partition.committed_offset),
    (
        "partition_end_offset",
        "End of the partition's log, as last reported by the broker.",
        lambda partition: partition.end_offset,
    ),
    (
        "partition_lag_offsets",
        "Offsets from the committable offset to the end of the log, as last reported by the broker.",
        _lag,
    ),
    ("partition_next_offset", "Offset after the last message decoded.", lambda partition: partition.next_offset),
    (
        "partition_uncommitted_offsets",
        "Offsets from the committable offset to the last message decoded: what a new owner would read again.",
        _uncommitted,
    ),
    ("partition_paused", "1 while reading of the partition is paused.", lambda partition: partition.paused),
    (
        "partition_recovering",
        "1 while reading again what the previous owner had read; none of the partition's changes is sent until then.",
        lambda partition: partition.recovering,
    ),
)
"""Gauges of each partition: name, help text, value (None: not known yet, so there is no sample)."""

_SETTING_GAUGES: Final[Sequence[tuple[str, str, Callable[[EngineLimits], float]]]] = (
    (
        "window_max_age_seconds",
        "The setting window.max_age: how long a change may wait while the OMS is healthy.",
        lambda limits: limits.max_age_seconds,
    ),
    (
        "max_pending_bytes",
        "The part of memory.budget for pending changes: above it reading pauses.",
        lambda limits: limits.max_pending_bytes,
    ),
    (
        "max_uncommitted_offsets",
        "The setting kafka.max_uncommitted_offsets: a partition read further past its committable offset is paused.",
        lambda limits: limits.max_uncommitted_offsets,
    ),
    (
        "unknown_hold_seconds",
        "The setting oms.unknown_hold: how long a location sends nothing after an unknown outcome.",
        lambda limits: limits.retry.unknown_hold_seconds,
    ),
)
"""Gauges of settings, so that alerts and dashboards can show a value next to its limit: name, help text, value."""


_MEMORY_GAUGES: Final[Sequence[tuple[str, str, Callable[[MemoryUse], float | None]]]] = (
    (
        "memory_budget_bytes",
        "The memory budget, as set or derived from the container's limit: what all that grows may take together.",
        lambda memory: memory.budget_bytes,
    ),
    (
        "memory_limit_bytes",
        "The container's memory limit; without one, the limit that suits the budget.",
        lambda memory: memory.limit_bytes,
    ),
    (
        "memory_used_bytes",
        "What the container uses, without page cache that can be dropped; without a limit, what this process uses.",
        lambda memory: memory.used_bytes(),
    ),
)
"""Gauges of memory: name, help text, value (None: cannot be read, so there is no sample)."""


class SnapshotCollector(Collector):
    """Makes the gauges of the latest snapshot, of memory and of the settings at each scrape.

    ``latest``, ``memory``, ``tokens_fetched`` and ``clock_skew`` are replaced whole by the loop's thread, and read by
    the scrape's.
    """

    def __init__(self, limits: EngineLimits) -> None:
        self.latest = Snapshot(at=0.0)
        self.memory = MemoryUse()
        self.tokens_fetched: Callable[[], int] = lambda: 0
        self.clock_skew: Callable[[], float | None] = lambda: None
        self._limits = limits

    def collect(self) -> Iterable[Metric]:
        snapshot = self.latest
        tokens = _TOKENS.family()
        tokens.add_metric((), self.tokens_fetched())
        yield tokens
        skew = _CLOCK_SKEW.family()
        skew_seconds = self.clock_skew()
        if skew_seconds is not None:
            skew.add_metric((), skew_seconds)
        yield skew
        breaker = _BREAKER.family()
        for state in BreakerState:
            breaker.add_metric((state,), float(snapshot.breaker is state))
        yield breaker
        for name, help_text, value_of in _PROCESS_GAUGES:
            yield _single(GaugeDefinition(name, help_text), value_of(snapshot))
        for name, help_text, value_set in _SETTING_GAUGES:
            yield _single(GaugeDefinition(name, help_text), value_set(self._limits))
        for name, help_text, value_now in _MEMORY_GAUGES:
            family = GaugeDefinition(name, help_text).family()
            value = value_now(self.memory)
            if value is not None:
                family.add_metric((), float(value))
            yield family
        for name, help_text, value_in in _PARTITION_GAUGES:
            family = _of_partitions(name, help_text).family()
            for partition in snapshot.partitions:
                value = value_in(partition)
                if value is not None:
                    family.add_metric((partition.topic, str(partition.partition)), float(value))
            yield family

    @staticmethod
    def descriptions() -> list[MetricDescription]:
        tables = (_PROCESS_GAUGES, _SETTING_GAUGES, _MEMORY_GAUGES)
        process = [GaugeDefinition(name, text).description() for table in tables for name, text, _ in table]
        partitions = [_of_partitions(name, text).description() for name, text, _ in _PARTITION_GAUGES]
        return [_TOKENS.description(), _CLOCK_SKEW.description(), _BREAKER.description(), *process, *partitions]


def _of_partitions(name: str, help_text: str) -> GaugeDefinition:
    return GaugeDefinition(name, help_text, ("topic", "partition"))


def _single(gauge: GaugeDefinition, value: float) -> GaugeMetricFamily:
    family = gauge.family()
    family.add_metric((), float(value))
    return family
