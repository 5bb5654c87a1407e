"""The changes of a newly assigned partition, until they may be sent (rules 7 and 10).

A new owner reads from the committed offset on. If it sent those changes at once, it would send old counts of items
whose newer counts the previous owner has already sent. So they wait until everything that the previous owner had read
is read again, and may be coalesced meanwhile. Times are monotonic seconds.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from consumer.core.changes.blocks import SizeOf, frame_bytes
from consumer.core.changes.coalesce import superseded
from consumer.core.changes.items import ARRIVED, CHANGE_ID, LOCATION

COALESCE_GROWTH: Final = 2.0
"""Rows are coalesced again once they have grown by this factor, so that the total work stays proportional to them."""
COALESCE_ROWS_MIN: Final = 10_000
"""Coalescing fewer rows does not pay off."""


class Recovery:
    """Rows that must not be sent yet, oldest first."""

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

    def coalesce(self, item_key: Sequence[str]) -> pl.DataFrame | None:
        """Drop the rows that newer ones make redundant. Returns the released change ids (columns ``CHANGE_ID``).

        Does nothing and returns None until enough rows were added since the last time.
        """
        if self.rows < self._coalesce_from:
            return None
        kept, released = superseded(pl.concat(self._frames, how="diagonal"), (LOCATION, *item_key))
        self._frames = [kept]
        self.rows = kept.height
        self.size_bytes = self._size_of(kept)
        self._coalesce_from = max(COALESCE_ROWS_MIN, int(COALESCE_GROWTH * kept.height))
        return released

    def pending(self) -> pl.DataFrame | None:
        """All rows, oldest first; None if there are none."""
        return pl.concat(self._frames, how="diagonal") if self._frames else None

    def remove(self, change_ids: pl.DataFrame) -> pl.DataFrame:
        """Remove and return the rows with these ids (columns ``CHANGE_ID``)."""
        rows = pl.concat(self._frames, how="diagonal")
        kept = rows.join(change_ids, on=CHANGE_ID, how="anti", maintain_order="left")
        self._frames = [kept] if kept.height else []
        self.rows = kept.height
        self.size_bytes = self._size_of(kept) if kept.height else 0
        return rows.join(change_ids, on=CHANGE_ID, how="semi", maintain_order="left")

    def first_arrived(self) -> float | None:
        """When the oldest row was read; None without rows."""
        return min((float(frame.item(0, ARRIVED)) for frame in self._frames), default=None)

    def locations(self) -> pl.DataFrame:
        """Location and arrival time of each row. There must be rows."""
        return pl.concat([frame.select(LOCATION, ARRIVED) for frame in self._frames])

    def take_all(self) -> pl.DataFrame | None:
        """Remove and return all rows, oldest first; None if there are none."""
        if not self._frames:
            return None
        rows, self._frames, self.rows = pl.concat(self._frames, how="diagonal"), [], 0
        self.size_bytes = 0
        return rows
