"""How much the writer of dead letters keeps in its producer's queue."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from consumer.core.changes.items import ChangeId, RejectReason
from consumer.dead_letters import writer as module
from consumer.dead_letters.writer import LETTER_OVERHEAD_BYTES, DeadLetterWriter
from consumer.ports import Assignment, Reject
from consumer.settings import DeadLetterSettings, KafkaSettings

ASSIGNMENTS = {1: Assignment(1, "changes", 0, None, "", 0, 0, None)}
VALUE = b"x" * 1_000
LETTER_BYTES = LETTER_OVERHEAD_BYTES + 2 * len(VALUE)


class QueueingProducer:
    """Delivers one dead letter at each poll that waits."""

    def __init__(self) -> None:
        self.queued: list[Callable[..., None]] = []
        self.longest = 0

    def produce(self, _topic: str, *, on_delivery: Callable[..., None], **_: Any) -> None:
        self.queued.append(on_delivery)
        self.longest = max(self.longest, len(self.queued))

    def poll(self, seconds: float) -> None:
        if seconds and self.queued:
            self.queued.pop(0)(None, None)

    def flush(self, _seconds: float) -> int:
        return 0


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> QueueingProducer:
    producer = QueueingProducer()
    monkeypatch.setattr(module, "new_client", lambda *_, **__: producer)
    return producer


@pytest.fixture
def writer(producer: QueueingProducer) -> Iterator[DeadLetterWriter]:
    with closing(
        DeadLetterWriter(
            KafkaSettings(bootstrap_servers="127.0.0.1:1", topics=["changes"]),
            DeadLetterSettings(),
            schema_id_of=lambda _value, _headers: None,
            queue_bytes=5 * LETTER_BYTES,
        )
    ) as opened:
        yield opened


def rejects(*values: bytes) -> list[Reject]:
    return [Reject(ChangeId(1, offset), RejectReason.CORRUPT, "", value) for offset, value in enumerate(values)]


def test_dead_letters_wait_until_earlier_ones_have_left_room(
    writer: DeadLetterWriter, producer: QueueingProducer
) -> None:
    writer.publish(rejects(*[VALUE] * 20), ASSIGNMENTS)
    assert producer.longest == len(producer.queued) == 5
    assert [change.offset for change in writer.confirmed()] == list(range(15))


def test_a_dead_letter_larger_than_the_queue_goes_alone(writer: DeadLetterWriter, producer: QueueingProducer) -> None:
    writer.publish(rejects(VALUE, VALUE, 100 * VALUE), ASSIGNMENTS)
    assert len(producer.queued) == 1
    assert [change.offset for change in writer.confirmed()] == [0, 1]
    writer.publish(rejects(VALUE), ASSIGNMENTS)
    assert [change.offset for change in writer.confirmed()] == [2]
