"""What the source makes of messages that the client returns. The client itself is not connected."""

from collections.abc import Collection, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message

from consumer.errors import InvariantError
from consumer.kafka.options import new_client
from consumer.kafka.source import KafkaSource
from consumer.ports import Assignment
from consumer.settings import KafkaSettings


class Listener:
    def __init__(self) -> None:
        self.lost: list[int] = []

    def on_assigned(self, assignments: Sequence[Assignment]) -> None: ...

    def on_revoked(self, assignment_ids: Sequence[int]) -> None: ...

    def on_lost(self, assignment_ids: Sequence[int]) -> None:
        self.lost += assignment_ids


def source_with(*assignments: Assignment) -> KafkaSource:
    source = KafkaSource(KafkaSettings(bootstrap_servers="127.0.0.1:1", topics=["changes"]))
    source._subscribed_listener = Listener()
    source._add(assignments)
    return source


def assignment(assignment_id: int, partition: int, committed: int | None = None) -> Assignment:
    return Assignment(assignment_id, "changes", partition, committed, "", low=0, high=100, topic_id=None)


def messages(partition: int, *offsets: int) -> list[Message]:
    return [Message("changes", partition, offset, value=b"v", timestamp=(1, 7)) for offset in offsets]


def test_messages_of_a_partition_that_was_revoked_during_the_poll_are_dropped() -> None:
    source = source_with(assignment(1, partition=0))
    batch = source._batch([*messages(3, 5), *messages(0, 0, 1), *messages(3, 6)], {}, set())
    assert (batch.assignments, batch.offsets) == ([1, 1], [0, 1])
    assert len(batch.values) == len(batch.timestamps) == 2


def test_a_message_without_a_timestamp_has_none() -> None:
    source = source_with(assignment(1, partition=0))
    unstamped = Message("changes", 0, 1, value=b"v", timestamp=(0, -1))
    assert list(source._batch([*messages(0, 0), unstamped], {}, set()).timestamps) == [7, None]


def test_an_end_that_messages_followed_is_reported_as_the_offset_after_them() -> None:
    source = source_with(assignment(1, partition=0), assignment(2, partition=1))
    batch = source._batch(messages(0, 0, 1, 2), {1: 2, 2: 4}, set())
    assert batch.ends == {1: 3, 2: 4}


@pytest.mark.parametrize(
    ("read", "ends", "reset"),
    [
        pytest.param([50, 51], {}, [], id="messages from the start offset"),
        pytest.param([], {1: 50}, [], id="the end, at the start offset"),
        pytest.param([50, 51], {1: 52}, [], id="messages from the start offset up to the end"),
        pytest.param([80, 81], {}, [1], id="messages from a later offset"),
        pytest.param([], {1: 82}, [1], id="an end at a later offset"),
        pytest.param([], {}, [], id="nothing"),
    ],
)
def test_what_a_reassigned_partition_returns_from_before_its_revoke_is_dropped_and_the_partition_reset(
    read: list[int], ends: dict[int, int], reset: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_with(assignment(1, partition=0, committed=50), assignment(2, partition=1))
    resets: list[int] = []

    def note(assignment_ids: Collection[int], detail: str) -> None:
        resets.extend(assignment_ids)

    monkeypatch.setattr(source, "_reset", note)
    batch = source._batch([*messages(0, *read), *messages(1, 0, 1)], ends, {1})
    assert resets == reset
    assert batch.offsets == ([0, 1] if reset else [*read, 0, 1])
    assert bool(batch.ends) == (bool(ends) and not reset)


def test_a_rebalance_before_subscribe_is_a_bug() -> None:
    source = KafkaSource(KafkaSettings(bootstrap_servers="127.0.0.1:1", topics=["changes"]))
    with pytest.raises(InvariantError, match="before subscribe"):
        source._add([assignment(1, partition=0)])


def test_the_client_may_call_back_while_it_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login can take long, and fail that early."""

    def failing(kind: Any, options: Any, settings: Any, *, error_cb: Any, stats_cb: Any) -> Any:
        error_cb(KafkaError(KafkaError._AUTHENTICATION, "no token"))
        stats_cb("{}")
        return new_client(kind, options, settings, error_cb=error_cb, stats_cb=stats_cb)

    monkeypatch.setattr("consumer.kafka.source.new_client", failing)

    source = KafkaSource(KafkaSettings(bootstrap_servers="127.0.0.1:1", topics=["changes"]))

    source.close()
