"""What tests of the source share: a listener that remembers, and polling until something is so."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Producer

from consumer.kafka.source import KafkaSource
from consumer.ports import Assignment, RawBatch, Source
from consumer.settings import KafkaSettings

WAIT_SECONDS_MAX = 120.0


@dataclass
class Member:
    """One member of a group: its source, what the listener was told, and what was read."""

    source: Source
    held: dict[int, Assignment] = field(default_factory=dict)
    told: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    batches: list[RawBatch] = field(default_factory=list)
    when_revoked: Callable[[Sequence[int]], None] = lambda numbers: None

    @classmethod
    def join(cls, settings: KafkaSettings) -> "Member":
        return cls.of(KafkaSource(settings))

    @classmethod
    def of(cls, source: Source) -> "Member":
        """A member with this source, which subscribes now."""
        member = cls(source)
        source.subscribe(member)
        return member

    def on_assigned(self, assignments: Sequence[Assignment]) -> None:
        self.told.append(("assigned", tuple(each.assignment_id for each in assignments)))
        self.held |= {each.assignment_id: each for each in assignments}

    def on_revoked(self, numbers: Sequence[int]) -> None:
        self.told.append(("revoked", tuple(numbers)))
        self.when_revoked(numbers)
        self._drop(numbers)

    def on_lost(self, numbers: Sequence[int]) -> None:
        self.told.append(("lost", tuple(numbers)))
        self._drop(numbers)

    def _drop(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            del self.held[number]

    def poll(self, timeout_seconds: float = 0.1, messages_max: int = 1_000) -> RawBatch:
        batch = self.source.poll(messages_max=messages_max, timeout_seconds=timeout_seconds)
        self.batches.append(batch)
        return batch

    @property
    def values(self) -> list[bytes | None]:
        return [value for batch in self.batches for value in batch.values]

    @property
    def rows(self) -> list[tuple[int, int]]:
        """Assignment and offset of every message, as read."""
        return [row for batch in self.batches for row in zip(batch.assignments, batch.offsets, strict=True)]

    @property
    def ends(self) -> dict[int, int]:
        ends: dict[int, int] = {}
        for batch in self.batches:
            ends |= batch.ends
        return ends


def poll_until(
    is_so: Callable[[], object],
    *members: Member,
    seconds_max: float = WAIT_SECONDS_MAX,
    messages_max: int = 1_000,
) -> None:
    """Poll the members in turn until it is so. Raises TimeoutError with what they were told."""
    deadline = time.monotonic() + seconds_max
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {seconds_max} s; told: {[member.told for member in members]}")
        for member in members:
            member.poll(messages_max=messages_max)


def publish(servers: str, topic: str, messages: Sequence[tuple[int, bytes | None]], **options: object) -> None:
    """Publish these (partition, value) in order."""
    producer = Producer({"bootstrap.servers": servers} | options)
    for partition, value in messages:
        producer.produce(topic, value=value, key=b"key", partition=partition, headers=[("trace", b"abc")])
    if producer.flush(WAIT_SECONDS_MAX):
        raise TimeoutError("the broker did not take all messages")
