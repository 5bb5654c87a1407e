from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from consumer.errors import BrokerError, SettingsError
from consumer.sandbox.embedded_broker import PARTITIONS, EmbeddedBroker
from consumer.sandbox.publisher import Encoder, Event, changes_in, events_in, publish


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


def test_each_line_of_a_file_is_a_change_and_fields_not_given_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "changes.jsonl"
    path.write_text(
        '{"locationName": "L", "sku": "S", "quantity": 1}\n\n{"locationName": "L", "upc": "U", "quantity": 2}\n'
    )
    assert [change["quantity"] for change in changes_in(path)] == [1, 2]
    first, second = events_in(path, Encoder(7))
    assert (first.key, second.key) == (b"L|||S|", b"L||U||")
    assert (first.value or b"")[:5] == b"\x00\x00\x00\x00\x07"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        pytest.param("{", "line 2: not JSON", id="not JSON"),
        pytest.param("[1]", "line 2: a change must be a JSON object", id="not an object"),
        pytest.param('{"sku": "S"}', "change 2 does not fit the schema", id="a missing field"),
        pytest.param(
            '{"locationName": "L", "quantity": 1, "colour": "red"}', "change 2 does not fit", id="an unknown field"
        ),
        pytest.param('{"locationName": "L", "quantity": "many"}', "change 2 does not fit", id="a wrong type"),
        pytest.param('{"sku": "' + "x" * 1_000_000 + '"}', "line 2: longer than 1,000,000 bytes", id="too long"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, line: str, error: str) -> None:
    path = tmp_path / "changes.jsonl"
    path.write_text('{"locationName": "L", "sku": "S", "quantity": 1}\n' + line + "\n")
    with pytest.raises(SettingsError, match=error):
        list(events_in(path, Encoder(1)))
