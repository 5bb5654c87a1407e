"""Pending rows in blocks: frames of changes sorted by location, and spans into them.

A poll becomes one block, so it costs one sort and one short loop over its locations. (A small frame per location and
poll would cost 6 kB each, however few its rows.)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from consumer.core.changes.items import (
    ARRIVED,
    CHANGE_SCHEMA,
    ITEM_COLUMNS,
    LINE,
    LOCATION,
    SUPERSEDED,
    SUPERSEDED_TYPE,
)

_PENDING_SCHEMA = {**CHANGE_SCHEMA, ARRIVED: pl.Float64(), SUPERSEDED: SUPERSEDED_TYPE}
_ABSENT = {name: pl.Series(name, [None], dtype=dtype) for name, dtype in _PENDING_SCHEMA.items()}
_ABSENT[LINE] = pl.Series(LINE, [0], dtype=_PENDING_SCHEMA[LINE])
_MOSTLY_EMPTY = {*ITEM_COLUMNS, SUPERSEDED}

SPARSE_SHARE = 0.25
"""A block with a smaller share of live rows is rewritten: a held location must not pin a whole block."""
SMALL_ROWS = 4_096
"""Blocks with fewer rows are small: a trickle makes many of them, and each costs kilobytes on top of its rows."""
SMALL_BLOCKS_MAX = 32
"""More small blocks than this are merged into one."""


class Rows:
    """Rows that leave a window, oldest first: slices that are joined into one frame on first use.

    That happens on a worker thread, where the request's body is made: joining costs more than deciding what leaves.

    ``overlay`` has newer changes of the same items. Their values are laid over the body, but they are not sent with it:
    they still wait, or have been sent before. So a request may carry only some of an item's changes, with its newest
    count.
    """

    def __init__(self, *parts: pl.DataFrame, overlay: pl.DataFrame | None = None) -> None:
        self._parts = parts
        self._present: pl.DataFrame | None = None
        self.overlay = None if overlay is None or overlay.is_empty() else overlay
        self.height = sum(part.height for part in parts)

    @property
    def present(self) -> pl.DataFrame:
        """The columns that may have a value, ``CHANGE_ID`` among them, joined once.

        If two threads ask at the same time both join, and either result will do.
        """
        if self._present is None:
            self._present = _concat(self._parts)
        return self._present

    @property
    def frame(self) -> pl.DataFrame:
        """All columns of pending rows, those without a value too: many times the work of ``present``."""
        return _with_all_columns(self.present)

    @property
    def body(self) -> pl.DataFrame:
        """The rows that the request's body is made of: ``present`` and ``overlay``."""
        return self.present if self.overlay is None else _concat([self.present, self.overlay])

    def column(self, name: str) -> pl.Series:
        """One column, without joining the others."""
        return pl.concat([part[name] for part in self._parts])

    def first_arrived(self) -> float:
        """When the oldest of the rows was read, monotonic seconds."""
        return float(self._parts[0].item(0, ARRIVED))


@dataclass(eq=False, slots=True)
class Block:
    """Rows sorted by location; ``spans`` are those whose rows are still pending.

    ``frame`` lacks the columns without information (no value in any row): most changes have few optional columns, and
    every column costs memory, and time whenever rows are sliced or joined.
    ``key`` is the item key's only column with values in this block, None if there are several: with one, the planner
    needs no joined rows.
    """

    frame: pl.DataFrame
    key: str | None
    spans: dict["Span", None] = field(default_factory=dict)
    live: int = 0

    @property
    def sparse(self) -> bool:
        return self.live < SPARSE_SHARE * self.frame.height

    @property
    def small(self) -> bool:
        return self.frame.height < SMALL_ROWS


@dataclass(eq=False, slots=True)
class Span:
    """The rows ``start`` to ``stop`` of a block, all of one location, by arrival from the first to the last."""

    block: Block
    location: str
    start: int
    stop: int
    first_arrived: float
    last_arrived: float

    def __len__(self) -> int:
        return self.stop - self.start

    def rows(self) -> pl.DataFrame:
        return self.block.frame.slice(self.start, len(self))

    def column(self, name: str) -> pl.Series:
        return self.block.frame[name].slice(self.start, len(self))

    def arrived_until(self, time: float) -> int:
        """Number of rows that had arrived by this time."""
        if self.last_arrived <= time:
            return len(self)
        return 0 if self.first_arrived > time else int((self.column(ARRIVED) <= time).sum())


class Blocks:
    """All blocks with pending rows."""

    def __init__(self, item_key: Sequence[str]) -> None:
        self._item_key = item_key
        self._blocks: dict[Block, None] = {}

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks)

    def add(self, frame: pl.DataFrame) -> list[Span]:
        """Make a block of a frame with an arrival in every row, each location's oldest first; one span per location."""
        if frame.is_empty():
            return []
        narrow = _narrowed(frame)
        ordered = narrow if narrow[LOCATION].is_sorted() else narrow.sort(LOCATION, maintain_order=True)
        block = self._block(ordered)
        runs = block.frame[LOCATION].rle().struct.unnest()
        stops = runs["len"].cum_sum()
        starts = stops - runs["len"]
        arrived = block.frame[ARRIVED]
        return self._keep(
            block, zip(runs["value"], starts, stops, arrived[starts], arrived[stops.cast(pl.Int64) - 1], strict=True)
        )

    def add_one(self, location: str, rows: pl.DataFrame) -> Span:
        """Make a block of rows of one location, oldest first."""
        block = self._block(_narrowed(rows))
        return self._keep(block, [(location, 0, rows.height, rows.item(0, ARRIVED), rows.item(-1, ARRIVED))])[0]

    def split(self, span: Span, rows: int) -> tuple[Span, Span]:
        """Cut a span in two after this many rows."""
        block, cut = span.block, span.start + rows
        before, behind = block.frame.item(cut - 1, ARRIVED), block.frame.item(cut, ARRIVED)
        parts = (
            Span(block, span.location, span.start, cut, span.first_arrived, before),
            Span(block, span.location, cut, span.stop, behind, span.last_arrived),
        )
        del block.spans[span]
        block.spans.update(dict.fromkeys(parts))
        return parts

    def _block(self, frame: pl.DataFrame) -> Block:
        present = [name for name in self._item_key if name in frame.columns]
        return Block(frame, present[0] if len(present) == 1 else None)

    def _keep(self, block: Block, runs: Iterable[tuple[str, int, int, float, float]]) -> list[Span]:
        block.spans = dict.fromkeys(Span(block, *run) for run in runs)
        block.live = block.frame.height
        self._blocks[block] = None
        return list(block.spans)

    def release(self, spans: Sequence[Span]) -> None:
        """These spans' rows are no longer pending here."""
        for span in spans:
            block = span.block
            del block.spans[span]
            block.live -= len(span)
            if not block.spans:
                del self._blocks[block]

    def wasteful(self) -> list[Block]:
        """Blocks whose rows should be moved to a new block together."""
        found = [block for block in self._blocks if block.sparse]
        small = [block for block in self._blocks if block.small and not block.sparse]
        return found + small if len(small) > SMALL_BLOCKS_MAX else found


def _narrowed(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame without the columns that carry no information: no value in any row, or line 0 in all of them."""
    empty = {name for name in frame.columns if name in _MOSTLY_EMPTY and frame[name].null_count() == frame.height}
    if LINE in frame.columns and not frame[LINE].max():
        empty.add(LINE)
    return frame[[name for name in frame.columns if name not in empty]]


def _joined(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The parts as one frame with all columns of ``_PENDING_SCHEMA``."""
    return _with_all_columns(_concat(parts))


def _concat(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The parts as one frame with the columns that any of them has, and the line."""
    columns = parts[0].columns if parts else []
    if len(parts) == 1:
        frame = parts[0]
    elif not parts or any(part.columns != columns for part in parts):
        frame = pl.concat(parts, how="diagonal", rechunk=True)
    else:  # as pl.concat, at half the price for the few parts of a small request
        frame = parts[0].vstack(parts[1])
        for part in parts[2:]:
            frame.vstack(part, in_place=True)
        frame = frame.rechunk()
    # A part without the line has line 0 in all rows.
    if LINE not in frame.columns:
        return frame.hstack([_ABSENT[LINE].new_from_index(0, frame.height)])
    return frame if not frame[LINE].null_count() else frame.with_columns(pl.col(LINE).fill_null(0))


def _with_all_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with all columns of ``_PENDING_SCHEMA``, in that order."""
    if frame.columns == list(_PENDING_SCHEMA):
        return frame
    present = set(frame.columns)
    # Literals in a select would cost several times as much.
    return pl.DataFrame(
        [frame[name] if name in present else _ABSENT[name].new_from_index(0, frame.height) for name in _PENDING_SCHEMA]
    )


def rows_of(spans: Sequence[Span]) -> pl.DataFrame:
    """The spans' rows as one frame, in the order of their arrival."""
    frame = _joined([span.rows() for span in spans])
    return frame if frame[ARRIVED].is_sorted() else frame.sort(ARRIVED, maintain_order=True)
