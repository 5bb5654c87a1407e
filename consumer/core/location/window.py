"""The pending changes of all locations: a window each, over shared blocks."""

from bisect import bisect_left, insort_left, insort_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from operator import attrgetter

import polars as pl

from consumer.core.changes.blocks import Block, Blocks, Rows, Span, rows_of
from consumer.core.changes.coalesce import item_key_expr, newest_last, split_overfull, superseded, without_attributes
from consumer.core.changes.items import ARRIVED, ASSIGNMENT, LOCATION, OFFSET
from consumer.core.location.bisection import CHANGE_ID, Suspects, chosen
from consumer.core.location.planner import FlushPlan, ItemLimits, plan_items

_first_arrived = attrgetter("first_arrived")


@dataclass(eq=False, slots=True)
class Window:
    """One location's pending changes. ``items_max`` bounds its distinct items from above; counting makes it exact."""

    location: str
    spans: list[Span] = field(default_factory=list)
    """By first arrival, so that joined they are rarely out of order."""
    rows: int = 0
    items_max: int = 0
    first_arrived: float = float("inf")

    def add(self, span: Span, *, in_front: bool = False) -> None:
        """Put the span where its first arrival belongs; ``in_front``: before others of the same arrival."""
        insert = insort_left if in_front else insort_right
        insert(self.spans, span, key=_first_arrived)
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
    """Rows that leave a window together: all pending changes of ``plan.items`` items, superseded ones too."""

    rows: Rows
    plan: FlushPlan


class Windows:
    """Every location's window, and the blocks their rows live in."""

    def __init__(self, item_key: Sequence[str]) -> None:
        self._item_key = tuple(item_key)
        self._blocks = Blocks(self._item_key)
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

    def add(self, rows: pl.DataFrame) -> list[Window]:
        """Add rows, each with its arrival, oldest first in each location. Returns the windows that grew."""
        grown = [self._grow(span) for span in self._blocks.add(rows)]
        self.rows += rows.height
        self._compact()
        return grown

    def put_back(self, location: str, rows: pl.DataFrame) -> Window | None:
        """Give rows of one location their place again, by their arrival, before others of the same arrival."""
        if rows.is_empty():
            return self._windows.get(location)
        window = self._grow(self._blocks.add_one(location, rows), in_front=True)
        self.rows += rows.height
        self._compact()
        return window

    def take(self, window: Window, *, due_arrived: float, limits: ItemLimits) -> Taken | None:
        """Take the rows that the planner lets go now, or None; rows that arrived until ``due_arrived`` are due.

        Items leave in the order of their first pending change. Where an item's attributes would pass the OMS's limit,
        its oldest changes go, with the newest count, and the rest stays (rule 19).
        """
        if self._has_one_change_an_item(window):
            return self._take_spans(window, due_arrived, limits)
        rows = rows_of(window.spans)
        first = self._first_of_items(rows)
        is_due = rows[ARRIVED] <= due_arrived
        window.items_max = items = rows.height if first is None else int(first.sum())
        due = int((is_due if first is None else is_due & first).sum())
        plan = plan_items(items, due, limits)
        if not plan.items:
            return None
        go, stay = self._split(rows, first, plan.items)
        go, overfull = split_overfull(go, self._item_key)
        self._remove(window)
        for rest in (stay, overfull):
            self.put_back(window.location, rest)
        return Taken(Rows(go, beside=without_attributes(overfull)), plan)

    def take_part(self, window: Window, part: Suspects) -> Rows | None:
        """Take all pending changes of the part's items (rule 19 holds here too), or the next one alone; None: none.

        These are suspects of a refused request: they leave whatever the planner says of the rest of the window.
        """
        rows = rows_of(window.spans)
        mask = chosen(rows, part.keys)
        suspects = rows.filter(mask)
        if suspects.is_empty():
            return None
        if part.one_by_one:
            to_try = part.to_try(suspects)
            if to_try.is_empty():
                return None
            go = newest_last(to_try, self._item_key).tail(1)
            rest, beside = suspects.join(go, on=CHANGE_ID, how="anti", maintain_order="left"), part.good
        else:
            go, rest = split_overfull(suspects, self._item_key)
            beside = without_attributes(rest)
        self._remove(window)
        for stays in (rows.filter(~mask), rest):
            self.put_back(window.location, stays)
        return Rows(go, beside=beside)

    def take_arrived(self, window: Window, keys: pl.DataFrame, until: float) -> pl.DataFrame:
        """Take the changes of these items that had arrived by then, out of the window for good."""
        rows = rows_of(window.spans)
        mask = chosen(rows, keys) & (rows[ARRIVED] <= until)
        self._remove(window)
        self.put_back(window.location, rows.filter(~mask))
        return rows.filter(mask)

    def rows_of(self, window: Window) -> pl.DataFrame:
        """The window's rows, in the order of their arrival."""
        return rows_of(window.spans)

    def coalesce(self) -> pl.DataFrame:
        """Drop the rows that newer ones make superfluous, in all windows; returns assignments and offsets now free."""
        spans = [span for block in self._blocks for span in block.spans]
        if not spans:
            return pl.DataFrame(schema={ASSIGNMENT: pl.Int32, OFFSET: pl.Int64})
        stay, free = superseded(rows_of(spans), (LOCATION, *self._item_key))
        self._blocks.release(spans)
        self._windows.clear()
        self.rows = 0
        self.add(stay)
        return free

    def forget(self, assignments: Collection[int]) -> None:
        """Drop the rows of these assignments, also in windows and blocks that mix partitions."""
        gone = list(assignments)
        for block in list(self._blocks):
            if block.frame[ASSIGNMENT].is_in(gone).any():
                self._rebuild([block], drop=gone)

    def _has_one_change_an_item(self, window: Window) -> bool:
        """The common case, found by the item key alone; False if that, or the order, cannot be told so cheaply."""
        spans = window.spans
        key = spans[0].block.key
        in_order = all(before.last_arrived <= after.first_arrived for before, after in pairwise(spans))
        if key is None or not in_order or any(span.block.key != key for span in spans):
            return False
        keys = pl.concat([span.column(key) for span in spans])
        return keys.n_unique() == len(keys)

    def _take_spans(self, window: Window, due_arrived: float, limits: ItemLimits) -> Taken | None:
        """``take`` where each row is an item and the spans are in order: whole spans go, and a part of one."""
        window.items_max = window.rows
        due = sum(span.arrived_until(due_arrived) for span in window.spans)
        plan = plan_items(window.rows, due, limits)
        if not plan.items:
            return None
        go = self._first_spans(window, plan.items)
        rows = Rows(*(span.rows() for span in go))
        self._blocks.release(go)
        self.rows -= plan.items
        window.drop(set(go))
        if not window.rows:
            del self._windows[window.location]
        return Taken(rows, plan)

    def _first_spans(self, window: Window, rows: int) -> list[Span]:
        """The window's oldest spans that have so many rows together, the last one cut if need be."""
        stops = list(accumulate(map(len, window.spans)))
        last = bisect_left(stops, rows)
        if stops[last] > rows:
            span = window.spans[last]
            window.spans[last : last + 1] = self._blocks.split(span, len(span) - (stops[last] - rows))
        return window.spans[: last + 1]

    def _first_of_items(self, rows: pl.DataFrame) -> pl.Series | None:
        """Which rows are the first of their item; None: all are, as in the common case of one change an item."""
        key = rows.select(item_key_expr(rows, self._item_key)).to_series()
        return None if key.n_unique() == rows.height else key.is_first_distinct()

    def _split(self, rows: pl.DataFrame, first: pl.Series | None, items: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Split rows into all those of the first ``items`` items, and the rest."""
        if first is None:
            return rows.head(items), rows.slice(items)
        if items == first.sum():
            return rows, rows.clear()
        cutoff = first.arg_true()[items]
        place = (
            rows.with_row_index("_row")
            .select(pl.col("_row").min().over(item_key_expr(rows, self._item_key)))
            .to_series()
        )
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
