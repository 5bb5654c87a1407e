"""Which partition with a backlog is read while memory is short (rule 24)."""

from consumer.core.partition.turns import Turns

AGE = 60.0


def nothing(_assignment_id: int) -> float:
    return 0.0


def much(_assignment_id: int) -> float:
    much.read += 1_000.0  # type: ignore[attr-defined]
    return much.read  # type: ignore[attr-defined, no-any-return]


much.read = 0.0  # type: ignore[attr-defined]


def test_each_partition_has_its_turn_within_max_age_however_little_it_is_read() -> None:
    turns = Turns(AGE, turn_bytes_min=10)
    read = {turns.choose([1, 2, 3, 4], nothing, float(second)): second for second in range(int(AGE))}

    assert read == {1: 14, 2: 29, 3: 44, 4: 59}


def test_a_turn_in_which_enough_was_read_is_half_as_long() -> None:
    turns = Turns(AGE, turn_bytes_min=10)
    read = [turns.choose([1, 2], much, float(second)) for second in range(60)]

    assert [read.index(2), read[16:].index(1) + 16] == [15, 30]


def test_a_turn_ends_with_the_backlog_and_the_longest_waiting_is_next() -> None:
    turns = Turns(AGE, turn_bytes_min=10)
    assert turns.choose([1, 2, 3], nothing, 0.0) == 1
    assert turns.choose([2, 3], nothing, 1.0) == 2
    assert turns.choose([1, 3], nothing, 2.0) == 1
    assert turns.choose([2, 3], nothing, 3.0) == 2


def test_time_in_which_nothing_is_read_does_not_count() -> None:
    turns = Turns(AGE, turn_bytes_min=10)
    assert turns.choose([1, 2], nothing, 0.0) == 1
    turns.stand_still(100.0)
    assert turns.choose([1, 2], nothing, 129.0) == 1
    assert turns.choose([1, 2], nothing, 130.0) == 2
