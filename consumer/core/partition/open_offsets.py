"""How many lines are open at each offset: two ways to count them, for few offsets and for many.

With few open offsets every poll and every answer concerns a handful of them, and a dict costs a tenth of what the calls
of a column library do. With many, a column of counts takes a byte an offset instead of a hundred.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import polars as pl

from consumer.errors import InvariantError

_GROW_MIN: Final = 65_536
"""The counts grow by at least this many offsets, so that small polls do not copy them each time."""
_SEARCH_OFFSETS: Final = 65_536
"""How many offsets are searched at once for the lowest open one."""
_SMALL_COUNT_MAX: Final = 255
"""The largest count in one byte; counts are widened if an event has more open lines."""
NOT_OPEN: Final = "an offset was released that is not open"


class FewOffsets:
    """The open lines of each open offset, in a dict whose first key is the lowest offset."""

    def __init__(self, lines: Iterable[tuple[int, int]] = ()) -> None:
        """``lines`` are pairs of offset and open lines, by ascending offset."""
        self._lines = dict(lines)

    def __len__(self) -> int:
        """Number of open offsets."""
        return len(self._lines)

    def open(self, offsets: Sequence[int], end: int) -> None:
        """Open a line at each of these offsets, all of them below ``end`` and from the last ``end`` on."""
        del end
        lines = self._lines
        for offset in sorted(offsets):
            lines[offset] = lines.get(offset, 0) + 1

    def reopen(self, offsets: Sequence[int]) -> None:
        """Open a line at offsets that may lie anywhere."""
        self.open(offsets, 0)
        self._lines = dict(sorted(self._lines.items()))

    def release(self, offsets: Iterable[int]) -> None:
        """Close a line at each of these offsets. Raises InvariantError if one is not open."""
        lines = self._lines
        for offset in offsets:
            left = lines.get(offset, 0) - 1
            if left < 0:
                raise InvariantError(NOT_OPEN)
            if left:
                lines[offset] = left
            else:
                del lines[offset]

    def lowest(self) -> int:
        """The lowest open offset. There must be one."""
        return next(iter(self._lines))

    def lines(self) -> list[tuple[int, int]]:
        """Pairs of offset and open lines, by ascending offset."""
        return list(self._lines.items())


class ManyOffsets:
    """The open lines of each offset from the lowest open one on, as a column of counts."""

    def __init__(self, lines: Sequence[tuple[int, int]]) -> None:
        """``lines`` are pairs of offset and open lines, by ascending offset; at least one."""
        self._base = self._low = lines[0][0]
        """No offset below ``_low`` is open; the first count is that of ``_base``."""
        self._is_low_open = True
        """``_low`` itself is known to be open, so that it need not be searched again."""
        self._counts = pl.zeros(max(lines[-1][0] + 1 - self._base, _GROW_MIN), dtype=pl.UInt8, eager=True)
        at, counts = zip(*((offset - self._base, count) for offset, count in lines), strict=True)
        self._add(pl.Series(at, dtype=pl.Int64), pl.Series(counts, dtype=pl.Int64))

    def open(self, offsets: pl.Series, end: int) -> None:
        """Open a line at each of these offsets, all of them below ``end`` and from the last ``end`` on."""
        self._make_room(self.lowest(), end)
        self._change(offsets, 1)

    def reopen(self, offsets: pl.Series) -> None:
        """Open a line at offsets that may lie anywhere from the lowest open one on."""
        self._change(offsets, 1)

    def release(self, offsets: pl.Series) -> None:
        """Close a line at each of these offsets. Raises InvariantError if one is not open."""
        self._change(offsets, -1)
        self._is_low_open = False

    def lowest(self) -> int:
        """The lowest open offset. There must be one."""
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

    def lines(self) -> list[tuple[int, int]]:
        """Pairs of offset and open lines, by ascending offset."""
        at = (self._counts > 0).arg_true()
        offsets = at.cast(pl.Int64) + self._base
        return list(zip(offsets.to_list(), self._counts.gather(at).to_list(), strict=True))

    def _change(self, offsets: pl.Series, by: int) -> None:
        """Add ``by`` (1 or -1) to the counts of these offsets."""
        at, times = offsets - self._base, pl.Series([by], dtype=pl.Int16)
        if at.n_unique() < len(at):  # several lines of an event
            counted = at.value_counts(sort=False, name="times")
            at, times = counted.to_series(0), by * counted["times"].cast(pl.Int64)
        self._add(at, times)

    def _add(self, at: pl.Series, times: pl.Series) -> None:
        counts = self._counts[at] + times
        lowest, highest = counts.min(), counts.max()
        if not isinstance(lowest, int) or not isinstance(highest, int) or lowest < 0:
            raise InvariantError(NOT_OPEN)
        if highest > _SMALL_COUNT_MAX and self._counts.dtype == pl.UInt8:
            self._counts = self._counts.cast(pl.UInt32)
        self._counts.scatter(at, counts.cast(self._counts.dtype))

    def _make_room(self, keep_from: int, end: int) -> None:
        """Extend the counts up to ``end``, and drop those below ``keep_from``."""
        if end - self._base <= len(self._counts):
            return
        kept = self._counts.slice(min(keep_from - self._base, len(self._counts)))
        size = max(_GROW_MIN, 2 * (end - keep_from))
        self._counts = pl.concat([kept, pl.zeros(size - len(kept), dtype=kept.dtype, eager=True)], rechunk=True)
        self._base = self._low = keep_from
        self._is_low_open = False
