"""What becomes of deletes and tombstones: they are skipped, set the count to 0, or are dead-lettered."""

from typing import Final

import polars as pl

from consumer.avro.leaves import TARGETS
from consumer.avro.reading import DELETED
from consumer.core.changes.items import ITEM_KEY, LOCATION, RejectReason
from consumer.core.changes.rules import REASON
from consumer.settings.event_sources import OCCURRED_AT_FIELD
from consumer.settings.events import WhatToDo

_KEPT: Final = frozenset({LOCATION, *ITEM_KEY, OCCURRED_AT_FIELD})
"""What is known of an item that is gone: which one it is, and since when."""

_NO_DETAILS: Final = [
    pl.lit(None, dtype=dtype).alias(name) for name, dtype in TARGETS.items() if name not in _KEPT and name != "quantity"
]


def without_deletes(frame: pl.DataFrame, what: WhatToDo) -> tuple[pl.DataFrame, pl.DataFrame | None, int]:
    """The rows that are changes, the deletes to dead-letter (with ``REASON``), and how many are skipped.

    With "zero", a delete becomes a change to the quantity 0, with nothing else.
    """
    if not frame[DELETED].any():
        return frame, None, 0
    deletes, others = frame.filter(pl.col(DELETED)), frame.filter(~pl.col(DELETED))
    if what == "skip":
        return others, None, deletes.height
    gone = deletes.with_columns(pl.lit(0, dtype=pl.Int64).alias("quantity"), *_NO_DETAILS)
    if what == "zero":
        return pl.concat([others, gone]), None, 0
    return others, gone.with_columns(pl.lit(RejectReason.DELETED.value).alias(REASON)), 0
