"""One assigned partition, from its assignment to this process until it is revoked or lost.

``TRANSITIONS`` is its state machine; the diagram in docs/protocol.md is generated from it. An event that the table does
not allow raises ``InvariantError``.

- RECOVERING: what the previous owner had read is being read again; nothing is sent.
- IN_DOUBT: all of that is read, but the OMS may still queue a request of the previous owner; nothing is sent.
- ACTIVE: changes are sent as the planner decides.
- REVOKING: requests in flight may still be answered; no further changes may be added.
- GONE: another member owns it. Whatever still belongs to this assignment is ignored.

Times are monotonic seconds.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from consumer.core.changes.blocks import SizeOf, frame_bytes
from consumer.core.partition.offsets import Offsets, OffsetTracker
from consumer.core.partition.recovery import Recovery
from consumer.core.partition.uncommitted import UncommittedBytes, UncommittedLimits
from consumer.errors import InvariantError

HALF_WAY_SHARE: Final = 0.5
"""Of the limit: from there on no location of the partition stays set aside."""
RESUME_SHARE: Final = 0.75
"""A paused partition resumes below this share of the limit, because each pause discards prefetched messages."""
SPANS_MAX: Final = 256
"""About how many spans of read bytes are kept for a partition."""


class PartitionState(StrEnum):
    """What a partition is doing."""

    RECOVERING = "recovering"
    IN_DOUBT = "in_doubt"
    ACTIVE = "active"
    REVOKING = "revoking"
    GONE = "gone"


class PartitionEvent(StrEnum):
    """What can happen to a partition."""

    CAUGHT_UP = "caught up"
    DOUBT_OVER = "doubt over"
    REVOKE = "revoke"
    HANDED_OVER = "handed over"
    LOST = "lost"


_State = PartitionState
_Event = PartitionEvent

TRANSITIONS: Final[Mapping[tuple[PartitionState, PartitionEvent], PartitionState]] = {
    (_State.RECOVERING, _Event.CAUGHT_UP): _State.IN_DOUBT,
    (_State.IN_DOUBT, _Event.DOUBT_OVER): _State.ACTIVE,
    (_State.RECOVERING, _Event.REVOKE): _State.REVOKING,
    (_State.IN_DOUBT, _Event.REVOKE): _State.REVOKING,
    (_State.ACTIVE, _Event.REVOKE): _State.REVOKING,
    (_State.REVOKING, _Event.REVOKE): _State.REVOKING,  # the process stops in the middle of a revoke
    (_State.REVOKING, _Event.HANDED_OVER): _State.GONE,
    (_State.RECOVERING, _Event.LOST): _State.GONE,
    (_State.IN_DOUBT, _Event.LOST): _State.GONE,
    (_State.ACTIVE, _Event.LOST): _State.GONE,
    (_State.REVOKING, _Event.LOST): _State.GONE,
}


class Partition:
    """One assignment of a partition.

    ``start`` is the group's committed offset; None if it is not known, and then nothing is committed before the first
    batch. ``read_up_to`` is how far previous owners have read; None if the group has no commit. Until
    ``in_doubt_until`` the OMS may still queue a request of the previous owner. ``limits`` are how far it may be read.
    """

    def __init__(
        self,
        *,
        start: int | None,
        read_up_to: int | None,
        in_doubt_until: float,
        limits: UncommittedLimits,
        size_of: SizeOf = frame_bytes,
    ) -> None:
        self.state = PartitionState.RECOVERING
        self.offsets = OffsetTracker()
        self.recovery = Recovery(size_of)
        self.uncommitted = UncommittedBytes(limits.bytes_max / SPANS_MAX)
        self.is_over_limit = False
        """It must not be read, because it was read too far past its committable offset (``update_limit``)."""
        self._limits = limits
        self.read_bytes = 0.0
        """Rows that were read since the assignment."""
        self._end_bytes = 0.0
        """``read_bytes`` when the end of the log was reached last."""
        self._recovers_up_to = read_up_to or 0
        self._in_doubt_until = in_doubt_until
        self._read_up_to = read_up_to or 0
        if start is not None:
            self.offsets.start(start)
            self._read_up_to = max(self._read_up_to, start)
        self.read(start or 0, at_end=False)

    @property
    def read_up_to(self) -> int:
        """How far the partition has been read by this owner or any previous one. It never decreases (rule 4)."""
        return self._read_up_to

    @property
    def holds_back(self) -> bool:
        """Whether its changes must not be sent yet."""
        return self.state in (PartitionState.RECOVERING, PartitionState.IN_DOUBT)

    def is_in_doubt(self, now: float) -> bool:
        """Whether the OMS may still queue a request of the previous owner."""
        return now < self._in_doubt_until

    def track(self, offsets: Offsets, next_offset: int, size_bytes: float = 0.0) -> None:
        """Open these offsets, of rows of this many bytes. The partition was read up to ``next_offset``."""
        if self.state is PartitionState.REVOKING:
            raise InvariantError("changes of a partition were added while it is being revoked")
        self.offsets.track(offsets, next_offset)
        self._read_up_to = max(self._read_up_to, self.offsets.next_offset or 0)
        self.uncommitted.add(next_offset, size_bytes)
        self.read_bytes += size_bytes

    def read(self, next_offset: int, *, at_end: bool) -> None:
        """The partition was read up to ``next_offset``; ``at_end``: that is the end of its log."""
        if at_end:
            self._end_bytes = self.read_bytes
        if self.state is PartitionState.RECOVERING and (at_end or next_offset >= self._recovers_up_to):
            self._apply(PartitionEvent.CAUGHT_UP)

    @property
    def bytes_since_end(self) -> float:
        """Rows that were read since the end of the log was reached. The more, the surer there is a backlog."""
        return self.read_bytes - self._end_bytes

    def end_doubt(self, now: float) -> bool:
        """Become active once the previous owner's doubt is over. Returns whether that happened now."""
        if self.state is not PartitionState.IN_DOUBT or self.is_in_doubt(now):
            return False
        self._apply(PartitionEvent.DOUBT_OVER)
        return True

    def next_deadline(self) -> float | None:
        """When ``end_doubt`` succeeds; None if the partition must read on first, or in a later state."""
        return self._in_doubt_until if self.state is PartitionState.IN_DOUBT else None

    def begin_revoke(self) -> None:
        """The partition is being revoked: no further changes may be tracked."""
        self._apply(PartitionEvent.REVOKE)

    def end(self) -> None:
        """The partition was handed over after a revoke, or is lost."""
        is_revoked = self.state is PartitionState.REVOKING
        self._apply(PartitionEvent.HANDED_OVER if is_revoked else PartitionEvent.LOST)

    @property
    def exceeds_limit(self) -> bool:
        """Whether it was read too far past its committable offset; once it was, whether it is not yet well below.

        It is judged by the offsets that are released by now.
        """
        return self._is_past(RESUME_SHARE if self.is_over_limit else 1.0)

    @property
    def is_half_way_to_limit(self) -> bool:
        """Whether it was read half as far past its committable offset as it may."""
        return self._is_past(HALF_WAY_SHARE)

    @property
    def resumes_at(self) -> int:
        """The committable offset from which on it is below its limit again."""
        by_offsets = (self.offsets.next_offset or 0) - int(RESUME_SHARE * self._limits.offsets_max)
        return max(by_offsets, self.uncommitted.offset_that_leaves(RESUME_SHARE * self._limits.bytes_max))

    def _is_past(self, share: float) -> bool:
        committable_offset = self.offsets.committable_offset or 0
        self.uncommitted.drop_below(committable_offset)
        uncommitted_offsets = (self.offsets.next_offset or 0) - committable_offset
        return (
            uncommitted_offsets > share * self._limits.offsets_max
            or self.uncommitted.size_bytes > share * self._limits.bytes_max
        )

    def _apply(self, event: PartitionEvent) -> None:
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            raise InvariantError(f"the event {event.value!r} is not allowed for a partition that is {self.state}")
        self.state = after
