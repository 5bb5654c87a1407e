"""Where an item is, for ``/api/trace`` and the page: asks the loop, and says in words what it answers."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, Literal

from consumer.core.changes.items import ChangeId, RejectReason
from consumer.core.location.location import LocationState
from consumer.core.location.views import LocationView
from consumer.core.oms.job_schedule import JobOutcome
from consumer.core.trace.answer import ItemTrace
from consumer.core.trace.memory import Fate, Left, Outcome, Partition
from consumer.core.trace.pending import PendingChange, Place
from consumer.core.trace.query import ItemQuery
from consumer.mailbox import Unanswered
from consumer.observe.status import api, queries
from consumer.observe.status.board import StatusBoard
from consumer.observe.status.health import next_send, waits
from consumer.observe.status.queries import time_of
from consumer.observe.status.words import ahead, duration

TRACE_SECONDS_MAX: Final = 2.0
"""How long a question waits for the loop, which answers one a turn."""
UNANSWERED: Final[Mapping[Unanswered, str]] = {
    Unanswered.FULL: "others ask about items at the same time; ask again",
    Unanswered.LATE: "the loop had no time to answer: it is starting, or in a long turn; ask again",
}
_REDRIVE: Final = "inventory-refresh dead-letters redrive"
_ASK_OMS: Final = "ask the operators of the OMS, or have upstream publish the count again"
_State = Literal["recovering", "pending", "in_flight", "accepted", "dead_lettered"]
_STATES: Final[Mapping[Place, _State]] = {
    Place.RECOVERING: "recovering",
    Place.WINDOW: "pending",
    Place.IN_FLIGHT: "in_flight",
}
_COLUMNS: Final = {"part_number": "partNumber", "upc": "upc", "sku": "sku"}


def trace_item(board: StatusBoard, query: api.TraceQuery, seconds_max: float) -> api.Trace | Unanswered:
    """Ask the loop where the item is, and wait at most this long. Not for the loop's thread."""
    found = board.questions.ask(item_query(query), seconds_max)
    return found if isinstance(found, Unanswered) else _Answer(board, query.location, found).trace()


def item_query(query: api.TraceQuery) -> ItemQuery:
    """The query as the core has it."""
    if query.item is not None:
        return ItemQuery.of_any_identifier(query.location, query.item)
    named = {column: getattr(query, name) for name, column in _COLUMNS.items()}
    return ItemQuery(query.location, ({column: value for column, value in named.items() if value is not None},))


class _Answer:
    """An answer of the loop in words."""

    def __init__(self, board: StatusBoard, location: str, found: ItemTrace) -> None:
        self._board = board
        self._found = found
        self._view = found.view or LocationView(location, LocationState.IDLE, 0, 0, None, None)
        now, wall = board.now()
        self._wall = wall - (now - found.at)
        """When the loop answered, seconds since 1970."""

    def trace(self) -> api.Trace:
        found, view = self._found, self._view
        left = {
            (*change.partition, change.offset, change.line): self._left(change)
            for change in reversed(found.left.changes)
        }
        pending = list(self._pending_changes())
        known = {
            (change.place.topic, change.place.partition, change.place.offset, change.place.line) for change in pending
        }
        return api.Trace(
            now=time_of(self._wall),
            location=view.name,
            next_send=next_send(view, found.at, is_set_aside=found.is_set_aside),
            failed=self._failed(),
            waits=waits(self._board, [found.view] if found.view else [], found.at),
            changes=[*pending, *(change for place, change in reversed(left.items()) if place not in known)],
            left_out=found.pending.left_out,
            complete_since=time_of(found.complete_since),
            partitions=queries.partitions(self._board).partitions,
        )

    def _failed(self) -> str | None:
        failed = self._found.failed
        if failed is None:
            return None
        status = f" ({failed.status})" if failed.status else ""
        name = f"request {failed.request_id}" if failed.request_id else "the last request"
        said = f": {failed.detail}" if failed.detail else ""
        return f"{name}: {failed.kind.replace('_', ' ')}{status} {_seconds_ago(self._wall - failed.at)}{said}"

    # Pending

    def _pending_changes(self) -> Iterator[api.TracedChange]:
        """The newest first. Those of an assignment that is not known any more have no place to be named."""
        for change in reversed(self._found.pending.changes):
            partition = self._found.partitions.get(change.change_id.assignment_id)
            if partition is not None:
                yield self._pending(change, partition)

    def _pending(self, change: PendingChange, partition: Partition) -> api.TracedChange:
        newer = change.coalesced_into
        newer_in = self._found.partitions.get(newer.assignment_id) if newer else None
        leaves_by = self._leaves_by(change)
        text = self._pending_text(change, leaves_by)
        if newer is not None:
            text = f"coalesced into the newer change at offset {newer.offset}, whose count is sent in its place; {text}"
        is_sent = change.place is Place.IN_FLIGHT
        return api.TracedChange(
            place=_place(partition, change.change_id),
            state=_STATES[change.place],
            text=text,
            next_step=None,
            recorded_at=None if change.timestamp is None else time_of(change.timestamp / 1000),
            read_at=None if change.arrived is None else self._time(change.arrived),
            leaves_by=None if leaves_by is None else self._time(leaves_by),
            value=json.dumps(change.item, ensure_ascii=False) if change.item else None,
            coalesced_into=_place(newer_in, newer) if newer and newer_in else None,
            request=self._request_in_flight() if is_sent else None,
        )

    def _leaves_by(self, change: PendingChange) -> float | None:
        """Not while its partition recovers, not of one that is in flight, and not once it is due."""
        if change.place is not Place.WINDOW:
            return None
        arrived = self._found.at if change.arrived is None else change.arrived
        wait_over = self._view.send_at if self._view.state in (LocationState.BACKING_OFF, LocationState.HELD) else None
        by = max(arrived + self._found.max_age_seconds, wait_over or arrived)
        return by if by > self._found.at else None

    def _pending_text(self, change: PendingChange, leaves_by: float | None) -> str:
        found = self._found
        if change.place is Place.RECOVERING:
            return "read; sent once everything that the partition's previous owner had read is read again"
        if change.place is Place.IN_FLIGHT:
            sent = "" if found.sent_at is None else f" since {_clock(self._wall + found.sent_at - found.at)}"
            return f"in request {found.request_id}, which the OMS has not answered{sent}"
        said = next_send(self._view, found.at, is_set_aside=found.is_set_aside)
        waits_until = "is due"
        if leaves_by is not None:
            at = _clock(self._wall + leaves_by - found.at)
            waits_until = f"leaves at the latest at {at} ({ahead(leaves_by - found.at)})"
        return f"waits in the window of its location, whose next request leaves {said}; this change {waits_until}"

    def _request_in_flight(self) -> api.TracedRequest:
        sent_at = self._found.sent_at
        return api.TracedRequest(
            request_id=self._found.request_id,
            sent_at=None if sent_at is None else self._time(sent_at),
            accepted_at=None,
            items=None,
            job_id=None,
            job_outcome=None,
            job_ended_at=None,
            job_messages="",
        )

    # What has left

    def _left(self, change: Left) -> api.TracedChange:
        fate = change.fate
        newer = change.coalesced_into
        is_accepted = fate.outcome is Outcome.ACCEPTED
        text = self._accepted_text(fate) if is_accepted else letter_text(fate.reason or "", fate.detail)
        if newer is not None:
            text = f"coalesced into the newer change at offset {newer[0]}, whose count was sent in its place; {text}"
        topic, partition = change.partition
        place = api.ChangePlace(topic=topic, partition=partition, offset=change.offset, line=change.line)
        return api.TracedChange(
            place=place,
            state="accepted" if is_accepted else "dead_lettered",
            text=text,
            next_step=_next_step(fate, place, follows_jobs=self._found.follows_jobs),
            recorded_at=None,
            read_at=None,
            leaves_by=None,
            value=None,
            coalesced_into=api.ChangePlace(topic=topic, partition=partition, offset=newer[0], line=newer[1])
            if newer
            else None,
            request=_request(fate) if is_accepted or fate.request_id else None,
        )

    def _accepted_text(self, fate: Fate) -> str:
        at = f"{_clock(fate.at)} ({_seconds_ago(self._wall - fate.at)})"
        if fate.job_id is None:
            return f"in request {fate.request_id}, applied at once at {at}, without a job"
        job = f"in request {fate.request_id}, accepted as job {fate.job_id} at {at}"
        if fate.job_outcome is JobOutcome.SUCCESS:
            return f"{job}, and applied"
        if fate.job_outcome is JobOutcome.FAILED:
            said = f": {fate.job_messages}" if fate.job_messages else ""
            return f"{job}, which failed{said}; nothing of it was applied, and its changes are dead letters"
        if fate.job_outcome is JobOutcome.NEVER_FINISHED:
            return f"{job}, which did not end in time (oms.job_age_max)"
        if fate.job_outcome is JobOutcome.UNKNOWN_JOB:
            return f"{job}, which the OMS does not know any more"
        return f"{job}, which has not ended yet" if self._found.follows_jobs else f"{job}; jobs are not followed"

    def _time(self, monotonic: float) -> datetime:
        return time_of(self._wall + monotonic - self._found.at)


def _seconds_ago(seconds: float) -> str:
    return f"{duration(seconds)} ago"


def _place(partition: Partition, change_id: ChangeId) -> api.ChangePlace:
    topic, number = partition
    return api.ChangePlace(topic=topic, partition=number, offset=change_id.offset, line=change_id.line)


def letter_text(reason: str, detail: str) -> str:
    """Why a change is a dead letter; with the reason as the command ``dead-letters`` takes it."""
    return f"dead-lettered ({reason}): {detail}" if detail else f"dead-lettered ({reason})"


def letter_next_step(reason: str, job_id: str | None, topic: str, partition: int, offset: int) -> str:
    """What to do about a dead letter."""
    if job_id is not None:
        return f"correct the cause, then: {_REDRIVE} --job {job_id}"
    if reason == RejectReason.REFUSED_BY_OMS:
        return f"correct the cause, then: {_REDRIVE} --topic {topic} --partition {partition} --offset {offset}"
    if reason == RejectReason.SUPERSEDED_BY_REJECT:
        return "see the newer change of the item, which was rejected"
    return "have upstream correct it, and publish the item's count again"


def _clock(seconds: float) -> str:
    """Seconds since 1970 as a time of day, as people read it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _next_step(fate: Fate, place: api.ChangePlace, *, follows_jobs: bool) -> str | None:
    if fate.outcome is Outcome.DEAD_LETTERED:
        return letter_next_step(fate.reason or "", None, place.topic, place.partition, place.offset)
    if fate.job_outcome is JobOutcome.FAILED:
        return letter_next_step("", fate.job_id, place.topic, place.partition, place.offset)
    if fate.job_outcome in (JobOutcome.NEVER_FINISHED, JobOutcome.UNKNOWN_JOB):
        return _ASK_OMS
    is_known = fate.job_id is None or fate.job_outcome is not None or follows_jobs
    return None if is_known else f"ask the OMS: inventory-refresh job {fate.job_id}"


def _request(fate: Fate) -> api.TracedRequest:
    is_accepted = fate.outcome is Outcome.ACCEPTED
    return api.TracedRequest(
        request_id=fate.request_id,
        sent_at=None if fate.sent_at is None else time_of(fate.sent_at),
        accepted_at=time_of(fate.at) if is_accepted else None,
        items=fate.items or None,
        job_id=fate.job_id,
        job_outcome=fate.job_outcome,
        job_ended_at=None if fate.job_ended_at is None else time_of(fate.job_ended_at),
        job_messages=fate.job_messages,
    )
