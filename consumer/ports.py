"""What the loop needs from outside, as protocols, and the data that crosses them.

Production wires Kafka, Avro and HTTP behind these ports (``app.py``); the simulation wires a simulated broker and OMS.
Errors of the outside world are classified once, in the adapter that meets them; the exceptions below are the only ones
a port may raise. Any other exception is a bug, and stops the process: what is not committed is read again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from consumer.core.changes.blocks import Rows
from consumer.core.changes.items import ChangeId, RejectReason
from consumer.core.oms.answers import Answer
from consumer.core.oms.job_schedule import JobReport

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One partition, assigned to this process once: a partition that is lost and assigned again gets a new id.

    ``assignment_id`` is part of every row, answer and confirmation, so that whatever belongs to an earlier assignment
    is recognised and ignored. ``committed`` is the group's committed offset (None: nothing committed yet) and
    ``metadata`` the text committed with it (empty if there is none). ``low`` and ``high`` are the log start and end
    offsets at assignment. ``topic_id`` is the broker's id of the topic, None if the broker does not report it.
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
    """Messages as they were read, column by column; position i of each list belongs to message i.

    ``values`` None is a tombstone; ``timestamps`` are milliseconds since 1970, None where the message has none;
    ``ends`` maps an assignment to the offset of the partition's end where that was reached in this batch (messages past
    it may have come since); ``origin(i)`` gives key and headers of message i and is asked only for rejects.
    ``polled_at`` is the monotonic time at which the poll returned that brought the first of them; the loop sets it.
    """

    values: Sequence[bytes | None]
    assignments: list[int]
    offsets: list[int]
    timestamps: Sequence[int | None]
    ends: Mapping[int, int]
    origin: Callable[[int], tuple[bytes | None, Headers]]
    polled_at: float = 0.0

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Reject:
    """A change that can never be sent, with everything that its dead letter needs.

    ``detail`` is one line for the reader of the dead letter; ``value``, ``key``, ``headers`` and ``timestamp``
    (milliseconds since 1970) are those of the record.
    """

    change_id: ChangeId
    reason: RejectReason
    detail: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp: int | None = None
    schema_id: int | None = None


@dataclass(frozen=True, slots=True)
class FailedChanges:
    """Changes of one partition that were sent and will not be applied: dead letters, once their originals are fetched.

    ``change_ids`` are in ascending order, all of one assignment; after a failed job that assignment may be gone, and
    nothing waits for the confirmation. ``items`` has a change's item as JSON, which stands in for an original that is
    missing from its topic.
    """

    topic: str
    partition: int
    change_ids: tuple[ChangeId, ...]
    reason: RejectReason
    detail: str
    location: str
    job_id: str | None = None
    items: Mapping[ChangeId, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decoded:
    """One or more raw batches, decoded in order.

    ``frame`` has the columns of ``core.items.CHANGE_SCHEMA``, sorted by location (what comes first of a location was
    read first), and only changes that the OMS's item rules allow;
    ``tombstones`` were passed over. ``next_offsets`` maps each assignment in the batches to the offset after its last
    message, or to the partition's end where that was reached: rows, rejects and tombstones all lie below it.
    ``polled_at`` is that of the first batch: from then on the changes' age counts.
    """

    frame: pl.DataFrame
    rejects: tuple[Reject, ...]
    tombstones: int
    next_offsets: Mapping[int, int]
    polled_at: float
    ends: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commit:
    """The offset and metadata to commit for one assignment."""

    assignment: Assignment
    offset: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Committed:
    """The broker has confirmed the commit."""


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """Nothing was committed; the rows stay.

    ``fenced``: this member is out of the group until a poll says lost or assigned.
    """

    fenced: bool
    detail: str


class Clock(Protocol):
    """``monotonic`` for everything the engine sees; ``wall`` only for the age of changes and for people."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back and goes on while the machine sleeps."""

    def wall(self) -> float:
        """Seconds since 1970."""


class RebalanceListener(Protocol):
    """Called by ``Source.poll`` on the loop's own thread, before it returns."""

    def on_assigned(self, assignments: Sequence[Assignment]) -> None: ...

    def on_revoked(self, assignment_ids: Sequence[int]) -> None:
        """These partitions go to another member when this returns: commit first."""

    def on_lost(self, assignment_ids: Sequence[int]) -> None:
        """These partitions are gone already: commit nothing."""


class Source(Protocol):
    """The changes' topics, as a member of a consumer group. Only the loop's thread calls it."""

    def subscribe(self, listener: RebalanceListener) -> None: ...

    def poll(self, *, messages_max: int, timeout_seconds: float) -> RawBatch:
        """Messages in order, at most ``messages_max``, none (and after at most the timeout) if there are none.

        Raises BrokerError when the broker cannot be used.
        """

    def commit(self, commits: Sequence[Commit]) -> Committed | CommitRefused:
        """Commit these offsets synchronously, all or none reported as done."""

    def pause(self, assignment_ids: Sequence[int]) -> None: ...

    def resume(self, assignment_ids: Sequence[int]) -> None: ...

    def close(self) -> None:
        """Leave the group. The listener hears of the revoke first."""


class Decoder(Protocol):
    """Raw batches in, frames out, in the order in which they were put; decoding goes on beside the loop."""

    def room(self) -> bool:
        """True while another batch may be put: at most a few are in hand."""

    def put(self, batch: RawBatch) -> None: ...

    def take(self) -> list[Decoded]:
        """What is done, without waiting. Raises StopError when decoding cannot go on."""

    def busy(self) -> bool:
        """True while something that was put has not been taken."""

    def waiting_for(self) -> str | None:
        """What decoding waits for, such as a schema registry that does not answer; None if it does not wait."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a request; ``seconds`` from its submission to the answer."""

    request_id: int
    answer: Answer
    seconds: float
    bytes_sent: int = 0


@dataclass(frozen=True, slots=True)
class Submission:
    """A request on its way out: the raw changes of one location, to be coalesced and encoded beside the loop.

    ``taken`` has the columns of a frame of changes; ``covered_at`` is the monotonic time read before the commit that
    covers these rows was called: too old, and the request may not be sent any more (the fence).
    """

    request_id: int
    location: str
    taken: Rows
    covered_at: float


class RefreshClient(Protocol):
    """The OMS's Inventory Refresh. Requests go out beside the loop."""

    def submit(self, submission: Submission) -> None: ...

    def answers(self) -> list[Answered]:
        """The answers that have come, without waiting; each submission has exactly one."""

    def wait(self, timeout_seconds: float) -> None:
        """Wait until an answer is there, at most this long."""

    def close(self) -> None: ...


class JobClient(Protocol):
    """The OMS's get-job. Calls go out beside the loop."""

    def ask(self, job_id: str) -> None:
        """Ask how far the OMS has got with the job."""

    def reports(self) -> list[JobReport]:
        """The answers that have come, without waiting; each question has exactly one."""

    def close(self) -> None: ...


class DeadLetters(Protocol):
    """The dead-letter topic."""

    def publish(self, rejects: Sequence[Reject], assignments: Mapping[int, Assignment]) -> None: ...

    def fetch_and_publish(self, changes: Sequence[FailedChanges]) -> None:
        """Fetch the originals of these changes on a worker thread and dead-letter each as it was published.

        ``confirmed`` returns each of them, like any other dead letter.
        """

    def fetching(self) -> int:
        """How many changes' originals are still to be fetched."""

    def confirmed(self) -> Sequence[ChangeId]:
        """The change of each dead letter that the broker has confirmed since the last call, without waiting.

        Raises DeadLettersError when one could not be delivered.
        """

    def close(self) -> None: ...
