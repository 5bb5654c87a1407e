"""Decides which events with a dead letter can be redriven, and why the others cannot. Pure: frames in, frames out.

What is redriven is the event of a dead letter, with all its lines: also those that were accepted. So it can be redriven
only if, for *each* of its lines, every newer change of that line's item in the log is in an event that is redriven
after it (rule 28). Its copy, at the end of the log, is then at least as new as anything that the OMS was sent for these
items; which of the newer changes were accepted does not matter. Events with an item in common are redriven together and
in their order, since an optional field may be set only in the older one.

Frames of events have one row per line, and frames of changes one per change: the columns of the item (location and item
key), ``ASSIGNMENT`` (here: index of the source partition), ``OFFSET``, ``TIMESTAMP`` and ``OCCURRED_AT``. Lines that
would be rejected again count if they are barriers (rule 27). Within a partition the higher offset is newer. A change in
another partition counts as newer unless both its times are earlier: in doubt an event is skipped.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import polars as pl

from consumer.core.changes.items import ASSIGNMENT, LOCATION, OCCURRED_AT, OFFSET, TIMESTAMP

VERDICT: Final = "_verdict"
BLOCKING_ASSIGNMENT: Final = "_blockingAssignment"
BLOCKING_OFFSET: Final = "_blockingOffset"
"""Where the change is that prevents the redrive; null if there is none."""
UNDECODABLE: Final = "_undecodable"
"""The highest offset in a partition of a change that cannot be decoded and has no dead letter."""
BATCH: Final = "_batch"
BYTES: Final = "_bytes"
"""Size of an event's value."""

RECORD_ID: Final = (ASSIGNMENT, OFFSET)
"""The columns that identify an event."""
TIMES: Final = (TIMESTAMP, OCCURRED_AT)
_COUNT: Final = "_count"
_GROUP: Final = "_group"
_IN_LOG: Final = "_inLog"


class Verdict(StrEnum):
    """What becomes of a dead letter: it is redriven, or skipped for one of the other reasons."""

    REDRIVE = "redrive"
    SUPERSEDED = "superseded"
    """The log has a newer change of its item that is not redriven with it."""
    NOT_IN_LOG = "not in the log"
    """Its topic no longer has the change as the dead letter has it, so later changes may be missing, too."""
    UNDECODABLE_AFTER = "undecodable change after it"
    """A later change cannot be decoded and has no dead letter: it may be of the same item."""
    REJECTED_AGAIN = "rejected again"
    """The service would reject the change with its present settings."""
    NO_ORIGINAL = "no original"
    """The dead letter does not have the original value."""
    OTHER_TOPIC = "other topic"
    """Its topic is not one that the service reads."""
    REDRIVEN_BEFORE = "redriven before"
    """Its copy became a dead letter, which is redriven in its place."""
    CONTENDED = "contended"
    """Other producers kept writing newer changes or kept transactions open: try again later."""


def item_columns(item_key: Sequence[str]) -> list[str]:
    """The columns that make two changes the same item."""
    return [LOCATION, *item_key]


def newest_changes(changes: pl.DataFrame, events: pl.DataFrame, item: Sequence[str]) -> pl.DataFrame:
    """By item and partition the newest of these changes, for the items of the events; the events do not count.

    Columns: the item's, ``ASSIGNMENT``, and the highest ``OFFSET``, ``TIMESTAMP`` and ``OCCURRED_AT``.
    """
    of_items = changes.join(events, on=item, how="semi", nulls_equal=True)
    return newest_of(of_items.join(events, on=RECORD_ID, how="anti"), item)


def newest_of(changes: pl.DataFrame, item: Sequence[str]) -> pl.DataFrame:
    """By item and partition the highest offset and times; the result can be merged with more changes by a new call."""
    columns = [pl.col(name).max() for name in (OFFSET, *TIMES)]
    return changes.group_by(*item, ASSIGNMENT).agg(columns)


def judge(
    events: pl.DataFrame,
    newest: pl.DataFrame,
    in_log: pl.DataFrame,
    undecodable: pl.DataFrame,
    item: Sequence[str],
) -> pl.DataFrame:
    """The verdict of each event: ``RECORD_ID``, ``VERDICT``, ``BLOCKING_ASSIGNMENT`` and ``BLOCKING_OFFSET``.

    ``newest`` is what ``newest_changes`` gives for the log from the first event on. ``in_log`` has the ``RECORD_ID`` of
    those events that the log still has. ``undecodable`` has ``ASSIGNMENT`` and ``UNDECODABLE``.
    """
    candidates = events.select(RECORD_ID).unique(maintain_order=True)
    candidates = candidates.join(
        in_log.unique().with_columns(pl.lit(True).alias(_IN_LOG)), on=RECORD_ID, how="left", maintain_order="left"
    )
    candidates = candidates.join(undecodable, on=ASSIGNMENT, how="left", maintain_order="left")
    missing = pl.col(_IN_LOG).is_null()
    followed = (pl.col(UNDECODABLE) > pl.col(OFFSET)).fill_null(value=False)
    blocking = _all_blocking(events, newest, candidates.filter(missing | followed).select(RECORD_ID), item)
    verdict = (
        pl.when(missing)
        .then(pl.lit(Verdict.NOT_IN_LOG.value))
        .when(pl.col(BLOCKING_OFFSET).is_not_null())
        .then(pl.lit(Verdict.SUPERSEDED.value))
        .when(followed)
        .then(pl.lit(Verdict.UNDECODABLE_AFTER.value))
        .otherwise(pl.lit(Verdict.REDRIVE.value))
    )
    judged = candidates.join(blocking, on=RECORD_ID, how="left", maintain_order="left")
    judged = judged.with_columns(verdict.alias(VERDICT))
    by_undecodable = pl.when(pl.col(VERDICT) == Verdict.UNDECODABLE_AFTER.value)
    return judged.with_columns(
        by_undecodable.then(ASSIGNMENT).otherwise(BLOCKING_ASSIGNMENT).alias(BLOCKING_ASSIGNMENT),
        by_undecodable.then(UNDECODABLE).otherwise(BLOCKING_OFFSET).alias(BLOCKING_OFFSET),
    ).drop(_IN_LOG, UNDECODABLE)


def _all_blocking(
    events: pl.DataFrame, newest: pl.DataFrame, skipped: pl.DataFrame, item: Sequence[str]
) -> pl.DataFrame:
    """``_blocking``, where the lines of events that are skipped block older events of their items, and so on.

    ``skipped`` has the ``RECORD_ID`` of the events that are skipped for another reason.
    """
    while True:
        of_skipped = newest_of(events.join(skipped, on=RECORD_ID, how="semi"), item)
        blocking = _blocking(events, newest_of(pl.concat([newest, of_skipped.select(newest.columns)]), item), item)
        more = pl.concat([skipped, blocking.select(RECORD_ID)]).unique()
        if more.height == skipped.height:
            return blocking
        skipped = more


def _blocking(events: pl.DataFrame, newest: pl.DataFrame, item: Sequence[str]) -> pl.DataFrame:
    """``RECORD_ID`` of each event with a line whose item has a newer change, and where one of these is."""
    other = newest.rename(
        {ASSIGNMENT: BLOCKING_ASSIGNMENT, OFFSET: BLOCKING_OFFSET} | {name: f"{name}Other" for name in TIMES}
    )
    pairs = events.select(*item, *RECORD_ID, *TIMES).join(other, on=item, how="inner", nulls_equal=True)
    same_partition = pl.col(ASSIGNMENT) == pl.col(BLOCKING_ASSIGNMENT)
    # A record without a timestamp counts as newer.
    later = pl.any_horizontal((pl.col(f"{name}Other") >= pl.col(name)).fill_null(value=True) for name in TIMES)
    newer = pairs.filter(pl.when(same_partition).then(pl.col(BLOCKING_OFFSET) > pl.col(OFFSET)).otherwise(later))
    own_partition_first = newer.sort(~same_partition, BLOCKING_ASSIGNMENT)
    return own_partition_first.group_by(RECORD_ID).agg(
        pl.col(BLOCKING_ASSIGNMENT).first(), pl.col(BLOCKING_OFFSET).first()
    )


def split_into_batches(
    events: pl.DataFrame, item: Sequence[str], *, count_max: int, bytes_max: int
) -> list[pl.DataFrame]:
    """Batches of about this many events and bytes at most, in log order, with all events of an item in the same batch.

    If an item were split, the copies of its first part would be newer changes to the second.
    """
    if events.is_empty():
        return []
    ordered = events.sort(RECORD_ID, maintain_order=True)
    grouped = _with_group(ordered, item)
    groups = (
        grouped.unique(RECORD_ID, keep="first", maintain_order=True)
        .group_by(_GROUP, maintain_order=True)
        .agg(pl.len().alias(_COUNT), pl.col(BYTES).sum())
    )
    full = [
        ((pl.col(size).cum_sum() - pl.col(size)) // limit) for size, limit in ((_COUNT, count_max), (BYTES, bytes_max))
    ]
    # The sum of both: a new batch begins where either limit is reached.
    numbered = groups.select(_GROUP, pl.sum_horizontal(full).alias(BATCH))
    joined = grouped.join(numbered, on=_GROUP, how="left", maintain_order="left")
    return [batch.drop(_GROUP, BATCH) for batch in joined.partition_by(BATCH, maintain_order=True)]


def _with_group(events: pl.DataFrame, item: Sequence[str]) -> pl.DataFrame:
    """The events with ``_GROUP``: the same for all that are connected by items that they have in common."""
    grouped = events.with_columns(pl.struct(RECORD_ID).rank("dense").alias(_GROUP))
    while True:
        # Each item takes the lowest number of its events, and each event that of its items, until nothing changes.
        spread = grouped.with_columns(pl.col(_GROUP).min().over(item)).with_columns(
            pl.col(_GROUP).min().over(RECORD_ID)
        )
        if spread[_GROUP].equals(grouped[_GROUP]):
            return spread
        grouped = spread


def foreign_changes(
    changes: pl.DataFrame, batch: pl.DataFrame, copies: pl.DataFrame, item: Sequence[str]
) -> pl.DataFrame:
    """``RECORD_ID`` of the changes of a batch's items, apart from the batch's own ``copies``."""
    of_items = changes.join(batch, on=item, how="semi", nulls_equal=True)
    return of_items.join(copies, on=RECORD_ID, how="anti").select(RECORD_ID)
