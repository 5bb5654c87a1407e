"""Messages of partitions from offset to offset, read beside any group: nothing is committed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from consumer.dead_letters.letters import DeadLetter, RecordPosition, read_letter
from consumer.dead_letters.originals import reader_options
from consumer.errors import BrokerError
from consumer.kafka.errors import PARTITION_EOF, ErrorClass, classify, error_of, text_of
from consumer.kafka.options import new_client
from consumer.kafka.preflight import ErrorLog, Preflight
from consumer.ports import Headers
from consumer.settings import KafkaSettings

READ_MESSAGES_MAX: Final = 10_000
"""Messages in hand at once."""
READ_SECONDS: Final = 0.1
SILENT_SECONDS_MAX: Final = 30.0
"""After so long without a message the broker counts as unreachable."""
REQUEST_SECONDS_MAX: Final = 10.0

Answer = TypeVar("Answer")
Partition = tuple[str, int]

_place = cast(
    "Callable[[Message], tuple[str, int, int]]",
    lambda message: (message.topic(), message.partition(), message.offset()),
)


class Reader:
    """Reads what stands in topics; every method raises BrokerError where that cannot be."""

    def __init__(self, settings: KafkaSettings, *, committed: bool = True) -> None:
        """``committed``: without what is in transactions that are open or were aborted, as the service reads."""
        options = reader_options(settings, "inventory-refresh-redrive")
        options |= {
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": 65_536,
        }
        self._errors = ErrorLog()
        self._settings = settings
        self._consumer: Consumer = new_client(Consumer, options, settings, error_cb=self._errors.add)

    def close(self) -> None:
        self._consumer.close()

    def partitions(self, topic: str) -> list[Partition]:
        """The topic's partitions."""
        if not Preflight(self._consumer, self._errors, self._settings).topic_exists(topic):
            raise BrokerError(f'there is no topic "{topic}" at {self._settings.bootstrap_servers}')
        known = self._asked(lambda: self._consumer.list_topics(topic, timeout=REQUEST_SECONDS_MAX))
        return [(topic, number) for number in sorted(known.topics[topic].partitions)]

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset of the log and its end, which with ``committed`` lies before the first open transaction."""
        asked = TopicPartition(*partition)
        return self._asked(lambda: self._consumer.get_watermark_offsets(asked, timeout=REQUEST_SECONDS_MAX))

    def offsets_at(self, partitions: Sequence[Partition], moment_ms: int) -> dict[Partition, int]:
        """Of each partition the first offset whose message is not older than that, the log's end where none is."""
        asked = [TopicPartition(*each, max(moment_ms, 0)) for each in partitions]
        told = self._asked(lambda: self._consumer.offsets_for_times(asked, timeout=REQUEST_SECONDS_MAX))
        return {
            (each.topic, each.partition): self.bounds((each.topic, each.partition))[1]
            if each.offset == OFFSET_END
            else each.offset
            for each in told
        }

    def committed_offsets(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Up to where the service's group has committed, 0 where it has not."""
        asked = [TopicPartition(*each) for each in partitions]
        told = self._asked(lambda: self._consumer.committed(asked, timeout=REQUEST_SECONDS_MAX))
        for each in told:
            if each.error is not None:
                raise BrokerError(f"Kafka does not tell the offsets of the group: {text_of(each.error)}")
        return {(each.topic, each.partition): max(each.offset, 0) for each in told}

    def read(self, starts: Mapping[Partition, int], ends: Mapping[Partition, int]) -> Iterator[list[Message]]:
        """The messages from start to before end of each partition that is in both, in lists, none empty."""
        left = {partition: ends[partition] for partition, start in starts.items() if start < ends.get(partition, 0)}
        if not left:
            return
        self._consumer.assign([TopicPartition(*partition, starts[partition]) for partition in left])
        try:
            yield from self._messages(left)
        finally:
            self._consumer.unassign()

    def _messages(self, left: dict[Partition, int]) -> Iterator[list[Message]]:
        """Reads until every partition has been read up to its end; takes those that have been out of ``left``."""
        heard_at = time.monotonic()
        while left:
            messages = self._asked(lambda: self._consumer.consume(READ_MESSAGES_MAX, READ_SECONDS))
            if not messages:
                if time.monotonic() - heard_at > SILENT_SECONDS_MAX:
                    raise BrokerError(self._silent_line())
                continue
            heard_at = time.monotonic()
            good = [message for message in messages if message.error() is None and self._is_before_end(message, left)]
            for message in messages:
                self._note(message, left)
            if good:
                yield good

    @staticmethod
    def _is_before_end(message: Message, left: Mapping[Partition, int]) -> bool:
        topic, partition, offset = _place(message)
        return offset < left.get((topic, partition), 0)

    @staticmethod
    def _note(message: Message, left: dict[Partition, int]) -> None:
        """A partition that is read to its end leaves ``left``; an error that stays is raised."""
        topic, partition, offset = _place(message)
        error = message.error()
        if error is None:
            offset += 1
        elif error.code() != PARTITION_EOF:
            if classify(error) is ErrorClass.RETRIABLE:
                return
            raise BrokerError(f"Kafka does not let {topic} [{partition}] be read: {text_of(error)}")
        if offset >= left.get((topic, partition), offset + 1):
            del left[topic, partition]

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except KafkaException as exception:
            servers = self._settings.bootstrap_servers
            raise BrokerError(f"Kafka at {servers} does not answer: {text_of(error_of(exception))}") from exception

    def _silent_line(self) -> str:
        reason = f" ({text_of(self._errors.last)})" if self._errors.last is not None else ""
        return f"nothing from Kafka at {self._settings.bootstrap_servers} for {SILENT_SECONDS_MAX:g} s{reason}"


def read_letters(
    reader: Reader, topic: str, since_ms: int | None = None, on_foreign: Callable[[int], None] = lambda _count: None
) -> Iterator[list[DeadLetter]]:
    """The dead letters from that moment (None: from the start) to the topic's present end, in lists.

    ``on_foreign`` hears how many messages of a list are no letters of this service.
    """
    partitions = reader.partitions(topic)
    bounds = {partition: reader.bounds(partition) for partition in partitions}
    starts = {partition: low for partition, (low, _) in bounds.items()}
    if since_ms is not None:
        starts = reader.offsets_at(partitions, since_ms)
    for messages in reader.read(starts, {partition: high for partition, (_, high) in bounds.items()}):
        letters = [_letter(message) for message in messages]
        known = [letter for letter in letters if letter is not None]
        if len(known) < len(letters):
            on_foreign(len(letters) - len(known))
        if known:
            yield known


def _letter(message: Message) -> DeadLetter | None:
    headers: Any = message.headers() or ()
    return read_letter(
        RecordPosition(*_place(message)),
        timestamp_of(message),
        bytes_of(message.key()),
        bytes_of(message.value()),
        as_headers(headers),
    )


def as_headers(headers: Any) -> Headers:
    return tuple((name, bytes_of(value)) for name, value in headers)


def bytes_of(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def timestamp_of(message: Message) -> int | None:
    """Milliseconds since 1970, None where the message has none."""
    kind, stamp = message.timestamp()
    return stamp if kind else None
