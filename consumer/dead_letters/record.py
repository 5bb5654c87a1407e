"""A record of Kafka and its position, in plain types: the client's own are loose."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from confluent_kafka import Message

from consumer.errors import InvariantError
from consumer.ports import Headers


class RecordPosition(NamedTuple):
    """Topic, partition and offset of a record; ``str`` gives ``topic/partition/offset``."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "RecordPosition | None":
        """The inverse of ``str``; None if the text is not a position."""
        parts = text.rsplit("/", 2)
        if len(parts) != len(cls._fields) or not (parts[1].isdecimal() and parts[2].isdecimal()):
            return None
        return cls(parts[0], int(parts[1]), int(parts[2]))


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was read. ``timestamp`` is milliseconds since 1970, None if the record has none."""

    position: RecordPosition
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int | None = None


def position_of(message: Message) -> RecordPosition:
    """The position of a message that was read."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise InvariantError("a message that was read has a topic, a partition and an offset")
    return RecordPosition(topic, partition, offset)


def record_of(message: Message) -> Record:
    """A message that was read, without an error."""
    headers: Any = message.headers() or ()
    return Record(
        position=position_of(message),
        key=as_bytes(message.key()),
        value=as_bytes(message.value()),
        headers=tuple((name, as_bytes(value)) for name, value in headers),
        timestamp=timestamp_of(message),
    )


def as_bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def timestamp_of(message: Message) -> int | None:
    """Milliseconds since 1970, None if the message has none."""
    kind, timestamp = message.timestamp()
    return timestamp if kind else None
