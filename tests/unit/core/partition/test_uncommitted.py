"""What was read past the committable offset, in bytes (rule 10)."""

from consumer.core.partition.uncommitted import UncommittedBytes


def test_bytes_count_until_the_committable_offset_has_passed_their_span() -> None:
    read = UncommittedBytes(step_bytes=1)
    read.add(10, 100.0)
    read.add(20, 50.0)
    read.drop_below(19)
    assert read.size_bytes == 50.0

    read.drop_below(20)
    assert read.size_bytes == 0.0


def test_small_spans_are_counted_together() -> None:
    read = UncommittedBytes(step_bytes=10)
    for offset in range(1, 101):
        read.add(offset, 1.0)

    assert read.size_bytes == 100.0
    read.drop_below(55)
    assert read.size_bytes == 50.0


def test_reading_without_rows_costs_nothing() -> None:
    read = UncommittedBytes(step_bytes=0)
    read.add(10, 5.0)
    read.add(1_000, 0.0)

    assert (read.size_bytes, read.offset_that_leaves(0.0)) == (5.0, 10)


def test_the_offset_at_which_little_enough_is_left() -> None:
    read = UncommittedBytes(step_bytes=1)
    for offset in (10, 20, 30):
        read.add(offset, 100.0)

    assert [read.offset_that_leaves(most) for most in (300.0, 299.0, 200.0, 100.0, 99.0)] == [0, 10, 10, 20, 30]
