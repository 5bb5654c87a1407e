"""The pending changes of all locations: a window each, over shared blocks."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from consumer.core.blocks import Block, Blocks, Span, rows_of
from consumer.core.coalesce import split_overfull
from consumer.core.items import ARRIVED, ASSIGNMENT
from consumer.core.planner import Limits, Plan, plan_items


@dataclass(eq=False, slots=True)
class Window:
    """One location's pending changes. ``items_max`` bounds its distinct items from above; counting makes it exact."""

    location: str
    spans: list[Span] = field(default_factory=list)
    rows: int = 0
    items_max: int = 0
    first_arrived: float = float("inf")

    def add(self, span: Span, *, in_front: bool = False) -> None:
        self.spans.insert(0 if in_front else len(self.spans), span)
        self.rows += len(span)
        self.items_max += len(span)
        self.first_arrived = min(self.first_arrived, span.first_arrived)

    def drop(self, spans: Collection[Span]) -> None:
        self.spans = [span for span in self.spans if span not in spans]
        self.rows = sum(map(len, self.spans))
        self.items_max = min(self.items_max, self.rows)
        self.first_arrived = min((span.first_arrived for span in self.spans), default=float("inf"))


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows that leave a window together: all pending changes of ``items`` items, superseded ones too."""

    rows: pl.DataFrame
    items: int
    plan: Plan


class Windows:
    """Every location's window, and the blocks their rows live in."""

    def __init__(self, item_key: Sequence[str]) -> None:
        self._item_key = tuple(item_key)
        self._blocks = Blocks()
        self._windows: dict[str, Window] = {}
        self.rows = 0
        """Pending rows of all windows."""

    def __len__(self) -> int:
        return len(self._windows)

    def __iter__(self) -> Iterator[Window]:
        return iter(self._windows.values())

    def get(self, location: str) -> Window | None:
        return self._windows.get(location)

    @property
    def blocks(self) -> int:
        return len(self._blocks)

    def add(self, rows: pl.DataFrame, *, in_front: bool = False) -> list[Window]:
        """Add rows, each with its arrival; those put back keep the arrival, and so the place, they had.

        ``in_front``: before other rows of the same arrival. Returns the windows that grew.
        """
        grown = [self._grow(span, in_front=in_front) for span in self._blocks.add(rows)]
        self.rows += rows.height
        self._compact()
        return grown

    def take(self, window: Window, *, due_arrived: float, limits: Limits) -> Taken | None:
        """Take the rows that the planner lets go now, or None; rows that arrived until ``due_arrived`` are due.

        Items leave in the order of their first pending change. Where an item's attributes would pass the OMS's limit,
        its oldest changes go and the rest stays (rule 19).
        """
        rows = rows_of(window.spans)
        first = rows.select(self._key(rows)).to_series().is_first_distinct()
        window.items_max = items = int(first.sum())
        due = int((first & (rows[ARRIVED] <= due_arrived)).sum())
        plan = plan_items(items, due, limits)
        if not plan.items:
            return None
        go, stay = self._split(rows, first, plan.items)
        go, overfull = split_overfull(go, self._item_key)
        self._remove(window)
        for rest in (stay, overfull):
            if rest.height:
                self.add(rest, in_front=True)
        return Taken(go, plan.items, plan)

    def forget(self, assignments: Collection[int]) -> None:
        """Drop the rows of these assignments, also in windows and blocks that mix partitions."""
        gone = list(assignments)
        for block in list(self._blocks):
            if block.frame[ASSIGNMENT].is_in(gone).any():
                self._rebuild([block], drop=gone)

    def _key(self, rows: pl.DataFrame) -> pl.Expr:
        """The item key as one column; columns that are null throughout tell nothing apart and would only cost time."""
        telling = [name for name in self._item_key if rows[name].null_count() < rows.height]
        return pl.col(telling[0]) if len(telling) == 1 else pl.struct(telling or self._item_key[:1])

    def _split(self, rows: pl.DataFrame, first: pl.Series, items: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Split rows into all those of the first ``items`` items, and the rest."""
        distinct = int(first.sum())
        if items == distinct:
            return rows, rows.clear()
        if distinct == rows.height:
            return rows.head(items), rows.slice(items)
        cutoff = first.arg_true()[items]
        place = rows.with_row_index("_row").select(pl.col("_row").min().over(self._key(rows))).to_series()
        return rows.filter(place < cutoff), rows.filter(place >= cutoff)

    def _grow(self, span: Span, *, in_front: bool = False) -> Window:
        window = self._windows.get(span.location)
        if window is None:
            window = self._windows[span.location] = Window(span.location)
        window.add(span, in_front=in_front)
        return window

    def _remove(self, window: Window) -> None:
        self._blocks.release(window.spans)
        self.rows -= window.rows
        del self._windows[window.location]

    def _compact(self) -> None:
        wasteful = self._blocks.wasteful()
        if wasteful:
            self._rebuild(wasteful, drop=())

    def _rebuild(self, blocks: Sequence[Block], drop: Sequence[int]) -> None:
        """Move the live rows of these blocks to a new one, without those of the assignments to drop."""
        spans = [span for block in blocks for span in block.spans]
        frame = rows_of(spans)
        kept = frame.filter(~pl.col(ASSIGNMENT).is_in(list(drop))) if drop else frame
        self._blocks.release(spans)
        self.rows -= frame.height - kept.height
        moved = set(spans)
        bounds = {}
        for location in {span.location for span in spans}:
            window = self._windows[location]
            bounds[location] = window.items_max
            window.drop(moved)
        for span in self._blocks.add(kept):
            self._grow(span)
        for location, bound in bounds.items():
            window = self._windows[location]
            window.items_max = min(bound, window.rows)
            if not window.rows:
                del self._windows[location]
