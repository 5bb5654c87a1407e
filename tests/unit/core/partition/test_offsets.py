import polars as pl
import pytest

from consumer.core.partition.offsets import OffsetTracker
from consumer.errors import InvariantError


def offsets(*values: int) -> pl.Series:
    return pl.Series(values, dtype=pl.Int64)


def test_the_committable_offset_is_unknown_until_an_offset_is_tracked() -> None:
    assert OffsetTracker().committable_offset is None


def test_the_committable_offset_of_a_new_group_is_the_first_tracked_offset() -> None:
    opened = OffsetTracker()
    opened.track(offsets(70, 71), 72)

    assert opened.committable_offset == 70


def test_the_committable_offset_of_an_empty_partition_is_its_end() -> None:
    opened = OffsetTracker()
    opened.track(offsets(), 40)

    assert opened.committable_offset == 40


def test_the_committable_offset_never_passes_an_offset_that_is_not_accepted() -> None:
    opened = OffsetTracker()
    opened.start(10)
    opened.track(offsets(10, 11, 12, 13), 14)
    opened.release(offsets(13, 11))
    assert opened.committable_offset == 10

    opened.release(offsets(10))
    assert opened.committable_offset == 12

    opened.release(offsets(12))
    assert opened.committable_offset == 14


def test_gaps_and_tombstones_do_not_hold_back_the_committable_offset() -> None:
    opened = OffsetTracker()
    opened.start(0)
    opened.track(offsets(5), 9)
    opened.release(offsets(5))

    assert opened.committable_offset == 9


def test_the_tracker_stays_correct_over_many_polls_with_large_gaps() -> None:
    opened = OffsetTracker()
    opened.start(0)
    for poll in range(50):
        start = poll * 1_000_000
        opened.track(pl.int_range(start, start + 1_000, eager=True), start + 1_000)
        if poll:
            opened.release(pl.int_range(start - 1_000_000, start - 999_000, eager=True))
            assert opened.committable_offset == start
    assert opened.uncovered == 1_000


def test_accepting_an_offset_twice_raises() -> None:
    opened = OffsetTracker()
    opened.track(offsets(1, 2), 3)
    opened.release(offsets(1))

    with pytest.raises(InvariantError, match="not uncovered"):
        opened.release(offsets(1))


def test_tracking_an_offset_twice_raises() -> None:
    opened = OffsetTracker()
    opened.track(offsets(1, 2), 3)

    with pytest.raises(InvariantError, match="read again"):
        opened.track(offsets(2), 3)
