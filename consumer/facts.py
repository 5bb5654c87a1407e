"""What happened, as frozen values: everything that logs, metrics and the status page know about the service.

``Fact`` is the union of all of them, and ``Observer`` the one method that takes them. A new fact is a new dataclass in
the union; the type checker then points to each observer that does not handle it yet. Times are seconds on the
monotonic clock (``ports.Clock``) unless a field says otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from consumer.core.location.pending import Pending
from consumer.core.location.request import Request
from consumer.core.location.views import LocationView
from consumer.core.oms.answers import Decision
from consumer.core.oms.breaker import BreakerState
from consumer.core.oms.job_schedule import Job, JobResult
from consumer.ports import Answered, Assignment, CommitRefused, Decoded, FailedChanges

# Changes


@dataclass(frozen=True, slots=True)
class MessagesRead:
    """A poll returned this many messages; 0 if it only reached the end of a log. Emitted before decoding."""

    count: int


@dataclass(frozen=True, slots=True)
class ChangesDecoded:
    """A batch has been decoded and handed to the engine. Emitted by the loop before its rejects are dead-lettered."""

    decoded: Decoded


@dataclass(frozen=True, slots=True)
class ChangesDeadLettered:
    """The OMS refused these changes, their job failed, or a reject superseded them: they will be dead letters.

    Emitted by the loop and, for failed jobs, by the job follower. ``DeadLettersConfirmed`` counts them once the broker
    has them.
    """

    changes: Sequence[FailedChanges]


@dataclass(frozen=True, slots=True)
class DeadLettersConfirmed:
    """The broker has confirmed this many dead letters. Emitted by the loop; never with 0."""

    count: int


# Requests


@dataclass(frozen=True, slots=True)
class RequestSent:
    """A request was handed to the OMS client. Emitted by the loop, after the commit.

    ``x_request_id`` is the id by which the OMS, the log and dead letters know it (``ports.x_request_id``).
    """

    request: Request
    x_request_id: str | None = None


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A request has its one answer, and ``decision`` says what follows from it. Emitted by the loop.

    The answer's kind is NOT_SENT if the client held the request back: its commit was too old, or another request failed
    while it was queued. ``x_request_id`` is as in ``RequestSent``.
    """

    request: Request
    answered: Answered
    decision: Decision
    x_request_id: str | None = None
    accepted: Request | None = None
    """What the OMS has accepted of it: all, or what is left without refused items; None if nothing."""


# Jobs


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The job of an accepted request has ended, or is too old to be followed further. Emitted by the job follower."""

    result: JobResult


@dataclass(frozen=True, slots=True)
class JobsAbandoned:
    """The process is stopping before these jobs have ended. Emitted by the job follower, once; never empty."""

    jobs: Sequence[Job]


# The consumer group


@dataclass(frozen=True, slots=True)
class PartitionsAssigned:
    """The group assigned these partitions to this process; empty for a spare member. Emitted by the loop in a poll."""

    assignments: Sequence[Assignment]


@dataclass(frozen=True, slots=True)
class PartitionsRevoked:
    """These partitions were given up in good order: answers awaited, offsets committed, changes dropped.

    Emitted by the loop when the group revokes them and when the process stops. ``unanswered_requests`` is how many were
    still in flight when ``kafka.revoke_timeout`` was over; their answers are ignored.
    """

    assignments: Sequence[Assignment]
    unanswered_requests: int


@dataclass(frozen=True, slots=True)
class PartitionsLost:
    """The group took these partitions away without a revoke: nothing was committed. Emitted by the loop in a poll."""

    assignments: Sequence[Assignment]


@dataclass(frozen=True, slots=True)
class CommittedOffsetOutOfRange:
    """The committed offset is outside the partition's log: retention deleted changes, or the topic was recreated.

    Emitted by the loop before ``PartitionsAssigned``.
    """

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class SchemaWaitBegan:
    """The partition waits for a schema that the registry does not know; ``detail`` names it. Emitted by the loop."""

    assignment: Assignment
    detail: str


@dataclass(frozen=True, slots=True)
class SchemaWaitEnded:
    """Everything that the partition read meanwhile is decoded. Emitted by the loop.

    ``is_impatient``: it waited as long as it may, so messages with unknown schemas were rejected.
    """

    assignment: Assignment
    seconds: float
    is_impatient: bool


@dataclass(frozen=True, slots=True)
class HoldShortened:
    """A hold has ended this long before its time, because the job of the lost request has. Emitted by the loop."""

    location: str
    seconds_left: float


@dataclass(frozen=True, slots=True)
class SmartRefreshEnded:
    """Smart refresh is not used from now on, for a while or for good, because of this. Emitted by the loop."""

    reason: str


@dataclass(frozen=True, slots=True)
class OffsetsCommitted:
    """The broker confirmed a commit for this many partitions. Emitted by the loop."""

    partitions: int


# State


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The loop is alive, although a turn takes long. Emitted by the loop while it waits for answers in a revoke."""

    at: float


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One assigned partition. Offsets are None while they are unknown.

    ``committable_offset``: the lowest offset not accepted yet. ``next_offset``: the one after the last change decoded.
    ``end_offset``: the end of the log, as last reported by the broker. ``recovering``: changes are read again up to
    where the previous owner had read; none is sent until then.
    """

    topic: str
    partition: int
    committable_offset: int | None
    committed_offset: int | None
    next_offset: int | None
    paused: bool
    end_offset: int | None = None
    recovering: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the whole loop at one moment. Emitted by the loop a few times a second and after each rebalance.

    ``sending_stopped``, ``decoding_blocked``, ``job_status_unavailable`` and ``job_queue_full`` are reasons in plain
    words; None means that all is well. ``oldest_pending_seconds`` and ``oldest_job_seconds`` are None if nothing is
    pending.
    """

    at: float
    partitions: tuple[PartitionView, ...] = ()
    pending_changes: int = 0
    pending_bytes: int = 0
    """What the pending changes take in memory."""
    pending_locations: int = 0
    oldest_pending_seconds: float | None = None
    requests_in_flight: int = 0
    held_locations: int = 0
    unconfirmed_dead_letters: int = 0
    oms_consecutive_failures: int = 0
    breaker: BreakerState = BreakerState.CLOSED
    requests_per_second_max: float | None = None
    """The OMS's rate limit, as configured or learned; None: no limit."""
    bisecting_locations: int = 0
    set_aside_locations: int = 0
    set_aside: Mapping[str, str] = field(default_factory=dict)
    """What was said about locations that are set aside, by name; the first hundred of them."""
    flush_items: int = 0
    """How many items make a window full, at present."""
    unfinished_jobs: int = 0
    unfinished_job_items: int = 0
    oldest_job_seconds: float | None = None
    job_status_unavailable: str | None = None
    job_queue_full: str | None = None
    """Why nothing is sent until the OMS has finished more jobs."""
    sending_stopped: str | None = None
    decoding_blocked: str | None = None
    parked_messages: int = 0
    """Read and not decoded, because their partition waits for a schema that the registry does not know yet."""
    memory_pressure: bool = False
    """The process uses more than 85 % of its container's memory limit."""


@dataclass(frozen=True, slots=True)
class PendingByLocation:
    """The pending changes of each location that has any. Emitted by the loop every few seconds, if switched on."""

    pending: Mapping[str, Pending]
    at: float


@dataclass(frozen=True, slots=True)
class LocationViews:
    """What each location does that is not idle. Emitted by the loop every second while somebody looks at them."""

    views: Sequence[LocationView]
    at: float


@dataclass(frozen=True, slots=True)
class KafkaStatistics:
    """The Kafka client's latest statistics. Emitted by the Kafka source in a poll, every ``statistics.interval.ms``.

    Counts are since the client started. ``round_trips`` has seconds by quantile (0.5, 0.99) by broker id, only for
    brokers with recent requests.
    """

    brokers_up: int
    fetch_queue_messages: int
    fetch_queue_bytes: int
    round_trips: Mapping[str, Mapping[float, float]]
    received_bytes: int
    sent_bytes: int
    request_errors: int
    reconnects: int


Fact: TypeAlias = (
    MessagesRead
    | ChangesDecoded
    | ChangesDeadLettered
    | DeadLettersConfirmed
    | RequestSent
    | RequestAnswered
    | JobEnded
    | JobsAbandoned
    | PartitionsAssigned
    | PartitionsRevoked
    | PartitionsLost
    | CommittedOffsetOutOfRange
    | SchemaWaitBegan
    | SchemaWaitEnded
    | HoldShortened
    | SmartRefreshEnded
    | OffsetsCommitted
    | CommitRefused
    | Heartbeat
    | Snapshot
    | PendingByLocation
    | LocationViews
    | KafkaStatistics
)
"""Everything that an observer is given. ``CommitRefused`` is the source's answer to a commit, passed on by the loop."""


class Observer(Protocol):
    """Takes facts as they happen, on the loop's thread."""

    def observe(self, fact: Fact) -> None:
        """Take one fact. Must not block or raise."""
