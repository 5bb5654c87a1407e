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

_GONE: Final = [
    pl.when(pl.col(DELETED)).then(pl.lit(0, dtype=pl.Int64)).otherwise(pl.col("quantity")).alias("quantity"),
    *(pl.when(~pl.col(DELETED)).then(pl.col(name)).alias(name) for name in TARGETS if name not in {*_KEPT, "quantity"}),
]
"""Of deletes, the quantity 0 and nothing else."""


def without_deletes(frame: pl.DataFrame, what: WhatToDo) -> tuple[pl.DataFrame, pl.DataFrame | None, int]:
    """The rows that are changes, the deletes to dead-letter (with ``REASON``), and how many are skipped.

    With "zero", a delete becomes a change to the quantity 0, with nothing else.
    """
    if not frame[DELETED].any():
        return frame, None, 0
    if what == "zero":
        return frame.with_columns(_GONE), None, 0
    deletes, others = frame.filter(pl.col(DELETED)), frame.filter(~pl.col(DELETED))
    if what == "skip":
        return others, None, deletes.height
    return others, deletes.with_columns(*_GONE, pl.lit(RejectReason.DELETED.value).alias(REASON)), 0
