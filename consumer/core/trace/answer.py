"""What a process knows of an item, as it leaves the loop's thread: frozen, or copied."""

from collections.abc import Mapping
from dataclasses import dataclass

from consumer.core.location.views import LocationView
from consumer.core.oms.answers import AnswerKind
from consumer.core.trace.memory import LeftItem, Partition
from consumer.core.trace.pending import PendingItem


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """The last request of a location that was not accepted. ``at`` is in seconds since 1970."""

    request_id: str | None
    kind: AnswerKind
    status: int | None
    detail: str
    at: float


@dataclass(frozen=True, slots=True)
class ItemTrace:
    """Where the changes of an item are, at one moment.

    ``at`` is that moment, monotonic seconds. ``view`` is what the location does; None if nothing is pending of it.
    ``partitions`` maps the assignment ids of pending changes. ``sent_at`` (monotonic) is when the request in flight
    left, and ``request_id`` its id as the OMS knows it. ``complete_since`` is the time in seconds since 1970 from which
    on nothing that has left is forgotten. ``follows_jobs``: the end of jobs is learnt.
    """

    at: float
    view: LocationView | None
    is_set_aside: bool
    pending: PendingItem
    left: LeftItem
    partitions: Mapping[int, Partition]
    max_age_seconds: float
    complete_since: float
    follows_jobs: bool
    sent_at: float | None = None
    request_id: str | None = None
    failed: FailedRequest | None = None
