"""Leaving the group, also with a client that does not come to an end, or has come to it before it calls back."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumer.errors import BrokerError
from consumer.kafka.closing import leave
from consumer.kafka.source import KafkaSource
from consumer.ports import Assignment
from consumer.settings import KafkaSettings
from tests.support.kafka_members import Member


class Hung:
    """A client whose close waits for an answer that does not come: a race of the real one, which no test can win."""

    def __init__(self) -> None:
        self.come = threading.Event()

    def close(self) -> None:
        self.come.wait()


@pytest.fixture
def hung() -> Iterator[Hung]:
    client = Hung()
    yield client
    client.come.set()


def test_a_client_that_once_waited_for_ever_as_it_left_is_not_waited_for(
    hung: Any, caplog: pytest.LogCaptureFixture
) -> None:
    leave(hung, seconds_max=0.05)

    assert "has not left its group within 0.05 s" in caplog.text
    assert not hung.come.is_set()


def test_what_a_callback_raises_as_we_leave_is_raised_where_we_leave() -> None:
    class Client:
        def close(self) -> None:
            raise BrokerError("no way to commit")

    client: Any = Client()
    with pytest.raises(BrokerError, match="no way to commit"):
        leave(client)


class OfNoGroup:
    """A client that calls back although its part in the group is over."""

    def incremental_unassign(self, _partitions: list[TopicPartition]) -> None:
        raise KafkaException(KafkaError(KafkaError._DESTROY))


@pytest.mark.parametrize("as_it_leaves", [True, False])
def test_only_who_leaves_may_find_the_clients_part_in_the_group_over(*, as_it_leaves: bool) -> None:
    source = KafkaSource(KafkaSettings(bootstrap_servers="127.0.0.1:1", topics=["changes"]))
    member = Member(source)
    source._listener = member
    source._hold([Assignment(1, "changes", 0, None, "", low=0, high=1, topic_id=None)])
    client: Any = OfNoGroup()
    source._consumer = client
    source._closed = as_it_leaves

    def give_back() -> None:
        source._on_revoke(client, [TopicPartition("changes", 0)])

    if as_it_leaves:
        give_back()
    else:
        with pytest.raises(BrokerError, match="refuses giving partitions back"):
            give_back()
    assert member.held == {}
