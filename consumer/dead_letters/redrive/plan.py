"""Which dead letters may go back to their topic, and why the others stay. Pure: frames in, frames out.

A letter may go only if nothing newer of its item is in the log but letters that go along, after it. Then its copy, at
the end of the log, is as new for its item as anything that the OMS was given. Which of the newer changes were accepted
need not be known. Letters of one item go together, and in their order: an optional field may stand in the older only.

Frames of letters and changes have the item's columns (location and item key), ``ASSIGNMENT`` (here: the number of the
source partition), ``OFFSET``, ``TIMESTAMP`` and ``OCCURRED_AT``. Within a partition newer is the higher offset. Another
partition's change counts as newer where either of its times is not earlier: in doubt the letter stays.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import polars as pl

from consumer.core.changes.items import ASSIGNMENT, LOCATION, OCCURRED_AT, OFFSET, TIMESTAMP

VERDICT: Final = "_verdict"
BY_ASSIGNMENT: Final = "_byAssignment"
BY_OFFSET: Final = "_byOffset"
"""Where the change is that is in a letter's way; null where none is."""
UNREAD: Final = "_unread"
"""The highest offset of a partition's changes that cannot be decoded and have no dead letter."""
BATCH: Final = "_batch"
BYTES: Final = "_bytes"
"""How large a letter's value is."""

CHANGE_ID: Final = (ASSIGNMENT, OFFSET)
TIMES: Final = (TIMESTAMP, OCCURRED_AT)
_IN_LOG: Final = "_inLog"


class Verdict(StrEnum):
    """What becomes of a letter."""

    GOES = "goes"
    SUPERSEDED = "superseded"
    """The log has a newer change of its item, which does not go along."""
    NOT_IN_LOG = "not in the log"
    """The change is no longer in its topic as the letter has it, so what came after it may be gone too."""
    UNREADABLE_SINCE = "unreadable since"
    """After it the log has a change that cannot be decoded and is no dead letter: it may be of the same item."""
    REJECTED_AGAIN = "rejected again"
    """The service would reject it as it did."""
    NO_ORIGINAL = "no original"
    """The letter does not have the change's own bytes."""
    OTHER_TOPIC = "other topic"
    """Its topic is not one that the service reads."""
    REDRIVEN_BEFORE = "redriven before"
    """It went back once and came again as another letter, which goes in its place."""
    CONTENDED = "contended"
    """Newer changes, or open transactions, came in between again and again: it may go another time."""


def item_columns(item_key: Sequence[str]) -> list[str]:
    """The columns that make two changes the same item."""
    return [LOCATION, *item_key]


def newest_changes(changes: pl.DataFrame, letters: pl.DataFrame, item: Sequence[str]) -> pl.DataFrame:
    """Of each letter's item the newest among these changes, by partition, those left out that are letters themselves.

    Columns: the item's, ``ASSIGNMENT``, and the highest ``OFFSET``, ``TIMESTAMP`` and ``OCCURRED_AT``.
    """
    of_items = changes.join(letters, on=item, how="semi", nulls_equal=True)
    return newest_of(of_items.join(letters, on=CHANGE_ID, how="anti"), item)


def newest_of(changes: pl.DataFrame, item: Sequence[str]) -> pl.DataFrame:
    """Of each item the highest offset and times by partition; with more changes added it may be given again."""
    columns = [pl.col(name).max() for name in (OFFSET, *TIMES)]
    return changes.group_by(*item, ASSIGNMENT).agg(columns)


def judge(
    letters: pl.DataFrame, newest: pl.DataFrame, in_log: pl.DataFrame, unread: pl.DataFrame, item: Sequence[str]
) -> pl.DataFrame:
    """The letters with ``VERDICT``, ``BY_ASSIGNMENT`` and ``BY_OFFSET``, in their order.

    ``newest`` as from ``newest_changes``, of the whole log after the first letter; ``in_log`` has the ``CHANGE_ID`` of
    those letters whose change the log still has; ``unread`` has ``ASSIGNMENT`` and ``UNREAD``.
    """
    told = letters.join(
        in_log.with_columns(pl.lit(True).alias(_IN_LOG)), on=CHANGE_ID, how="left", maintain_order="left"
    )
    told = told.join(unread, on=ASSIGNMENT, how="left", maintain_order="left")
    missing = pl.col(_IN_LOG).is_null()
    unreadable = (pl.col(UNREAD) > pl.col(OFFSET)).fill_null(value=False)
    # What stays for another reason is in the way of what is older, as any other change of the item.
    staying = newest_of(told.filter(missing | unreadable), item)
    in_the_way = _in_the_way(letters, newest_of(pl.concat([newest, staying.select(newest.columns)]), item), item)
    verdict = (
        pl.when(missing)
        .then(pl.lit(Verdict.NOT_IN_LOG.value))
        .when(pl.col(BY_OFFSET).is_not_null())
        .then(pl.lit(Verdict.SUPERSEDED.value))
        .when(unreadable)
        .then(pl.lit(Verdict.UNREADABLE_SINCE.value))
        .otherwise(pl.lit(Verdict.GOES.value))
    )
    judged = told.join(in_the_way, on=CHANGE_ID, how="left", maintain_order="left").with_columns(verdict.alias(VERDICT))
    last_unread = pl.when(pl.col(VERDICT) == Verdict.UNREADABLE_SINCE.value)
    return judged.with_columns(
        last_unread.then(ASSIGNMENT).otherwise(BY_ASSIGNMENT).alias(BY_ASSIGNMENT),
        last_unread.then(UNREAD).otherwise(BY_OFFSET).alias(BY_OFFSET),
    ).drop(_IN_LOG, UNREAD)


def _in_the_way(letters: pl.DataFrame, newest: pl.DataFrame, item: Sequence[str]) -> pl.DataFrame:
    """``CHANGE_ID`` of each letter that something newer is in the way of, and where that is."""
    by = newest.rename({ASSIGNMENT: BY_ASSIGNMENT, OFFSET: BY_OFFSET} | {name: f"{name}By" for name in TIMES})
    pairs = letters.select(*item, *CHANGE_ID, *TIMES).join(by, on=item, how="inner", nulls_equal=True)
    same = pl.col(ASSIGNMENT) == pl.col(BY_ASSIGNMENT)
    # A message without a time: in doubt it is newer.
    later = pl.any_horizontal((pl.col(f"{name}By") >= pl.col(name)).fill_null(value=True) for name in TIMES)
    newer = pairs.filter(pl.when(same).then(pl.col(BY_OFFSET) > pl.col(OFFSET)).otherwise(later))
    own_first = newer.sort((pl.col(ASSIGNMENT) != pl.col(BY_ASSIGNMENT)), BY_ASSIGNMENT)
    return own_first.group_by(CHANGE_ID).agg(pl.col(BY_ASSIGNMENT).first(), pl.col(BY_OFFSET).first())


def cut_into_batches(
    letters: pl.DataFrame, item: Sequence[str], *, letters_max: int, bytes_max: int
) -> list[pl.DataFrame]:
    """The letters in batches of about so many at most, all letters of an item in one, each batch ordered by place.

    Were an item's letters parted, the copies of the first part would be in the way of the second.
    """
    if letters.is_empty():
        return []
    ordered = letters.sort(CHANGE_ID)
    items = ordered.group_by(item, maintain_order=True).agg(pl.len().alias("_letters"), pl.col(BYTES).sum())
    begun = [
        ((pl.col(size).cum_sum() - pl.col(size)) // limit)
        for size, limit in (("_letters", letters_max), (BYTES, bytes_max))
    ]
    # The sum of both counts: where either limit is reached, a new batch begins.
    numbered = items.select(*item, pl.sum_horizontal(begun).alias(BATCH))
    joined = ordered.join(numbered, on=item, how="left", nulls_equal=True, maintain_order="left")
    return [part.drop(BATCH) for part in joined.partition_by(BATCH, maintain_order=True)]


def slipped_in(changes: pl.DataFrame, batch: pl.DataFrame, ours: pl.DataFrame, item: Sequence[str]) -> pl.DataFrame:
    """``CHANGE_ID`` of the changes of a batch's items that are not the batch's own copies (``ours``)."""
    of_items = changes.join(batch, on=item, how="semi", nulls_equal=True)
    return of_items.join(ours, on=CHANGE_ID, how="anti").select(CHANGE_ID)
