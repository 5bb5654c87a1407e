"""A partition that was just taken over gathers its changes, without sending, until it has read what its last owner had.

Otherwise a successor that begins at the watermark would send an old count of an item whose newer one its predecessor
has sent already. Rules 7 and 10 of docs/protocol.md. Times are monotonic seconds.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import polars as pl

from consumer.core.changes.coalesce import superseded
from consumer.core.changes.items import ARRIVED, ASSIGNMENT, LOCATION

COMPACT_GROWTH: Final = 2.0
"""Gathered rows are coalesced again when there are so many times more than the last time left: work in proportion."""
COMPACT_ROWS_MIN: Final = 10_000
"""Fewer are not worth the work."""


class Recovery:
    """The rows of one partition, from its assignment until they may leave.

    ``mark`` is how far its last owner had read; ``open_until`` is until when a request of the last owner may still be
    under way (in the past: none is).
    """

    def __init__(self, *, mark: int, open_until: float) -> None:
        self.mark = mark
        self.open_until = open_until
        self.reached = False
        """All that the last owner had read is read again; what comes from here on nobody has sent."""
        self._frames: list[pl.DataFrame] = []
        self.rows = 0
        self._compact_from = COMPACT_ROWS_MIN

    def add(self, rows: pl.DataFrame) -> None:
        """Take rows, each with its arrival."""
        if rows.height:
            self._frames.append(rows)
            self.rows += rows.height

    def read(self, next_offset: int, *, at_end: bool) -> None:
        """The partition was read so far, or to its present end."""
        self.reached = self.reached or at_end or next_offset >= self.mark

    def is_over(self, now: float) -> bool:
        return self.reached and now >= self.open_until

    def is_wasteful(self) -> bool:
        """So much has come since the last time that ``compact`` may be worth its work."""
        return self.rows >= self._compact_from

    def compact(self, item_key: Sequence[str]) -> pl.DataFrame:
        """Drop the rows that newer ones make superfluous; returns their assignments and offsets: not open any more.

        The newer row stands for them, and the lowest of their offsets stays open.
        """
        kept, closed = superseded(pl.concat(self._frames, how="diagonal"), (LOCATION, *item_key))
        self._frames = [kept]
        self.rows = kept.height
        self._compact_from = max(COMPACT_ROWS_MIN, int(COMPACT_GROWTH * kept.height))
        return closed

    def first_arrived(self) -> float | None:
        """When the oldest of the rows was read; None without any."""
        return min((float(frame.item(0, ARRIVED)) for frame in self._frames), default=None)

    def of_locations(self) -> pl.DataFrame:
        """The location and the arrival of each row."""
        return pl.concat([frame.select(LOCATION, ARRIVED) for frame in self._frames])

    def take(self) -> pl.DataFrame | None:
        """All rows, oldest first; None if there are none."""
        if not self._frames:
            return None
        rows, self._frames, self.rows = pl.concat(self._frames, how="diagonal"), [], 0
        return rows


class Recoveries:
    """The partitions that are gathering now, by the number of their assignment."""

    def __init__(self, item_key: Sequence[str]) -> None:
        self._item_key = tuple(item_key)
        self._gathering: dict[int, Recovery] = {}

    @property
    def numbers(self) -> Collection[int]:
        return self._gathering.keys()

    @property
    def rows(self) -> int:
        """Gathered rows of all of them."""
        return sum(gathering.rows for gathering in self._gathering.values())

    def begin(self, number: int, *, mark: int, open_until: float, start: int | None) -> None:
        """A partition was taken over; without anything to gather (it is read up to its mark) or wait for, nothing."""
        gathering = Recovery(mark=mark, open_until=open_until)
        gathering.read(start or 0, at_end=False)
        self._gathering[number] = gathering

    def forget(self, numbers: Collection[int]) -> None:
        for number in numbers:
            self._gathering.pop(number, None)

    def keep(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Keep the rows of gathering partitions; returns the others."""
        if not self._gathering:
            return frame
        owners = frame[ASSIGNMENT]
        for number, gathering in self._gathering.items():
            gathering.add(frame.filter(owners == number))
        return frame.filter(~owners.is_in(list(self._gathering)))

    def read(self, next_offsets: Mapping[int, int], ends: Collection[int]) -> None:
        """The partitions were read so far; those of ``ends`` to their present end."""
        for number, gathering in self._gathering.items():
            if number in next_offsets:
                gathering.read(next_offsets[number], at_end=number in ends)

    def over(self, now: float) -> list[pl.DataFrame]:
        """The rows of the partitions that have nothing more to gather or to wait for; they may leave from now on."""
        done = [number for number, gathering in self._gathering.items() if gathering.is_over(now)]
        rows = [self._gathering.pop(number).take() for number in done]
        return [frame for frame in rows if frame is not None]

    def waiting(self, now: float) -> set[int]:
        """Those of whose last owner a request may still be under way."""
        return {number for number, gathering in self._gathering.items() if now < gathering.open_until}

    def to_read_on(self) -> int | None:
        """The one that is read on when there is no room: pausing all would wait for ever. None: none needs it."""
        return min((number for number, gathering in self._gathering.items() if not gathering.reached), default=None)

    def unread(self) -> set[int]:
        """Those that have not been read up to their mark."""
        return {number for number, gathering in self._gathering.items() if not gathering.reached}

    def compact(self) -> list[pl.DataFrame]:
        """Coalesce rows in place where that may be worth it; returns assignments and offsets that are free by that."""
        return [each.compact(self._item_key) for each in self._gathering.values() if each.is_wasteful()]

    def next_deadline(self) -> float | None:
        """When the next partition may send as far as time alone decides; None: other things must happen first."""
        return min((each.open_until for each in self._gathering.values() if each.reached), default=None)

    def by_location(self) -> list[tuple[str, int, float]]:
        """Of each location with gathered rows: how many, and when the oldest was read."""
        frames = [each.of_locations() for each in self._gathering.values() if each.rows]
        if not frames:
            return []
        return pl.concat(frames).group_by(LOCATION).agg(pl.len(), pl.col(ARRIVED).min()).rows()

    def first_arrived(self) -> float | None:
        """When the oldest of the gathered rows was read; None without any."""
        times = [each.first_arrived() for each in self._gathering.values()]
        return min((time for time in times if time is not None), default=None)
