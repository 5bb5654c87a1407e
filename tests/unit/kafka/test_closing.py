"""Closing the consumer, even with a client that never returns, or that has left its group before it calls back."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from structlog.testing import capture_logs

from consumer.errors import BrokerError
from consumer.kafka.closing import close_within
from consumer.kafka.source import KafkaSource
from consumer.ports import Assignment
from consumer.settings import KafkaSettings
from tests.support.kafka_members import Member


class HangingClient:
    """A client whose close never returns: a race in the real client that a test cannot provoke."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def close(self) -> None:
        self.released.wait()


@pytest.fixture
def hanging() -> Iterator[HangingClient]:
    client = HangingClient()
    yield client
    client.released.set()


def test_a_client_that_does_not_close_is_given_up_after_the_time_limit(hanging: Any) -> None:
    with capture_logs() as logs:
        close_within(hanging, seconds_max=0.05)

    (event,) = logs
    assert (event["event"], event["timeout_seconds"]) == ("consumer_close_timed_out", 0.05)
    assert not hanging.released.is_set()


def test_an_error_of_a_callback_during_close_is_raised_by_close_within() -> None:
    class Client:
        def close(self) -> None:
            raise BrokerError("no way to commit")

    client: Any = Client()
    with pytest.raises(BrokerError, match="no way to commit"):
        close_within(client)


class ClientOutsideItsGroup:
    """A client that calls back although it has left its group already."""

    def incremental_unassign(self, _partitions: list[TopicPartition]) -> None:
        raise KafkaException(KafkaError(KafkaError._DESTROY))


@pytest.mark.parametrize("closing", [True, False])
def test_releasing_partitions_outside_the_group_is_an_error_except_while_closing(*, closing: bool) -> None:
    source = KafkaSource(KafkaSettings(bootstrap_servers="127.0.0.1:1", topics=["changes"]))
    member = Member(source)
    source._subscribed_listener = member
    source._add([Assignment(1, "changes", 0, None, "", low=0, high=1, topic_id=None)])
    client: Any = ClientOutsideItsGroup()
    source._consumer = client
    source._closed = closing

    def revoke() -> None:
        source._on_revoke(client, [TopicPartition("changes", 0)])

    if closing:
        revoke()
    else:
        with pytest.raises(BrokerError, match="cannot release partitions"):
            revoke()
    assert member.held == {}
