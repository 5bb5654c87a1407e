"""Publishes inventory changes as events: encoding and the producer."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from consumer.avro.bundled import schema_text
from consumer.avro.encode import EventEncoder
from consumer.errors import BrokerError, SettingsError
from consumer.kafka.options import connection_properties
from consumer.ports import Headers
from consumer.text import one_line

Change = dict[str, Any]
"""A change by the bundled schema's field names; a missing field is published as null."""

QUEUE_MESSAGES_MAX: Final = 100_000
DELIVERY_SECONDS_MAX: Final = 60.0
"""How long an event may wait for the broker's acknowledgement before publishing fails."""
FLUSH_SECONDS_EXTRA: Final = 10.0
PROGRESS_EVENTS: Final = 1_000
"""Events between two progress reports."""


@dataclass(frozen=True, slots=True)
class Event:
    """One message: ``key`` decides the partition; ``value`` None is a tombstone."""

    key: bytes
    value: bytes | None
    headers: Headers = ()


class Encoder:
    """Encodes changes in Confluent's wire format: a zero byte, the schema ID in four bytes, and the Avro value."""

    def __init__(self, schema_id: int) -> None:
        self._encoder = EventEncoder.confluent(schema_text(), schema_id)

    def value(self, change: Mapping[str, Any]) -> bytes:
        """The message value. Raises ValueError or TypeError if a field or value does not fit the schema."""
        return self._encoder.encode(change)

    def event(self, change: Mapping[str, Any]) -> Event:
        """The change with its item's key, so that all changes of an item go to the same partition."""
        return Event(item_key(change), self.value(change))


def item_key(change: Mapping[str, Any]) -> bytes:
    """The message key of a change: location and item identifiers, absent ones as empty text."""
    names = ("locationName", "partNumber", "upc", "sku", "binID")
    return "|".join("" if change.get(name) is None else str(change[name]) for name in names).encode()


def register(registry_url: str, topic: str, options: Mapping[str, Any] | None = None) -> int:
    """Register the bundled schema for the topic's values; returns its ID.

    ``options`` are those of the registry client (``avro.registry``). Raises SettingsError if the registry refuses or
    does not answer.
    """
    with SchemaRegistryClient(
        {"timeout": 10, "max.retries": 0} | dict(options or {}) | {"url": registry_url}
    ) as client:
        try:
            schema_id: int = client.register_schema(f"{topic}-value", Schema(schema_text(), "AVRO"))
        except Exception as error:
            # The client also passes on errors of its HTTP library, which are not part of its interface.
            reason = one_line(str(error))
            raise SettingsError(f"avro.registry_url: cannot register the schema at {registry_url}: {reason}") from error
        return schema_id


def publish(
    events: Iterable[Event],
    *,
    bootstrap_servers: str,
    topic: str,
    properties: Mapping[str, Any] | None = None,
    callbacks: Mapping[str, Any] | None = None,
    on_progress: Callable[[int], None] = lambda _published: None,
    delivery_seconds_max: float = DELIVERY_SECONDS_MAX,
) -> int:
    """Publish the events in order; returns their number once the broker has acknowledged all of them.

    Only the connection options of ``properties`` (``kafka.properties``) are used; ``callbacks`` are the client's.
    ``on_progress`` is called every 1,000 events, and at the end, with the number published.

    Raises BrokerError if an event cannot be delivered. A SettingsError of ``events`` is raised with how many were
    published before it.
    """
    failures: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    options = _options(bootstrap_servers, properties or {}, delivery_seconds_max)
    producer = Producer(options | dict(callbacks or {}), logger=logging.getLogger("inventory_refresh.publisher"))
    published = 0
    wrong: SettingsError | None = None
    try:
        for event in events:
            _produce(producer, topic, event, on_delivery)
            published += 1
            if published % PROGRESS_EVENTS == 0:
                producer.poll(0)
                on_progress(published)
                _raise_first(failures, topic)
    except SettingsError as error:
        wrong = error
    producer.flush(delivery_seconds_max + FLUSH_SECONDS_EXTRA)
    _raise_first(failures, topic)
    if len(producer):
        raise BrokerError(f"{bootstrap_servers} did not acknowledge {len(producer)} events in time")
    if wrong:
        raise SettingsError(f"{wrong}; the {published:,} changes before it were published") from wrong
    on_progress(published)
    return published


def _options(bootstrap_servers: str, properties: Mapping[str, Any], delivery_seconds_max: float) -> dict[str, Any]:
    return connection_properties(properties) | {
        "bootstrap.servers": bootstrap_servers,
        "client.id": "inventory-refresh-publisher",
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": 20,
        "batch.size": 262_144,
        "queue.buffering.max.messages": QUEUE_MESSAGES_MAX,
        "queue.buffering.max.kbytes": 131_072,
        "delivery.timeout.ms": round(delivery_seconds_max * 1000),
        # The Java producer's default: an item stays in its partition, whichever client publishes it.
        "partitioner": "murmur2_random",
        "delivery.report.only.error": True,
    }


def _produce(
    producer: Producer, topic: str, event: Event, on_delivery: Callable[[KafkaError | None, Message], None]
) -> None:
    while True:
        try:
            producer.produce(
                topic, key=event.key, value=event.value, headers=list(event.headers), on_delivery=on_delivery
            )
        except BufferError:
            producer.poll(0.1)  # bounded: every message leaves the queue within the delivery timeout
        except KafkaException as error:
            raise BrokerError(f'cannot publish to "{topic}": {error.args[0].str()}') from error
        else:
            return


def _raise_first(failures: list[KafkaError], topic: str) -> None:
    if failures:
        raise BrokerError(f'{len(failures)} events could not be published to "{topic}": {failures[0].str()}')
