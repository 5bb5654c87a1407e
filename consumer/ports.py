"""What the loop needs from outside, as protocols, and the data that crosses them.

In production these ports are Kafka, Avro and HTTP (``app.py``); in the simulation they are a simulated broker and OMS.
Only the loop's thread calls them. A call waits for something outside only if its docstring says so.

An adapter classifies each error of the outside world once: as a value that the call returns, or as a ``StopError``
(``consumer.errors``). Any other exception is a bug; it stops the process, and uncommitted changes are read again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import polars as pl

from consumer.core.changes.blocks import Rows
from consumer.core.changes.items import ChangeId, RejectReason, SkipReason
from consumer.core.oms.answers import Answer
from consumer.core.oms.job_list import JobList, ListQuery
from consumer.core.oms.job_schedule import JobReport

Headers = Sequence[tuple[str, bytes | None]]
SAMPLE_MESSAGES: Final = 64
"""At most about twice as many values of a batch are looked at to estimate their bytes."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A partition as assigned to this process once. If it is lost and assigned again, that is another assignment.

    Every row and change id carries ``assignment_id``, so that whatever belongs to an earlier assignment is recognised
    and ignored. ``committed`` is the group's committed offset (None: nothing committed yet) and ``metadata`` the text
    committed with it (empty without any). ``low`` and ``high`` are the log start and log end offsets at the time of the
    assignment. ``topic_id`` is the broker's id of the topic, None if the broker does not report it.
    """

    assignment_id: int
    topic: str
    partition: int
    committed: int | None
    metadata: str
    low: int
    high: int
    topic_id: str | None


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Messages of one poll as columns: index i of each list belongs to message i.

    A value of None is a tombstone. ``assignments`` are assignment ids. ``timestamps`` are milliseconds since 1970, None
    for a message without one. ``ends`` maps an assignment id to the partition's end offset if this poll reached it
    (there may be newer messages by now). ``origin(i)`` returns key and headers of message i; it is called for rejects,
    and if a column comes from one of them. ``headers`` are the headers of all messages, read when they are asked for
    (None: take them from ``origin``). ``topics`` maps assignment ids to topics. ``polled_at`` is the monotonic time at
    which the poll returned that brought the first of them; the loop sets it. ``impatient`` are the assignments whose
    messages must not wait for a schema any longer; the loop sets it, too.
    """

    values: Sequence[bytes | None]
    assignments: list[int]
    offsets: list[int]
    timestamps: Sequence[int | None]
    ends: Mapping[int, int]
    origin: Callable[[int], tuple[bytes | None, Headers]]
    headers: Sequence[Headers | None] | None = None
    polled_at: float = 0.0
    topics: Mapping[int, str] = field(default_factory=dict)
    impatient: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.values)

    def value_bytes(self) -> int:
        """About how many bytes the values have, by a sample: each look at a value makes a copy."""
        sample = range(0, len(self), max(len(self) // SAMPLE_MESSAGES, 1))
        return sum(len(self.values[position] or b"") for position in sample) * len(self) // max(len(sample), 1)

    def header_column(self) -> Sequence[Headers | None]:
        """The headers of all messages."""
        return [self.origin(position)[1] for position in range(len(self))] if self.headers is None else self.headers


@dataclass(frozen=True, slots=True)
class Reject:
    """A change that can never be sent, with everything that its dead letter needs.

    ``detail`` explains the reason in one line. ``line`` is the index of the change in an event with several changes;
    None: the event has a single one, or cannot be read at all. ``value``, ``key``, ``headers`` and ``timestamp``
    (milliseconds since 1970) are the record's. ``schema_id`` is the writer's schema id, None if the framing has none or
    it is unreadable.
    """

    change_id: ChangeId
    reason: RejectReason
    detail: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    line: int | None = None
    timestamp: int | None = None
    schema_id: int | None = None


@dataclass(frozen=True, slots=True)
class FailedChanges:
    """Changes of one partition that will not be applied although they are valid.

    They are dead-lettered with their original records. ``change_ids`` are ascending and all of one assignment. After a
    failed job that assignment may have ended, and nothing waits for the confirmations. ``x_request_id`` names the
    request that had them last (``x_request_id``); None if none had. ``items`` has changes' items as
    JSON, each used only if its original record is no longer in the topic.
    """

    topic: str
    partition: int
    change_ids: tuple[ChangeId, ...]
    reason: RejectReason
    detail: str
    location: str
    x_request_id: str | None = None
    job_id: str | None = None
    items: Mapping[ChangeId, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AwaitedSchema:
    """The schema of the message at ``offset`` is unknown, but may appear; ``detail`` names it in words."""

    offset: int
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """One or more raw batches, decoded in order.

    ``frame`` has the columns ``core.changes.items.CHANGE_SCHEMA`` and holds only changes that pass the rules for items,
    grouped by location and, per location, in the order in which they were read. ``tombstones`` is the number of skipped
    tombstones. ``next_offsets`` maps each assignment id in the batches to the offset after its last message, or to the
    partition's end offset if that was reached; all rows, rejects and tombstones lie below it. ``ends`` is as in
    ``RawBatch``. ``polled_at`` is that of the first batch: the changes' age counts from then on. ``skipped`` counts
    messages that have a value and are no changes of interest; ``ignored``, by field of the OMS, the values that could
    not be used and that their change does without. ``barriers`` are those of the rejects that are barriers, as rows
    (``core.changes.barriers.barrier_columns``); None without any.

    ``awaits`` maps an assignment id to the first of its messages whose schema is unknown and may appear. From there on
    nothing of the assignment is decoded: its messages are in none of the fields above, ``next_offsets`` is that offset,
    and ``ends`` lacks it. ``batches`` is how many raw batches this is the result of; 0: further parts follow, the last
    of which has their number, their ``awaits`` and the ``tombstones`` of all.
    """

    frame: pl.DataFrame
    rejects: tuple[Reject, ...]
    tombstones: int
    next_offsets: Mapping[int, int]
    polled_at: float
    ends: Mapping[int, int] = field(default_factory=dict)
    awaits: Mapping[int, AwaitedSchema] = field(default_factory=dict)
    batches: int = 1
    barriers: pl.DataFrame | None = None
    skipped: Mapping[SkipReason, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commit:
    """The offset and metadata to commit for one assignment."""

    assignment: Assignment
    offset: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Committed:
    """The broker confirmed the commit, for all partitions in it."""


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """The commit failed, so no request may be sent on the strength of it. Changes stay pending.

    ``fenced``: the group has a newer generation or no longer knows this member, which must send nothing until a poll
    reports partitions as lost or assigned. Otherwise the commit may be repeated. ``is_member``: the group still knows
    this member, so a commit that hands partitions over may be repeated in any case. ``detail`` is Kafka's error in one
    line.
    """

    fenced: bool
    detail: str
    is_member: bool = True


class Clock(Protocol):
    """The process's two clocks. Decisions use ``monotonic`` only."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes backwards and that includes time during which the machine is suspended."""

    def wall(self) -> float:
        """Seconds since 1970, for timestamps that people or other systems read."""


class RebalanceListener(Protocol):
    """Called from within ``Source.poll`` and ``Source.close``, while the loop waits for the call to return."""

    def on_assigned(self, assignments: Sequence[Assignment]) -> None:
        """These partitions are new. Empty if the group has none for this member."""

    def on_revoked(self, assignment_ids: Sequence[int]) -> None:
        """These partitions go to another member once this returns. Commit first."""

    def on_lost(self, assignment_ids: Sequence[int]) -> None:
        """These partitions may already belong to another member. Commit nothing."""


class Source(Protocol):
    """The topics with changes, read as a member of a consumer group."""

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group. Polls call the listener from then on."""

    def poll(self, *, messages_max: int, timeout_seconds: float) -> RawBatch:
        """Return at most ``messages_max`` messages, in the order of each partition.

        Waits at most the timeout for the first message; the batch is empty if none has arrived by then. Rebalances
        happen here, through the listener. Raises BrokerError if the broker cannot be used.
        """

    def commit(self, commits: Sequence[Commit]) -> Committed | CommitRefused:
        """Commit these offsets and wait for the broker's answer. Unless all are confirmed, the commit is refused."""

    def pause(self, assignment_ids: Sequence[int]) -> None:
        """Stop returning messages of these assignments from polls. They stay assigned."""

    def resume(self, assignment_ids: Sequence[int]) -> None:
        """Undo ``pause``."""

    def close(self) -> None:
        """Leave the group. The listener is called with the revoked partitions first."""


class Decoder(Protocol):
    """Decodes raw batches on a worker thread, in the order in which they are put."""

    def room(self) -> bool:
        """Whether another batch may be put. If not, the caller must take decoded batches first."""

    def put(self, batch: RawBatch) -> None:
        """Queue a batch. Must not be called without ``room``."""

    def take(self) -> list[Decoded]:
        """Return what was decoded since the last call, oldest first. Raises StopError if decoding cannot go on."""

    def busy(self) -> bool:
        """Whether a batch that was put has not been taken yet."""

    def blocked_reason(self) -> str | None:
        """Why decoding is blocked, such as a schema registry that does not answer; None if it is not blocked."""

    def close(self) -> None:
        """Drop all batches that were not taken. Waits a bounded time for the worker thread to end."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a request. ``seconds`` passed between its submission and the answer.

    ``bytes_sent`` counts its body each time it was sent: 0 if never, twice if it was repeated after a 401.
    """

    request_id: int
    answer: Answer
    seconds: float
    bytes_sent: int = 0


@dataclass(frozen=True, slots=True)
class Submission:
    """A request for the client to send: changes of one location, to be coalesced and encoded on a worker thread.

    ``commit_started_at`` is the monotonic time just before the call of the commit that covers the request. If that is
    too long ago when the request could leave, it must not be sent (the fence, rule 13). Neither must a body of more
    than ``bytes_max`` (rule 25); None: there is no limit. ``x_request_id`` is sent as a header; None: without one.
    With ``is_smart`` it goes to smart refresh.
    """

    request_id: int
    location: str
    taken: Rows
    commit_started_at: float
    bytes_max: int | None = None
    x_request_id: str | None = None
    is_smart: bool = False


def x_request_id(instance: str, request_id: int) -> str:
    """The id of a request as others see it: in the header X-Request-Id, the log and dead letters.

    ``instance`` is of the process, unique among all members and their restarts, and ``request_id`` within the process.
    """
    return f"{instance}-{request_id}"


class RefreshClient(Protocol):
    """Sends requests to the OMS's Inventory Refresh API on worker threads."""

    def submit(self, submission: Submission) -> None:
        """Queue a request. It gets exactly one answer, whatever happens to it."""

    def answers(self) -> list[Answered]:
        """Return the answers that have arrived since the last call."""

    def wait(self, timeout_seconds: float) -> None:
        """Wait until ``answers`` has something to return, at most this long."""

    def close(self) -> None:
        """Send nothing more. Waits a few seconds for requests in flight, then abandons them."""


class JobClient(Protocol):
    """Queries the status of jobs (the OMS's get-job, and its list of jobs) on worker threads."""

    @property
    def has_lists(self) -> bool:
        """Whether the API has a list of jobs."""

    def ask(self, job_id: str) -> None:
        """Queue a query. It gets exactly one report."""

    def ask_list(self, query: ListQuery) -> None:
        """Queue a query for many jobs. It gets exactly one list."""

    def lists(self) -> list[JobList]:
        """Return the lists that have arrived since the last call."""

    def reports(self) -> list[JobReport]:
        """Return the reports that have arrived since the last call."""

    def close(self) -> None:
        """Send nothing more. Waits a moment for queries in flight, then abandons them."""


class DeadLetters(Protocol):
    """Writes to the dead-letter topic."""

    def publish(self, rejects: Sequence[Reject], assignments: Mapping[int, Assignment]) -> None:
        """Produce a dead letter for each reject. ``assignments`` maps assignment ids; rejects of others are ignored.

        Waits while the producer's queue is full; raises DeadLettersError if that takes too long.
        """

    def fetch_and_publish(self, changes: Sequence[FailedChanges]) -> None:
        """Fetch the original records of these changes on a worker thread, then produce a dead letter for each."""

    def fetching(self) -> int:
        """Number of changes whose original records are still to be fetched."""

    def confirmed(self) -> Sequence[ChangeId]:
        """Return the changes whose dead letters the broker has confirmed since the last call.

        Raises DeadLettersError if a dead letter could not be delivered.
        """

    def close(self) -> None:
        """Deliver what was produced, waiting a bounded time, and disconnect."""
