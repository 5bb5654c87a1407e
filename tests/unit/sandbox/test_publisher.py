from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition

from consumer.errors import BrokerError, SettingsError
from consumer.sandbox.embedded_broker import PARTITIONS, EmbeddedBroker
from consumer.sandbox.publisher import Event, publish


@pytest.fixture
def servers() -> Iterator[str]:
    with EmbeddedBroker(["changes"]) as broker:
        yield broker.bootstrap_servers


def test_events_of_one_key_are_published_in_order_to_one_partition(servers: str) -> None:
    progress: list[int] = []
    events = [Event(b"key-%d" % (at % 5), b"%d" % at, [("trace", b"t")]) for at in range(2_500)]
    assert publish(events, bootstrap_servers=servers, topic="changes", on_progress=progress.append) == 2_500
    assert progress == [1_000, 2_000, 2_500]
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition("changes", partition, 0) for partition in range(PARTITIONS)])
    messages = consumer.consume(2_500, 60.0)
    consumer.close()
    assert messages[0].headers() == [("trace", b"t")]
    for key in {event.key for event in events}:
        of_key = [message for message in messages if message.key() == key]
        assert [message.value() for message in of_key] == [event.value for event in events if event.key == key]
        assert len({message.partition() for message in of_key}) == 1


def test_an_event_that_cannot_be_delivered_is_an_error() -> None:
    with pytest.raises(BrokerError, match="could not be published"):
        publish([Event(b"k", b"v")], bootstrap_servers="127.0.0.1:1", topic="changes", delivery_seconds_max=0.5)


def test_what_comes_before_a_wrong_change_is_published_and_the_error_says_so(servers: str) -> None:
    def events() -> Iterator[Event]:
        yield from (Event(b"k", b"%d" % number) for number in range(3))
        raise SettingsError("stock.csv, line 5: quantity 'many' is not a whole number")

    with pytest.raises(SettingsError, match=r"line 5: .* number; the 3 changes before it were published"):
        publish(events(), bootstrap_servers=servers, topic="changes")
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition("changes", partition, 0) for partition in range(PARTITIONS)])
    found = consumer.consume(3, 60.0)
    consumer.close()
    assert sorted(str(message.value()) for message in found) == ["b'0'", "b'1'", "b'2'"]
