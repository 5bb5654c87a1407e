"""The windows: the pending changes of each location, as spans of blocks that all locations share."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

import polars as pl

from consumer.core.changes.barriers import superseded_by
from consumer.core.changes.blocks import Blocks, Rows, SizeOf, Span, frame_bytes, live_rows, rows_of
from consumer.core.changes.coalesce import (
    COALESCING_COPIES,
    have_several,
    item_key_expr,
    rows_with_keys,
    split_overfull,
    superseded,
    without_attributes,
)
from consumer.core.changes.items import ARRIVED, ASSIGNMENT, CHANGE_ID, CHANGE_SCHEMA, LOCATION
from consumer.core.location.blocking import Blocking, blocking_locations
from consumer.core.location.planner import FlushPlan, ItemLimits, Planner, plan_items

_NEVER: Final = float("inf")

SelectRows = Callable[[pl.DataFrame], pl.DataFrame]
"""Some of the rows, in their order."""


@dataclass(eq=False, slots=True)
class Window:
    """One location's pending changes; the rows themselves are in ``Windows``.

    ``items_max`` bounds its distinct items from above; counting makes it exact. ``is_coalesced``: redundant rows were
    dropped, and no row was added since. ``refused_at`` is when its location was last refused whole.
    """

    location: str
    rows: int = 0
    items_max: int = 0
    first_arrived: float = _NEVER
    is_coalesced: bool = False
    refused_at: float = -_NEVER

    def add(self, rows: int, first_arrived: float) -> None:
        self.rows += rows
        self.items_max += rows
        self.first_arrived = min(self.first_arrived, first_arrived)
        self.is_coalesced = False

    def clear(self) -> None:
        self.rows, self.items_max, self.first_arrived = 0, 0, _NEVER


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows taken out of a window together: the changes of ``plan.items`` items."""

    rows: Rows
    plan: FlushPlan


class Windows:
    """The pending rows of all locations. Each location owns its window; the blocks are shared.

    ``window_of`` must return the window of a location, and create it for the first change of a location.
    """

    def __init__(
        self,
        item_key: Sequence[str],
        window_of: Callable[[str], Window],
        size_of: SizeOf = frame_bytes,
        coalescing_bytes_max: int = 24 * 1024 * 1024,
    ) -> None:
        self._coalescing_bytes_max = coalescing_bytes_max
        self._item_key = tuple(item_key)
        self._blocks = Blocks(self._item_key, size_of)
        self._window_of = window_of
        self.rows = 0
        """Pending rows of all windows."""

    @property
    def blocks(self) -> int:
        return len(self._blocks)

    @property
    def size_bytes(self) -> float:
        """Memory of the pending rows."""
        return self._blocks.size_bytes

    @property
    def row_bytes(self) -> float:
        """Memory per pending row; 0 without any."""
        return self.size_bytes / self.rows if self.rows else 0.0

    def add(self, rows: pl.DataFrame) -> list[Window]:
        """Add rows, each with its arrival, oldest first in each location. Returns the windows that grew."""
        grown = []
        window_of = self._window_of
        for location, count, first_arrived in self._blocks.add(rows):
            window = window_of(location)
            window.rows += count
            window.items_max += count
            window.first_arrived = min(window.first_arrived, first_arrived)
            window.is_coalesced = False
            grown.append(window)
        self.rows += rows.height
        self._blocks.merge()
        return grown

    def put_back(self, window: Window, rows: pl.DataFrame) -> None:
        """Return rows to their location's window by their arrival."""
        if rows.is_empty():
            return
        self._blocks.put_back(window.location, rows)
        window.add(rows.height, rows.item(0, ARRIVED))
        self.rows += rows.height
        self._blocks.merge()

    def take(
        self, window: Window, *, due_arrived: float, limits: ItemLimits, plan: Planner = plan_items
    ) -> Taken | None:
        """Take the rows that the planner lets leave now, or None. Rows that arrived until ``due_arrived`` are due.

        Rows that arrived up to ``due_arrived`` are due. Items are taken in the order of their first pending change. If
        the attributes of an item would exceed the OMS's limit, its oldest changes are taken, with the newest count as
        overlay, and the rest stays (rule 19).
        """
        spans = self._blocks.spans(window.location)
        if _has_one_change_per_item(spans):
            return self._take_spans(window, spans, due_arrived, limits, plan)
        rows = rows_of(spans)
        first = self._first_of_items(rows)
        is_due = rows[ARRIVED] <= due_arrived
        window.items_max = items = rows.height if first is None else int(first.sum())
        due = int((is_due if first is None else is_due & first).sum())
        planned = plan(items, due, limits)
        if not planned.items:
            return None
        leaving, staying = self._split(rows, first, planned.items)
        leaving, overfull = split_overfull(leaving, self._item_key)
        self._clear(window, spans)
        for rest in (staying, overfull):
            self.put_back(window, rest)
        return Taken(Rows(leaving, overlay=without_attributes(overfull)), planned)

    def take_items(self, window: Window, keys: pl.DataFrame, *, arrived_until: float = _NEVER) -> pl.DataFrame:
        """Take all pending changes of these items (a row of item key columns each) that had arrived by then."""
        rows = self.rows_of(window)
        mask = rows_with_keys(rows, keys) & (rows[ARRIVED] <= arrived_until)
        taken = rows.filter(mask)
        if taken.height:
            self._clear(window, self._blocks.spans(window.location))
            self.put_back(window, rows.filter(~mask))
        return taken

    def take_changes(self, window: Window, change_ids: pl.DataFrame) -> pl.DataFrame:
        """Take these changes (columns ``CHANGE_ID``), as far as they are pending."""
        rows = self.rows_of(window)
        taken = rows.join(change_ids, on=CHANGE_ID, how="semi", maintain_order="left")
        if taken.height:
            self._clear(window, self._blocks.spans(window.location))
            self.put_back(window, rows.join(change_ids, on=CHANGE_ID, how="anti", maintain_order="left"))
        return taken

    def take_superseded(self, window: Window, barriers: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """Take the rows that are older than a barrier of their item (rule 27); None if there are none.

        Returns them with the result of ``barriers.superseded_by``.
        """
        spans = self._blocks.spans(window.location)
        if not any(_may_have_item_of(span, barriers) for span in spans):
            return None
        rows = rows_of(spans)
        superseded = superseded_by(rows, barriers, self._item_key)
        if superseded.is_empty():
            return None
        self._clear(window, spans)
        self.put_back(window, rows.join(superseded, on=CHANGE_ID, how="anti", maintain_order="left"))
        return rows.join(superseded, on=CHANGE_ID, how="semi", maintain_order="left"), superseded

    def rows_of(self, window: Window) -> pl.DataFrame:
        """The window's rows, in the order of their arrival."""
        spans = self._blocks.spans(window.location)
        return rows_of(spans) if spans else pl.DataFrame(schema={**CHANGE_SCHEMA, ARRIVED: pl.Float64()})

    def matching(self, window: Window, select: SelectRows) -> list[pl.DataFrame]:
        """What ``select`` leaves of the window's rows, span by span; columns without information may be missing."""
        return [select(span.rows()) for span in self._blocks.spans(window.location)]

    def blocking_locations(self, offsets: Mapping[int, int]) -> list[Blocking]:
        """See ``blocking.blocking_locations``."""
        return blocking_locations(self._blocks, offsets)

    def coalesce(self) -> tuple[list[Window], list[pl.DataFrame]]:
        """Drop the rows that newer ones make redundant, in all windows, some locations at a time.

        Returns the windows that have had rows added since the last time, and the released change ids (columns
        ``CHANGE_ID``). Copies take at most ``coalescing_bytes_max``, or what a single location needs.
        """
        locations = sorted({location for block in self._blocks for location in block.runs})
        windows = [window for window in map(self._window_of, locations) if not window.is_coalesced]
        rows_max = int(self._coalescing_bytes_max / (COALESCING_COPIES * max(self.row_bytes, 1.0)))
        released = [self._coalesce_some(group) for group in _grouped(windows, rows_max)]
        return windows, released

    def _coalesce_some(self, windows: Sequence[Window]) -> pl.DataFrame:
        spans = {window: self._blocks.spans(window.location) for window in windows}
        rows = rows_of([span for found in spans.values() for span in found])
        repeated = have_several(rows, (LOCATION, *self._item_key))
        with_repeats = set(rows.filter(repeated)[LOCATION].unique().to_list())
        for window in windows:
            window.is_coalesced = True
            if window.location not in with_repeats:
                window.items_max = window.rows
        if not with_repeats:  # windows of distinct items stay where they are: to move them takes their memory again
            return rows.clear().select(CHANGE_ID)
        staying, released = superseded(rows.filter(pl.col(LOCATION).is_in(with_repeats)), (LOCATION, *self._item_key))
        bounds = {window.location: window.items_max for window in windows}
        for window, found in spans.items():
            if window.location in with_repeats:
                self._clear(window, found)
        self.rows += staying.height
        for location, count, first_arrived in self._blocks.add(staying):
            window = self._window_of(location)
            window.add(count, first_arrived)
            window.items_max = min(window.items_max, bounds[location])
            window.is_coalesced = True
        self._blocks.merge()
        return released

    def forget(self, assignment_ids: Collection[int]) -> list[Window]:
        """Drop the rows of these assignments. Returns the windows whose rows were dropped or moved."""
        gone = list(assignment_ids)
        shrunk: dict[Window, None] = {}
        for block in list(self._blocks):
            if not block.frame[ASSIGNMENT].is_in(gone).any():
                continue
            rows = live_rows([block])
            kept = rows.filter(~pl.col(ASSIGNMENT).is_in(gone))
            if kept.height < rows.height:
                shrunk.update(dict.fromkeys(map(self._window_of, block.runs)))
                self._blocks.replace([block], kept)
                self.rows -= rows.height - kept.height
        for window in shrunk:
            spans = self._blocks.spans(window.location)
            window.rows = sum(map(len, spans))
            window.items_max = min(window.items_max, window.rows)
            window.first_arrived = spans[0].first_arrived if spans else _NEVER
        return list(shrunk)

    def _take_spans(
        self, window: Window, spans: list[Span], due_arrived: float, limits: ItemLimits, plan: Planner
    ) -> Taken | None:
        """``take`` where each row is an item: nothing is joined or put back, the beginnings of spans leave."""
        window.items_max = window.rows
        due = sum(span.arrived_until(due_arrived) for span in spans)
        planned = plan(window.rows, due, limits)
        if not planned.items:
            return None
        leaving = spans if planned.items == window.rows else _oldest_rows(spans, planned.items)
        rows = Rows(*(span.rows() for span in leaving), is_distinct=True)
        self._blocks.release(window.location, leaving)
        self.rows -= planned.items
        window.rows -= planned.items
        window.items_max = window.rows
        staying = self._blocks.spans(window.location) if window.rows else ()
        window.first_arrived = staying[0].first_arrived if staying else _NEVER
        return Taken(rows, planned)

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

    def _clear(self, window: Window, spans: Sequence[Span]) -> None:
        self._blocks.release(window.location, spans)
        self.rows -= window.rows
        window.clear()


def _grouped(windows: Iterable[Window], rows_max: int) -> Iterator[list[Window]]:
    """The windows in groups of about this many rows."""
    group: list[Window] = []
    rows = 0
    for window in windows:
        group.append(window)
        rows += window.rows
        if rows >= rows_max:
            yield group
            group, rows = [], 0
    if group:
        yield group


def _has_one_change_per_item(spans: Sequence[Span]) -> bool:
    """The common case, found by one column of the item key; False if that cannot be seen so cheaply."""
    key = spans[0].block.key
    if key is None or any(span.block.key != key for span in spans):
        return False
    keys = spans[0].column(key) if len(spans) == 1 else pl.concat([span.column(key) for span in spans])
    return keys.n_unique() == len(keys)


def _may_have_item_of(span: Span, barriers: pl.DataFrame) -> bool:
    """Whether a span may have changes of the barriers' items, by one column of the item key: most have none."""
    key = span.block.key
    if key is None or barriers[key].null_count():
        return True
    return bool(span.column(key).is_in(barriers[key].implode()).any())


def _oldest_rows(spans: Sequence[Span], rows: int) -> list[Span]:
    """The beginnings of the spans that have, together, this many of the oldest rows."""
    if all(before.last_arrived <= after.first_arrived for before, after in pairwise(spans)):
        lengths = [len(span) for span in spans]
    else:  # merged blocks may overlap: the rows up to some arrival leave, and as many as necessary that arrived then
        last = pl.concat([span.column(ARRIVED) for span in spans]).sort().item(rows - 1)
        before_last = [span.arrived_before(last) for span in spans]
        until_last = [span.arrived_until(last) for span in spans]
        rows -= sum(before_last)
        leaving = []
        for before, until in zip(before_last, until_last, strict=True):
            extra = min(until - before, rows)
            leaving.append(before + extra)
            rows -= extra
        return [span.head(length) for span, length in zip(spans, leaving, strict=True) if length]
    stops = list(accumulate(lengths))
    last_span = bisect_left(stops, rows)
    return [*spans[:last_span], spans[last_span].head(rows - stops[last_span] + lengths[last_span])]
