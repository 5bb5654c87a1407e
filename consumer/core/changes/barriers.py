"""Barriers: rejected changes that tell that an item has another count now, though one that cannot be sent (rule 27).

Older changes of the item must not leave any more: their counts are known to be wrong.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from consumer.core.changes.coalesce import newest_last, rows_with_keys
from consumer.core.changes.items import (
    ASSIGNMENT,
    CHANGE_ID,
    IDENTIFIERS,
    ITEM_COLUMNS,
    LINE,
    LOCATION,
    OCCURRED_AT,
    OFFSET,
    TIMESTAMP,
    RejectReason,
)
from consumer.core.changes.rules import EXACT_INTEGER_MAX, REASON

BARRIER_REASONS: Final = (RejectReason.NEGATIVE_QUANTITY.value, RejectReason.DELETED.value)
"""Codes of the rejects that are barriers whatever their quantity is."""
BARRIER_OFFSET: Final = "_barrierOffset"
"""Offset of the newest barrier that makes a row superseded."""
_IS_BARRIER: Final = "_isBarrier"
_ORDER: Final = "_order"
_LAST: Final = "_last"


def barrier_columns(item_key: Sequence[str]) -> list[str]:
    """The columns of a frame of barriers."""
    return [LOCATION, *item_key, *CHANGE_ID, TIMESTAMP, OCCURRED_AT]


def barriers_mask(rejected: pl.DataFrame, item_key: Sequence[str]) -> pl.Series:
    """Which rejected rows are barriers: location and item are known, but the count cannot be sent.

    ``rejected`` is the second part of ``rules.check``.
    """
    quantity = pl.col("quantity").is_between(0, EXACT_INTEGER_MAX)
    has_bad_count = pl.col(REASON).is_in(BARRIER_REASONS) | ~quantity.fill_null(value=True)
    is_named = pl.any_horizontal(pl.col(name).is_not_null() for name in IDENTIFIERS if name in item_key)
    is_barrier = pl.col(LOCATION).is_not_null() & is_named & has_bad_count
    return rejected.select(is_barrier.alias(_IS_BARRIER)).to_series()


def barriers_among(rejected: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
    """The rejected rows that are barriers, with ``barrier_columns``.

    ``rejected`` is the second part of ``rules.check``, of rows with ``CHANGE_ID``, ``TIMESTAMP`` and ``OCCURRED_AT``.
    """
    return rejected.filter(barriers_mask(rejected, item_key)).select(barrier_columns(item_key))


def newest_barriers(barriers: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
    """The last barrier of each item in each assignment: the others say nothing more."""
    return barriers.sort(OFFSET, LINE).unique([LOCATION, *item_key, ASSIGNMENT], keep="last", maintain_order=True)


def of_items(rows: pl.DataFrame, barriers: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
    """The rows whose item has a barrier, with the columns of ``barrier_columns``."""
    item = [LOCATION, *item_key]
    rows, keys = _selected(rows, item_key), _selected(barriers, item_key).select(item).unique()
    return rows.filter(rows_with_keys(rows, keys))


def superseded_by(rows: pl.DataFrame, barriers: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
    """``CHANGE_ID`` of the rows that are older (rule 1) than a barrier of their item, and ``BARRIER_OFFSET``.

    ``rows`` are pending changes and must have ``CHANGE_ID``; columns of the item key without any value may be missing.
    """
    changes = of_items(rows, barriers, item_key)
    if changes.is_empty():
        return changes.select(*CHANGE_ID, pl.lit(None, pl.Int64).alias(BARRIER_OFFSET))
    marked = pl.concat(
        [
            changes.with_columns(pl.lit(value=False).alias(_IS_BARRIER)),
            _selected(barriers, item_key).with_columns(pl.lit(value=True).alias(_IS_BARRIER)),
        ]
    )
    item = [LOCATION, *item_key]
    ordered = newest_last(marked, item).with_row_index(_ORDER)
    last_barrier = pl.col(_ORDER).filter(_IS_BARRIER).max().over(item)
    offset = pl.col(OFFSET).filter(_IS_BARRIER).last().over(item)
    return (
        ordered.with_columns(last_barrier.alias(_LAST), offset.alias(BARRIER_OFFSET))
        .filter(~pl.col(_IS_BARRIER) & (pl.col(_ORDER) < pl.col(_LAST)))
        .select(*CHANGE_ID, BARRIER_OFFSET)
    )


def _selected(rows: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
    """The columns of ``barrier_columns``; of the item key, those that are missing have no value."""
    present = set(rows.columns)
    return rows.select(
        pl.col(name) if name in present else pl.lit(None, ITEM_COLUMNS[name]).alias(name)
        for name in barrier_columns(item_key)
    )
