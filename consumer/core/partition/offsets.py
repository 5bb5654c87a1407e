"""The open offsets of one assignment, and so how far may be committed (rules 3 and 6).

An offset is *open* from when the engine receives its change until a jobID covers it or its dead letter is confirmed.
The committable offset is the lowest open one, or the offset after the last one read if none is open. An offset is
closed only if ``release`` names it. A change that a bug loses in a window therefore stops the committable offset,
instead of being skipped (docs/decisions/0003-open-offsets.md).
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from consumer.core.partition.open_offsets import FewOffsets, ManyOffsets
from consumer.errors import InvariantError

FEW_MAX: Final = 2_048
"""Up to this many open offsets are counted in a dict: 0.2 MB, and at worst 0.1 ms for a poll."""

Offsets = pl.Series | Sequence[int]


class OffsetTracker:
    """Counts the open lines of each offset from the committable offset to the last one read.

    Its size is bounded by ``kafka.max_uncommitted_offsets``.
    """

    __slots__ = ("_next", "_open", "_open_lines")

    def __init__(self) -> None:
        self._next: int | None = None
        self._open: FewOffsets | ManyOffsets = FewOffsets()
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
        return self._open.lowest() if self._open_lines else self._next

    def start(self, offset: int) -> None:
        """Start at the group's committed offset: everything below it is closed."""
        self._next = offset

    def track(self, offsets: Offsets, next_offset: int) -> None:
        """Open these offsets, once per occurrence: an event may have several lines.

        All others below ``next_offset`` are closed: tombstones, gaps, and the markers of transactions. Raises
        InvariantError if an offset is below the previous ``next_offset``, because its change would be tracked twice.
        """
        if not len(offsets):
            self._next = next_offset if self._next is None else max(self._next, next_offset)
            return
        lowest = min(offsets) if isinstance(offsets, Sequence) else offsets.min()
        if not isinstance(lowest, int):
            raise TypeError("offsets must be integers")
        start = lowest if self._next is None else self._next
        if lowest < start:
            raise InvariantError(f"offset {lowest} was read again, although everything below {start} had been read")
        end = max(start, next_offset)
        if isinstance(self._open, FewOffsets) and len(self._open) + len(offsets) <= FEW_MAX:
            self._open.open(_listed(offsets), end)
        else:
            self._count_many(lowest).open(_column(offsets), end)
        self._open_lines += len(offsets)
        self._next = end

    def release(self, offsets: Offsets) -> None:
        """Close these offsets, once per occurrence: by a jobID, a newer change, or a confirmed dead letter.

        Raises InvariantError if one is not open: closing a line twice would hide another line that was never sent.
        """
        if not len(offsets):
            return
        if isinstance(self._open, FewOffsets):
            self._open.release(_listed(offsets))
        else:
            self._open.release(_column(offsets))
        self._open_lines -= len(offsets)
        if isinstance(self._open, ManyOffsets) and self._open_lines <= FEW_MAX // 4:
            self._open = FewOffsets(self._open.lines())

    def reopen(self, offsets: Offsets) -> None:
        """Open offsets again that were released as superseded, because their own dead letters are now needed."""
        if isinstance(self._open, FewOffsets):
            self._open.reopen(_listed(offsets))
        else:
            self._open.reopen(_column(offsets))
        self._open_lines += len(offsets)

    def _count_many(self, lowest: int) -> ManyOffsets:
        """Count in a column from now on; ``lowest`` is opened next."""
        if isinstance(self._open, FewOffsets):
            self._open = ManyOffsets(self._open.lines() or [(lowest, 0)])
        return self._open


def _listed(offsets: Offsets) -> Sequence[int]:
    return offsets.to_list() if isinstance(offsets, pl.Series) else offsets


def _column(offsets: Offsets) -> pl.Series:
    return offsets if isinstance(offsets, pl.Series) else pl.Series(offsets, dtype=pl.Int64)
