"""What is pending of an item: in recovery, in its location's window, or in the request in flight. Changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, Final

import polars as pl

from consumer.core.changes.coalesce import newest_last
from consumer.core.changes.items import (
    ARRIVED,
    ASSIGNMENT,
    CHANGE_ID,
    ITEM_COLUMNS,
    LINE,
    LINES_MAX,
    SUPERSEDED,
    TIMESTAMP,
    ChangeId,
    json_values,
)
from consumer.core.engine import Engine
from consumer.core.trace.query import ItemQuery

CHANGES_MAX: Final = 200
"""Pending changes in an answer, at most: those that arrived last. An item that changes all the time has thousands."""


class Place(StrEnum):
    """Where a pending change is."""

    RECOVERING = "recovering"
    """Its partition is recovering: nothing of it may be sent yet."""
    WINDOW = "window"
    IN_FLIGHT = "in_flight"


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A change that is pending. ``arrived`` is when it was read, monotonic seconds; the other times are ms since 1970.

    ``coalesced_into`` is the newer change whose count stands for it in the request, and ``request_id`` the request that
    has it in flight. ``item`` has the item as in JSON. Of a change that was coalesced while it waited only its id is
    left: ``arrived`` and ``timestamp`` are None then, and ``item`` is empty.
    """

    change_id: ChangeId
    place: Place
    arrived: float | None
    timestamp: int | None
    item: Mapping[str, Any]
    coalesced_into: ChangeId | None = None
    request_id: int | None = None


@dataclass(frozen=True, slots=True)
class PendingItem:
    """The pending changes of an item, at most ``CHANGES_MAX``; ``left_out`` is how many more there are.

    The latest comes last: those in flight, then those of the window, then what recovers.
    """

    changes: Sequence[PendingChange]
    left_out: int = 0


def pending_item(engine: Engine, query: ItemQuery, item_key: Sequence[str]) -> PendingItem:
    """What is pending of the item. Looks at the rows of one location, and at those in recovery."""
    found: list[tuple[Place, list[pl.DataFrame], int | None]] = []
    location = engine.locations.find(query.location)
    if location is not None:
        if location.in_flight is not None:
            request = location.in_flight.request
            found.append((Place.IN_FLIGHT, [query.rows_of(request.taken.present)], request.request_id))
        found.append((Place.WINDOW, engine.locations.matching(location.window, query.rows_of), None))
    found.append((Place.RECOVERING, engine.partitions.matching(query.rows_of), None))
    changes: list[PendingChange] = []
    count = 0
    for place, parts, request_id in found:
        rows = _joined(parts)
        if rows.height:
            latest = rows.sort(ARRIVED, maintain_order=True).tail(CHANGES_MAX)
            shown = list(islice(_changes(latest, place, request_id, item_key), 2 * CHANGES_MAX))
            count += rows.height + _superseded_count(rows)
            changes += shown
    latest_changes = changes[-CHANGES_MAX:]
    return PendingItem(latest_changes, count - len(latest_changes))


def _joined(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    rows = pl.concat(parts, how="diagonal") if parts else pl.DataFrame()
    if rows.height and LINE not in rows.columns:
        return rows.with_columns(pl.lit(0, pl.Int32).alias(LINE))
    return rows.with_columns(pl.col(LINE).fill_null(0)) if rows.height else rows


def _superseded_count(rows: pl.DataFrame) -> int:
    return int(rows[SUPERSEDED].list.len().sum()) if SUPERSEDED in rows.columns else 0


def _changes(
    rows: pl.DataFrame, place: Place, request_id: int | None, item_key: Sequence[str]
) -> Iterable[PendingChange]:
    """The rows' changes, each item's newest last, and what was coalesced into them while they waited."""
    key = [name for name in item_key if name in rows.columns]
    ordered = newest_last(rows, key).to_dicts()
    newest = {tuple(row[name] for name in key): _id_of(row) for row in ordered}
    for row in ordered:
        change_id, latest = _id_of(row), newest[tuple(row[name] for name in key)]
        for position in row.get(SUPERSEDED) or ():
            older = ChangeId(row[ASSIGNMENT], *divmod(position, LINES_MAX))
            yield PendingChange(older, place, None, None, {}, change_id, request_id)
        yield PendingChange(
            change_id=change_id,
            place=place,
            arrived=row[ARRIVED],
            timestamp=row[TIMESTAMP],
            item=json_values({name: row[name] for name in ITEM_COLUMNS if name in row}),
            coalesced_into=None if change_id == latest else latest,
            request_id=request_id,
        )


def _id_of(row: Mapping[str, Any]) -> ChangeId:
    return ChangeId(*(row[name] for name in CHANGE_ID))
