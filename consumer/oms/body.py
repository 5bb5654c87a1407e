"""The JSON body of a refresh request, written column by column.

A missing value must be left out of the JSON, never be ``null``. The items are therefore split by which of their
optional columns have a value (usually one to four patterns), and each part is written with just those columns.
"""

import json
from typing import Final

import polars as pl

from consumer.core.changes.items import ITEM_COLUMNS, LOCATION
from consumer.errors import InvariantError

_ATTRIBUTES: Final = "attributes"
_PATTERN: Final = "_pattern"


def encode(location: str, items: pl.DataFrame, *, location_field: str = LOCATION) -> bytes:
    """The request body for these items (at least one row, columns ``ITEM_COLUMNS``, items distinct), as UTF-8.

    ``location_field`` is the API's name for the location. Items of the same pattern are written together: the items of
    a request are distinct, so their order does not matter to the OMS. An empty list of attributes is left out.
    """
    if items.is_empty():
        raise InvariantError(f"a refresh request for {location!r} needs at least one item")
    head = json.dumps({location_field: location}, ensure_ascii=False).removesuffix("}")
    # write_json returns one array for each part: "[{...},{...}]".
    parts = ",".join(_without_nulls(part).write_json()[1:-1] for part in _by_pattern(_without_empty_lists(items)))
    return f'{head},"items":[{parts}]}}'.encode()


def in_body_order(items: pl.DataFrame) -> pl.DataFrame:
    """The same items in the order in which ``encode`` writes them, without columns that have no value at all."""
    return pl.concat(_by_pattern(_without_empty_lists(items)))


def _without_empty_lists(items: pl.DataFrame) -> pl.DataFrame:
    if items[_ATTRIBUTES].null_count() == items.height:
        return items
    attributes = pl.col(_ATTRIBUTES)
    return items.with_columns(pl.when(attributes.list.len() > 0).then(attributes))


def _by_pattern(items: pl.DataFrame) -> list[pl.DataFrame]:
    """Split the items so that within each part a column has a value in every row or in none.

    Columns without any value are left out.
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
