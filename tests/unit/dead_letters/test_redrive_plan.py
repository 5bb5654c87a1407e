"""Which dead letters may go back: decided on frames alone."""

from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest

from consumer.core.changes.items import ASSIGNMENT, ITEM_KEY, LOCATION, OCCURRED_AT, OFFSET, TIMESTAMP
from consumer.dead_letters.redrive.plan import (
    BY_ASSIGNMENT,
    BY_OFFSET,
    BYTES,
    CHANGE_ID,
    UNREAD,
    VERDICT,
    cut_into_batches,
    item_columns,
    judge,
    newest_changes,
    newest_of,
    slipped_in,
)

ITEM = item_columns(ITEM_KEY)
SCHEMA = {
    LOCATION: pl.String(), "partNumber": pl.String(), "upc": pl.String(), "sku": pl.String(), "binID": pl.Int64(),
    "lotCode": pl.String(), "condition": pl.String(), "date": pl.String(), "serialNumber": pl.String(),
    "externalID": pl.String(), ASSIGNMENT: pl.Int32(), OFFSET: pl.Int64(), TIMESTAMP: pl.Int64(),
    OCCURRED_AT: pl.Int64(), BYTES: pl.Int64(),
}  # fmt: skip


def change(sku: str, offset: int, partition: int = 0, **more: Any) -> dict[str, Any]:
    """A change whose times are its offset, unless told otherwise."""
    told = {LOCATION: "Rome", "sku": sku, ASSIGNMENT: partition, OFFSET: offset, TIMESTAMP: offset, OCCURRED_AT: offset}
    return dict.fromkeys(SCHEMA) | told | {BYTES: 10} | more


def frame(*changes: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(changes), schema=SCHEMA, orient="row")


def judged(
    letters: pl.DataFrame,
    log: pl.DataFrame,
    *,
    missing: tuple[int, ...] = (),
    unread: Mapping[int, int] | None = None,
) -> pl.DataFrame:
    in_log = letters.filter(~pl.col(OFFSET).is_in(missing)).select(CHANGE_ID)
    unread_frame = pl.DataFrame(
        list((unread or {}).items()), schema={ASSIGNMENT: pl.Int32(), UNREAD: pl.Int64()}, orient="row"
    )
    return judge(letters, newest_changes(log, letters, ITEM), in_log, unread_frame, ITEM)


def verdicts(frame: pl.DataFrame) -> dict[int, str]:
    return dict(frame.select(OFFSET, VERDICT).iter_rows())


def test_a_letter_goes_whose_item_has_nothing_newer_in_the_log() -> None:
    letters = frame(change("a", 10))
    log = frame(change("a", 10), change("b", 11), change("a", 12, locationName="Oslo"))
    assert verdicts(judged(letters, log)) == {10: "goes"}


def test_a_newer_change_of_the_item_keeps_a_letter_and_is_named() -> None:
    letters = frame(change("a", 10), change("b", 11))
    told = judged(letters, frame(change("a", 10), change("b", 11), change("a", 15)))
    assert verdicts(told) == {10: "superseded", 11: "goes"}
    assert told.select(BY_ASSIGNMENT, BY_OFFSET).row(0) == (0, 15)
    assert told.select(BY_ASSIGNMENT, BY_OFFSET).row(1) == (None, None)


def test_an_older_change_of_the_item_in_its_partition_is_in_nobodys_way_whatever_its_times_say() -> None:
    assert verdicts(judged(frame(change("a", 10)), frame(change("a", 9, **{OCCURRED_AT: 99, TIMESTAMP: 99})))) == {
        10: "goes"
    }


def test_all_letters_of_an_item_go_if_nothing_but_they_is_newer() -> None:
    letters = frame(change("a", 10), change("a", 20), change("a", 30))
    assert verdicts(judged(letters, letters)) == {10: "goes", 20: "goes", 30: "goes"}


def test_only_the_letters_after_the_newest_change_that_is_no_letter_go() -> None:
    letters = frame(change("a", 10), change("a", 20))
    log = frame(change("a", 10), change("a", 15), change("a", 20))
    assert verdicts(judged(letters, log)) == {10: "superseded", 20: "goes"}


def test_a_newer_letter_that_stays_keeps_the_older_ones_of_its_item() -> None:
    letters = frame(change("a", 10), change("a", 20), change("b", 21))
    told = judged(letters, letters, missing=(20,))
    assert verdicts(told) == {10: "superseded", 20: "not in the log", 21: "goes"}
    assert told.select(BY_OFFSET).to_series().to_list() == [20, None, None]


def test_a_letter_stays_whose_change_is_no_longer_in_the_log() -> None:
    letters = frame(change("a", 10))
    assert verdicts(judged(letters, frame(), missing=(10,))) == {10: "not in the log"}


def test_a_later_change_that_cannot_be_decoded_may_be_of_any_item_of_its_partition() -> None:
    letters = frame(change("a", 10), change("b", 20), change("c", 5, partition=1))
    told = judged(letters, letters, unread={0: 15})
    assert verdicts(told) == {10: "unreadable since", 20: "goes", 5: "goes"}
    assert told.select(BY_ASSIGNMENT, BY_OFFSET).row(0) == (0, 15)


@pytest.mark.parametrize(
    ("times", "verdict"),
    [
        ({TIMESTAMP: 11, OCCURRED_AT: 9}, "superseded"),
        ({TIMESTAMP: 9, OCCURRED_AT: 11}, "superseded"),
        ({TIMESTAMP: 10, OCCURRED_AT: 9}, "superseded"),
        ({TIMESTAMP: 9, OCCURRED_AT: 9}, "goes"),
        ({TIMESTAMP: None, OCCURRED_AT: 9}, "superseded"),
    ],
    ids=["later in Kafka", "later upstream", "same time", "earlier", "time unknown"],
)
def test_a_change_in_another_partition_is_newer_unless_both_its_times_are_earlier(
    times: dict[str, int | None], verdict: str
) -> None:
    letters = frame(change("a", 10))
    assert verdicts(judged(letters, frame(change("a", 10), change("a", 3, partition=1, **times)))) == {10: verdict}


def test_the_highest_times_of_an_items_changes_in_a_partition_count_whichever_change_has_them() -> None:
    log = frame(
        change("a", 3, partition=1, **{TIMESTAMP: 50, OCCURRED_AT: 1}),
        change("a", 4, partition=1, **{TIMESTAMP: 2, OCCURRED_AT: 2}),
    )
    assert verdicts(judged(frame(change("a", 10)), log)) == {10: "superseded"}


def test_items_are_told_apart_by_every_column_of_the_key_absent_ones_too() -> None:
    letters = frame(change("a", 10), change("a", 11, binID=1))
    log = frame(change("a", 20, binID=1), change("a", 21, binID=2))
    assert verdicts(judged(letters, log)) == {10: "goes", 11: "superseded"}


def test_what_was_found_in_parts_is_the_same_as_found_at_once() -> None:
    letters = frame(change("a", 10), change("b", 11))
    log = [change("a", 20), change("b", 30), change("a", 40), change("a", 5, partition=1)]
    parts = [newest_changes(frame(each), letters, ITEM) for each in log]
    at_once = newest_changes(frame(*log), letters, ITEM)
    assert newest_of(pl.concat(parts), ITEM).sort("sku", *CHANGE_ID).equals(at_once.sort("sku", *CHANGE_ID))


def test_letters_of_one_item_are_never_parted_and_a_batch_is_in_the_order_of_the_log() -> None:
    letters = frame(*(change("abc"[number % 3], number) for number in range(30)), change("d", 1, partition=1))
    shuffled = letters.sample(fraction=1.0, shuffle=True, seed=1)
    batches = cut_into_batches(shuffled, ITEM, letters_max=10, bytes_max=1_000_000)
    skus = [set(batch["sku"]) for batch in batches]
    assert sum(map(len, skus)) == len(set().union(*skus)) == 4
    assert [batch.height for batch in batches] == [10, 10, 10, 1]
    for batch in batches:
        assert batch.select(CHANGE_ID).rows() == sorted(batch.select(CHANGE_ID).rows())
    assert pl.concat(batches).sort(CHANGE_ID).equals(letters.sort(CHANGE_ID))


def test_batches_are_bounded_by_letters_and_by_bytes() -> None:
    small = frame(*(change(f"s{number}", number) for number in range(25)))
    assert [each.height for each in cut_into_batches(small, ITEM, letters_max=10, bytes_max=10_000)] == [10, 10, 5]
    assert max(each.height for each in cut_into_batches(small, ITEM, letters_max=100, bytes_max=30)) <= 3
    one_heavy = frame(change("heavy", 0, _bytes=5_000), *(change(f"s{number}", number) for number in range(1, 60)))
    heights = [each.height for each in cut_into_batches(one_heavy, ITEM, letters_max=10, bytes_max=1_000)]
    assert max(heights) <= 10
    assert cut_into_batches(small.clear(), ITEM, letters_max=10, bytes_max=10) == []


def test_the_copies_themselves_have_not_slipped_in() -> None:
    batch = frame(change("a", 10), change("b", 11))
    added = frame(change("a", 100), change("b", 101), change("b", 102), change("c", 103))
    ours = frame(change("a", 100), change("b", 102)).select(CHANGE_ID)
    assert slipped_in(added, batch, ours, ITEM).rows() == [(0, 101)]
