import polars as pl
import pytest

from consumer.core.partition.offsets import OffsetTracker


def offsets(*values: int) -> pl.Series:
    return pl.Series(values, dtype=pl.Int64)


def test_watermark_is_unknown_until_something_was_given() -> None:
    assert OffsetTracker().committable_offset is None


def test_watermark_of_a_new_group_starts_at_the_first_offset_given() -> None:
    opened = OffsetTracker()
    opened.give(offsets(70, 71), 72)

    assert opened.committable_offset == 70


def test_watermark_of_an_empty_partition_is_its_end() -> None:
    opened = OffsetTracker()
    opened.give(offsets(), 40)

    assert opened.committable_offset == 40


def test_watermark_stays_below_an_open_offset_whatever_closes_above_it() -> None:
    opened = OffsetTracker()
    opened.start(10)
    opened.give(offsets(10, 11, 12, 13), 14)
    opened.close(offsets(13, 11))
    assert opened.committable_offset == 10

    opened.close(offsets(10))
    assert opened.committable_offset == 12

    opened.close(offsets(12))
    assert opened.committable_offset == 14


def test_gaps_and_tombstones_do_not_hold_the_watermark() -> None:
    opened = OffsetTracker()
    opened.start(0)
    opened.give(offsets(5), 9)
    opened.close(offsets(5))

    assert opened.committable_offset == 9


def test_offsets_far_apart_and_many_polls_keep_their_place() -> None:
    opened = OffsetTracker()
    opened.start(0)
    for poll in range(50):
        start = poll * 1_000_000
        opened.give(pl.int_range(start, start + 1_000, eager=True), start + 1_000)
        if poll:
            opened.close(pl.int_range(start - 1_000_000, start - 999_000, eager=True))
            assert opened.committable_offset == start
    assert opened.open_count == 1_000


def test_closing_an_offset_twice_is_a_bug_that_stops() -> None:
    opened = OffsetTracker()
    opened.give(offsets(1, 2), 3)
    opened.close(offsets(1))

    with pytest.raises(ValueError, match="not open"):
        opened.close(offsets(1))


def test_an_offset_given_again_is_a_bug_that_stops() -> None:
    opened = OffsetTracker()
    opened.give(offsets(1, 2), 3)

    with pytest.raises(ValueError, match="given before"):
        opened.give(offsets(2), 3)
