"""Helpers for tests of the source: a member that records its rebalances and messages, polling, and publishing."""

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
    """One member of a group: its source, its current assignments, and everything that happened to it.

    ``rebalances`` lists each callback as (assigned, revoked or lost; assignment ids).
    """

    source: Source
    held: dict[int, Assignment] = field(default_factory=dict)
    rebalances: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    batches: list[RawBatch] = field(default_factory=list)
    when_revoked: Callable[[Sequence[int]], None] = lambda assignment_ids: None

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
        self.rebalances.append(("assigned", tuple(assignment.assignment_id for assignment in assignments)))
        self.held |= {assignment.assignment_id: assignment for assignment in assignments}

    def on_revoked(self, assignment_ids: Sequence[int]) -> None:
        self.rebalances.append(("revoked", tuple(assignment_ids)))
        self.when_revoked(assignment_ids)
        self._drop(assignment_ids)

    def on_lost(self, assignment_ids: Sequence[int]) -> None:
        self.rebalances.append(("lost", tuple(assignment_ids)))
        self._drop(assignment_ids)

    def _drop(self, assignment_ids: Sequence[int]) -> None:
        for assignment_id in assignment_ids:
            del self.held[assignment_id]

    def poll(self, timeout_seconds: float = 0.1, messages_max: int = 1_000) -> RawBatch:
        batch = self.source.poll(messages_max=messages_max, timeout_seconds=timeout_seconds)
        self.batches.append(batch)
        return batch

    @property
    def values(self) -> list[bytes | None]:
        return [value for batch in self.batches for value in batch.values]

    @property
    def rows(self) -> list[tuple[int, int]]:
        """Assignment id and offset of every message, in the order read."""
        return [row for batch in self.batches for row in zip(batch.assignments, batch.offsets, strict=True)]

    @property
    def ends(self) -> dict[int, int]:
        """The partition end reported last, by assignment id."""
        ends: dict[int, int] = {}
        for batch in self.batches:
            ends |= batch.ends
        return ends


def poll_until(
    condition: Callable[[], object],
    *members: Member,
    seconds_max: float = WAIT_SECONDS_MAX,
    messages_max: int = 1_000,
) -> None:
    """Poll the members in turn until the condition holds. Raises TimeoutError with their rebalances."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            rebalances = [member.rebalances for member in members]
            raise TimeoutError(f"the condition does not hold after {seconds_max} s; rebalances: {rebalances}")
        for member in members:
            member.poll(messages_max=messages_max)


def publish(servers: str, topic: str, messages: Sequence[tuple[int, bytes | None]], **options: object) -> None:
    """Publish these (partition, value) in order."""
    producer = Producer({"bootstrap.servers": servers} | options)
    for partition, value in messages:
        producer.produce(topic, value=value, key=b"key", partition=partition, headers=[("trace", b"abc")])
    if producer.flush(WAIT_SECONDS_MAX):
        raise TimeoutError("the broker did not accept all messages")
