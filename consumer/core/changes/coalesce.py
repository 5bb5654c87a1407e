"""Several changes of an item become one, such that the OMS ends up as if each had been sent in order.

``quantity`` comes from the newest change, every other field from the newest change that has it (absent never means
"clear"), and ``attributes`` are united, since the OMS merges them. Nearly all items have a single change: whatever is
not needed for those is done for the others only.
"""

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from consumer.core.changes.items import ARRIVED, ASSIGNMENT, ITEM_COLUMNS, OCCURRED_AT, OFFSET, SUPERSEDED
from consumer.core.changes.rules import ATTRIBUTES_MAX

_ATTRIBUTES: Final = "attributes"
_ROW: Final = "_row"
_OPEN: Final = "_open"
_LOWEST: Final = "_lowest"
_NEWEST: Final = "_newest"
_HEAD_OCCURRED_AT: Final = "_headOccurredAt"


def item_key_expr(rows: pl.DataFrame, item_key: Sequence[str]) -> pl.Expr:
    """The item key as one column. Columns that are null throughout tell nothing apart and would only cost time."""
    telling = [name for name in item_key if rows[name].null_count() < rows.height]
    return pl.col(telling[0]) if len(telling) == 1 else pl.struct(telling or item_key[:1])


def coalesce(rows: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
    """One row for each item of ``rows``, with ``ITEM_COLUMNS``, in the order of the items' first rows.

    ``rows`` has the columns of a frame of changes, of one location; ``item_key`` names the columns that make two
    changes the same item, nulls included.
    """
    several = _have_several(rows, item_key)
    if not several.any():
        return rows.select(*ITEM_COLUMNS)
    numbered = rows.with_row_index(_ROW)
    single = numbered.filter(~several).select(_ROW, *ITEM_COLUMNS)
    merged = _merged(numbered.filter(several), item_key)
    return pl.concat([single, merged]).sort(_ROW).drop(_ROW)


def newest_last(rows: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
    """The same rows, so ordered that of each item the oldest change comes first and the newest last (rule 1).

    Newer is the higher offset within one partition's assignment; between assignments, the later ``_occurredAt`` of the
    item's newest changes there, then the higher assignment number. Nothing is said about the order of items.
    """
    by_offset = rows.sort(OFFSET)
    if rows[ASSIGNMENT].n_unique() <= 1:
        return by_offset
    # _occurredAt orders whole partitions of an item only, never the changes within one: there the end state would
    # depend on how changes happen to be batched.
    head = pl.col(OCCURRED_AT).last().over(item_key_expr(rows, item_key), ASSIGNMENT)
    return (
        by_offset.with_columns(head.alias(_HEAD_OCCURRED_AT))
        .sort(_HEAD_OCCURRED_AT, ASSIGNMENT, OFFSET)
        .drop(_HEAD_OCCURRED_AT)
    )


def split_overfull(
    rows: pl.DataFrame, item_key: Sequence[str], limit: int = ATTRIBUTES_MAX
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into those that may go now and those that must stay, each part in the order of ``rows`` (rule 19).

    An item with more than ``limit`` distinct attributes in all goes with the longest prefix of its changes, oldest
    first, whose attributes fit; at least one change of each item goes. Its count must be the newest all the same: what
    stays belongs beside what goes (``without_attributes``).
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
    """Rows to stand beside others in a request: newer values of their items, but no further attributes."""
    return rows.with_columns(pl.lit(None, rows.schema[_ATTRIBUTES]).alias(_ATTRIBUTES))


def superseded(rows: pl.DataFrame, key: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Drop pending rows that newer ones make superfluous (rule 10): the rows that stay, and the offsets that are free.

    A row is superfluous if a newer one of its assignment and item (``key``, with the location) has the same fields, and
    the same attributes: whatever becomes of the others, what it says is said anew. So every row that stays is a change
    as it came. It takes over the earliest arrival of those it stands for, and remembers their offsets (``SUPERSEDED``):
    the lowest stays open, the others are free (columns ``ASSIGNMENT`` and ``OFFSET``), until it should be refused.
    Rows stay in order of arrival.
    """
    if SUPERSEDED not in rows.columns:
        rows = rows.with_columns(pl.lit(None, pl.List(pl.Int64)).alias(SUPERSEDED))
    alike = _alike(rows, key)
    marked = rows.with_columns(
        pl.col(OFFSET).max().over(alike).alias(_NEWEST),
        pl.col(ARRIVED).min().over(alike),
        open_offset(rows).alias(_OPEN),
        open_offset(rows).min().over(alike).alias(_LOWEST),
    )
    stay = marked.filter(pl.col(OFFSET) == pl.col(_NEWEST))
    gone = marked.filter(pl.col(OFFSET) != pl.col(_NEWEST))
    free = marked.filter(pl.col(_OPEN) != pl.col(_LOWEST)).select(ASSIGNMENT, pl.col(_OPEN).alias(OFFSET))
    stood_for = all_offsets(pl.concat([gone, stay.with_columns(pl.lit(None, pl.Int64).alias(OFFSET))]), _NEWEST)
    lists = stood_for.drop_nulls(OFFSET).group_by(ASSIGNMENT, _NEWEST).agg(pl.col(OFFSET).sort().alias(SUPERSEDED))
    joined = stay.drop(SUPERSEDED).join(lists, on=[ASSIGNMENT, _NEWEST], how="left", maintain_order="left")
    return joined.select(rows.columns).sort(ARRIVED, maintain_order=True), free


def open_offset(rows: pl.DataFrame) -> pl.Expr:
    """The offset that stands open for each row: its own, or the lowest of those it stands for."""
    if SUPERSEDED not in rows.columns or rows[SUPERSEDED].null_count() == rows.height:
        return pl.col(OFFSET)
    return pl.coalesce(pl.col(SUPERSEDED).list.first(), OFFSET).alias(OFFSET)


def all_offsets(rows: pl.DataFrame, *more: str) -> pl.DataFrame:
    """Assignment and offset (and the columns ``more``) of every change in the rows, those they stand for included."""
    own = rows.select(ASSIGNMENT, OFFSET, *more)
    if SUPERSEDED not in rows.columns or rows[SUPERSEDED].null_count() == rows.height:
        return own
    older = rows.filter(pl.col(SUPERSEDED).is_not_null())
    return pl.concat([own, older.select(ASSIGNMENT, pl.col(SUPERSEDED).alias(OFFSET), *more).explode(OFFSET)])


def _alike(rows: pl.DataFrame, key: Sequence[str]) -> list[str | pl.Expr]:
    """What rows must agree in for a newer one to make an older one superfluous."""
    optional = [name for name in ITEM_COLUMNS if name in rows.columns and name not in (*key, _ATTRIBUTES)]
    alike: list[str | pl.Expr] = [ASSIGNMENT, *(name for name in key if name in rows.columns)]
    alike += [pl.col(name).is_null() for name in optional if 0 < rows[name].null_count() < rows.height]
    if _ATTRIBUTES in rows.columns and rows[_ATTRIBUTES].null_count() < rows.height:
        alike.append(_ATTRIBUTES)
    return alike


def _have_several(rows: pl.DataFrame, item_key: Sequence[str]) -> pl.Series:
    """True for each row whose item has another row too."""
    return rows.select(item_key_expr(rows, item_key)).to_series().is_duplicated()


def _merged(numbered: pl.DataFrame, item_key: Sequence[str]) -> pl.DataFrame:
    """One row an item, numbered as the item's first row."""
    key = item_key_expr(numbered, item_key).alias("_key")
    ordered = newest_last(numbered, item_key)
    merged = ordered.group_by(key).agg(pl.col(_ROW).min(), *(_newest(ordered, name) for name in ITEM_COLUMNS))
    return merged.drop("_key")


def _newest(ordered: pl.DataFrame, name: str) -> pl.Expr:
    """What a group of one item's changes, newest last, leaves in the column ``name``."""
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
    """The row numbers of the changes from which on an item's attributes do not fit any more."""
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
