"""The open offsets of one assignment, and so how far may be committed (rules 3 and 6).

An offset is *open* from when the engine receives its change until a jobID covers it or its dead letter is confirmed.
The committable offset is the lowest open one, or the offset after the last one read if none is open. An offset is
closed only if ``release`` names it. A change that a bug loses in a window therefore stops the committable offset,
instead of being skipped (docs/decisions/0003-open-offsets.md).
"""

from typing import Final

import polars as pl

from consumer.errors import InvariantError

_GROW_MIN: Final = 65_536
"""The counts grow by at least this many offsets, so that small polls do not copy them each time."""
_SEARCH_OFFSETS: Final = 65_536
"""How many offsets are searched at once for the lowest open one."""
_SMALL_COUNT_MAX: Final = 255
"""The largest count in one byte; counts are widened if an event has more open lines."""


class OffsetTracker:
    """Counts the open lines of each offset from the committable offset to the last one read.

    Its size is bounded by ``kafka.max_uncommitted_offsets``.
    """

    __slots__ = ("_base", "_counts", "_is_low_open", "_low", "_next", "_open_lines")

    def __init__(self) -> None:
        self._base = 0
        self._low = 0
        """No offset below this is open."""
        self._is_low_open = False
        """``_low`` itself is known to be open, so that it need not be searched again."""
        self._next: int | None = None
        self._counts = pl.Series(dtype=pl.UInt8)
        self._open_lines = 0

    @property
    def next_offset(self) -> int | None:
        """The offset after the last one read; None while the start is not known, and then nothing may be committed."""
        return self._next

    @property
    def open_lines(self) -> int:
        """Number of open lines; an event with a single change has one."""
        return self._open_lines

    @property
    def committable_offset(self) -> int | None:
        """The lowest open offset, otherwise ``next_offset``; None while the start is not known."""
        return self._lowest_open() if self._open_lines else self._next

    def start(self, offset: int) -> None:
        """Start at the group's committed offset: everything below it is closed."""
        self._base = self._low = self._next = offset

    def track(self, offsets: pl.Series, next_offset: int) -> None:
        """Open these offsets, once per occurrence: an event may have several lines.

        All others below ``next_offset`` are closed: tombstones, gaps, and the markers of transactions. Raises
        InvariantError if an offset is below the previous ``next_offset``, because its change would be tracked twice.
        """
        lowest = offsets.min() if len(offsets) else next_offset
        if not isinstance(lowest, int):
            raise TypeError("offsets must be integers")
        start = lowest if self._next is None else self._next
        if lowest < start and len(offsets):
            raise InvariantError(f"offset {lowest} was read again, although everything below {start} had been read")
        end = max(start, next_offset)
        if len(offsets):
            self._make_room(self._lowest_open() if self._open_lines else start, end)
            self._change(offsets, 1)
        self._next = end

    def release(self, offsets: pl.Series) -> None:
        """Close these offsets, once per occurrence: by a jobID, a newer change, or a confirmed dead letter.

        Raises InvariantError if one is not open: closing a line twice would hide another line that was never sent.
        """
        if len(offsets):
            self._change(offsets, -1)
            self._is_low_open = False

    def reopen(self, offsets: pl.Series) -> None:
        """Open offsets again that were released as superseded, because their own dead letters are now needed."""
        self._change(offsets, 1)

    def _change(self, offsets: pl.Series, by: int) -> None:
        """Add ``by`` (1 or -1) to the counts of these offsets."""
        at, times = offsets - self._base, pl.Series([by], dtype=pl.Int16)
        if at.n_unique() < len(at):  # several lines of an event
            counted = at.value_counts(sort=False, name="times")
            at, times = counted.to_series(0), by * counted["times"].cast(pl.Int64)
        counts = self._counts[at] + times
        lowest, highest = counts.min(), counts.max()
        if not isinstance(lowest, int) or not isinstance(highest, int) or lowest < 0:
            raise InvariantError("an offset was released that is not open")
        if highest > _SMALL_COUNT_MAX and self._counts.dtype == pl.UInt8:
            self._counts = self._counts.cast(pl.UInt32)
        self._counts.scatter(at, counts.cast(self._counts.dtype))
        self._open_lines += by * len(offsets)

    def _lowest_open(self) -> int:
        if self._is_low_open:
            return self._low
        end = self._base + len(self._counts)
        while self._low < end:
            # Search in parts: arg_max reads all that it is given, and the lowest open offset is usually close.
            part = self._counts.slice(self._low - self._base, _SEARCH_OFFSETS)
            first = (part > 0).arg_max()
            if first is not None and part[first]:
                self._low += first
                self._is_low_open = True
                return self._low
            self._low += len(part)
        raise InvariantError("there are open offsets, but none is counted")

    def _make_room(self, keep_from: int, end: int) -> None:
        """Extend the counts up to ``end``, and drop those below ``keep_from``."""
        if end - self._base <= len(self._counts):
            return
        kept = self._counts.slice(min(keep_from - self._base, len(self._counts)))
        size = max(_GROW_MIN, 2 * (end - keep_from))
        self._counts = pl.concat([kept, pl.zeros(size - len(kept), dtype=kept.dtype, eager=True)], rechunk=True)
        self._base = self._low = keep_from
        self._is_low_open = False
