"""``inventory-refresh dead-letters redrive`` on the simulated broker: the real verdicts, on all that the logs have.

An operator redrives everything at once. Nothing is written meanwhile, as in a transaction that nobody disturbs.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from consumer.core.changes.items import ASSIGNMENT, CHANGE_SCHEMA, ITEM_KEY, LOCATION, OFFSET, ChangeId
from consumer.dead_letters.redrive import plan
from consumer.dead_letters.redrive.plan import BYTES, RECORD_ID, UNDECODABLE, VERDICT, Verdict
from tests.simulation.decoder import row_of
from tests.simulation.plan import EntryKind

if TYPE_CHECKING:
    from tests.simulation.broker import Log

_ITEM: Final = plan.item_columns(ITEM_KEY)
_KNOWN: Final = frozenset({EntryKind.CHANGE, EntryKind.BAD, EntryKind.BARRIER})
"""Changes whose item is known."""


def redriven(
    logs: Sequence["Log"], dead_letters: Collection[tuple[int, int, int]], now: float
) -> list[tuple[int, int]]:
    """Partition and offset of the events to send back to their partitions, in order.

    ``dead_letters`` are partition, offset and line of the changes that have one.
    """
    changes = _changes_of(logs, now)
    events = _events(logs, changes, dead_letters)
    if events.is_empty():
        return []
    judged = plan.judge(
        events,
        plan.newest_changes(changes, events, _ITEM),
        events.select(RECORD_ID).unique(),
        _awaited(logs, dead_letters, now),
        _ITEM,
    )
    found = judged.filter(pl.col(VERDICT) == Verdict.REDRIVE.value)
    return found.select(RECORD_ID).sort(RECORD_ID).rows()


def _changes_of(logs: Sequence["Log"], now: float) -> pl.DataFrame:
    """What the logs still have of changes whose item is known."""
    rows = [
        row_of(change, ChangeId(partition, offset, line))
        for partition, log in enumerate(logs)
        for offset in range(log.start, log.end)
        if log.entry(offset).schema_known_at <= now
        for line, change in enumerate(log.entry(offset).changes)
        if change.kind in _KNOWN
    ]
    return pl.DataFrame(rows, schema=CHANGE_SCHEMA, orient="row").with_columns(pl.lit(0).alias(BYTES))


def _awaited(logs: Sequence["Log"], dead_letters: Collection[tuple[int, int, int]], now: float) -> pl.DataFrame:
    """By partition, the last offset whose schema the registry does not know, unless it was rejected for that."""
    awaited = {
        partition: offset
        for partition, log in enumerate(logs)
        for offset in range(log.start, log.end)
        if log.entry(offset).schema_known_at > now and (partition, offset, 0) not in dead_letters
    }
    schema = {ASSIGNMENT: pl.Int32(), UNDECODABLE: pl.Int64()}
    return pl.DataFrame(sorted(awaited.items()), schema=schema, orient="row")


def _events(
    logs: Sequence["Log"], changes: pl.DataFrame, dead_letters: Collection[tuple[int, int, int]]
) -> pl.DataFrame:
    """All lines of the events of those dead letters that the service would not reject again."""
    wanted = {
        (partition, offset)
        for partition, offset, line in dead_letters
        if offset >= logs[partition].start
        and logs[partition].change(offset, line).kind in {EntryKind.CHANGE, EntryKind.BAD}
    }
    ids = pl.DataFrame(sorted(wanted), schema={ASSIGNMENT: pl.Int32(), OFFSET: pl.Int64()}, orient="row")
    return changes.join(ids, on=RECORD_ID, how="semi", maintain_order="left").sort(LOCATION, maintain_order=True)
