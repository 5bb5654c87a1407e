"""Partitions that wait for a schema which the registry does not know yet (rule 23).

A producer may write with a schema before the registry's replica that we ask has learned of it. From the first such
message on, its partition waits: what is read of it is parked undecoded and in order, so that no later message overtakes
it. Every few seconds the parked messages are tried again. Other partitions go on.

How long a partition may wait is bounded in any ten minutes, because junk looks like unknown ids too. Then it is
impatient: unknown schemas are rejected at once.

The decoder knows nothing of this. It decodes what it is given up to the first message whose schema may appear. Batches
that were already on their way to it when the wait began are decoded as well; their rows are dropped and their messages
parked, so the batches are kept until then.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import polars as pl

from consumer.core.changes.items import ASSIGNMENT
from consumer.facts import Observer, SchemaWaitBegan, SchemaWaitEnded
from consumer.loop.batch_collector import joined
from consumer.ports import Assignment, AwaitedSchema, Decoded, Decoder, RawBatch

PERIOD_SECONDS: Final = 600.0
"""In any period of this length a partition waits ``wait_seconds`` at most."""
RETRY_SECONDS_MIN: Final = 0.5
RETRY_SECONDS_MAX: Final = 5.0
"""Pause between two attempts to decode what is parked; it doubles."""
MESSAGE_BYTES: Final = 512
"""What a parked message takes besides its value."""


@dataclass(slots=True)
class _Parked:
    """What is parked of one assignment. Times are monotonic seconds."""

    since: float
    free_at: int
    """Once this many batches were taken, the decoder has none with messages of the assignment."""
    decoded_before: list[RawBatch] = field(default_factory=list)
    """What the decoder has given back: its messages are older than those of ``polled_since``."""
    polled_since: list[RawBatch] = field(default_factory=list)
    size_bytes: int = 0
    retried_bytes: int = 0
    """What the decoder has to try again, and may give back."""
    retry_at: float = 0.0
    pause_seconds: float = RETRY_SECONDS_MIN
    is_retrying: bool = False
    """The decoder has what was parked before."""
    is_impatient: bool = False
    """And rejects unknown schemas."""

    @property
    def batches(self) -> list[RawBatch]:
        return self.decoded_before + self.polled_since

    def add(self, batch: RawBatch, *, is_polled: bool) -> None:
        if len(batch) or batch.ends:
            (self.polled_since if is_polled else self.decoded_before).append(batch)
            self.size_bytes += _size_of(batch)

    def take_all(self) -> list[RawBatch]:
        batches, self.retried_bytes = self.batches, self.size_bytes
        self.decoded_before, self.polled_since, self.size_bytes = [], [], 0
        return batches


class SchemaWait:
    """Stands between the loop and its decoder, and keeps the messages of partitions that wait for a schema.

    ``wait_seconds`` is how long a partition may wait in any ten minutes. With ``bytes_max`` or more parked, the waiting
    partitions must be paused.
    """

    def __init__(self, decoder: Decoder, observer: Observer, wait_seconds: float, bytes_max: int) -> None:
        self._decoder = decoder
        self._observer = observer
        self._wait_seconds = wait_seconds
        self._bytes_max = bytes_max
        self._sent: deque[RawBatch] = deque()
        """Batches that the decoder has and that are not taken, oldest first."""
        self._sent_count = 0
        self._parked: dict[int, _Parked] = {}
        self._past_waits: dict[int, list[tuple[float, float]]] = {}
        """By assignment, from when to when it waited in the last period."""

    @property
    def parked_messages(self) -> int:
        """Number of messages that are read and neither decoded nor with the decoder."""
        return sum(len(batch) for parked in self._parked.values() for batch in parked.batches)

    @property
    def retry_at(self) -> float | None:
        """When ``retry`` has something to do; None: nothing is parked, or the decoder must answer first."""
        return min((parked.retry_at for parked in self._parked.values() if self._may_retry(parked)), default=None)

    def to_pause(self) -> frozenset[int]:
        """The assignments of which nothing more may be read for now."""
        is_full = sum(parked.size_bytes + parked.retried_bytes for parked in self._parked.values()) >= self._bytes_max
        return frozenset(self._parked) if is_full else frozenset()

    def put(self, batch: RawBatch, now: float) -> None:
        """Pass a batch on to the decoder, without the messages of assignments that wait. Needs the decoder's room."""
        waiting = self._parked.keys() & _owners(batch)
        for assignment_id in waiting:
            self._parked[assignment_id].add(_part(batch, assignment_id), is_polled=True)
        rest = _rest(batch, waiting) if waiting else batch
        if len(rest) or rest.ends:
            self._send(rest, now)

    def retry(self, now: float) -> None:
        """Pass what is parked and due on to the decoder, unless that has no room."""
        due = [
            assignment_id
            for assignment_id, parked in self._parked.items()
            if self._may_retry(parked) and now >= parked.retry_at
        ]
        if not due or not self._decoder.room():
            return
        self._send(joined([batch for owner in due for batch in self._parked[owner].take_all()]), now)
        for owner in due:
            parked = self._parked[owner]
            parked.is_retrying, parked.free_at = True, self._sent_count
            parked.is_impatient = owner in self._sent[-1].impatient

    def take(self, now: float, assigned: Mapping[int, Assignment]) -> list[Decoded]:
        """What was decoded since the last call, without what must wait. Raises what the decoder's ``take`` raises.

        ``assigned`` are the current assignments: nothing is parked of others.
        """
        return [self._settled(decoded, now, assigned) for decoded in self._decoder.take()]

    def forget(self, assignment_ids: Iterable[int]) -> None:
        """Drop what is parked of assignments that have ended. Their next owner reads it again."""
        for assignment_id in assignment_ids:
            self._parked.pop(assignment_id, None)
            self._past_waits.pop(assignment_id, None)

    # Inside

    def _send(self, batch: RawBatch, now: float) -> None:
        impatient = frozenset(owner for owner in set(batch.assignments) if self._left(owner, now) <= 0)
        self._sent.append(replace(batch, impatient=impatient))
        self._sent_count += 1
        self._decoder.put(self._sent[-1])

    def _settled(self, decoded: Decoded, now: float, assigned: Mapping[int, Assignment]) -> Decoded:
        """Park what must wait, and return the rest."""
        if not decoded.batches:
            return self._settled_part(decoded)
        taken = [self._sent.popleft() for _ in range(min(decoded.batches, len(self._sent)))]
        waiting = {owner for batch in taken for owner in _owners(batch)} & self._parked.keys()
        # What the decoder had when its partition began to wait. It must not overtake what is parked.
        overtaking = {owner for owner in waiting if not self._parked[owner].is_retrying}
        for owner in overtaking:
            for batch in taken:
                self._parked[owner].add(_part(batch, owner), is_polled=False)
        for owner, awaited in decoded.awaits.items():
            if owner not in overtaking and owner in assigned:
                self._park(assigned[owner], awaited, taken, now)
        for owner in waiting - overtaking - decoded.awaits.keys():
            self._retried(owner, now, assigned)
        return _without(decoded, taken, overtaking) if overtaking else decoded

    def _settled_part(self, decoded: Decoded) -> Decoded:
        """A part that others follow: what must wait is dropped, and parked with the last of them."""
        waiting = decoded.next_offsets.keys() & self._parked.keys()
        overtaking = {owner for owner in waiting if not self._parked[owner].is_retrying}
        return _without(decoded, (), overtaking) if overtaking else decoded

    def _park(self, assignment: Assignment, awaited: AwaitedSchema, taken: Sequence[RawBatch], now: float) -> None:
        owner = assignment.assignment_id
        parked = self._parked.get(owner)
        if parked is None:
            parked = self._parked[owner] = _Parked(since=now, free_at=self._sent_count)
            self._observer.observe(SchemaWaitBegan(assignment, awaited.detail))
        else:
            parked.is_retrying, parked.retried_bytes = False, 0
            parked.pause_seconds = min(2 * parked.pause_seconds, RETRY_SECONDS_MAX)
        for batch in taken:
            parked.add(_part(batch, owner, awaited.offset), is_polled=False)
        parked.retry_at = now + min(parked.pause_seconds, max(self._left(owner, now), 0.0))

    def _retried(self, owner: int, now: float, assigned: Mapping[int, Assignment]) -> None:
        """All that was parked before the retry is decoded or rejected."""
        parked = self._parked[owner]
        if parked.batches:
            parked.is_retrying, parked.retried_bytes, parked.retry_at = False, 0, now
            return
        del self._parked[owner]
        self._past_waits.setdefault(owner, []).append((parked.since, now))
        self._observer.observe(SchemaWaitEnded(assigned[owner], now - parked.since, parked.is_impatient))

    def _may_retry(self, parked: _Parked) -> bool:
        is_free = self._sent_count - len(self._sent) >= parked.free_at
        return is_free and not parked.is_retrying and bool(parked.batches)

    def _left(self, assignment_id: int, now: float) -> float:
        """How many seconds an assignment may still wait."""
        begin = now - PERIOD_SECONDS
        waits = [wait for wait in self._past_waits.get(assignment_id, ()) if wait[1] > begin]
        if waits:
            self._past_waits[assignment_id] = waits
        else:
            self._past_waits.pop(assignment_id, None)
        parked = self._parked.get(assignment_id)
        current = [(parked.since, now)] if parked else []
        return self._wait_seconds - sum(end - max(start, begin) for start, end in (*waits, *current))


def _owners(batch: RawBatch) -> set[int]:
    """The assignments that a batch says something about."""
    return {*batch.assignments, *batch.ends}


def _part(batch: RawBatch, assignment_id: int, first_offset: int = 0) -> RawBatch:
    """The messages of one assignment from an offset on. The batch's other messages need not be kept for it."""
    places = enumerate(zip(batch.assignments, batch.offsets, strict=True))
    positions = [at for at, (owner, offset) in places if owner == assignment_id and offset >= first_offset]
    return _at(batch, positions, {assignment_id})


def _rest(batch: RawBatch, without: Collection[int]) -> RawBatch:
    positions = [at for at, owner in enumerate(batch.assignments) if owner not in without]
    return _at(batch, positions, _owners(batch) - set(without))


def _at(batch: RawBatch, positions: Sequence[int], owners: Collection[int]) -> RawBatch:
    origins = [batch.origin(position) for position in positions]
    return RawBatch(
        values=[batch.values[position] for position in positions],
        assignments=[batch.assignments[position] for position in positions],
        offsets=[batch.offsets[position] for position in positions],
        timestamps=[batch.timestamps[position] for position in positions],
        ends={owner: end for owner, end in batch.ends.items() if owner in owners},
        origin=origins.__getitem__,
        polled_at=batch.polled_at,
        topics=batch.topics,
    )


def _without(decoded: Decoded, taken: Sequence[RawBatch], owners: Collection[int]) -> Decoded:
    """What was decoded, without everything of these assignments."""
    tombstones = sum(
        value is None and owner in owners and (owner not in decoded.awaits or offset < decoded.awaits[owner].offset)
        for batch in taken
        for value, owner, offset in zip(batch.values, batch.assignments, batch.offsets, strict=True)
    )
    return replace(
        decoded,
        frame=_rows_without(decoded.frame, owners),
        rejects=tuple(reject for reject in decoded.rejects if reject.change_id.assignment_id not in owners),
        tombstones=decoded.tombstones - tombstones,
        next_offsets={owner: offset for owner, offset in decoded.next_offsets.items() if owner not in owners},
        ends={owner: end for owner, end in decoded.ends.items() if owner not in owners},
        barriers=None if decoded.barriers is None else _rows_without(decoded.barriers, owners),
    )


def _rows_without(rows: pl.DataFrame, owners: Collection[int]) -> pl.DataFrame:
    return rows.filter(~pl.col(ASSIGNMENT).is_in(list(owners)))


def _size_of(batch: RawBatch) -> int:
    return MESSAGE_BYTES * (len(batch) + 1) + batch.value_bytes()
