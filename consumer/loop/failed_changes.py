"""The changes that the OMS refuses for good, as the dead-letter writer takes them.

Rows in memory have columns, not bytes: the original records are fetched from their topic by offset, and the item as
JSON stands in for an original that is missing there.
"""

import json
from collections.abc import Mapping

import polars as pl

from consumer.core.changes.coalesce import change_ids
from consumer.core.changes.items import ASSIGNMENT, CHANGE_ID, ITEM_COLUMNS, LOCATION, ChangeId, RejectReason
from consumer.core.location.request import Refusal
from consumer.ports import Assignment, FailedChanges


def refused_changes(refusal: Refusal, assignments: Mapping[int, Assignment]) -> list[FailedChanges]:
    """The refused changes by partition, superseded ones included, without those of assignments that are gone."""
    parts = refusal.rows.partition_by(ASSIGNMENT, as_dict=True)
    return [
        FailedChanges(
            topic=assignments[assignment].topic,
            partition=assignments[assignment].partition,
            change_ids=tuple(_ids(change_ids(rows).sort(CHANGE_ID))),
            reason=RejectReason.REFUSED_BY_OMS,
            detail=refusal.detail,
            location=refusal.location,
            items=dict(zip(_ids(rows.select(CHANGE_ID)), _items(rows), strict=True)),
        )
        for (assignment,), rows in parts.items()
        if assignment in assignments
    ]


def _ids(rows: pl.DataFrame) -> list[ChangeId]:
    return [ChangeId(*row) for row in rows.iter_rows()]


def _items(rows: pl.DataFrame) -> list[bytes]:
    """Each row's item as JSON, with its location and without absent fields."""
    names = (LOCATION, *ITEM_COLUMNS)
    return [
        json.dumps({name: value for name, value in row.items() if value is not None}, ensure_ascii=False).encode()
        for row in rows.select(names).iter_rows(named=True)
    ]
