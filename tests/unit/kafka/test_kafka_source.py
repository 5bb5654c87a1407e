"""What becomes of messages as the client gives them. The client itself is in no way connected."""

from collections.abc import Sequence

import pytest
from confluent_kafka import Message

from consumer.kafka.source import KafkaSource
from consumer.ports import Assignment
from consumer.settings import KafkaSettings


class Listener:
    def __init__(self) -> None:
        self.lost: list[int] = []

    def on_assigned(self, assignments: Sequence[Assignment]) -> None: ...

    def on_revoked(self, numbers: Sequence[int]) -> None: ...

    def on_lost(self, numbers: Sequence[int]) -> None:
        self.lost += numbers


def holding(*assignments: Assignment) -> KafkaSource:
    source = KafkaSource(KafkaSettings(bootstrap_servers="127.0.0.1:1", topics=["changes"]))
    source._listener = Listener()
    source._hold(assignments)
    return source


def assignment(number: int, partition: int, committed: int | None = None) -> Assignment:
    return Assignment(number, "changes", partition, committed, "", low=0, high=100, topic_id=None)


def messages(partition: int, *offsets: int) -> list[Message]:
    return [Message("changes", partition, offset, value=b"v", timestamp=(1, 7)) for offset in offsets]


def test_a_message_of_a_partition_that_went_while_the_poll_waited_is_dropped() -> None:
    source = holding(assignment(1, partition=0))
    batch = source._batch([*messages(3, 5), *messages(0, 0, 1), *messages(3, 6)], {}, set())
    assert (batch.assignments, batch.offsets) == ([1, 1], [0, 1])
    assert len(batch.values) == len(batch.timestamps) == 2


def test_a_message_without_a_timestamp_has_none() -> None:
    source = holding(assignment(1, partition=0))
    unstamped = Message("changes", 0, 1, value=b"v", timestamp=(0, -1))
    assert list(source._batch([*messages(0, 0), unstamped], {}, set()).timestamps) == [7, None]


def test_an_end_that_was_followed_by_messages_is_told_as_after_them() -> None:
    source = holding(assignment(1, partition=0), assignment(2, partition=1))
    batch = source._batch(messages(0, 0, 1, 2), {1: 2, 2: 4}, set())
    assert batch.ends == {1: 3, 2: 4}


@pytest.mark.parametrize(
    ("read", "ends", "astray"),
    [
        pytest.param([50, 51], {}, [], id="messages from where it was told to begin"),
        pytest.param([], {1: 50}, [], id="the end, where it was told to begin"),
        pytest.param([50, 51], {1: 52}, [], id="messages from there up to the end"),
        pytest.param([80, 81], {}, [1], id="messages from later on"),
        pytest.param([], {1: 82}, [1], id="an end later on"),
        pytest.param([], {}, [], id="nothing"),
    ],
)
def test_what_a_partition_gave_before_it_went_and_came_back_is_not_taken_for_what_it_gives_now(
    read: list[int], ends: dict[int, int], astray: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = holding(assignment(1, partition=0, committed=50))
    taken_again: list[int] = []
    monkeypatch.setattr(source, "_take_again", taken_again.extend)
    monkeypatch.setitem(source._number_of, ("changes", 0), 1)
    batch = source._batch(messages(0, *read), ends, {1})
    assert taken_again == astray
    assert batch.offsets == ([] if astray else read)
    assert bool(batch.ends) == (bool(ends) and not astray)


def test_it_is_known_which_partitions_went_and_came_back_while_a_poll_waited() -> None:
    source = holding(assignment(1, partition=0), assignment(2, partition=1))
    before = source._number_of.copy()
    assert source._came_back(before) == set()
    source._forget([1])
    source._hold([assignment(3, partition=0), assignment(4, partition=2)])
    assert source._came_back(before) == {3}
