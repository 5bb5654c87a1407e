"""Which partitions are read, so that what is pending fits into the memory for it (rules 10 and 24).

Near ``max_pending_bytes`` changes leave before they are full or due, so that reading need not stop. Above it nothing is
read until some have left. A partition that has recovered is read only so far past its committable offset that a new
owner can read it again. Of what holds the offset back whole chunks leave then, and everything if no other partition has
a backlog, so that reading would only wait.

**Recovery.** Rows of a partition that is not read up to its predecessor's position cannot leave, so waiting for them
would be a deadlock. Once half of the memory is used, such partitions are read one after another, and nothing else is
read. The next one begins when all that is pending, without its own rows, takes at most half again: the one before has
been sent by then. A partition's predecessor has read at most the other half, so it fits. It begins, too, if nothing
that is pending can ever leave before.

**Turns.** Once half of the memory is used, partitions with a backlog are read in turns (``Turns``). A partition that
was read to its end a moment ago is always read.
"""

from collections.abc import Mapping
from typing import Final

from consumer.core.limits import UNCOMMITTED_SHARE, EngineLimits
from consumer.core.partition.partition import RESUME_SHARE
from consumer.core.partition.partitions import Partitions
from consumer.core.partition.turns import Turns

BACKLOG_SHARE: Final = 1 / 128
"""Of the memory for pending rows: a partition has a backlog if more was read without reaching its end."""
NEAR_SHARE: Final = 0.9
"""Of the memory for pending rows: above it changes leave before they are full or due."""
KEEP_SHARE: Final = 0.7
"""And they leave until the others take this much: a little less than what lets reading resume."""


class Backpressure:
    """Decides what is read, and what must leave before it is full or due so that reading can go on."""

    def __init__(self, partitions: Partitions, limits: EngineLimits) -> None:
        self._partitions = partitions
        self._limits = limits
        self.is_over_budget = False
        """Nothing that has recovered is read, until memory is free again."""
        self.is_near_budget = False
        """Changes leave before they are full or due, so that reading need not stop."""
        self.keep_bytes: float | None = None
        """Changes leave until pending ones take at most this much; None: none needs to."""
        self.resume_offsets: Mapping[int, int] = {}
        """Assignments that are not read until their committable offset has come this far."""
        self.waits_for_offsets = False
        """Reading waits for that, because no other partition has a backlog."""
        self._is_one_by_one = False
        """Recovering partitions are read one after another, and no others. It lasts until all have recovered."""
        self._takes_turns = False
        self._turns = Turns(limits.max_age_seconds, limits.turn_bytes_min)
        self._recovering_now: int | None = None
        """The assignment that is read then; None while the next must wait."""

    def update(self, window_bytes: float, now: float, *, is_memory_short: bool) -> frozenset[int]:
        """Decide again. Returns the assignments that must be paused.

        ``window_bytes`` is the memory of changes in windows and in flight. ``is_memory_short``: the process is close to
        its container's limit, whatever its rows are estimated to take.
        """
        partitions = self._partitions
        limit = self._limits.max_pending_bytes
        pending_bytes = window_bytes + partitions.size_bytes
        is_above = pending_bytes > (RESUME_SHARE * limit if self.is_over_budget else limit)
        # With nothing pending, a pause could free nothing.
        is_memory_short = is_memory_short and pending_bytes > 0
        self.is_over_budget = is_above or is_memory_short
        self.is_near_budget = pending_bytes > (RESUME_SHARE if self.is_near_budget else NEAR_SHARE) * limit
        self.keep_bytes, self.resume_offsets, self.waits_for_offsets = None, {}, False
        if self.is_over_budget or self.is_near_budget:
            self.keep_bytes = 0.0 if is_memory_short else KEEP_SHARE * limit
        partitions.update_limits()
        catching_up = partitions.catching_up
        self._is_one_by_one = bool(catching_up) and (
            self._is_one_by_one or self.is_over_budget or pending_bytes > UNCOMMITTED_SHARE * limit
        )
        if self._is_one_by_one or self.is_over_budget:
            self._turns.stand_still(now)
        everything = frozenset(partitions.ids)
        if self._is_one_by_one:
            return everything - self._to_recover(catching_up, window_bytes)
        if self.is_over_budget:
            return everything
        over_limit = partitions.over_limit().difference(catching_up)
        waiting = [found for found in partitions.behind(BACKLOG_SHARE * limit) if found not in over_limit]
        self.resume_offsets = partitions.resume_offsets()
        self.waits_for_offsets = bool(self.resume_offsets) and not waiting
        return frozenset(over_limit.union(self._wait_for_their_turn(waiting, pending_bytes, now)))

    def _wait_for_their_turn(self, waiting: list[int], pending_bytes: float, now: float) -> set[int]:
        """Those of the partitions with a backlog that are not read now, because another one has its turn."""
        partitions, limit = self._partitions, self._limits.max_pending_bytes
        share = self._limits.turns_share * (RESUME_SHARE if self._takes_turns else 1.0)
        self._takes_turns = len(waiting) > 1 and pending_bytes > share * limit
        if not self._takes_turns:
            return set()
        return set(waiting) - {self._turns.choose(waiting, partitions.read_bytes, now)}

    def _to_recover(self, catching_up: list[int], window_bytes: float) -> set[int]:
        """The recovering partition that is read now, if any."""
        partitions = self._partitions
        leaving_bytes = window_bytes + partitions.recovery_bytes(set(partitions.recovering).difference(catching_up))
        pending_bytes = window_bytes + partitions.size_bytes
        if self._recovering_now not in catching_up:
            # The one that is furthest: it needs the least room, and then leaves most.
            candidate = max(catching_up, key=lambda found: (partitions.recovery_bytes([found]), -found))
            keep_bytes = UNCOMMITTED_SHARE * self._limits.max_pending_bytes + partitions.recovery_bytes([candidate])
            must_wait = leaving_bytes > 0 and pending_bytes > keep_bytes
            self._recovering_now = None if must_wait else candidate
            if must_wait:
                self.keep_bytes = min(keep_bytes, keep_bytes if self.keep_bytes is None else self.keep_bytes)
        if self._recovering_now is None:
            return set()
        # More than this fits only if no row waits that can leave.
        is_too_much = leaving_bytes > 0 and pending_bytes > self._limits.max_recovery_bytes
        return set() if is_too_much else {self._recovering_now}
