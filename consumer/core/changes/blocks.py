"""Pending rows in blocks: a frame of changes sorted by location, and spans into it.

One block a poll keeps the price of a poll at one sort and one short loop over the locations in it. (One small frame a
location and poll would cost 6 kB each, however few its rows.)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from consumer.core.changes.items import ARRIVED, CHANGE_SCHEMA, ITEM_COLUMNS, LOCATION, SUPERSEDED

_PENDING_SCHEMA = {**CHANGE_SCHEMA, ARRIVED: pl.Float64(), SUPERSEDED: pl.List(pl.Int64())}
_ABSENT = {name: pl.Series(name, [None], dtype=dtype) for name, dtype in _PENDING_SCHEMA.items()}
_MOSTLY_EMPTY = {*ITEM_COLUMNS, SUPERSEDED}

SPARSE_SHARE = 0.25
"""A block with a smaller share of its rows alive moves what is left to a new one: a held location must not pin a whole
block."""
SMALL_ROWS = 4_096
"""Blocks of fewer rows are small: a trickle makes many of them, and each costs kilobytes beside its rows."""
SMALL_BLOCKS_MAX = 32
"""So many small blocks are merged into one."""


class Rows:
    """Rows that leave a window, oldest first: slices, joined to one frame when that is first asked for.

    That is beside the loop, where the request's body is made: to join is dearer than to decide what goes.

    ``beside`` are newer changes of the same items that lend the body what they say, but are not sent by it: they wait
    still, or have been sent before. So what goes may be some of an item's changes, and its count is the newest anyway.
    """

    def __init__(self, *parts: pl.DataFrame, beside: pl.DataFrame | None = None) -> None:
        self._parts = parts
        self._frame: pl.DataFrame | None = None
        self.beside = None if beside is None or beside.is_empty() else beside
        self.height = sum(part.height for part in parts)

    @property
    def frame(self) -> pl.DataFrame:
        """All columns, joined once. Should two threads ask at once both join, and either result will do."""
        if self._frame is None:
            self._frame = _joined(self._parts)
        return self._frame

    @property
    def body(self) -> pl.DataFrame:
        """What the request's body is made of: ``frame``, and what lends it its newer values."""
        return self.frame if self.beside is None else _joined([self.frame, self.beside])

    def column(self, name: str) -> pl.Series:
        """One column, without joining the others."""
        return pl.concat([part[name] for part in self._parts])

    def first_arrived(self) -> float:
        """When the oldest of the rows was read, monotonic seconds."""
        return float(self._parts[0].item(0, ARRIVED))


@dataclass(eq=False, slots=True)
class Block:
    """Rows sorted by location; ``spans`` are those whose rows are still pending.

    ``frame`` lacks the columns that have no value in any row: most changes have few of the optional ones, and every
    column costs memory, and time whenever rows are cut or joined.
    ``key`` is the only column of the item key that has values here, None if there are several: where there is one, what
    goes of a window can be decided without joining its rows.
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
        """How many of the rows had arrived by then."""
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
        """Make a block of a frame with an arrival in every row, each location's oldest first; a span a location."""
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
        """Make a block of some rows of one location, oldest first."""
        block = self._block(_narrowed(rows))
        return self._keep(block, [(location, 0, rows.height, rows.item(0, ARRIVED), rows.item(-1, ARRIVED))])[0]

    def split(self, span: Span, rows: int) -> tuple[Span, Span]:
        """Cut a span in two, the first of so many rows."""
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
        telling = [name for name in self._item_key if name in frame.columns]
        return Block(frame, telling[0] if len(telling) == 1 else None)

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
        """Blocks whose rows had better move to a new one together."""
        found = [block for block in self._blocks if block.sparse]
        small = [block for block in self._blocks if block.small and not block.sparse]
        return found + small if len(small) > SMALL_BLOCKS_MAX else found


def _narrowed(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame without the columns of items, and the like, that have no value in any row."""
    empty = {name for name in frame.columns if name in _MOSTLY_EMPTY and frame[name].null_count() == frame.height}
    return frame[[name for name in frame.columns if name not in empty]]


def _joined(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The parts as one frame with all columns."""
    alike = all(part.columns == parts[0].columns for part in parts)
    frame = pl.concat(parts, how="vertical" if alike else "diagonal", rechunk=True)
    if frame.width == len(_PENDING_SCHEMA):
        return frame.select(*_PENDING_SCHEMA)
    present = set(frame.columns)
    # Literals in a select would cost several times as much, and this is done for every request.
    return pl.DataFrame(
        [frame[name] if name in present else _ABSENT[name].new_from_index(0, frame.height) for name in _PENDING_SCHEMA]
    )


def rows_of(spans: Sequence[Span]) -> pl.DataFrame:
    """The spans' rows as one frame, in the order of their arrival."""
    frame = _joined([span.rows() for span in spans])
    return frame if frame[ARRIVED].is_sorted() else frame.sort(ARRIVED, maintain_order=True)
