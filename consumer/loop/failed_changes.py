"""From what the OMS would not take, or could not apply, to the changes that are to be dead-lettered.

The rows in memory have columns, not bytes: what came from Kafka is found again in its topic by its offset, and the item
as JSON is kept for where it is gone.
"""

import json
from collections.abc import Mapping

import polars as pl

from consumer.core.changes.coalesce import all_offsets
from consumer.core.changes.items import ASSIGNMENT, ITEM_COLUMNS, LOCATION, OFFSET, ChangeId, RejectReason
from consumer.core.location.request import Refusal
from consumer.ports import Assignment, FailedChanges


def refused_changes(refusal: Refusal, assignments: Mapping[int, Assignment]) -> list[FailedChanges]:
    """The refused changes, by partition, with those they stand for; those of assignments that are gone are left out."""
    parts = refusal.rows.partition_by(ASSIGNMENT, as_dict=True)
    return [
        FailedChanges(
            topic=assignments[number].topic,
            partition=assignments[number].partition,
            change_ids=tuple(ChangeId(number, offset) for offset in all_offsets(rows)[OFFSET].sort()),
            reason=RejectReason.REFUSED_BY_OMS,
            detail=refusal.detail,
            location=refusal.location,
            items=dict(zip((ChangeId(number, offset) for offset in rows[OFFSET]), _items(rows), strict=True)),
        )
        for (number,), rows in parts.items()
        if number in assignments
    ]


def _items(rows: pl.DataFrame) -> list[bytes]:
    """Each row's item as JSON, with its location, without what it does not have."""
    names = (LOCATION, *ITEM_COLUMNS)
    return [
        json.dumps({name: value for name, value in row.items() if value is not None}, ensure_ascii=False).encode()
        for row in rows.select(names).iter_rows(named=True)
    ]
