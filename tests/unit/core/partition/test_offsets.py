import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.core.partition.offsets import OffsetTracker
from consumer.errors import InvariantError


def offsets(*values: int) -> pl.Series:
    return pl.Series(values, dtype=pl.Int64)


def test_the_committable_offset_is_unknown_until_an_offset_is_tracked() -> None:
    assert OffsetTracker().committable_offset is None


def test_the_committable_offset_of_a_new_group_is_the_first_tracked_offset() -> None:
    tracker = OffsetTracker()
    tracker.track(offsets(70, 71), 72)

    assert tracker.committable_offset == 70


def test_the_committable_offset_of_an_empty_partition_is_its_end() -> None:
    tracker = OffsetTracker()
    tracker.track(offsets(), 40)

    assert tracker.committable_offset == 40


def test_the_committable_offset_never_passes_an_offset_that_is_not_accepted() -> None:
    tracker = OffsetTracker()
    tracker.start(10)
    tracker.track(offsets(10, 11, 12, 13), 14)
    tracker.release(offsets(13, 11))
    assert tracker.committable_offset == 10

    tracker.release(offsets(10))
    assert tracker.committable_offset == 12

    tracker.release(offsets(12))
    assert tracker.committable_offset == 14


def test_gaps_and_tombstones_do_not_hold_back_the_committable_offset() -> None:
    tracker = OffsetTracker()
    tracker.start(0)
    tracker.track(offsets(5), 9)
    tracker.release(offsets(5))

    assert tracker.committable_offset == 9


def test_the_tracker_stays_correct_over_many_polls_with_large_gaps() -> None:
    tracker = OffsetTracker()
    tracker.start(0)
    for poll in range(50):
        start = poll * 1_000_000
        tracker.track(pl.int_range(start, start + 1_000, eager=True), start + 1_000)
        if poll:
            tracker.release(pl.int_range(start - 1_000_000, start - 999_000, eager=True))
            assert tracker.committable_offset == start
    assert tracker.open_lines == 1_000


def test_accepting_an_offset_twice_raises() -> None:
    tracker = OffsetTracker()
    tracker.track(offsets(1, 2), 3)
    tracker.release(offsets(1))

    with pytest.raises(InvariantError, match="not open"):
        tracker.release(offsets(1))


def test_tracking_an_offset_twice_raises() -> None:
    tracker = OffsetTracker()
    tracker.track(offsets(1, 2), 3)

    with pytest.raises(InvariantError, match="read again"):
        tracker.track(offsets(2), 3)


def test_an_event_with_several_lines_holds_the_committable_offset_until_each_is_covered() -> None:
    tracker = OffsetTracker()
    tracker.start(7)
    tracker.track(offsets(7, 7, 7, 8), 9)

    tracker.release(offsets(7, 8))
    assert tracker.committable_offset == 7
    tracker.release(offsets(7, 7))
    assert tracker.committable_offset == 9


def test_an_event_may_have_more_lines_than_a_byte_counts() -> None:
    tracker = OffsetTracker()
    tracker.track(offsets(*[3] * 10_000), 4)

    tracker.release(offsets(*[3] * 9_999))
    assert tracker.committable_offset == 3
    tracker.release(offsets(3))
    assert tracker.committable_offset == 4


@settings(deadline=None)
@given(st.data())
def test_few_and_many_open_offsets_are_counted_alike(data: st.DataObject) -> None:
    """The tracker changes its way to count as offsets are opened and closed."""
    few_max = data.draw(st.sampled_from([0, 4, 12]))
    reference: dict[int, int] = {}
    tracker, end = OffsetTracker(), data.draw(st.integers(0, 3))
    tracker.start(end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("consumer.core.partition.offsets.FEW_MAX", few_max)
        for _ in range(data.draw(st.integers(1, 12))):
            if data.draw(st.booleans()):
                read = sorted(data.draw(st.lists(st.integers(end, end + 9), max_size=8)))
                end = max([end, *(offset + 1 for offset in read)])
                tracker.track(data.draw(st.permutations(read)), end)
                reference.update({offset: reference.get(offset, 0) + read.count(offset) for offset in set(read)})
            else:
                lines = [offset for offset, count in sorted(reference.items()) for _ in range(count)]
                closed = data.draw(st.permutations(lines))[: data.draw(st.integers(0, len(lines)))]
                tracker.release(offsets(*closed))
                for offset in closed:
                    reference[offset] -= 1
            open_offsets = [offset for offset, count in reference.items() if count]
            assert tracker.committable_offset == min(open_offsets, default=end)
            assert tracker.open_lines == sum(reference.values())


@pytest.mark.parametrize("few_max", [0, 100], ids=["many", "few"])
def test_a_superseded_offset_that_is_reopened_holds_the_committable_offset_again(
    monkeypatch: pytest.MonkeyPatch, few_max: int
) -> None:
    monkeypatch.setattr("consumer.core.partition.offsets.FEW_MAX", few_max)
    tracker = OffsetTracker()
    tracker.start(1)
    tracker.track(offsets(1, 2, 3, 4), 5)
    tracker.release(offsets(2))
    tracker.reopen(offsets(2))
    tracker.release(offsets(1))

    assert tracker.committable_offset == 2
