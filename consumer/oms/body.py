"""The JSON body of a refresh request, written column by column.

A missing value must be left out of the JSON, never be ``null``. The items are therefore split by which of their
optional columns have a value (usually one to four patterns), and each part is written with just those columns. Few
items are written at once, and their nulls cut out of the text: the result is the same.
"""

import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import polars as pl

from consumer.core.changes.blocks import Rows
from consumer.core.changes.coalesce import coalesce, items_of
from consumer.core.changes.items import ITEM_COLUMNS, LOCATION, MAP_COLUMNS
from consumer.errors import InvariantError

_ATTRIBUTES: Final = "attributes"
_MAP_AS_TEXT: Final = re.compile(rf'([{{,]"(?:{"|".join(MAP_COLUMNS)})":)("(?:[^"\\]|\\.)*")')
"""A map, as polars writes its text. No other text can look like it: within a text, each quotation mark comes after a
backslash."""

SMALL_ITEMS: Final = 500
"""Up to this many items are written with their nulls, which are then cut out: every call of polars costs as much as a
hundred items, and splitting takes many."""


def items_of_request(taken: Rows, item_key: Sequence[str]) -> pl.DataFrame:
    """The items of a request with these changes, as ``encode`` takes them."""
    return items_of(taken.present) if taken.is_distinct else coalesce(taken.body, item_key)


def encode(location: str, items: pl.DataFrame, *, field_names: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """The request body for these items (at least one row, items distinct), as UTF-8.

    Of ``ITEM_COLUMNS``, those without any value may be missing. ``field_names`` are the API's, where they differ from
    those of the columns.
    Many items are written pattern by pattern: the items of a request are distinct, so their order does not matter to
    the OMS. An empty list of attributes is left out.
    """
    if items.is_empty():
        raise InvariantError(f"a refresh request for {location!r} needs at least one item")
    head = json.dumps({field_names.get(LOCATION, LOCATION): location}, ensure_ascii=False).removesuffix("}")
    items, mixed = _present(items)
    renamed = {name: field_names[name] for name in items.columns if name in field_names}
    if renamed:
        items, mixed = items.rename(renamed), [renamed.get(name, name) for name in mixed]
    if not mixed:
        written = items.write_json()[1:-1]
    elif items.height <= SMALL_ITEMS:
        written = _without_nulls(items.write_json()[1:-1], items.columns[0], mixed)
    else:
        # write_json returns one array for each part: "[{...},{...}]".
        written = ",".join(part.write_json()[1:-1] for part in _by_pattern(items, mixed))
    if any(name in items.columns for name in MAP_COLUMNS):
        written = _with_objects(written)
    return f'{head},"items":[{written}]}}'.encode()


def in_body_order(items: pl.DataFrame) -> pl.DataFrame:
    """The same items in the order in which ``encode`` writes them, without columns that have no value at all."""
    items, mixed = _present(items)
    if not mixed or items.height <= SMALL_ITEMS:
        return items
    return pl.concat(_by_pattern(items, mixed), how="diagonal")


def _present(items: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The items' columns with a value, in the order of ``ITEM_COLUMNS``, and those that are null in some rows."""
    columns = set(items.columns)
    if _ATTRIBUTES in columns and items[_ATTRIBUTES].null_count() < items.height:
        attributes = pl.col(_ATTRIBUTES)
        items = items.with_columns(pl.when(attributes.list.len() > 0).then(attributes))
    nulls = {name: items[name].null_count() for name in ITEM_COLUMNS if name in columns}
    present = [name for name, count in nulls.items() if count < items.height]
    return items[present], [name for name in present if nulls[name]]


def _by_pattern(items: pl.DataFrame, mixed: Sequence[str]) -> list[pl.DataFrame]:
    """Split the items by which of the ``mixed`` columns have a value; each part has just those."""
    pattern = pl.zeros(items.height, dtype=pl.UInt32, eager=True)
    for bit, name in enumerate(mixed):
        pattern += items[name].is_null().cast(pl.UInt32) * 2**bit
    # A filter for each of the few patterns: to partition by them takes several times as long.
    parts = [items.filter(pattern == value) for value in pattern.unique(maintain_order=True)]
    return [part[[name for name in part.columns if not part[name].null_count()]] for part in parts]


def _with_objects(written: str) -> str:
    """The items as JSON with maps as objects, whose texts are JSON already."""
    objects: dict[str, str] = {}  # a few tags repeat from item to item

    def as_object(match: re.Match[str]) -> str:
        text = match[2]
        found = objects.get(text)
        if found is None:
            found = objects[text] = json.loads(text)
        return match[1] + found

    return _MAP_AS_TEXT.sub(as_object, written)


def _without_nulls(written: str, first: str, mixed: Sequence[str]) -> str:
    """The items as JSON without the null values of the ``mixed`` columns; ``first`` is the first column of all.

    Some other column has a value in every row. No text can look like what is cut out: within a text, a quotation mark
    comes after a backslash.
    """
    for name in mixed:
        if name != first:
            written = written.replace(f',"{name}":null', "")
    return written.replace(f'{{"{first}":null,', "{")
