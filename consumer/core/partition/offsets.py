"""Offsets of one assignment: which are open, and so how far may be committed (rules 3 and 6 of docs/protocol.md).

An offset is *open* from when the engine is given its change until a jobID covers it or its dead letter is confirmed.
The watermark is the lowest open offset, or what was given if none is open. Nothing closes an offset but being named in
``close``: a change that got lost in a window would stop the watermark, never be passed by it
(docs/decisions/0003-open-offsets.md).
"""

import polars as pl

_GROW_MIN = 65_536
"""Offsets by which the series of flags grows at least, so that a trickle does not copy it at every poll."""

_STRETCH = 65_536
"""Offsets searched at once for the first open one."""


class OffsetTracker:
    """The open offsets of one assignment, as one byte an offset between the watermark and what was given.

    Its size is bounded by how far a partition may be read past its watermark (``kafka.max_uncommitted_offsets``).
    """

    __slots__ = ("_base", "_flags", "_is_low_open", "_low", "_next", "_open")

    def __init__(self) -> None:
        self._base = 0
        self._low = 0
        """Nothing below is open."""
        self._is_low_open = False
        """That offset itself is known to be open, so that asking again costs nothing."""
        self._next: int | None = None
        self._flags = pl.Series(dtype=pl.UInt8)
        self._open = 0

    @property
    def next_offset(self) -> int | None:
        """One past the last offset given; None until something was: without a known start nothing may be committed."""
        return self._next

    @property
    def open_count(self) -> int:
        """How many offsets are open."""
        return self._open

    @property
    def committable_offset(self) -> int | None:
        """The lowest open offset, else the next offset; None while the start is not known."""
        return self._lowest_open() if self._open else self._next

    def start(self, offset: int) -> None:
        """The group's committed offset: everything below it is done."""
        self._base = self._low = self._next = offset

    def give(self, offsets: pl.Series, next_offset: int) -> None:
        """Offsets become open; all else below ``next_offset`` is done with (tombstones, gaps, a transaction's markers).

        Raises ValueError if one lies below what was given before: the same change twice in one assignment is a bug.
        """
        lowest = offsets.min() if len(offsets) else next_offset
        if not isinstance(lowest, int):
            raise TypeError("offsets are integers")
        start = lowest if self._next is None else self._next
        if lowest < start and len(offsets):
            msg = f"offset {lowest} was given, though everything below {start} had been given before"
            raise ValueError(msg)
        end = max(start, next_offset)
        if len(offsets):
            self._make_room(self._lowest_open() if self._open else start, end)
            self._flags.scatter(offsets - self._base, 1)
            self._open += len(offsets)
        self._next = end

    def close(self, offsets: pl.Series) -> None:
        """These offsets are covered by a jobID, or by a confirmed dead letter.

        Raises ValueError if one is not open: closing twice would hide that something else was never sent.
        """
        if not len(offsets):
            return
        at = offsets - self._base
        if self._flags[at].sum() != len(offsets):
            raise ValueError("an offset was closed that is not open")
        self._flags.scatter(at, 0)
        self._is_low_open = False
        self._open -= len(offsets)

    def reopen(self, offsets: pl.Series) -> None:
        """These are open again, each by itself: until now a lower one, which is open still, stood for them."""
        self._flags.scatter(offsets - self._base, 1)
        self._open += len(offsets)

    def _lowest_open(self) -> int:
        if self._is_low_open:
            return self._low
        end = self._base + len(self._flags)
        while self._low < end:
            # In stretches, as arg_max reads all it is given, and the first open offset is mostly close by.
            stretch = self._flags.slice(self._low - self._base, _STRETCH)
            first = stretch.arg_max()
            if first is not None and stretch[first]:
                self._low += first
                self._is_low_open = True
                return self._low
            self._low += len(stretch)
        raise AssertionError("offsets are open, but none is flagged")

    def _make_room(self, keep_from: int, end: int) -> None:
        """Make the flags reach up to ``end``, dropping those below ``keep_from`` on the way."""
        if end - self._base <= len(self._flags):
            return
        kept = self._flags.slice(min(keep_from - self._base, len(self._flags)))
        size = max(_GROW_MIN, 2 * (end - keep_from))
        self._flags = pl.concat([kept, pl.zeros(size - len(kept), dtype=pl.UInt8, eager=True)], rechunk=True)
        self._base = self._low = keep_from
        self._is_low_open = False
