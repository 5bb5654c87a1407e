"""A source topic with changes and dead letters of some of them, for tests of reading and redriving dead letters."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from consumer.avro.bundled import schema_path, schema_text
from consumer.avro.encode import EventEncoder
from consumer.avro.wire import CONFLUENT
from consumer.core.changes.items import ChangeId, RejectReason
from consumer.dead_letters.writer import DeadLetterWriter
from consumer.ports import Assignment, FailedChanges, Reject
from consumer.settings import Settings

WAIT_SECONDS_MAX = 90.0
SCHEMA_ID = 7
ENCODER = EventEncoder.confluent(schema_text(), SCHEMA_ID)

Sent = tuple[int, int]
"""Partition and offset."""


@dataclass
class Shop:
    """One source topic, its consumer group and its dead-letter topic."""

    servers: str
    topic: str
    dead_topic: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    avro: Mapping[str, Any] = field(
        default_factory=lambda: {"schema_file": str(schema_path()), "schema_file_id": SCHEMA_ID}
    )
    events: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        return {
            "kafka": {
                "bootstrap_servers": self.servers,
                "topics": [self.topic],
                "group_id": f"group-of-{self.topic}",
                "properties": dict(self.properties),
            },
            "avro": dict(self.avro),
            "events": dict(self.events),
            "oms": {
                "base_url": "http://127.0.0.1:1",
                "token_url": "http://127.0.0.1:1/token",
                "api_key": "key",
                "api_secret": "secret",
            },
            "dead_letters": {"topic": self.dead_topic},
        }

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(self.config)

    def change(self, sku: str, quantity: int, partition: int = 0, **more: Any) -> Sent:
        """Publish a change of an item in Rome."""
        event = {"locationName": "Rome", "sku": sku, "quantity": quantity} | more
        return self.raw(ENCODER.encode(event), sku, partition)

    def raw(self, value: bytes, key: str = "key", partition: int = 0) -> Sent:
        with self.producing() as producer:
            return self.publish(producer, value, key, partition)

    @contextmanager
    def producing(self, **options: Any) -> Iterator[Producer]:
        producer = Producer({"bootstrap.servers": self.servers} | options)
        yield producer
        assert producer.flush(WAIT_SECONDS_MAX) == 0

    def publish(self, producer: Producer, value: bytes, key: str = "key", partition: int = 0) -> Sent:
        offsets: list[int | None] = []
        producer.produce(
            self.topic,
            value,
            key,
            partition,
            headers=[("trace", b"abc")],
            on_delivery=lambda error, message: offsets.append(None if error else message.offset()),
        )
        assert producer.flush(WAIT_SECONDS_MAX) == 0
        assert isinstance(offsets[0], int)
        return partition, offsets[0]

    def job_failed(self, *sent: Sent, items: Mapping[int, bytes] | None = None, lines: Sequence[int] = (0,)) -> None:
        """Write dead letters as the service does for a failed job, for each of these lines of each event."""
        changes = [
            FailedChanges(
                topic=self.topic,
                partition=partition,
                change_ids=tuple(ChangeId(0, offset, line) for line in lines),
                reason=RejectReason.JOB_FAILED,
                detail="no such location",
                location="Rome",
                job_id="12",
                items={ChangeId(0, at): item for at, item in (items or {}).items()},
            )
            for partition, offset in sent
        ]
        self._written(len(sent) * len(lines), changes=changes)

    def rejected(
        self,
        sent: Sent,
        value: bytes,
        reason: RejectReason = RejectReason.CORRUPT,
        key: str = "key",
        line: int | None = None,
    ) -> None:
        """Write a dead letter as the service does for a change that it rejects."""
        partition, offset = sent
        reject = Reject(
            ChangeId(1, offset, line or 0),
            reason,
            "test",
            value,
            key.encode(),
            [("trace", b"abc")],
            line=line,
            timestamp=1_000,
        )
        self._written(1, rejects=[reject], partition=partition)

    def _written(
        self, count: int, changes: Sequence[FailedChanges] = (), rejects: Sequence[Reject] = (), partition: int = 0
    ) -> None:
        settings = self.settings
        assignment = Assignment(1, self.topic, partition, None, "", 0, 0, None)
        with closing(
            DeadLetterWriter(
                settings.kafka,
                settings.dead_letters,
                schema_id_of=CONFLUENT.schema_id_of,
                has_lines=settings.has_lines,
            )
        ) as dead_letters:
            dead_letters.fetch_and_publish(changes)
            dead_letters.publish(rejects, {1: assignment})
            deadline = time.monotonic() + WAIT_SECONDS_MAX
            while count and time.monotonic() < deadline:
                count -= len(dead_letters.confirmed())
                time.sleep(0.01)
        assert count == 0

    def commit(self, partition: int, offset: int) -> None:
        """Commit for the service's group, as if everything below were accepted."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": f"group-of-{self.topic}"})
        consumer.commit(offsets=[TopicPartition(self.topic, partition, offset)], asynchronous=False)
        consumer.close()

    def committed(self, partition: int = 0) -> int:
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": f"group-of-{self.topic}"})
        (found,) = consumer.committed([TopicPartition(self.topic, partition)], timeout=WAIT_SECONDS_MAX)
        consumer.close()
        return int(found.offset)

    def read(self, partition: int = 0, first: int = 0, *, skip_open: bool = False) -> list[Message]:
        """What the service would read from this offset on.

        The producer's commit or abort returns a little before the marker is in the log, and until then consumers read
        nothing past the start of the transaction. So this waits until the whole log can be read, or, with
        ``skip_open``, only up to a transaction that stays open.
        """
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        start = TopicPartition(self.topic, partition, first)
        messages: list[Message] = []
        try:
            end = self._end(partition, IsolationLevel.READ_COMMITTED if skip_open else IsolationLevel.READ_UNCOMMITTED)
            consumer.assign([start])
            deadline = time.monotonic() + WAIT_SECONDS_MAX
            while first < end and consumer.position([start])[0].offset < end:
                assert time.monotonic() < deadline, f"{self.topic} [{partition}] cannot be read up to {end}"
                messages += [message for message in consumer.consume(1_000, 0.2) if message.error() is None]
        finally:
            consumer.close()
        return messages

    def _end(self, partition: int, isolation: IsolationLevel) -> int:
        admin = AdminClient({"bootstrap.servers": self.servers})
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        (future,) = admin.list_offsets(
            {TopicPartition(self.topic, partition): latest}, isolation_level=isolation
        ).values()
        return int(future.result(WAIT_SECONDS_MAX).offset)
