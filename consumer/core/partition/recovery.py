"""The changes of a newly assigned partition, until they may be sent (rules 7 and 10).

A new owner reads from the committed offset on. If it sent those changes at once, it would send old counts of items
whose newer counts the previous owner has already sent. So they wait until everything that the previous owner had read
is read again, and may be coalesced meanwhile. Times are monotonic seconds.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import polars as pl

from consumer.core.changes.barriers import of_items, superseded_by
from consumer.core.changes.blocks import SizeOf, frame_bytes
from consumer.core.changes.coalesce import COALESCING_COPIES, superseded
from consumer.core.changes.items import ARRIVED, CHANGE_ID, LINE, LOCATION

COALESCE_GROWTH: Final = 2.0
"""Rows are coalesced again once they have grown by this factor, so that the total work stays proportional to them."""
COALESCE_ROWS_MIN: Final = 10_000
"""Coalescing fewer rows does not pay off."""


class Recovery:
    """Rows that must not be sent yet, each location's oldest first."""

    def __init__(self, size_of: SizeOf = frame_bytes) -> None:
        self._size_of = size_of
        self._frames: list[pl.DataFrame] = []
        self.rows = 0
        self.size_bytes = 0
        """Memory of the rows."""
        self._coalesce_from = COALESCE_ROWS_MIN

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows that have an arrival time (``ARRIVED``)."""
        if rows.height:
            self._frames.append(rows)
            self.rows += rows.height
            self.size_bytes += self._size_of(rows)

    def coalesce(self, item_key: Sequence[str], *, copies_bytes_max: int, at_once: bool = False) -> list[pl.DataFrame]:
        """Drop the rows that newer ones make redundant. Returns the released change ids (columns ``CHANGE_ID``).

        Does nothing until enough rows were added since the last time, unless it is to happen ``at_once``. Some
        locations are coalesced at a time, so that the copies take at most about ``copies_bytes_max``.
        """
        if not self._frames or (self.rows < self._coalesce_from and not at_once):
            return []
        parts = max(math.ceil(COALESCING_COPIES * self.size_bytes / copies_bytes_max), 1)
        kept, all_released = [], []
        for part in range(parts):
            rows = self._take_part(part, parts)
            if rows.height:
                # A missing line is the first.
                staying, released = superseded(rows.with_columns(pl.col(LINE).fill_null(0)), (LOCATION, *item_key))
                kept.append(staying)
                all_released.append(released)
        self._frames = kept
        self.rows = sum(frame.height for frame in kept)
        self.size_bytes = sum(map(self._size_of, kept))
        self._coalesce_from = max(COALESCE_ROWS_MIN, int(COALESCE_GROWTH * self.rows))
        return all_released

    def take_superseded(
        self, barriers: pl.DataFrame, item_key: Sequence[str]
    ) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """Remove the rows that are older than a barrier of their item (rule 27); None if there are none.

        Returns them with the result of ``barriers.superseded_by``.
        """
        # Only the few rows of the barriers' items are joined: all rows together may take half of the memory.
        found = [of_items(frame, barriers, item_key) for frame in self._frames]
        older = superseded_by(pl.concat(found), barriers, item_key) if found else None
        if older is None or older.is_empty():
            return None
        taken = []
        for at, (frame, of_barriers) in enumerate(zip(self._frames, found, strict=True)):
            if of_barriers.height:
                taken.append(frame.join(older, on=CHANGE_ID, how="semi", maintain_order="left"))
                self._frames[at] = frame.join(older, on=CHANGE_ID, how="anti", maintain_order="left")
        self._frames = [frame for frame in self._frames if frame.height]
        self.rows = sum(frame.height for frame in self._frames)
        self.size_bytes = sum(map(self._size_of, self._frames))
        return pl.concat(taken, how="diagonal"), older

    def first_arrived(self) -> float | None:
        """When the oldest row was read; None without rows."""
        return min((float(frame.item(0, ARRIVED)) for frame in self._frames), default=None)

    def locations(self) -> pl.DataFrame:
        """Location and arrival time of each row. There must be rows."""
        return pl.concat([frame.select(LOCATION, ARRIVED) for frame in self._frames])

    def matching(self, select: Callable[[pl.DataFrame], pl.DataFrame]) -> list[pl.DataFrame]:
        """What ``select`` leaves of each frame of rows."""
        return [select(frame) for frame in self._frames]

    def take_all(self) -> Iterator[pl.DataFrame]:
        """Remove all rows and yield them in parts, each location's oldest first. A part is freed with its frame."""
        frames, self._frames, self.rows, self.size_bytes = self._frames, [], 0, 0
        frames.reverse()
        while frames:
            yield frames.pop()

    def _take_part(self, part: int, parts: int) -> pl.DataFrame:
        """Remove and return the rows of about one in ``parts - part`` of the locations that are left."""
        if part == parts - 1:
            rows, self._frames = pl.concat(self._frames, how="diagonal"), []
            return rows
        is_taken = pl.col(LOCATION).hash() % parts == part
        taken = []
        for at, frame in enumerate(self._frames):
            taken.append(frame.filter(is_taken))
            self._frames[at] = frame.filter(~is_taken)
        return pl.concat(taken, how="diagonal")
