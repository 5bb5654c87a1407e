"""Several changes of an item become one, so that the OMS ends up as if each had been sent in order.

``quantity`` comes from the newest change, every other field from the newest change that has it (absent never means
"clear"), and ``attributes`` are united, since the OMS merges them. Nearly all items have a single change, so work that
only items with several changes need is done for those alone.
"""

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from consumer.core.changes.items import (
    ARRIVED,
    ASSIGNMENT,
    CHANGE_ID,
    ITEM_COLUMNS,
    LINE,
    LINES_MAX,
    OCCURRED_AT,
    OFFSET,
    SUPERSEDED,
    SUPERSEDED_TYPE,
)
from consumer.core.changes.rules import ATTRIBUTES_MAX

COALESCING_COPIES: Final = 4
"""Sizes of the rows that ``superseded`` takes: joined, marked, and the rows that stay."""
_ATTRIBUTES: Final = "attributes"
_ROW: Final = "_row"
_CHOSEN: Final = "_chosen"
_OWN: Final = "_own"
_HOLDING: Final = "_holding"
_LOWEST: Final = "_lowest"
_NEWEST: Final = "_newest"
_HEAD_OCCURRED_AT: Final = "_headOccurredAt"
_POSITION: Final = pl.col(OFFSET) * LINES_MAX + pl.col(LINE)


def item_key_expr(rows: pl.DataFrame, item_key: Sequence[str]) -> pl.Expr:
    """The item key as one column. Columns that are all null distinguish nothing and would only cost time."""
    present = _key_columns(rows, item_key)
    if not present:
        return pl.int_range(pl.len()) < 0  # all rows are of one item
    return pl.col(present[0]) if len(present) == 1 else pl.struct(present)


def _key_columns(rows: pl.DataFrame, item_key: Sequence[str]) -> list[str]:
    """The columns of the item key that have a value."""
    columns = set(rows.columns)
    return [name for name in item_key if name in columns and rows[name].null_count() < rows.height]


def _are_distinct(rows: pl.DataFrame, item_key: Sequence[str]) -> bool:
    """Whether one column of the item key alone shows that no item has several rows, as mostly: that is cheap to see."""
    return any(rows[name].n_unique() == rows.height for name in _key_columns(rows, item_key))


def rows_with_keys(rows: pl.DataFrame, keys: pl.DataFrame) -> pl.Series:
    """Which of ``rows`` are changes of the items in ``keys`` (distinct, one row of item key columns each).

    Nulls in a key are equal.
    """
    marked = keys.with_columns(pl.lit(value=True).alias(_CHOSEN))
    joined = rows.select(keys.columns).join(
        marked, on=keys.columns, how="left", nulls_equal=True, maintain_order="left"
    )
    return joined[_CHOSEN].is_not_null()


def coalesce(rows: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
    """One row per item of ``rows``, in the order of the items' first rows.

    ``rows`` has the columns of a frame of changes, all of one location; columns of ``ITEM_COLUMNS`` without any value
    may be missing, and are then missing from the result. Two changes are about the same item if they agree in the
    ``item_key`` columns, nulls included.
    """
    if _are_distinct(rows, item_key):
        return items_of(rows)
    several = _have_several(rows, item_key)
    if not several.any():
        return items_of(rows)
    columns = set(rows.columns)
    names = [name for name in ITEM_COLUMNS if name in columns]
    numbered = rows.with_row_index(_ROW)
    single = numbered.filter(~several).select(_ROW, *names)
    merged = _merged(numbered.filter(several), item_key, names)
    return pl.concat([single, merged]).sort(_ROW).drop(_ROW)


def items_of(rows: pl.DataFrame) -> pl.DataFrame:
    """``coalesce`` for rows that are known to be of different items."""
    columns = set(rows.columns)
    return rows[[name for name in ITEM_COLUMNS if name in columns]]


def newest_last(rows: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
    """The same rows, each item's changes ordered from oldest to newest (rule 1).

    Newer is the higher offset within one assignment, within an event the later line; between assignments, the later
    ``_occurredAt`` of the item's newest changes there, then the higher assignment id. The order of items is undefined.
    """
    by_offset = rows.sort(OFFSET, LINE)
    if rows[ASSIGNMENT].n_unique() <= 1:
        return by_offset
    # _occurredAt orders an item's partitions, never its changes within one: there the end state would depend on how
    # changes happen to be batched.
    head = pl.col(OCCURRED_AT).last().over(item_key_expr(rows, item_key), ASSIGNMENT)
    return (
        by_offset.with_columns(head.alias(_HEAD_OCCURRED_AT))
        .sort(_HEAD_OCCURRED_AT, ASSIGNMENT, OFFSET, LINE)
        .drop(_HEAD_OCCURRED_AT)
    )


def split_overfull(
    rows: pl.DataFrame, item_key: Sequence[str], limit: int = ATTRIBUTES_MAX
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into those that may leave now and those that must stay, both in the order of ``rows`` (rule 19).

    An item with more than ``limit`` distinct attributes leaves with the longest prefix of its changes, oldest first,
    whose attributes fit; at least one change of each item leaves. Its count must be the newest all the same, so the
    caller lays what stays over what leaves (``without_attributes``).
    """
    nothing = rows.clear()
    if int(rows[_ATTRIBUTES].list.len().sum()) <= limit:
        return rows, nothing
    several = _have_several(rows, item_key)
    if not several.any():
        return rows, nothing
    numbered = rows.with_row_index(_ROW)
    # Attributes that repeat count twice here: this finds every item over the limit, and a few others.
    busy = numbered.filter(several)
    total = pl.col(_ATTRIBUTES).list.len().sum().over(item_key_expr(busy, item_key))
    suspects = busy.filter(total > limit)
    if suspects.is_empty():
        return rows, nothing
    stay = pl.Series(_rows_past_limit(newest_last(suspects, item_key), item_key, limit), dtype=pl.UInt32)
    stays = numbered[_ROW].is_in(stay.implode())
    return rows.filter(~stays), rows.filter(stays)


def without_attributes(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows for the overlay of a request: newer values of its items, but no further attributes."""
    return rows.with_columns(pl.lit(None, rows.schema[_ATTRIBUTES]).alias(_ATTRIBUTES))


def superseded(rows: pl.DataFrame, key: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Drop pending rows that newer ones make redundant (rule 10). Returns the rows that stay, and released change ids.

    A row is redundant if a newer one of its assignment and item (``key``, with the location) has the same fields and
    the same attributes: whatever happens to the others, the newer row says it all. So every row that stays is a change
    as it was published. It takes over the earliest arrival of the rows it supersedes and lists them in ``SUPERSEDED``.
    The lowest of all of them holds the committable offset back; the others are released (columns ``CHANGE_ID``),
    unless the row is refused one day. Rows stay in order of arrival.
    """
    if SUPERSEDED not in rows.columns:
        rows = rows.with_columns(pl.lit(None, SUPERSEDED_TYPE).alias(SUPERSEDED))
    alike = _alike(rows, key)
    marked = rows.with_columns(
        _POSITION.alias(_OWN),
        _POSITION.max().over(alike).alias(_NEWEST),
        pl.col(ARRIVED).min().over(alike),
        _holding(rows).alias(_HOLDING),
        _holding(rows).min().over(alike).alias(_LOWEST),
    )
    is_newest = pl.col(_OWN) == pl.col(_NEWEST)
    stay, dropped = marked.filter(is_newest), marked.filter(~is_newest)
    released = marked.filter(pl.col(_HOLDING) != pl.col(_LOWEST)).select(ASSIGNMENT, *_change_id(_HOLDING))
    older = pl.concat(
        [
            dropped.select(ASSIGNMENT, _NEWEST, pl.col(_OWN).alias(SUPERSEDED)),
            marked.filter(pl.col(SUPERSEDED).is_not_null()).select(ASSIGNMENT, _NEWEST, SUPERSEDED).explode(SUPERSEDED),
        ]
    )
    lists = older.group_by(ASSIGNMENT, _NEWEST).agg(pl.col(SUPERSEDED).sort())
    joined = stay.drop(SUPERSEDED).join(lists, on=[ASSIGNMENT, _NEWEST], how="left", maintain_order="left")
    return joined.select(rows.columns).sort(ARRIVED, maintain_order=True), released


def change_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """``CHANGE_ID`` of every change in the rows, superseded ones included."""
    own = rows[CHANGE_ID]
    if not _has_superseded(rows):
        return own
    older = rows.filter(pl.col(SUPERSEDED).is_not_null()).select(ASSIGNMENT, SUPERSEDED).explode(SUPERSEDED)
    return pl.concat([own, older.select(ASSIGNMENT, *_change_id(SUPERSEDED))])


def count_changes(rows: pl.DataFrame) -> int:
    """How many ``change_ids`` there are."""
    return rows.height + (int(rows[SUPERSEDED].list.len().sum()) if _has_superseded(rows) else 0)


def holding_change_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """``CHANGE_ID`` of the change that holds the committable offset back for each row: its own or its lowest."""
    if not _has_superseded(rows):
        return rows[CHANGE_ID]
    return rows.select(ASSIGNMENT, _holding(rows).alias(_HOLDING)).select(ASSIGNMENT, *_change_id(_HOLDING))


def _has_superseded(rows: pl.DataFrame) -> bool:
    return SUPERSEDED in rows.columns and rows[SUPERSEDED].null_count() < rows.height


def _holding(rows: pl.DataFrame) -> pl.Expr:
    """The position of the change that holds the committable offset back for each row."""
    return pl.coalesce(pl.col(SUPERSEDED).list.first(), _POSITION) if _has_superseded(rows) else _POSITION


def _change_id(position: str) -> tuple[pl.Expr, pl.Expr]:
    """Offset and line of a position."""
    return (pl.col(position) // LINES_MAX).alias(OFFSET), (pl.col(position) % LINES_MAX).cast(pl.Int32).alias(LINE)


def _alike(rows: pl.DataFrame, key: Sequence[str]) -> list[str | pl.Expr]:
    """What rows must agree in for a newer one to make an older one redundant."""
    optional = [name for name in ITEM_COLUMNS if name in rows.columns and name not in (*key, _ATTRIBUTES)]
    alike: list[str | pl.Expr] = [ASSIGNMENT, *(name for name in key if name in rows.columns)]
    alike += [pl.col(name).is_null() for name in optional if 0 < rows[name].null_count() < rows.height]
    if _ATTRIBUTES in rows.columns and rows[_ATTRIBUTES].null_count() < rows.height:
        alike.append(_ATTRIBUTES)
    return alike


def _have_several(rows: pl.DataFrame, item_key: Sequence[str]) -> pl.Series:
    """True for each row whose item has several rows."""
    return rows.select(item_key_expr(rows, item_key)).to_series().is_duplicated()


def _merged(numbered: pl.DataFrame, item_key: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
    """One row per item, numbered as the item's first row."""
    key = item_key_expr(numbered, item_key).alias("_key")
    ordered = newest_last(numbered, item_key)
    merged = ordered.group_by(key).agg(pl.col(_ROW).min(), *(_newest(ordered, name) for name in names))
    return merged.drop("_key")


def _newest(ordered: pl.DataFrame, name: str) -> pl.Expr:
    """The value of the column ``name`` in a group of one item's changes, newest last."""
    column = pl.col(name)
    if ordered[name].null_count() in (0, ordered.height) and name != _ATTRIBUTES:
        return column.last()
    if name != _ATTRIBUTES:
        return column.drop_nulls().last()
    if ordered[name].null_count() == ordered.height:
        return column.first()
    united = column.explode().drop_nulls().unique(maintain_order=True)
    return pl.when(united.len() > 0).then(united.implode()).alias(name)


def _rows_past_limit(ordered: pl.DataFrame, item_key: Sequence[str], limit: int) -> list[int]:
    """The row numbers of each item's changes from the first on whose attributes no longer fit."""
    united: dict[tuple[Any, ...], set[str]] = {}
    full: set[tuple[Any, ...]] = set()
    past = []
    for *values, attributes, row in ordered.select(*item_key, _ATTRIBUTES, _ROW).iter_rows():
        item = tuple(values)
        union = united.get(item, set()).union(attributes or ())
        if item in full or (item in united and len(union) > limit):
            full.add(item)
            past.append(row)
        else:
            united[item] = union
    return past
