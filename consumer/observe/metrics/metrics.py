"""What the loop counts, as it happens."""

from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from typing import Final, assert_never

import polars as pl
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from consumer.core.changes.items import ARRIVED, OCCURRED_AT, TIMESTAMP, RejectReason
from consumer.core.location.planner import SendReason
from consumer.core.location.request import EngineLimits, Request
from consumer.core.oms.answers import Accepted, AnswerKind
from consumer.core.oms.job_schedule import JobOutcome, JobResult
from consumer.facts import (
    ChangesDeadLettered,
    ChangesDecoded,
    CommittedOffsetOutOfRange,
    DeadLettersConfirmed,
    Fact,
    Heartbeat,
    JobEnded,
    JobsAbandoned,
    JobsEvicted,
    KafkaStatistics,
    MessagesRead,
    OffsetsCommitted,
    PartitionsAssigned,
    PartitionsLost,
    PartitionsRevoked,
    PendingByLocation,
    RequestAnswered,
    RequestSent,
    Snapshot,
)
from consumer.observe.metrics.described import PREFIX, Described
from consumer.observe.metrics.kafka import KafkaStates
from consumer.observe.metrics.locations import Locations
from consumer.observe.metrics.states import States
from consumer.ports import Clock, CommitRefused, Decoded

REQUEST_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120)
REQUEST_ITEMS: Final = (1, 10, 100, 1_000, 3_000, 6_000, 9_000, 12_000)
"""The OMS's chunks are 3,000 items: most requests should lie on the upper four."""
REQUEST_CHUNKS: Final = (1, 2, 3, 4)
JOB_SECONDS: Final = (0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400, 86_400)
AGE_SECONDS: Final = (1, 5, 15, 30, 60, 120, 240, 300, 330, 360, 600, 1_800, 3_600, 14_400, 86_400)
"""Close around the default max_age of 300 s."""

REBALANCES: Final = ("assigned", "revoked", "lost")
SINCE: Final = ("occurred", "published", "read")


class Metrics:
    """The loop's facts as Prometheus metrics, in a registry of their own (``registry``).

    ``limits`` are shown beside what they limit; ``ready`` tells whether the process is ready, as ``/readyz`` does;
    ``build`` are the labels of the build's metric: versions of the service, of Python and of its main parts. At most
    ``locations_max`` locations have series of their own.
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
        self.described: list[Described] = []
        self._clock = clock
        self._chunk_items = limits.items.chunk_items
        self._define_changes()
        self._define_requests()
        self._define_jobs()
        self._define_group()
        self._define_process(ready, build)
        self._states, self._kafka = States(limits), KafkaStates()
        self._locations = Locations(locations_max) if locations_max else None
        self.registry.register(self._states)
        self.registry.register(self._kafka)
        self.described += [*self._states.described(), *self._kafka.described()]
        if self._locations:
            self.registry.register(self._locations)
            self.described += self._locations.described()
        ProcessCollector(registry=self.registry)

    # Definitions

    def _define_changes(self) -> None:
        self._changes_read = self._counter("changes_read", "Messages read from Kafka, whatever is in them.")
        self._changes_decoded = self._counter("changes_decoded", "Changes decoded and found good.")
        self._tombstones = self._counter("tombstones", "Messages without a value, passed over.")
        self._changes_rejected = self._counter(
            "changes_rejected",
            "Changes that can never be sent, or that the OMS did not apply, by reason.",
            reason=tuple(RejectReason),
        )
        self._dead_letters = self._counter("dead_letters_confirmed", "Dead letters that the broker has confirmed.")
        self._changes_accepted = self._counter(
            "changes_accepted", "Changes covered by a jobID, also those that a newer one of their item superseded."
        )
        self._changes_coalesced = self._counter(
            "changes_coalesced",
            "Accepted changes that needed no item of their own, as a newer one of their item superseded them.",
        )

    def _define_requests(self) -> None:
        self._requests_sent = self._counter(
            "requests_sent", "Requests handed to the OMS client, by why they left.", reason=tuple(SendReason)
        )
        self._items_sent = self._counter("items_sent", "Items in requests handed to the OMS client.")
        self._chunks_sent = self._counter("chunks_sent", "Chunks that the OMS works off for these requests.")
        self._chunk_items_wasted = self._counter(
            "chunk_items_wasted", "Items for which the chunks sent still had room."
        )
        self._bytes_sent = self._counter("request_bytes", "Bytes of request bodies sent to the OMS.")
        self._request_items = self._histogram("request_items", "Items in a request.", REQUEST_ITEMS)
        self._request_chunks = self._histogram("request_chunks", "Chunks of a request.", REQUEST_CHUNKS)
        self._answers = self._counter("answers", "Answers by what they mean.", outcome=tuple(AnswerKind))
        self._responses = self._counter("oms_responses", "HTTP responses to refresh requests.", code=())
        self._request_seconds = self._histogram(
            "request_seconds",
            "From a request's submission to its answer, waiting for a connection included.",
            REQUEST_SECONDS,
        )
        self._items_accepted = self._counter("items_accepted", "Items in requests that got a jobID.")
        self._oldest_age = self._histogram(
            "oldest_change_age_seconds",
            "Age of the oldest change in a request when its jobID came: since it occurred, was published to Kafka, "
            "or was read by this process.",
            AGE_SECONDS,
            since=SINCE,
        )

    def _define_jobs(self) -> None:
        self._jobs_ended = self._counter(
            "jobs_ended",
            "Jobs of accepted requests that came to an end (success: applied), or are followed no longer.",
            outcome=tuple(JobOutcome),
        )
        self._jobs_unfollowed = self._counter(
            "jobs_unfollowed", "Jobs whose end nobody will tell: there were too many, or the process ended."
        )
        self._job_queued = self._histogram(
            "job_queued_seconds", "From a job's being added to its start, by the OMS's clock.", JOB_SECONDS
        )
        self._job_worked = self._histogram(
            "job_worked_seconds", "From a job's start to its end, by the OMS's clock.", JOB_SECONDS
        )

    def _define_group(self) -> None:
        self._commits = self._counter("commits", "Commits that the broker has confirmed.")
        self._commits_refused = self._counter(
            "commits_refused",
            "Commits that were refused; fenced=yes where this process is out of its group.",
            fenced=("yes", "no"),
        )
        self._rebalances = self._counter("rebalances", "Times that partitions came or went.", kind=REBALANCES)
        self._unsettled = self._counter(
            "requests_unsettled", "Requests still in flight when their partitions had to be handed on."
        )
        self._out_of_range = self._counter(
            "committed_offset_out_of_range",
            "Partitions whose committed offset was outside the log: changes were lost to retention, or the topic was "
            "made anew.",
        )

    def _define_process(self, ready: Callable[[], bool], build: Mapping[str, str]) -> None:
        self._heartbeat = self._gauge("loop_heartbeat_timestamp_seconds", "When the loop last showed a sign of life.")
        self._gauge("ready", "1 while /readyz says so.").set_function(ready)
        names = tuple(build)
        self._describe("build_info", "gauge", names, "Always 1; the labels tell what is running.")
        Gauge(f"{PREFIX}_build_info", self.described[-1].description, names, registry=self.registry).labels(
            **build
        ).set(1)

    def _counter(self, name: str, description: str, **labels: Sequence[str]) -> Counter:
        """A counter, with at most one label; the label's values given here are shown from the start, as 0."""
        counter = Counter(f"{PREFIX}_{name}", description, tuple(labels), registry=self.registry)
        self._describe(f"{name}_total", "counter", tuple(labels), description)
        for label, values in labels.items():
            for value in values:
                counter.labels(**{label: value})
        return counter

    def _histogram(self, name: str, description: str, buckets: Sequence[float], **labels: Sequence[str]) -> Histogram:
        self._describe(name, "histogram", tuple(labels), description)
        return Histogram(f"{PREFIX}_{name}", description, tuple(labels), buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, description: str) -> Gauge:
        self._describe(name, "gauge", (), description)
        return Gauge(f"{PREFIX}_{name}", description, registry=self.registry)

    def _describe(self, name: str, kind: str, labels: tuple[str, ...], description: str) -> None:
        self.described.append(Described(f"{PREFIX}_{name}", kind, labels, description))

    # Facts

    def observe(self, fact: Fact) -> None:  # noqa: C901, PLR0912 - one case per fact
        match fact:
            case MessagesRead():
                self._changes_read.inc(fact.count)
            case ChangesDecoded():
                self._decoded(fact.decoded)
            case ChangesDeadLettered():
                for changes in fact.changes:
                    self._changes_rejected.labels(reason=changes.reason).inc(len(changes.change_ids))
            case DeadLettersConfirmed():
                self._dead_letters.inc(fact.count)
            case RequestSent():
                self._sent(fact)
            case RequestAnswered():
                self._answered(fact)
            case JobEnded():
                self._job_ended(fact.result)
            case JobsEvicted() | JobsAbandoned():
                self._jobs_unfollowed.inc(len(fact.jobs))
            case PartitionsAssigned():
                self._rebalances.labels(kind="assigned").inc()
            case PartitionsRevoked():
                self._rebalances.labels(kind="revoked").inc()
                self._unsettled.inc(fact.unanswered_requests)
            case PartitionsLost():
                self._rebalances.labels(kind="lost").inc()
            case CommittedOffsetOutOfRange():
                self._out_of_range.inc()
            case OffsetsCommitted():
                self._commits.inc()
            case CommitRefused():
                self._commits_refused.labels(fenced="yes" if fact.fenced else "no").inc()
            case Heartbeat():
                self._heartbeat.set(self._clock.wall())
            case Snapshot():
                self._heartbeat.set(self._clock.wall())
                self._states.latest = fact
            case PendingByLocation():
                if self._locations:
                    self._locations.set_pending(fact.pending, fact.at)
            case KafkaStatistics():
                self._kafka.take(fact)
            case _:
                assert_never(fact)

    def _decoded(self, decoded: Decoded) -> None:
        self._changes_decoded.inc(decoded.frame.height)
        self._tombstones.inc(decoded.tombstones)
        for reason, count in Tally(reject.reason for reject in decoded.rejects).items():
            self._changes_rejected.labels(reason=reason).inc(count)

    def _sent(self, fact: RequestSent) -> None:
        request, chunks = fact.request, fact.chunks
        self._requests_sent.labels(reason=request.reason).inc()
        self._items_sent.inc(request.items)
        self._chunks_sent.inc(chunks)
        self._chunk_items_wasted.inc(chunks * self._chunk_items - request.items)
        self._request_items.observe(request.items)
        self._request_chunks.observe(chunks)

    def _answered(self, fact: RequestAnswered) -> None:
        request, answered = fact.request, fact.answered
        self._answers.labels(outcome=answered.answer.kind).inc()
        if answered.answer.status:
            self._responses.labels(code=str(answered.answer.status)).inc()
        self._bytes_sent.inc(answered.bytes_sent)
        self._request_seconds.observe(answered.seconds)
        if self._locations:
            self._locations.answered(request.location, answered.answer.kind)
        if isinstance(fact.decision, Accepted):
            self._accepted(request)

    def _accepted(self, request: Request) -> None:
        changes = request.changes
        self._changes_accepted.inc(changes)
        self._changes_coalesced.inc(max(changes - request.items, 0))
        self._items_accepted.inc(request.items)
        self._observe_ages(request.rows)
        if self._locations:
            self._locations.accepted(request.location, request.items, self._clock.wall())

    def _job_ended(self, result: JobResult) -> None:
        self._jobs_ended.labels(outcome=result.outcome).inc()
        if result.queued_seconds is not None:
            self._job_queued.observe(result.queued_seconds)
        if result.worked_seconds is not None:
            self._job_worked.observe(result.worked_seconds)

    def count_tokens(self, fetched: Callable[[], int]) -> None:
        """Take the number of access tokens from here, whenever Prometheus asks; it must be safe in any thread."""
        self._states.tokens_fetched = fetched

    def _observe_ages(self, rows: pl.DataFrame) -> None:
        """One value a request, its oldest change's: thousands a request would cost more than they tell."""
        wall_ms = self._clock.wall() * 1000
        # 0 stands for an event without a time, in a message without one.
        occurred, published = (rows[name].filter(rows[name] > 0).min() for name in (OCCURRED_AT, TIMESTAMP))
        arrived = rows[ARRIVED].min() if ARRIVED in rows.columns else None
        for since, age in (
            ("occurred", _age(wall_ms, occurred, per_second=1000)),
            ("published", _age(wall_ms, published, per_second=1000)),
            ("read", _age(self._clock.monotonic(), arrived)),
        ):
            if age is not None:
                self._oldest_age.labels(since=since).observe(age)


def _age(now: float, then: object, *, per_second: float = 1.0) -> float | None:
    """Seconds from ``then`` to ``now``; clocks of different machines may differ, so never less than 0."""
    return max(now - then, 0.0) / per_second if isinstance(then, int | float) else None
