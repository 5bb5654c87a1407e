"""The windows: the pending changes of each location, as spans of blocks that all locations share."""

from bisect import bisect_left, insort_left, insort_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Final

import polars as pl

from consumer.core.changes.blocks import Block, Blocks, Rows, Span, rows_of
from consumer.core.changes.coalesce import item_key_expr, rows_with_keys, split_overfull, superseded, without_attributes
from consumer.core.changes.items import ARRIVED, ASSIGNMENT, CHANGE_ID, CHANGE_SCHEMA, LOCATION
from consumer.core.location.planner import FlushPlan, ItemLimits, plan_items

_first_arrived = attrgetter("first_arrived")
_NEVER: Final = float("inf")


@dataclass(eq=False, slots=True)
class Window:
    """The pending changes of one location. ``items_max`` is an upper bound of its distinct items."""

    location: str
    spans: list[Span] = field(default_factory=list)
    """Sorted by first arrival, so that their rows are rarely out of order once joined."""
    rows: int = 0
    items_max: int = 0
    first_arrived: float = _NEVER

    def add(self, span: Span, *, in_front: bool = False) -> None:
        """Insert a span by its first arrival; with ``in_front`` before spans of the same arrival."""
        insert = insort_left if in_front else insort_right
        insert(self.spans, span, key=_first_arrived)
        self.rows += len(span)
        self.items_max += len(span)
        self.first_arrived = min(self.first_arrived, span.first_arrived)

    def clear(self) -> None:
        self.spans, self.rows, self.items_max, self.first_arrived = [], 0, 0, _NEVER

    def remove(self, spans: Collection[Span]) -> None:
        self.spans = [span for span in self.spans if span not in spans]
        self.rows = sum(map(len, self.spans))
        self.items_max = min(self.items_max, self.rows)
        self.first_arrived = min((span.first_arrived for span in self.spans), default=_NEVER)


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows taken out of a window together: the changes of ``plan.items`` items."""

    rows: Rows
    plan: FlushPlan


class Windows:
    """The pending rows of all locations. Each location owns its window; the blocks are shared.

    ``window_of`` must return the window of a location, and create it for the first change of a location.
    """

    def __init__(self, item_key: Sequence[str], window_of: Callable[[str], Window]) -> None:
        self._item_key = tuple(item_key)
        self._blocks = Blocks(self._item_key)
        self._window_of = window_of
        self.rows = 0
        """Pending rows of all windows."""

    @property
    def blocks(self) -> int:
        return len(self._blocks)

    def add(self, rows: pl.DataFrame) -> list[Window]:
        """Add rows with arrival times, each location's oldest first. Returns the windows that grew."""
        grown = [self._grow(span) for span in self._blocks.add(rows)]
        self.rows += rows.height
        self._compact()
        return grown

    def put_back(self, window: Window, rows: pl.DataFrame) -> None:
        """Put rows that were taken back in their place by arrival, before others of the same arrival."""
        if rows.is_empty():
            return
        window.add(self._blocks.add_one(window.location, rows), in_front=True)
        self.rows += rows.height
        self._compact()

    def take(self, window: Window, *, due_arrived: float, limits: ItemLimits) -> Taken | None:
        """Take the rows that the planner wants to send now; None if there are none.

        Rows that arrived up to ``due_arrived`` are due. Items are taken in the order of their first pending change. If
        the attributes of an item would exceed the OMS's limit, its oldest changes are taken, with the newest count as
        overlay, and the rest stays (rule 19).
        """
        if self._has_one_change_per_item(window):
            return self._take_spans(window, due_arrived, limits)
        rows = rows_of(window.spans)
        first = self._first_of_items(rows)
        is_due = rows[ARRIVED] <= due_arrived
        window.items_max = items = rows.height if first is None else int(first.sum())
        due = int((is_due if first is None else is_due & first).sum())
        plan = plan_items(items, due, limits)
        if not plan.items:
            return None
        leaving, staying = self._split(rows, first, plan.items)
        leaving, overfull = split_overfull(leaving, self._item_key)
        self._clear(window)
        for rest in (staying, overfull):
            self.put_back(window, rest)
        return Taken(Rows(leaving, overlay=without_attributes(overfull)), plan)

    def take_items(self, window: Window, keys: pl.DataFrame, *, arrived_until: float = _NEVER) -> pl.DataFrame:
        """Take all pending changes of these items (one row of key columns each) that arrived up to this time."""
        rows = rows_of(window.spans)
        mask = rows_with_keys(rows, keys) & (rows[ARRIVED] <= arrived_until)
        taken = rows.filter(mask)
        if taken.height:
            self._clear(window)
            self.put_back(window, rows.filter(~mask))
        return taken

    def rows_of(self, window: Window) -> pl.DataFrame:
        """The window's rows in order of arrival."""
        return rows_of(window.spans) if window.spans else pl.DataFrame(schema={**CHANGE_SCHEMA, ARRIVED: pl.Float64()})

    def coalesce(self) -> tuple[list[Window], pl.DataFrame]:
        """Drop the rows that newer ones make redundant, in all windows.

        Returns the windows that have rows, and the released change ids (columns ``CHANGE_ID``).
        """
        spans = [span for block in self._blocks for span in block.spans]
        if not spans:
            return [], pl.DataFrame(schema={name: CHANGE_SCHEMA[name] for name in CHANGE_ID})
        staying, released = superseded(rows_of(spans), (LOCATION, *self._item_key))
        for location in {span.location for span in spans}:
            self._clear(self._window_of(location))
        return self.add(staying), released

    def forget(self, assignment_ids: Collection[int]) -> list[Window]:
        """Drop the rows of these assignments. Returns the windows whose rows were dropped or moved."""
        gone = list(assignment_ids)
        shrunk: dict[Window, None] = {}
        for block in list(self._blocks):
            if block.frame[ASSIGNMENT].is_in(gone).any():
                shrunk.update(dict.fromkeys(self._rebuild([block], drop=gone)))
        return list(shrunk)

    def _has_one_change_per_item(self, window: Window) -> bool:
        """Cheap check for the common case: spans in order and one change per item. False also if it cannot tell."""
        spans = window.spans
        key = spans[0].block.key
        in_order = all(before.last_arrived <= after.first_arrived for before, after in pairwise(spans))
        if key is None or not in_order or any(span.block.key != key for span in spans):
            return False
        keys = pl.concat([span.column(key) for span in spans])
        return keys.n_unique() == len(keys)

    def _take_spans(self, window: Window, due_arrived: float, limits: ItemLimits) -> Taken | None:
        """``take`` if each row is an item and the spans are in order: takes whole spans, and a part of the last one."""
        window.items_max = window.rows
        due = sum(span.arrived_until(due_arrived) for span in window.spans)
        plan = plan_items(window.rows, due, limits)
        if not plan.items:
            return None
        leaving = self._first_spans(window, plan.items)
        rows = Rows(*(span.rows() for span in leaving))
        self._blocks.release(leaving)
        self.rows -= plan.items
        window.remove(set(leaving))
        return Taken(rows, plan)

    def _first_spans(self, window: Window, rows: int) -> list[Span]:
        """The window's oldest spans with this many rows in total; the last one is split if necessary."""
        stops = list(accumulate(map(len, window.spans)))
        last = bisect_left(stops, rows)
        if stops[last] > rows:
            span = window.spans[last]
            window.spans[last : last + 1] = self._blocks.split(span, len(span) - (stops[last] - rows))
        return window.spans[: last + 1]

    def _first_of_items(self, rows: pl.DataFrame) -> pl.Series | None:
        """Which rows are the first of their item; None if all are, the common case of one change per item."""
        key = rows.select(item_key_expr(rows, self._item_key)).to_series()
        return None if key.n_unique() == rows.height else key.is_first_distinct()

    def _split(self, rows: pl.DataFrame, first: pl.Series | None, items: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Split rows into those of the first ``items`` items and the rest."""
        if first is None:
            return rows.head(items), rows.slice(items)
        if items == first.sum():
            return rows, rows.clear()
        cutoff = first.arg_true()[items]
        first_row = (
            rows.with_row_index("_row")
            .select(pl.col("_row").min().over(item_key_expr(rows, self._item_key)))
            .to_series()
        )
        return rows.filter(first_row < cutoff), rows.filter(first_row >= cutoff)

    def _grow(self, span: Span) -> Window:
        window = self._window_of(span.location)
        window.add(span)
        return window

    def _clear(self, window: Window) -> None:
        self._blocks.release(window.spans)
        self.rows -= window.rows
        window.clear()

    def _compact(self) -> None:
        wasteful = self._blocks.wasteful()
        if wasteful:
            self._rebuild(wasteful, drop=())

    def _rebuild(self, blocks: Sequence[Block], drop: Sequence[int]) -> list[Window]:
        """Move the live rows of these blocks to a new one, except for those of the assignments to drop.

        Returns the windows with rows in these blocks.
        """
        spans = [span for block in blocks for span in block.spans]
        frame = rows_of(spans)
        kept = frame.filter(~pl.col(ASSIGNMENT).is_in(list(drop))) if drop else frame
        self._blocks.release(spans)
        self.rows -= frame.height - kept.height
        moved = set(spans)
        bounds = {window: window.items_max for window in map(self._window_of, {span.location for span in spans})}
        for window in bounds:
            window.remove(moved)
        for span in self._blocks.add(kept):
            self._grow(span)
        for window, bound in bounds.items():
            window.items_max = min(bound, window.rows)
        return list(bounds)
