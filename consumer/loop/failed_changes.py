"""Turns refused changes into ``FailedChanges`` for the dead-letter writer.

Memory holds columns, not the records' bytes. The writer fetches the original records by offset, and uses the item as
JSON only if a record is no longer in its topic.
"""

import json
from collections.abc import Mapping

import polars as pl

from consumer.core.changes.coalesce import change_ids
from consumer.core.changes.items import ASSIGNMENT, CHANGE_ID, ITEM_COLUMNS, LOCATION, ChangeId, json_values
from consumer.core.location.request import Refusal
from consumer.ports import Assignment, FailedChanges


def refused_changes(
    refusal: Refusal, assignments: Mapping[int, Assignment], x_request_id: str | None = None
) -> list[FailedChanges]:
    """The refused changes by partition, including superseded ones. Those of ended assignments are left out.

    ``x_request_id`` is the id of the request that the OMS refused; None if it was not asked.
    """
    by_assignment = refusal.rows.partition_by(ASSIGNMENT, as_dict=True)
    return [
        FailedChanges(
            topic=assignments[assignment_id].topic,
            partition=assignments[assignment_id].partition,
            change_ids=tuple(_ids(change_ids(rows).sort(CHANGE_ID))),
            reason=refusal.reason,
            detail=refusal.detail,
            location=refusal.location,
            x_request_id=x_request_id,
            items=dict(zip(_ids(rows.select(CHANGE_ID)), _items(rows), strict=True)),
        )
        for (assignment_id,), rows in by_assignment.items()
        if assignment_id in assignments
    ]


def _ids(rows: pl.DataFrame) -> list[ChangeId]:
    return [ChangeId(*row) for row in rows.iter_rows()]


def _items(rows: pl.DataFrame) -> list[bytes]:
    """Each row's item as JSON, with its location and without absent fields."""
    names = [name for name in (LOCATION, *ITEM_COLUMNS) if name in rows.columns]
    return [
        json.dumps(json_values(row), ensure_ascii=False).encode() for row in rows.select(names).iter_rows(named=True)
    ]
