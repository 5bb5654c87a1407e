"""The offsets of one assignment: which are uncovered, and so how far may be committed (rules 3 and 6).

An offset is *uncovered* from when the engine receives its change until a jobID covers it or its dead letter is
confirmed. The committable offset is the lowest uncovered one, or the next offset to read if there is none. Only
``release`` covers an offset, and only by name: a change that got lost in a window would stop the committable offset,
never be passed by it (docs/decisions/0003-open-offsets.md).
"""

from typing import Final

import polars as pl

from consumer.errors import InvariantError

_GROW_MIN: Final = 65_536
"""The counts grow by at least this many offsets, so that a trickle does not copy them at every poll."""
_STRETCH: Final = 65_536
"""Offsets searched at once for the first uncovered one."""
_SMALL_COUNT_MAX: Final = 255
"""What a count of one byte holds; counts are widened for events with more lines."""


class OffsetTracker:
    """The number of uncovered lines of each offset between the committable offset and the next one to read.

    Its size is bounded by how far a partition may be read past its committable offset
    (``kafka.max_uncommitted_offsets``).
    """

    __slots__ = ("_base", "_counts", "_is_low_uncovered", "_low", "_next", "_uncovered")

    def __init__(self) -> None:
        self._base = 0
        self._low = 0
        """Nothing below is uncovered."""
        self._is_low_uncovered = False
        """``_low`` itself is known to be uncovered, so that asking again costs nothing."""
        self._next: int | None = None
        self._counts = pl.Series(dtype=pl.UInt8)
        self._uncovered = 0

    @property
    def next_offset(self) -> int | None:
        """One past the last tracked offset; None until the start is known: before that nothing may be committed."""
        return self._next

    @property
    def uncovered(self) -> int:
        """How many lines are uncovered."""
        return self._uncovered

    @property
    def committable_offset(self) -> int | None:
        """The lowest uncovered offset, else the next one; None while the start is not known."""
        return self._lowest_uncovered() if self._uncovered else self._next

    def start(self, offset: int) -> None:
        """Begin at the group's committed offset: everything below it is done."""
        self._base = self._low = self._next = offset

    def track(self, offsets: pl.Series, next_offset: int) -> None:
        """These offsets are uncovered, once per occurrence (an event may have several lines).

        All others below ``next_offset`` are done with: tombstones, gaps, and the markers of transactions. Raises
        InvariantError if an offset lies below what was tracked before: the same change twice in one assignment.
        """
        lowest = offsets.min() if len(offsets) else next_offset
        if not isinstance(lowest, int):
            raise TypeError("offsets are integers")
        start = lowest if self._next is None else self._next
        if lowest < start and len(offsets):
            raise InvariantError(f"offset {lowest} was read again: everything below {start} had been read before")
        end = max(start, next_offset)
        if len(offsets):
            self._make_room(self._lowest_uncovered() if self._uncovered else start, end)
            self._change(offsets, 1)
        self._next = end

    def release(self, offsets: pl.Series) -> None:
        """These offsets are covered, once per occurrence: by a jobID, a newer change, or a confirmed dead letter.

        Raises InvariantError if one is not uncovered: covering it twice would hide that another was never sent.
        """
        if len(offsets):
            self._change(offsets, -1)
            self._is_low_uncovered = False

    def track_again(self, offsets: pl.Series) -> None:
        """These were released because a newer change superseded them, and are uncovered again by themselves."""
        self._change(offsets, 1)

    def _change(self, offsets: pl.Series, by: int) -> None:
        """Count these offsets up or down."""
        at, times = offsets - self._base, pl.Series([by], dtype=pl.Int16)
        if at.n_unique() < len(at):  # several lines of an event
            counted = at.value_counts(sort=False, name="times")
            at, times = counted.to_series(0), by * counted["times"].cast(pl.Int64)
        counts = self._counts[at] + times
        lowest, highest = counts.min(), counts.max()
        if not isinstance(lowest, int) or not isinstance(highest, int) or lowest < 0:
            raise InvariantError("an offset was released that is not uncovered")
        if highest > _SMALL_COUNT_MAX and self._counts.dtype == pl.UInt8:
            self._counts = self._counts.cast(pl.UInt32)
        self._counts.scatter(at, counts.cast(self._counts.dtype))
        self._uncovered += by * len(offsets)

    def _lowest_uncovered(self) -> int:
        if self._is_low_uncovered:
            return self._low
        end = self._base + len(self._counts)
        while self._low < end:
            # In stretches, as it reads all it is given, and the first uncovered offset is mostly close by.
            stretch = self._counts.slice(self._low - self._base, _STRETCH)
            first = (stretch > 0).arg_max()
            if first is not None and stretch[first]:
                self._low += first
                self._is_low_uncovered = True
                return self._low
            self._low += len(stretch)
        raise InvariantError("offsets are uncovered, but none is counted")

    def _make_room(self, keep_from: int, end: int) -> None:
        """Make the counts reach up to ``end``, and drop those below ``keep_from`` on the way."""
        if end - self._base <= len(self._counts):
            return
        kept = self._counts.slice(min(keep_from - self._base, len(self._counts)))
        size = max(_GROW_MIN, 2 * (end - keep_from))
        self._counts = pl.concat([kept, pl.zeros(size - len(kept), dtype=kept.dtype, eager=True)], rechunk=True)
        self._base = self._low = keep_from
        self._is_low_uncovered = False
