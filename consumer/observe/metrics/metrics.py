"""Counters and histograms of the facts, as they happen."""

from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar, assert_never

import polars as pl
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from consumer.core.changes.items import ARRIVED, OCCURRED_AT, TIMESTAMP, RejectReason, SkipReason
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import SendReason
from consumer.core.location.request import Request
from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.job_schedule import JobOutcome, JobResult
from consumer.facts import (
    ChangesDeadLettered,
    ChangesDecoded,
    CommittedOffsetOutOfRange,
    DeadLettersConfirmed,
    Fact,
    Heartbeat,
    HoldShortened,
    JobEnded,
    JobsAbandoned,
    KafkaStatistics,
    LocationViews,
    MessagesRead,
    OffsetsCommitted,
    PartitionsAssigned,
    PartitionsLost,
    PartitionsRevoked,
    PendingByLocation,
    RequestAnswered,
    RequestSent,
    SchemaWaitBegan,
    SchemaWaitEnded,
    SmartRefreshEnded,
    Snapshot,
)
from consumer.observe.metrics.definitions import PREFIX, MetricDescription
from consumer.observe.metrics.kafka import KafkaCollector
from consumer.observe.metrics.locations import LocationCollector
from consumer.observe.metrics.snapshot import MemoryUse, SnapshotCollector
from consumer.ports import Clock, CommitRefused, Decoded
from consumer.settings.event_sources import OPTIONAL_TARGETS

REQUEST_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120)
REQUEST_ITEMS: Final = (1, 10, 100, 1_000, 3_000, 6_000, 9_000, 12_000)
"""The OMS's chunks are 3,000 items: most requests should be in the upper four buckets."""
REQUEST_CHUNKS: Final = (1, 2, 3, 4)
JOB_SECONDS: Final = (0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400, 86_400)
AGE_SECONDS: Final = (1, 5, 15, 30, 60, 120, 240, 300, 330, 360, 600, 1_800, 3_600, 14_400, 86_400)
"""Finer around the default of window.max_age, 300 s."""

REBALANCES: Final = ("assigned", "revoked", "lost")
Metric = TypeVar("Metric", bound=Counter | Histogram)


class _ByLabel(dict[str, Metric]):
    """The parts of a metric with one label, by the label's value: looked up once, since ``labels`` is slow."""

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric: Metric = metric

    def __missing__(self, value: str) -> Metric:
        part: Metric = self._metric.labels(value)  # type: ignore[assignment]  # of the metric's own class
        self[value] = part
        return part


class Metrics:
    """An observer that keeps the facts as Prometheus metrics, in a registry of its own (``registry``).

    ``limits`` are exported next to what they limit. ``ready`` says whether the process is ready, as ``/readyz`` does.
    ``build`` are the labels of ``build_info``: the versions of the service, of Python and of the main libraries. At
    most ``locations_max`` locations have series of their own. ``descriptions`` lists every metric, for the docs.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        limits: EngineLimits,
        ready: Callable[[], bool],
        build: Mapping[str, str],
        locations_max: int = 0,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.descriptions: list[MetricDescription] = []
        self._clock = clock
        self._chunk_items = limits.items.chunk_items
        self._define_changes()
        self._define_requests()
        self._define_jobs()
        self._define_group()
        self._define_process(ready, build)
        self._snapshot, self._kafka = SnapshotCollector(limits), KafkaCollector()
        self._locations = LocationCollector(locations_max) if locations_max else None
        self.registry.register(self._snapshot)
        self.registry.register(self._kafka)
        self.descriptions += [*self._snapshot.descriptions(), *self._kafka.descriptions()]
        if self._locations:
            self.registry.register(self._locations)
            self.descriptions += self._locations.descriptions()
        ProcessCollector(registry=self.registry)

    # Definitions

    def _define_changes(self) -> None:
        self._messages_read = self._counter("messages_read", "Messages read from Kafka, before decoding.")
        self._changes_decoded = self._counter("changes_decoded", "Changes that were decoded and follow the item rules.")
        self._tombstones = self._counter("tombstones", "Messages without a value, which are skipped.")
        self._events_skipped = self._counters(
            "events_skipped",
            "Events, or parts of them, that are skipped and never dead-lettered, by reason (docs/events.md).",
            reason=tuple(SkipReason),
        )
        self._values_ignored = self._counters(
            "values_ignored",
            "Values that changes are sent without, by field of the OMS: their type does not fit, or a time cannot be "
            "right.",
            field=OPTIONAL_TARGETS,
        )
        self._changes_dead_lettered = self._counters(
            "changes_dead_lettered",
            "Changes that go to the dead-letter topic, by reason; dead_letters_confirmed_total counts those that have "
            "arrived.",
            reason=tuple(RejectReason),
        )
        self._dead_letters = self._counter("dead_letters_confirmed", "Dead letters that the broker has confirmed.")
        self._changes_accepted = self._counter(
            "changes_accepted",
            "Changes that the OMS has accepted, with a jobID or applied at once, including those superseded by a newer "
            "change of the same item.",
        )
        self._changes_coalesced = self._counter(
            "changes_coalesced",
            "Accepted changes that were not sent as an item, because a newer change of the same item superseded them.",
        )

    def _define_requests(self) -> None:
        self._requests_sent = self._counters(
            "requests_sent",
            "Refresh requests handed to the OMS client, by what triggered them: a full window, the age of a change, "
            "memory pressure, few changes of a quiet location, or bisection.",
            reason=tuple(SendReason),
        )
        self._items_sent = self._counter("items_sent", "Items in requests handed to the OMS client.")
        self._chunks_sent = self._counter("chunks_sent", "Chunks in which the OMS processes the requests sent.")
        self._chunk_items_wasted = self._counter(
            "chunk_items_wasted", "Unused capacity of the chunks sent, in items: how many more would have fitted."
        )
        self._request_bytes = self._counter("request_bytes", "Bytes of request bodies sent to the OMS.")
        self._request_items = self._histogram("request_items", "Items per request.", REQUEST_ITEMS)
        self._request_chunks = self._histogram("request_chunks", "Chunks per request.", REQUEST_CHUNKS)
        self._requests_answered = self._counters(
            "requests_answered", "Requests by outcome, as classified in docs/oms-answers.md.", outcome=tuple(AnswerKind)
        )
        self._responses = self._counters(
            "oms_responses", "HTTP responses to refresh requests, by status code; timeouts have none.", code=()
        )
        self._request_seconds = self._histogram(
            "request_duration_seconds",
            "Time from a request's submission to its answer, including the wait for a connection.",
            REQUEST_SECONDS,
        )
        self._items_accepted = self._counter(
            "items_accepted", "Items that the OMS has accepted, with a jobID or applied at once."
        )
        self._oldest_age = self._histograms(
            "oldest_change_age_seconds",
            "Age of the oldest change in a request when it was accepted: since the change occurred, was published to "
            "Kafka, or was read by this process.",
            AGE_SECONDS,
            "since",
        )

    def _define_jobs(self) -> None:
        self._jobs_ended = self._counters(
            "jobs_ended",
            "Jobs of accepted requests by outcome: applied, failed, not finished within oms.job_age_max, or unknown "
            "to the OMS.",
            outcome=tuple(JobOutcome),
        )
        self._job_queued = self._histogram(
            "job_queued_seconds", "Time that a job waited in the OMS's queue, by the OMS's clock.", JOB_SECONDS
        )
        self._job_processing = self._histogram(
            "job_processing_seconds", "Time that the OMS took to process a job, by the OMS's clock.", JOB_SECONDS
        )

    def _define_group(self) -> None:
        self._commits = self._counter("commits", "Offset commits that the broker has confirmed.")
        self._commits_refused = self._counters(
            "commits_refused",
            "Offset commits that failed; fenced=yes if the group no longer accepts this member.",
            fenced=("yes", "no"),
        )
        self._rebalances = self._counters(
            "rebalances", "Times that partitions were assigned, revoked or lost.", kind=REBALANCES
        )
        self._requests_unanswered = self._counter(
            "requests_unanswered", "Requests that were still in flight when the revoke of their partitions timed out."
        )
        self._out_of_range = self._counter(
            "committed_offset_out_of_range",
            "Partitions assigned with a committed offset outside the log: retention deleted changes, or the topic was "
            "recreated.",
        )

    def _define_process(self, ready: Callable[[], bool], build: Mapping[str, str]) -> None:
        self._heartbeat = self._gauge(
            "loop_heartbeat_timestamp_seconds", "When the loop last reported that it is alive, as Unix time."
        )
        self._gauge("ready", "1 while /readyz answers 200.").set_function(ready)
        names, help_text = tuple(build), "Always 1; the labels are the versions in use."
        self._describe("build_info", "gauge", names, help_text)
        Gauge(f"{PREFIX}_build_info", help_text, names, registry=self.registry).labels(**build).set(1)

    def _counter(self, name: str, help_text: str) -> Counter:
        self._describe(f"{name}_total", "counter", (), help_text)
        return Counter(f"{PREFIX}_{name}", help_text, registry=self.registry)

    def _counters(self, name: str, help_text: str, **labels: Sequence[str]) -> "_ByLabel[Counter]":
        """A counter with one label. The values given here are exported from the start, as 0."""
        (label,) = labels
        counter = Counter(f"{PREFIX}_{name}", help_text, (label,), registry=self.registry)
        self._describe(f"{name}_total", "counter", (label,), help_text)
        by_label = _ByLabel(counter)
        for value in labels[label]:
            by_label[value].inc(0)
        return by_label

    def _histogram(self, name: str, help_text: str, buckets: Sequence[float]) -> Histogram:
        self._describe(name, "histogram", (), help_text)
        return Histogram(f"{PREFIX}_{name}", help_text, buckets=buckets, registry=self.registry)

    def _histograms(self, name: str, help_text: str, buckets: Sequence[float], label: str) -> "_ByLabel[Histogram]":
        """A histogram with one label. No value is exported from the start: an empty histogram has many series."""
        self._describe(name, "histogram", (label,), help_text)
        return _ByLabel(Histogram(f"{PREFIX}_{name}", help_text, (label,), buckets=buckets, registry=self.registry))

    def _gauge(self, name: str, help_text: str) -> Gauge:
        self._describe(name, "gauge", (), help_text)
        return Gauge(f"{PREFIX}_{name}", help_text, registry=self.registry)

    def _describe(self, name: str, kind: str, labels: tuple[str, ...], help_text: str) -> None:
        self.descriptions.append(MetricDescription(f"{PREFIX}_{name}", kind, labels, help_text))

    # Facts

    def observe(self, fact: Fact) -> None:  # noqa: C901, PLR0912 - one case per fact
        match fact:
            case MessagesRead():
                self._messages_read.inc(fact.count)
            case ChangesDecoded():
                self._decoded(fact.decoded)
            case ChangesDeadLettered():
                for changes in fact.changes:
                    self._changes_dead_lettered[changes.reason].inc(len(changes.change_ids))
            case DeadLettersConfirmed():
                self._dead_letters.inc(fact.count)
            case RequestSent():
                self._sent(fact)
            case RequestAnswered():
                self._answered(fact)
            case JobEnded():
                self._job_ended(fact.result)
            case JobsAbandoned():
                pass  # the process ends before a scrape could see it
            case PartitionsAssigned():
                self._rebalances["assigned"].inc()
            case PartitionsRevoked():
                self._rebalances["revoked"].inc()
                self._requests_unanswered.inc(fact.unanswered_requests)
            case PartitionsLost():
                self._rebalances["lost"].inc()
            case CommittedOffsetOutOfRange():
                self._out_of_range.inc()
            case SchemaWaitBegan() | SchemaWaitEnded() | HoldShortened() | SmartRefreshEnded():
                pass  # the snapshot counts what is parked
            case OffsetsCommitted():
                self._commits.inc()
            case CommitRefused():
                self._commits_refused["yes" if fact.fenced else "no"].inc()
            case Heartbeat():
                self._heartbeat.set(self._clock.wall())
            case Snapshot():
                self._heartbeat.set(self._clock.wall())
                self._snapshot.latest = fact
            case PendingByLocation():
                if self._locations:
                    self._locations.set_pending(fact.pending, fact.at)
            case LocationViews():
                pass  # for people who look at the status page
            case KafkaStatistics():
                self._kafka.update(fact)
            case _:
                assert_never(fact)

    def _decoded(self, decoded: Decoded) -> None:
        self._changes_decoded.inc(decoded.frame.height)
        self._tombstones.inc(decoded.tombstones)
        for skip_reason, count in decoded.skipped.items():
            self._events_skipped[skip_reason].inc(count)
        for field, count in decoded.ignored.items():
            self._values_ignored[field].inc(count)
        for reason, count in Tally(reject.reason for reject in decoded.rejects).items():
            self._changes_dead_lettered[reason].inc(count)

    def _sent(self, fact: RequestSent) -> None:
        request, chunks = fact.request, fact.request.chunks
        self._requests_sent[request.reason].inc()
        self._items_sent.inc(request.items)
        self._chunks_sent.inc(chunks)
        self._chunk_items_wasted.inc(chunks * self._chunk_items - request.items)
        self._request_items.observe(request.items)
        self._request_chunks.observe(chunks)

    def _answered(self, fact: RequestAnswered) -> None:
        request, answered = fact.request, fact.answered
        self._requests_answered[answered.answer.kind].inc()
        if answered.answer.status:
            self._responses[str(answered.answer.status)].inc()
        self._request_bytes.inc(answered.bytes_sent)
        self._request_seconds.observe(answered.seconds)
        if self._locations:
            self._locations.answered(request.location, answered.answer.kind)
        if fact.accepted is not None:
            self._accepted(fact.accepted)

    def _accepted(self, request: Request) -> None:
        changes = request.changes
        self._changes_accepted.inc(changes)
        self._changes_coalesced.inc(max(changes - request.items, 0))
        self._items_accepted.inc(request.items)
        self._observe_ages(request.taken.present)
        if self._locations:
            self._locations.accepted(request.location, request.items, self._clock.wall())

    def _job_ended(self, result: JobResult) -> None:
        self._jobs_ended[result.outcome].inc()
        if result.queued_seconds is not None:
            self._job_queued.observe(result.queued_seconds)
        if result.processing_seconds is not None:
            self._job_processing.observe(result.processing_seconds)

    def _observe_ages(self, rows: pl.DataFrame) -> None:
        """Observe the oldest change only: one observation per change would be thousands per request."""
        wall_ms = self._clock.wall() * 1000
        arrived = rows[ARRIVED].min() if ARRIVED in rows.columns else None
        for since, age in (
            ("occurred", _age(wall_ms, _earliest(rows[OCCURRED_AT]), per_second=1000)),
            ("published", _age(wall_ms, _earliest(rows[TIMESTAMP]), per_second=1000)),
            ("read", _age(self._clock.monotonic(), arrived)),
        ):
            if age is not None:
                self._oldest_age[since].observe(age)

    # State that is read at each scrape

    def count_tokens(self, fetched: Callable[[], int]) -> None:
        """Call this for the number of access tokens at each scrape, from the scrape's thread."""
        self._snapshot.tokens_fetched = fetched

    def show_clock_skew(self, skew_seconds: Callable[[], float | None]) -> None:
        """Call this for the skew of the OMS's clock at each scrape, from the scrape's thread."""
        self._snapshot.clock_skew = skew_seconds

    def show_memory(self, budget_bytes: int, limit_bytes: int, used_bytes: Callable[[], int | None]) -> None:
        """Show these; ``used_bytes`` is called at each scrape, from the scrape's thread."""
        self._snapshot.memory = MemoryUse(budget_bytes, limit_bytes, used_bytes)


def _earliest(times: pl.Series) -> object:
    """The earliest time; 0 is none: the event has no occurredAt and its message no timestamp."""
    earliest = times.min()
    return times.filter(times > 0).min() if earliest == 0 else earliest


def _age(now: float, then: object, *, per_second: float = 1.0) -> float | None:
    """Seconds from ``then`` to ``now``, at least 0: the clocks of two machines may differ. None if there is no time."""
    return max(now - then, 0.0) / per_second if isinstance(then, int | float) else None
