"""Which dead letters can be redriven: decided on frames alone."""

from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest

from consumer.core.changes.items import ASSIGNMENT, ITEM_KEY, LOCATION, OCCURRED_AT, OFFSET, TIMESTAMP
from consumer.dead_letters.redrive.plan import (
    BLOCKING_ASSIGNMENT,
    BLOCKING_OFFSET,
    BYTES,
    RECORD_ID,
    UNDECODABLE,
    VERDICT,
    foreign_changes,
    item_columns,
    judge,
    newest_changes,
    newest_of,
    split_into_batches,
)

ITEM = item_columns(ITEM_KEY)
SCHEMA = {
    LOCATION: pl.String(), "partNumber": pl.String(), "upc": pl.String(), "sku": pl.String(), "binID": pl.Int64(),
    "lotCode": pl.String(), "condition": pl.String(), "date": pl.String(), "serialNumber": pl.String(),
    "externalID": pl.String(), "deliveryDate": pl.String(), "tags": pl.String(), ASSIGNMENT: pl.Int32(),
    OFFSET: pl.Int64(), TIMESTAMP: pl.Int64(), OCCURRED_AT: pl.Int64(), BYTES: pl.Int64(),
}  # fmt: skip


def change(sku: str, offset: int, partition: int = 0, **more: Any) -> dict[str, Any]:
    """A change whose times are its offset, unless given otherwise."""
    columns = {LOCATION: "Rome", "sku": sku, ASSIGNMENT: partition}
    times = dict.fromkeys((OFFSET, TIMESTAMP, OCCURRED_AT), offset)
    return dict.fromkeys(SCHEMA) | columns | times | {BYTES: 10} | more


def frame(*changes: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(changes), schema=SCHEMA, orient="row")


def judged(
    dead_letters: pl.DataFrame,
    log: pl.DataFrame,
    *,
    missing: tuple[int, ...] = (),
    undecodable: Mapping[int, int] | None = None,
) -> pl.DataFrame:
    in_log = dead_letters.filter(~pl.col(OFFSET).is_in(missing)).select(RECORD_ID)
    undecodable_frame = pl.DataFrame(
        list((undecodable or {}).items()), schema={ASSIGNMENT: pl.Int32(), UNDECODABLE: pl.Int64()}, orient="row"
    )
    return judge(dead_letters, newest_changes(log, dead_letters, ITEM), in_log, undecodable_frame, ITEM)


def verdicts(frame: pl.DataFrame) -> dict[int, str]:
    return dict(frame.select(OFFSET, VERDICT).iter_rows())


def test_a_dead_letter_is_redriven_if_the_log_has_no_newer_change_of_its_item() -> None:
    dead_letters = frame(change("a", 10))
    log = frame(change("a", 10), change("b", 11), change("a", 12, locationName="Oslo"))
    assert verdicts(judged(dead_letters, log)) == {10: "redrive"}


def test_a_dead_letter_with_a_newer_change_of_its_item_is_skipped_and_the_change_is_named() -> None:
    dead_letters = frame(change("a", 10), change("b", 11))
    frame_judged = judged(dead_letters, frame(change("a", 10), change("b", 11), change("a", 15)))
    assert verdicts(frame_judged) == {10: "superseded", 11: "redrive"}
    assert frame_judged.select(BLOCKING_ASSIGNMENT, BLOCKING_OFFSET).row(0) == (0, 15)
    assert frame_judged.select(BLOCKING_ASSIGNMENT, BLOCKING_OFFSET).row(1) == (None, None)


def test_an_older_change_of_the_item_in_its_partition_does_not_block_whatever_its_times() -> None:
    assert verdicts(judged(frame(change("a", 10)), frame(change("a", 9, **{OCCURRED_AT: 99, TIMESTAMP: 99})))) == {
        10: "redrive"
    }


def test_all_dead_letters_of_an_item_are_redriven_if_only_dead_letters_are_newer() -> None:
    dead_letters = frame(change("a", 10), change("a", 20), change("a", 30))
    assert verdicts(judged(dead_letters, dead_letters)) == {10: "redrive", 20: "redrive", 30: "redrive"}


def test_only_dead_letters_after_the_newest_other_change_are_redriven() -> None:
    dead_letters = frame(change("a", 10), change("a", 20))
    log = frame(change("a", 10), change("a", 15), change("a", 20))
    assert verdicts(judged(dead_letters, log)) == {10: "superseded", 20: "redrive"}


def test_a_newer_dead_letter_that_is_skipped_blocks_older_ones_of_its_item() -> None:
    dead_letters = frame(change("a", 10), change("a", 20), change("b", 21))
    frame_judged = judged(dead_letters, dead_letters, missing=(20,))
    assert verdicts(frame_judged) == {10: "superseded", 20: "not in the log", 21: "redrive"}
    assert frame_judged.select(BLOCKING_OFFSET).to_series().to_list() == [20, None, None]


def test_a_dead_letter_whose_change_is_no_longer_in_the_log_is_skipped() -> None:
    dead_letters = frame(change("a", 10))
    assert verdicts(judged(dead_letters, frame(), missing=(10,))) == {10: "not in the log"}


def test_a_later_change_that_cannot_be_decoded_may_be_of_any_item_of_its_partition() -> None:
    dead_letters = frame(change("a", 10), change("b", 20), change("c", 5, partition=1))
    frame_judged = judged(dead_letters, dead_letters, undecodable={0: 15})
    assert verdicts(frame_judged) == {10: "undecodable change after it", 20: "redrive", 5: "redrive"}
    assert frame_judged.select(BLOCKING_ASSIGNMENT, BLOCKING_OFFSET).row(0) == (0, 15)


@pytest.mark.parametrize(
    ("times", "verdict"),
    [
        ({TIMESTAMP: 11, OCCURRED_AT: 9}, "superseded"),
        ({TIMESTAMP: 9, OCCURRED_AT: 11}, "superseded"),
        ({TIMESTAMP: 10, OCCURRED_AT: 9}, "superseded"),
        ({TIMESTAMP: 9, OCCURRED_AT: 9}, "redrive"),
        ({TIMESTAMP: None, OCCURRED_AT: 9}, "superseded"),
    ],
    ids=["later in Kafka", "later upstream", "same time", "earlier", "time unknown"],
)
def test_a_change_in_another_partition_is_newer_unless_both_its_times_are_earlier(
    times: dict[str, int | None], verdict: str
) -> None:
    dead_letters = frame(change("a", 10))
    assert verdicts(judged(dead_letters, frame(change("a", 10), change("a", 3, partition=1, **times)))) == {10: verdict}


def test_the_highest_times_of_an_item_in_a_partition_count_whichever_change_has_them() -> None:
    log = frame(
        change("a", 3, partition=1, **{TIMESTAMP: 50, OCCURRED_AT: 1}),
        change("a", 4, partition=1, **{TIMESTAMP: 2, OCCURRED_AT: 2}),
    )
    assert verdicts(judged(frame(change("a", 10)), log)) == {10: "superseded"}


def test_items_differ_by_every_column_of_the_key_nulls_included() -> None:
    dead_letters = frame(change("a", 10), change("a", 11, binID=1))
    log = frame(change("a", 20, binID=1), change("a", 21, binID=2))
    assert verdicts(judged(dead_letters, log)) == {10: "redrive", 11: "superseded"}


def test_the_newest_changes_of_parts_merge_to_those_of_the_whole() -> None:
    dead_letters = frame(change("a", 10), change("b", 11))
    log = [change("a", 20), change("b", 30), change("a", 40), change("a", 5, partition=1)]
    parts = [newest_changes(frame(row), dead_letters, ITEM) for row in log]
    at_once = newest_changes(frame(*log), dead_letters, ITEM)
    assert newest_of(pl.concat(parts), ITEM).sort("sku", *RECORD_ID).equals(at_once.sort("sku", *RECORD_ID))


def test_dead_letters_of_one_item_share_a_batch_and_a_batch_is_in_log_order() -> None:
    dead_letters = frame(*(change("abc"[number % 3], number) for number in range(30)), change("d", 1, partition=1))
    shuffled = dead_letters.sample(fraction=1.0, shuffle=True, seed=1)
    batches = split_into_batches(shuffled, ITEM, count_max=10, bytes_max=1_000_000)
    skus = [set(batch["sku"]) for batch in batches]
    assert sum(map(len, skus)) == len(set().union(*skus)) == 4
    assert [batch.height for batch in batches] == [10, 10, 10, 1]
    for batch in batches:
        assert batch.select(RECORD_ID).rows() == sorted(batch.select(RECORD_ID).rows())
    assert pl.concat(batches).sort(RECORD_ID).equals(dead_letters.sort(RECORD_ID))


def test_batches_are_bounded_by_count_and_by_bytes() -> None:
    small = frame(*(change(f"s{number}", number) for number in range(25)))
    assert [batch.height for batch in split_into_batches(small, ITEM, count_max=10, bytes_max=10_000)] == [10, 10, 5]
    assert max(batch.height for batch in split_into_batches(small, ITEM, count_max=100, bytes_max=30)) <= 3
    one_heavy = frame(change("heavy", 0, _bytes=5_000), *(change(f"s{number}", number) for number in range(1, 60)))
    heights = [batch.height for batch in split_into_batches(one_heavy, ITEM, count_max=10, bytes_max=1_000)]
    assert max(heights) <= 10
    assert split_into_batches(small.clear(), ITEM, count_max=10, bytes_max=10) == []


def test_an_event_is_redriven_only_if_no_line_of_it_has_a_newer_change() -> None:
    events = frame(change("a", 10), change("b", 10), change("c", 11), change("d", 11))
    log = pl.concat([events, frame(change("b", 12))])
    frame_judged = judged(events, log)
    assert verdicts(frame_judged) == {10: "superseded", 11: "redrive"}
    assert frame_judged.height == 2
    assert frame_judged.select(BLOCKING_ASSIGNMENT, BLOCKING_OFFSET).row(0) == (0, 12)


def test_the_lines_of_an_event_that_is_skipped_block_older_events_and_so_on() -> None:
    events = frame(
        change("a", 10), change("b", 10), change("b", 11), change("c", 11), change("c", 12), change("d", 12),
        change("e", 13),
    )  # fmt: skip
    assert verdicts(judged(events, events)) == {10: "redrive", 11: "redrive", 12: "redrive", 13: "redrive"}
    log = pl.concat([events, frame(change("d", 20))])
    assert verdicts(judged(events, log)) == {10: "superseded", 11: "superseded", 12: "superseded", 13: "redrive"}


def test_two_lines_of_one_item_do_not_block_each_other() -> None:
    events = frame(change("a", 10), change("a", 10))
    assert verdicts(judged(events, events)) == {10: "redrive"}


def test_events_that_share_items_share_a_batch_with_all_their_lines() -> None:
    events = frame(
        change("a", 1), change("b", 1), change("z", 2), change("b", 3), change("c", 3), change("c", 4), change("y", 5),
    )  # fmt: skip
    batches = split_into_batches(events, ITEM, count_max=1, bytes_max=1_000_000)
    assert [batch[OFFSET].to_list() for batch in batches] == [[1, 1, 3, 3, 4], [2], [5]]


def test_an_event_counts_its_bytes_once_however_many_lines_it_has() -> None:
    events = frame(*(change(f"s{event}-{line}", event) for event in range(4) for line in range(50)))
    batches = split_into_batches(events, ITEM, count_max=100, bytes_max=20)
    assert [batch[OFFSET].unique().sort().to_list() for batch in batches] == [[0, 1], [2, 3]]


def test_copies_are_not_foreign_changes() -> None:
    batch = frame(change("a", 10), change("b", 11))
    added = frame(change("a", 100), change("b", 101), change("b", 102), change("c", 103))
    copies = frame(change("a", 100), change("b", 102)).select(RECORD_ID)
    assert foreign_changes(added, batch, copies, ITEM).rows() == [(0, 101)]
