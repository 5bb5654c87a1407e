"""Frames of changes for tests, from a few words a change."""

from collections.abc import Iterable
from typing import Any

import polars as pl

from consumer.core.changes.items import (
    ARRIVED,
    ASSIGNMENT,
    CHANGE_SCHEMA,
    LINE,
    LOCATION,
    OCCURRED_AT,
    OFFSET,
    TIMESTAMP,
)


def change(location: str, sku: str, quantity: int = 1, **more: Any) -> dict[str, Any]:
    """A change; ``offset``, ``line``, ``assignment``, ``occurred_at``, ``arrived`` and item columns by keyword."""
    row: dict[str, Any] = dict.fromkeys(CHANGE_SCHEMA)
    row |= {LOCATION: location, "sku": sku, "quantity": quantity}
    row |= {
        ASSIGNMENT: more.pop("assignment", 1),
        OFFSET: more.pop("offset", 0),
        LINE: more.pop("line", 0),
        OCCURRED_AT: more.pop("occurred_at", 0),
        TIMESTAMP: 0,
    }
    if "arrived" in more:
        row[ARRIVED] = more.pop("arrived")
    return row | more


def frame(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """A frame with the columns that a decoder gives, and with arrivals if the rows have them."""
    rows = list(rows)
    schema: dict[str, pl.DataType] = dict(CHANGE_SCHEMA)
    if rows and ARRIVED in rows[0]:
        schema[ARRIVED] = pl.Float64()
    return pl.DataFrame(rows, schema=schema, orient="row")
