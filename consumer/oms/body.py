"""The JSON body of a refresh request, written by columns.

A value that is absent must be absent from the JSON, never ``null``: so the items are parted by which of their optional
columns have a value (usually one to four patterns), and each part is written with just those columns.
"""

import json
from typing import Final

import polars as pl

from consumer.core.changes.items import ITEM_COLUMNS, LOCATION

_ATTRIBUTES: Final = "attributes"
_PATTERN: Final = "_pattern"


def encode(location: str, items: pl.DataFrame, *, location_field: str = LOCATION) -> bytes:
    """The request of these items (at least one row, columns ``ITEM_COLUMNS``, items distinct), as UTF-8.

    ``location_field`` is what the API calls the location. Items of one pattern stand together: their order within a
    request means nothing to the OMS, since each names another item. An empty list of attributes adds none, and is
    left out.
    """
    if items.is_empty():
        msg = f"a refresh request for {location!r} needs at least one item"
        raise ValueError(msg)
    head = json.dumps({location_field: location}, ensure_ascii=False).removesuffix("}")
    # write_json gives one array a part: "[{...},{...}]".
    parts = ",".join(_without_nulls(part).write_json()[1:-1] for part in _by_pattern(_without_empty_lists(items)))
    return f'{head},"items":[{parts}]}}'.encode()


def in_body_order(items: pl.DataFrame) -> pl.DataFrame:
    """The same items in the order in which ``encode`` writes them, without the columns that none of them has."""
    return pl.concat(_by_pattern(_without_empty_lists(items)))


def _without_empty_lists(items: pl.DataFrame) -> pl.DataFrame:
    if items[_ATTRIBUTES].null_count() == items.height:
        return items
    attributes = pl.col(_ATTRIBUTES)
    return items.with_columns(pl.when(attributes.list.len() > 0).then(attributes))


def _by_pattern(items: pl.DataFrame) -> list[pl.DataFrame]:
    """Parts of ``items`` in each of which a column has a value in every row or in none.

    Columns without a value in any part are left out.
    """
    nulls = {name: items[name].null_count() for name in ITEM_COLUMNS}
    mixed = [name for name, count in nulls.items() if 0 < count < items.height]
    present = [name for name, count in nulls.items() if count < items.height]
    if not mixed:
        return [items.select(present)]
    bits = [pl.col(name).is_null().cast(pl.UInt32) * 2**bit for bit, name in enumerate(mixed)]
    return items.select(*present, pl.sum_horizontal(bits).alias(_PATTERN)).partition_by(_PATTERN, include_key=False)


def _without_nulls(part: pl.DataFrame) -> pl.DataFrame:
    return part.select(name for name in part.columns if part[name].null_count() == 0)
