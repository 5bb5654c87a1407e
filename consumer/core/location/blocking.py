"""Which locations hold a committable offset back: those with the oldest pending changes of a partition (rule 10)."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from consumer.core.changes.blocks import Block
from consumer.core.changes.items import ARRIVED, ASSIGNMENT, LINES_MAX, LOCATION, OFFSET, SUPERSEDED

LOOK_UP_SECONDS: Final = 0.2
"""Looking the locations up takes a few milliseconds per million pending changes."""
_ROW: Final = "_row"


@dataclass(frozen=True, slots=True)
class Blocking:
    """A location with changes that hold a committable offset back, and when the latest of them arrived."""

    location: str
    last_arrived: float


class BlockingLocations:
    """The locations that hold committable offsets back. Each is returned once, and then they are looked up again."""

    def __init__(self, look_up: Callable[[Mapping[int, int]], list[Blocking]]) -> None:
        """``look_up`` is ``blocking_locations`` on the pending changes."""
        self._look_up = look_up
        self._found: deque[Blocking] = deque()
        self._looked_up_at = float("-inf")
        self._looked_up_for: frozenset[int] = frozenset()

    def take(self, offsets: Mapping[int, int], now: float) -> Iterator[Blocking]:
        """The locations that were not taken yet, oldest first. Their changes may have left since.

        They are looked up at most every ``LOOK_UP_SECONDS``, and at once for other partitions than the last time.
        """
        if now - self._looked_up_at >= LOOK_UP_SECONDS or self._looked_up_for != offsets.keys():
            self._found, self._looked_up_at = deque(self._look_up(offsets)), now
            self._looked_up_for = frozenset(offsets)
        while self._found:
            yield self._found.popleft()


def blocking_locations(blocks: Iterable[Block], offsets: Mapping[int, int]) -> list[Blocking]:
    """The locations with a pending change below an offset of ``offsets`` (assignment id to offset), oldest first.

    A change's superseded offsets count, too.
    """
    arrivals: dict[str, tuple[float, float]] = {}
    for block in blocks:
        for location, row, first, last in _rows_below(block.frame, offsets).iter_rows():
            # Rows leave a location's run from its beginning on.
            start, _ = block.runs.get(location, (row + 1, row + 1))
            if row >= start:
                earlier = arrivals.get(location, (first, last))
                arrivals[location] = (min(first, earlier[0]), max(last, earlier[1]))
    oldest_first = sorted(arrivals.items(), key=lambda found: found[1])
    return [Blocking(location, last) for location, (_, last) in oldest_first]


def _rows_below(frame: pl.DataFrame, offsets: Mapping[int, int]) -> pl.DataFrame:
    """For each location with such changes: the row of the last one, and when the first and the last arrived."""
    lowest = pl.col(OFFSET)
    if SUPERSEDED in frame.columns:
        lowest = pl.coalesce(pl.col(SUPERSEDED).list.first() // LINES_MAX, lowest)
    is_below = pl.any_horizontal(
        (pl.col(ASSIGNMENT) == assignment_id) & (lowest < offset) for assignment_id, offset in offsets.items()
    )
    arrived = pl.col(ARRIVED)
    return (
        frame.with_row_index(_ROW)
        .filter(is_below)
        .group_by(LOCATION, maintain_order=True)
        .agg(pl.col(_ROW).max(), arrived.min(), arrived.max().alias("last"))
    )
