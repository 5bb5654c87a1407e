"""The names and types of an item's columns, without polars: settings need the names, and should load fast.

``core.changes.items`` makes the schemas of frames from these.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class ColumnType(Enum):
    """What a column holds."""

    TEXT = auto()
    INTEGER = auto()
    NUMBER = auto()
    TEXT_LIST = auto()
    TEXT_MAP = auto()


LOCATION: Final = "locationName"

PLAIN_COLUMN_TYPES: Final[Mapping[str, ColumnType]] = {
    "partNumber": ColumnType.TEXT,
    "upc": ColumnType.TEXT,
    "sku": ColumnType.TEXT,
    "binID": ColumnType.INTEGER,
    "quantity": ColumnType.INTEGER,
    "ltd": ColumnType.NUMBER,
    "floor": ColumnType.INTEGER,
    "safetyStock": ColumnType.INTEGER,
    "currencyID": ColumnType.INTEGER,
    "retailPrice": ColumnType.NUMBER,
    "inventoryLocatorName": ColumnType.TEXT,
    "attributes": ColumnType.TEXT_LIST,
}
"""What every API of the OMS accepts for an item of a refresh request."""

GRANULAR_COLUMN_TYPES: Final[Mapping[str, ColumnType]] = {
    "lotCode": ColumnType.TEXT,
    "condition": ColumnType.TEXT,
    "date": ColumnType.TEXT,
    "serialNumber": ColumnType.TEXT,
    "externalID": ColumnType.TEXT,
    "deliveryDate": ColumnType.TEXT,
    "tags": ColumnType.TEXT_MAP,
}
"""What only the newest API accepts, to keep the stock of an item apart by lot, condition, date, piece, delivery or
segment. With the older APIs these fields are not looked for in events, so the columns are all null, which costs
nothing, and are never sent.
"""

EVENT_LINES_MAX: Final = 2**14
"""Changes in one event, at most; see ``items.LINES_MAX``."""

IDENTIFIERS: Final = ("partNumber", "upc", "sku")
"""At least one of them names the item."""

ITEM_KEY: Final = ("partNumber", "upc", "sku", "binID", *GRANULAR_COLUMN_TYPES)
"""The default item key: two changes of a location are about the same item when these columns agree, nulls included."""
