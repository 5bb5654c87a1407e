"""Pending rows in blocks: frames of changes grouped by location, and spans into them.

A poll becomes one block, so it costs one sort and one short loop over its locations. (A small frame per location and
poll would cost 6 kB each, however few its rows.)
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, compress, pairwise
from operator import attrgetter, sub
from typing import Final

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
from consumer.errors import InvariantError

_PENDING_SCHEMA = {**CHANGE_SCHEMA, ARRIVED: pl.Float64(), SUPERSEDED: SUPERSEDED_TYPE}
_ABSENT = {name: pl.Series(name, [None], dtype=dtype) for name, dtype in _PENDING_SCHEMA.items()}
_ABSENT[LINE] = pl.Series(LINE, [0], dtype=_PENDING_SCHEMA[LINE])
_MOSTLY_EMPTY = {*ITEM_COLUMNS, SUPERSEDED}

SPARSE_SHARE = 0.5
"""A block with a smaller share of live rows is rewritten: a held location must not pin a whole block, and the memory
that is held is at most about twice what is counted."""
SMALL_ROWS = 4_096
"""Blocks with fewer rows are merged: a trickle makes many of them, and each costs kilobytes on top of its rows."""
MERGE_FACTOR = 8
"""Blocks of one generation that are merged into one of the next."""
RUN_ROWS_MIN = 256
"""Blocks whose runs are longer on average are not merged: a request needs few of them."""
MERGED_ROWS_MAX = 327_680
MERGED_BYTES_MAX = 40 * 1024 * 1024
"""A merge makes no larger block than this: it needs two or three times the memory of its result."""

GROUPED_ONE_BY_ONE_MAX: Final = 256
"""Up to this many rows are grouped without queries, each of which costs as much as a hundred rows."""
_TEXT_BYTES: Final = 16
_SHORT: Final = 12
"""Bytes of the longest text that polars keeps in place."""
_ROWS_MAX: Final = 1 << 32
"""More rows than polars puts into a frame."""

SizeOf = Callable[[pl.DataFrame], int]
"""The memory that a frame takes, in bytes."""

_first_arrived = attrgetter("first_arrived")


def frame_bytes(frame: pl.DataFrame) -> int:
    """``SizeOf`` by what polars estimates, but for text.

    Of that it counts the bytes. A text takes ``_TEXT_BYTES`` whatever its length, and its bytes in addition if it is
    not short.
    """
    texts = [column for column in frame.iter_columns() if column.dtype == pl.String]
    uncounted = sum(
        frame.height * _TEXT_BYTES - min(column.estimated_size(), frame.height * _SHORT) for column in texts
    )
    return int(frame.estimated_size() + uncounted)


class Rows:
    """Rows that leave a window, oldest first: slices that are joined into one frame on first use.

    That happens on a worker thread, where the request's body is made: joining costs more than deciding what leaves.

    ``overlay`` has newer changes of the same items. Their values are laid over the body, but they are not sent with it:
    they still wait, or have been sent before. So a request may carry only some of an item's changes, with its newest
    count.
    """

    def __init__(self, *parts: pl.DataFrame, overlay: pl.DataFrame | None = None, is_distinct: bool = False) -> None:
        """``is_distinct``: each row is known to be of another item, so there is nothing to coalesce."""
        self._parts = parts
        self.is_distinct = is_distinct
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
            self._parts = (self._present,)  # the blocks behind the slices may be freed
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
        return float(self._parts[0].item(0, ARRIVED))  # parts are ordered by their first row


@dataclass(eq=False, slots=True)
class Block:
    """Rows grouped by location; ``runs`` says which of them are still pending.

    ``frame`` lacks the columns without information (no value in any row): most changes have few optional columns, and
    every column costs memory, and time whenever rows are sliced or joined.
    ``key`` is the item key's first column with values in this block, None if there is none: where its values differ
    throughout a window, so do the items, and the planner needs no joined rows.
    """

    frame: pl.DataFrame
    key: str | None
    runs: dict[str, tuple[int, int]]
    """Start and stop of each location's rows, by arrival from the first to the last."""
    live: int
    """Rows in ``runs``."""
    row_bytes: float
    """Memory per row. Rows that are released are freed only with the block."""
    is_ordered: bool = True
    """No row arrived before a row of a block that was inserted earlier."""
    merges: int = 0
    """How often its rows have been merged."""

    @property
    def is_sparse(self) -> bool:
        return self.live < SPARSE_SHARE * self.frame.height

    @property
    def is_scattered(self) -> bool:
        """Its runs are so short, or its rows so few, that merging it with others pays."""
        rows = self.frame.height
        return rows < SMALL_ROWS or (rows < MERGED_ROWS_MAX and rows < RUN_ROWS_MIN * len(self.runs))


@dataclass(frozen=True, slots=True)
class Span:
    """The rows ``start`` to ``stop`` of a block, all of one location, by arrival from the first to the last."""

    block: Block
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

    def head(self, rows: int) -> "Span":
        """The first rows of the span."""
        if rows == len(self):
            return self
        last = self.start + rows - 1
        return replace(self, stop=last + 1, last_arrived=float(self.block.frame.item(last, ARRIVED)))

    def arrived_before(self, time: float) -> int:
        """Number of rows that had arrived before this time."""
        if self.last_arrived < time:
            return len(self)
        return 0 if self.first_arrived >= time else int((self.column(ARRIVED) < time).sum())

    def arrived_until(self, time: float) -> int:
        """Number of rows that had arrived by this time."""
        if self.last_arrived <= time:
            return len(self)
        return 0 if self.first_arrived > time else int((self.column(ARRIVED) <= time).sum())


class Blocks:
    """All blocks with pending rows, oldest first but for what was put back.

    Rows of a location lie in one run per block. Blocks with short runs are merged, ``MERGE_FACTOR`` of one generation
    at a time, so that a location has few runs however many polls its rows came in; each row is copied a few times at
    most, in bulk.
    """

    def __init__(self, item_key: Sequence[str], size_of: SizeOf = frame_bytes) -> None:
        self._item_key = item_key
        self._size_of = size_of
        self._blocks: dict[Block, None] = {}
        self._newest_arrival = float("-inf")
        self.size_bytes = 0.0
        """Memory of the pending rows. Blocks may hold up to twice as much, since released rows are freed later."""

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks)

    def add(self, frame: pl.DataFrame) -> Iterable[tuple[str, int, float]]:
        """Make a block of a frame with an arrival in every row, each location's oldest first.

        Returns the location, the number of rows and the first arrival of each run.
        """
        if frame.is_empty():
            return ()
        block, starts, stops = self._keep(_narrowed(frame))
        arrived = block.frame[ARRIVED].gather(starts).to_list()
        return zip(block.runs, map(sub, stops, starts), arrived, strict=True)

    def put_back(self, location: str, rows: pl.DataFrame) -> None:
        """Make a block of rows of one location, oldest first, which may have arrived before others."""
        frame = _narrowed(rows)
        self._insert(frame, {location: (0, frame.height)})

    def spans(self, location: str) -> list[Span]:
        """The location's pending rows, by first arrival."""
        found = []
        for block in self._blocks:
            run = block.runs.get(location)
            if run is not None:
                arrived = block.frame[ARRIVED]
                found.append(Span(block, *run, arrived[run[0]], arrived[run[1] - 1]))
        if not all(before.first_arrived <= after.first_arrived for before, after in pairwise(found)):
            found.sort(key=_first_arrived)
        return found

    def release(self, location: str, spans: Iterable[Span]) -> None:
        """These spans' rows are no longer pending here. Each span is the beginning of the location's run, or all."""
        for span in spans:
            block = span.block
            block.live -= len(span)
            self.size_bytes -= len(span) * block.row_bytes
            start, stop = block.runs[location]
            if start != span.start:
                raise InvariantError("rows are released from the middle of a run")
            if stop == span.stop:
                del block.runs[location]
                if not block.runs:
                    self._drop(block)
            else:
                block.runs[location] = (span.stop, stop)

    def merge(self) -> bool:
        """Merge blocks with short runs, and rewrite those with few live rows. Returns whether anything moved."""
        sparse = [block for block in self._blocks if block.is_sparse]
        generations: dict[int, list[Block]] = {}
        for block in self._blocks:
            if block.is_scattered and not block.is_sparse:
                generations.setdefault(block.merges, []).append(block)
        full = [_as_many_as_fit(blocks) for blocks in generations.values() if len(blocks) >= MERGE_FACTOR]
        merged = [blocks for blocks in full if len(blocks) > 1]
        for blocks in [[block] for block in sparse] + merged:
            self.replace(blocks, live_rows(blocks))
        return bool(sparse or merged)

    def replace(self, blocks: Sequence[Block], rows: pl.DataFrame) -> None:
        """Put these rows in place of the blocks that they come from."""
        for block in blocks:
            self._drop(block)
        if rows.is_empty():
            return
        is_ordered = all(block.is_ordered for block in blocks)
        block, _, _ = self._keep(_narrowed(rows if is_ordered else rows.sort(ARRIVED, maintain_order=True)))
        block.merges = 1 + max(merged.merges for merged in blocks)

    def _keep(self, frame: pl.DataFrame) -> tuple[Block, list[int], list[int]]:
        """A new block of a frame, whose rows are brought together by location, and start and stop of its runs."""
        frame, starts, stops = grouped(frame)
        runs = zip(starts, stops, strict=True)
        block = self._insert(frame, dict(zip(frame[LOCATION].gather(starts).to_list(), runs, strict=True)))
        return block, starts, stops

    def _key(self, frame: pl.DataFrame) -> str | None:
        columns = frame.columns
        return next((name for name in self._item_key if name in columns), None)

    def _insert(self, frame: pl.DataFrame, runs: dict[str, tuple[int, int]]) -> Block:
        block = Block(frame, self._key(frame), runs, frame.height, self._size_of(frame) / frame.height)
        arrived = block.frame[ARRIVED]
        block.is_ordered = arrived.min() >= self._newest_arrival  # type: ignore[operator]  # of floats, and never empty
        self._newest_arrival = max(self._newest_arrival, arrived.max())  # type: ignore[type-var,assignment]
        self._blocks[block] = None
        self.size_bytes += block.live * block.row_bytes
        return block

    def _drop(self, block: Block) -> None:
        del self._blocks[block]
        self.size_bytes -= block.live * block.row_bytes


def _as_many_as_fit(blocks: Sequence[Block]) -> list[Block]:
    """The first blocks, as many as fit into one."""
    rows = accumulate(block.live for block in blocks)
    sizes = accumulate(block.live * block.row_bytes for block in blocks)
    fits = [count <= MERGED_ROWS_MAX and size <= MERGED_BYTES_MAX for count, size in zip(rows, sizes, strict=True)]
    return list(compress(blocks, fits))


def grouped(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[int], list[int]]:
    """The rows brought together by location, otherwise in the same order, with start and stop of each location's run.

    Locations are in no particular order, so they are numbered instead of being sorted as text, at a third of the price.
    Rows that are grouped already are not moved. Few rows are looked at one by one, which is cheaper still.
    """
    if frame.height <= GROUPED_ONE_BY_ONE_MAX:
        return _grouped_one_by_one(frame)
    codes = location_codes(frame[LOCATION])
    lengths = codes.rle().struct.field("len")
    if len(lengths) > codes.max() + 1:  # type: ignore[operator]  # an integer, as there are rows
        order = (codes.cast(pl.UInt64) * _ROWS_MAX + pl.int_range(len(codes), dtype=pl.UInt64, eager=True)).sort()
        rows = (order % _ROWS_MAX).cast(pl.UInt32)
        frame, lengths = frame[rows], codes.gather(rows).rle().struct.field("len")
    stops = lengths.cast(pl.Int64).cum_sum().to_list()
    return frame, [0, *stops[:-1]], stops


def _grouped_one_by_one(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[int], list[int]]:
    rows: dict[str, list[int]] = {}
    for row, location in enumerate(frame[LOCATION].to_list()):
        rows.setdefault(location, []).append(row)
    order = list(chain.from_iterable(rows.values()))
    stops = list(accumulate(map(len, rows.values())))
    is_grouped = all(before < after for before, after in pairwise(order))
    return frame if is_grouped else frame[order], [0, *stops[:-1]], stops


def location_codes(locations: pl.Series) -> pl.Series:
    """A number for each value: 0 for the first location, 1 for the second, and so on."""
    return locations.cast(pl.Categorical(pl.Categories.random())).to_physical()


def live_rows(blocks: Iterable[Block]) -> pl.DataFrame:
    """The pending rows of these blocks, joined, with the columns that any of them has."""
    return pl.concat([_live(block) for block in blocks], how="diagonal")


def _live(block: Block) -> pl.DataFrame:
    if block.live == block.frame.height:
        return block.frame
    runs = pl.DataFrame(list(block.runs.values()), schema={"start": pl.Int64, "stop": pl.Int64}, orient="row")
    return block.frame[runs.select(pl.int_ranges("start", "stop").explode()).to_series()]


def without_empty(frame: pl.DataFrame, names: Collection[str] = frozenset(ITEM_COLUMNS)) -> pl.DataFrame:
    """The frame without those of the named columns, by default an item's, that have no value in any row."""
    height = frame.height
    return frame[[name for name in frame.columns if name not in names or frame[name].null_count() < height]]


def _narrowed(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame without the columns that carry no information: no value in any row, or line 0 in all of them."""
    narrow = without_empty(frame, _MOSTLY_EMPTY)
    return narrow.drop(LINE) if LINE in narrow.columns and not narrow[LINE].max() else narrow


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
