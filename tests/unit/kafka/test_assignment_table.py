"""The table of assignments. No Kafka client is involved."""

import pytest

from consumer.kafka.assignment_table import AssignmentTable, OffsetRange, offset_ranges, start_offset
from consumer.ports import Assignment


def assignment(
    assignment_id: int, partition: int, *, topic: str = "changes", committed: int | None = None
) -> Assignment:
    return Assignment(assignment_id, topic, partition, committed, "", low=0, high=100, topic_id=None)


def table_of(*assignments: Assignment, topics: tuple[str, ...] = ("changes",)) -> AssignmentTable:
    table = AssignmentTable(topics)
    table.add(assignments)
    return table


# Where reading starts


@pytest.mark.parametrize(
    ("committed", "start"),
    [
        pytest.param(None, 10, id="nothing committed"),
        pytest.param(15, 15, id="inside the log"),
        pytest.param(10, 10, id="at the log's start"),
        pytest.param(20, 20, id="at the log's end"),
        pytest.param(9, 10, id="deleted by retention"),
        pytest.param(21, 10, id="past the end of a log that was truncated or recreated"),
    ],
)
def test_reading_starts_at_the_committed_offset_if_the_log_has_it(committed: int | None, start: int) -> None:
    given = Assignment(1, "changes", 0, committed, "", low=10, high=20, topic_id=None)
    assert start_offset(given) == start
    assert table_of(given).next_offset(1) == start


# Which assignment a message belongs to


def test_messages_of_a_single_topic_are_looked_up_without_reading_their_topics() -> None:
    table = table_of(assignment(1, 0), assignment(2, 5))

    def unread() -> str:
        raise NotImplementedError

    assert table.ids_of_messages(iter(unread, ""), [5, 0, 3, 5]) == [2, 1, None, 2]


def test_messages_of_several_topics_are_looked_up_by_topic_and_partition() -> None:
    table = table_of(assignment(1, 0, topic="a"), assignment(2, 0, topic="b"), topics=("a", "b"))
    assert table.ids_of_messages(["b", "a", "b"], [0, 0, 1]) == [2, 1, None]
    table.remove([1])
    assert table.ids_of_messages(["b", "a"], [0, 0]) == [2, None]


def test_a_removed_assignment_is_unknown_by_id_and_by_partition() -> None:
    table = table_of(assignment(1, 0), assignment(2, 1))
    table.remove([1])
    assert (1 in table, table.get(1)) == (False, None)
    assert table.ids_of([("changes", 0), ("changes", 1), ("changes", 9)]) == [2]
    assert [held.assignment_id for held in table.assignments] == [2]
    assert len(table) == 1
    with pytest.raises(KeyError):
        table.remove([1])


def test_a_partition_that_is_assigned_again_has_its_new_id_and_starts_at_the_new_commit() -> None:
    table = table_of(assignment(1, 0, committed=10))
    table.record_read({1: OffsetRange(10, 19)}, {})
    table.remove([1])
    table.add([assignment(2, 0, committed=15)])
    assert table.ids_of_messages([], [0]) == [2]
    assert table.next_offset(2) == 15


def test_partitions_that_were_revoked_and_assigned_again_since_a_snapshot_are_reassigned() -> None:
    table = table_of(assignment(1, 0), assignment(2, 1))
    snapshot = table.snapshot()
    assert table.reassigned_since(snapshot) == set()
    table.remove([1])
    assert table.reassigned_since(snapshot) == set()
    table.add([assignment(3, 0), assignment(4, 2)])
    assert table.reassigned_since(snapshot) == {3}


# How far an assignment was read


def test_the_range_of_each_assignment_in_a_batch_is_its_first_and_last_offset() -> None:
    assert offset_ranges([1, 2, 1, 1, 2], [5, 0, 6, 9, 1]) == {1: OffsetRange(5, 9), 2: OffsetRange(0, 1)}
    assert offset_ranges([], []) == {}


def test_an_end_reported_before_messages_of_the_same_poll_is_returned_as_the_offset_after_them() -> None:
    table = table_of(assignment(1, 0), assignment(2, 1))
    assert table.record_read({1: OffsetRange(0, 2)}, {1: 2, 2: 4}) == {1: 3, 2: 4}
    assert (table.next_offset(1), table.next_offset(2)) == (3, 4)


def test_an_end_past_the_last_message_counts_as_read_because_transaction_markers_lie_between() -> None:
    table = table_of(assignment(1, 0))
    assert table.record_read({1: OffsetRange(0, 2)}, {1: 5}) == {1: 5}
    assert table.next_offset(1) == 5


@pytest.mark.parametrize(
    ("offsets", "is_discontinuous"),
    [
        pytest.param((10, 12), False, id="continues"),
        pytest.param((17, 20), False, id="continues after a gap, as in a compacted log"),
        pytest.param((9, 12), True, id="starts before the next offset"),
        pytest.param((10, 3), True, id="goes backwards within the poll"),
        pytest.param((0, 40), True, id="starts at the beginning and passes the next offset"),
    ],
)
def test_offsets_that_go_backwards_make_an_assignment_discontinuous(
    offsets: tuple[int, int], *, is_discontinuous: bool
) -> None:
    table = table_of(assignment(1, 0, committed=10), assignment(2, 1))
    ranges = {1: OffsetRange(*offsets), 2: OffsetRange(0, 0)}
    assert table.discontinuous(ranges, {}, set()) == ({1} if is_discontinuous else set())


@pytest.mark.parametrize(
    ("read", "ends", "is_discontinuous"),
    [
        pytest.param({1: (50, 51)}, {}, False, id="messages from the start offset"),
        pytest.param({}, {1: 50}, False, id="the end, at the start offset"),
        pytest.param({1: (50, 51)}, {1: 52}, False, id="messages from the start offset up to the end"),
        pytest.param({1: (80, 81)}, {}, True, id="messages from a later offset"),
        pytest.param({}, {1: 82}, True, id="an end at a later offset"),
        pytest.param({}, {}, False, id="nothing"),
    ],
)
def test_a_reassigned_partition_must_start_exactly_at_its_start_offset(
    read: dict[int, tuple[int, int]], ends: dict[int, int], *, is_discontinuous: bool
) -> None:
    table = table_of(assignment(1, 0, committed=50))
    ranges = {assignment_id: OffsetRange(*offsets) for assignment_id, offsets in read.items()}
    assert table.discontinuous(ranges, ends, {1}) == ({1} if is_discontinuous else set())
    assert table.discontinuous(ranges, ends, set()) == set()
