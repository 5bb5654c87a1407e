"""Pending rows in blocks: few runs per location however many polls they came in, and memory that is counted."""

import polars as pl
import pytest

from consumer.core.changes.blocks import MERGE_FACTOR, RUN_ROWS_MIN, Blocks, frame_bytes, grouped, rows_of
from consumer.core.changes.items import ARRIVED, OFFSET
from tests.support.frames import change, frame


def poll(number: int, locations: int = 10, rows: int = 1) -> pl.DataFrame:
    """``rows`` changes per location, all of one arrival."""
    first = number * locations * rows
    changes = [
        change(f"store {at % locations}", f"sku-{first + at}", offset=first + at, arrived=float(number))
        for at in range(locations * rows)
    ]
    return frame(changes).sort("locationName", maintain_order=True)


def filled(polls: int, **shape: int) -> Blocks:
    blocks = Blocks(["sku"], size_of=len)
    for number in range(polls):
        blocks.add(poll(number, **shape))
        blocks.merge()
    return blocks


def test_rows_scattered_over_many_polls_are_brought_together() -> None:
    blocks = filled(MERGE_FACTOR**2)

    assert len(blocks) < 2 * MERGE_FACTOR
    spans = blocks.spans("store 3")
    assert len(spans) <= len(blocks)
    assert rows_of(spans)[OFFSET].to_list() == [10 * number + 3 for number in range(MERGE_FACTOR**2)]


def test_blocks_whose_runs_are_long_are_not_copied() -> None:
    blocks = filled(MERGE_FACTOR, locations=20, rows=RUN_ROWS_MIN)

    assert len(blocks) == MERGE_FACTOR
    assert all(block.merges == 0 for block in blocks)


@pytest.mark.parametrize("limit", ["MERGED_ROWS_MAX", "MERGED_BYTES_MAX"])
def test_no_merge_makes_a_larger_block_than_its_limit(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Blocks below the limit were merged into one of eight times as much, which took half a gigabyte for a moment."""
    monkeypatch.setattr(f"consumer.core.changes.blocks.{limit}", 45)
    blocks = filled(MERGE_FACTOR**2)

    assert max(block.frame.height for block in blocks) == 40
    assert sum(block.live for block in blocks) == 10 * MERGE_FACTOR**2
    assert rows_of(blocks.spans("store 3"))[OFFSET].to_list() == [10 * number + 3 for number in range(MERGE_FACTOR**2)]


def test_rows_that_are_put_back_keep_their_place_by_arrival_through_merges() -> None:
    blocks = filled(3)
    spans = blocks.spans("store 3")
    rows = rows_of(spans)
    blocks.release("store 3", spans)
    blocks.put_back("store 3", rows)
    for number in range(3, 2 * MERGE_FACTOR):
        blocks.add(poll(number))
        blocks.merge()

    spans = blocks.spans("store 3")
    joined = pl.concat([span.rows() for span in spans], how="diagonal")
    assert joined[ARRIVED].is_sorted()
    assert joined[OFFSET].to_list() == [10 * number + 3 for number in range(2 * MERGE_FACTOR)]


def test_the_memory_of_pending_rows_is_counted_and_released() -> None:
    blocks = filled(5)
    assert blocks.size_bytes == 50

    blocks.release("store 3", blocks.spans("store 3"))
    assert blocks.size_bytes == 45
    for location in [f"store {at}" for at in range(10) if at != 3]:
        blocks.release(location, blocks.spans(location))
    assert (blocks.size_bytes, len(blocks)) == (0, 0)


def test_a_block_with_few_live_rows_is_rewritten() -> None:
    blocks = filled(1, locations=10)
    for location in [f"store {at}" for at in range(6)]:
        blocks.release(location, blocks.spans(location))
    assert blocks.merge()

    (block,) = blocks
    assert block.frame.height == block.live == 4


def test_a_part_of_a_run_can_be_released_from_its_beginning() -> None:
    blocks = filled(1, locations=2, rows=5)
    (span,) = blocks.spans("store 1")
    blocks.release("store 1", [type(span)(span.block, span.start, span.start + 2, 0.0, 0.0)])

    assert rows_of(blocks.spans("store 1"))[OFFSET].to_list() == [5, 7, 9]


@pytest.mark.parametrize("one_by_one_max", [0, 100], ids=["many", "few"])
def test_rows_are_grouped_by_location_in_the_order_in_which_they_were_read(
    monkeypatch: pytest.MonkeyPatch, one_by_one_max: int
) -> None:
    monkeypatch.setattr("consumer.core.changes.blocks.GROUPED_ONE_BY_ONE_MAX", one_by_one_max)
    mixed = frame([change(f"store {at * 7 % 3}", f"sku-{at}", offset=at) for at in range(30)])

    rows, starts, stops = grouped(mixed)

    runs = [rows[OFFSET].slice(start, stop - start).to_list() for start, stop in zip(starts, stops, strict=True)]
    assert sorted(runs) == [list(range(first, 30, 3)) for first in range(3)]


@pytest.mark.parametrize("one_by_one_max", [0, 100], ids=["many", "few"])
def test_rows_that_are_grouped_already_are_not_moved(monkeypatch: pytest.MonkeyPatch, one_by_one_max: int) -> None:
    monkeypatch.setattr("consumer.core.changes.blocks.GROUPED_ONE_BY_ONE_MAX", one_by_one_max)
    rows = poll(0, locations=3, rows=2)

    moved, starts, stops = grouped(rows)

    assert moved is rows
    assert (starts, stops) == ([0, 2, 4], [2, 4, 6])


@pytest.mark.parametrize(("text", "text_bytes"), [("x" * 8, 16), ("x" * 12, 16), ("x" * 40, 44)])
def test_text_counts_as_the_memory_that_it_takes(text: str, text_bytes: int) -> None:
    """Short texts take 16 bytes however short they are; of longer ones 16 and the text, less 12 that are not known."""
    rows = pl.DataFrame({"a": [text] * 1000, "b": [1] * 1000})

    assert frame_bytes(rows) == pytest.approx(1000 * (text_bytes + 8), rel=0.01)
