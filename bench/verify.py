"""Holds what the sink got against what was published; after the clock has stopped, so it may take its time."""

import io
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from bench.cases import Case
from consumer.sandbox.oms.errors import RefusalError
from consumer.sandbox.oms.validation import parse_refresh
from consumer.settings.values import OMS_ITEMS_MAX

BLOCK_BYTES: Final = 64 * 1024 * 1024
"""Of the bodies read at once."""
BODIES_CHECKED: Final = 200
"""Bodies held against every rule of the OMS, spread over all of them: that takes 10 us an item."""
_BODY: Final = pl.Schema(
    {
        "locationName": pl.String(),
        "items": pl.List(pl.Struct({"partNumber": pl.String(), "quantity": pl.Int64()})),
    }
)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the sink got: ``items`` in all, and ``distinct`` ones. The other counts should be 0.

    ``missing``: items of the case that never came. ``stale``: items whose last quantity is not that of their newest
    change. ``misplaced``: items of a location that does not have them. ``refused``: bodies that the OMS would refuse.
    """

    items: int
    distinct: int
    missing: int
    stale: int
    misplaced: int
    refused: int = 0

    @property
    def repeated(self) -> int:
        """Items sent again: with a newer count, or because they were read again."""
        return self.items - self.distinct

    def problems(self, case: Case) -> list[str]:
        """What is wrong, in words; empty if the sink got everything."""
        counts = {
            "items never came": self.missing,
            "items do not have their newest quantity": self.stale,
            "items came for another location": self.misplaced,
            "of the bodies checked break a rule of the OMS": self.refused,
        }
        if case.sends_items_once:
            counts["items came more than once"] = self.repeated
        if self.items > case.changes and case.members == 1:
            counts["items came without a change"] = self.items - case.changes
        return [f"{count:,} {what}" for what, count in counts.items() if count]


def read_items(bodies: Path, block_bytes: int = BLOCK_BYTES) -> pl.DataFrame:
    """Every item of every body in order: ``request`` (from 0), ``location`` and ``item`` (numbers), ``quantity``."""
    frames, request = [], 0
    for block in _blocks(bodies, block_bytes):
        frame = pl.read_ndjson(io.BytesIO(block), schema=_BODY).with_row_index("request", offset=request)
        request += frame.height
        frames.append(
            frame.explode("items").select(
                "request",
                pl.col("locationName").str.slice(len("store-")).cast(pl.UInt32).alias("location"),
                pl.col("items").struct.field("partNumber").str.slice(1).cast(pl.UInt32).alias("item"),
                pl.col("items").struct.field("quantity").cast(pl.UInt16),
            )
        )
    empty = pl.DataFrame(schema={"request": pl.UInt32, "location": pl.UInt32, "item": pl.UInt32, "quantity": pl.UInt16})
    return pl.concat(frames) if frames else empty


def _blocks(bodies: Path, block_bytes: int) -> Iterator[bytes]:
    """Whole lines."""
    with bodies.open("rb") as file:
        while block := file.read(block_bytes):
            yield block + file.readline()


def compare(case: Case, items: pl.DataFrame, quantities: "array[int]", refused: int = 0) -> Delivered:
    """Compare the items with the newest quantity of each item of the case."""
    last = items.unique("item", keep="last", maintain_order=True)
    expected = pl.DataFrame({"item": pl.arange(case.items, eager=True, dtype=pl.UInt32), "newest": list(quantities)})
    known = expected.join(last, on="item", how="left")
    return Delivered(
        items=items.height,
        distinct=last.height,
        missing=known["quantity"].null_count(),
        stale=known.filter(pl.col("quantity") != pl.col("newest")).height,
        misplaced=items.filter(pl.col("location") != pl.col("item") % case.locations).height,
        refused=refused,
    )


def refused_bodies(bodies: Path) -> int:
    """How many of some 200 bodies, spread evenly over all, break a rule of the OMS."""
    with bodies.open("rb") as file:
        count = sum(1 for _ in file)
        file.seek(0)
        every = max(count // BODIES_CHECKED, 1)
        return sum(_is_refused(body) for number, body in enumerate(file) if number % every == 0)


def _is_refused(body: bytes) -> bool:
    try:
        parse_refresh(body, max_items=OMS_ITEMS_MAX)
    except RefusalError:
        return True
    return False


def change_ages(items: pl.DataFrame, answered_at: Sequence[float], published_at: Sequence[float]) -> list[float]:
    """Seconds from an item's change to the jobID of the request that has it, in the order of the items."""
    return [answered_at[request] - published_at[item] for request, item in items.select("request", "item").iter_rows()]
