"""Reads partitions between two offsets. The reader joins no group and commits nothing."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumer.dead_letters.record import position_of
from consumer.errors import BrokerError
from consumer.kafka.errors import PARTITION_EOF, ErrorClass, classify, error_of, text_of
from consumer.kafka.options import connection_options, new_client, queue_options
from consumer.kafka.preflight import ErrorLog, Preflight
from consumer.settings import KafkaSettings
from consumer.settings.memory import MIB

MESSAGES_MAX: Final = 2_000
"""Messages in memory at once, apart from those that the client has queued."""
QUEUE_BYTES: Final = 4 * MIB
"""Of a command's reader, of ``memory.SIDE_COMMAND_BYTES`` in all. That of the service has a share of its budget."""
CONSUME_SECONDS: Final = 0.1
"""The client waits this long for more messages, although it has some: every read costs at least this."""
SILENT_SECONDS_MAX: Final = 30.0
"""Without a message for this long the broker counts as unreachable."""
REQUEST_SECONDS_MAX: Final = 10.0

Answer = TypeVar("Answer")
Partition = tuple[str, int]
"""Topic and partition."""


class LogReadError(BrokerError):
    """Kafka did not answer, or refused to be read. ``code`` is that of the client's error, None after silence."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class LogReader:
    """Reads partitions between two offsets. Use it from one thread; every method may raise LogReadError."""

    def __init__(
        self,
        settings: KafkaSettings,
        client_id: str,
        *,
        isolation_level: str = "read_committed",
        queue_bytes: int = QUEUE_BYTES,
        silent_seconds_max: float = SILENT_SECONDS_MAX,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Connects to nothing yet. ``read`` ends early once ``cancelled`` is true.

        ``queue_bytes`` is what messages may take that were fetched and not read yet. After ``silent_seconds_max``
        without a message ``read`` gives up.

        Raises SettingsError if an option is wrong.
        """
        self._errors = ErrorLog()
        self._settings = settings
        self._cancelled = cancelled
        self._silent_seconds_max = silent_seconds_max
        options = _options(settings, client_id, isolation_level) | queue_options(queue_bytes)
        self._consumer: Consumer = new_client(Consumer, options, settings, error_cb=self._errors.add)

    def close(self) -> None:
        self._consumer.close()

    def partitions(self, topic: str) -> list[Partition]:
        """The topic's partitions. Raises BrokerError if there is no such topic."""
        if not Preflight(self._consumer, self._errors, self._settings).topic_exists(topic):
            raise BrokerError(f'there is no topic "{topic}" at {self._settings.bootstrap_servers}')
        metadata = self._request(lambda: self._consumer.list_topics(topic, timeout=REQUEST_SECONDS_MAX))
        return [(topic, partition) for partition in sorted(metadata.topics[topic].partitions)]

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The log start offset and the end: with ``read_committed`` the end is at the first open transaction."""
        requested = TopicPartition(*partition)
        return self._request(lambda: self._consumer.get_watermark_offsets(requested, timeout=REQUEST_SECONDS_MAX))

    def offsets_at(self, partitions: Sequence[Partition], time_ms: int) -> dict[Partition, int]:
        """By partition the first offset whose record is not older than this time; the end if all are older."""
        requested = [TopicPartition(*partition, max(time_ms, 0)) for partition in partitions]
        found = self._request(lambda: self._consumer.offsets_for_times(requested, timeout=REQUEST_SECONDS_MAX))
        offsets = {(entry.topic, entry.partition): entry.offset for entry in found}
        return {
            partition: self.bounds(partition)[1] if offset == OFFSET_END else offset
            for partition, offset in offsets.items()
        }

    def committed_offsets(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """By partition the offset that the service's group has committed, 0 if it has committed nothing."""
        requested = [TopicPartition(*partition) for partition in partitions]
        committed = self._request(lambda: self._consumer.committed(requested, timeout=REQUEST_SECONDS_MAX))
        for entry in committed:
            if entry.error is not None:
                raise _error("Kafka does not return the committed offsets of the group", entry.error)
        return {(entry.topic, entry.partition): max(entry.offset, 0) for entry in committed}

    def read(self, starts: Mapping[Partition, int], ends: Mapping[Partition, int]) -> Iterator[list[Message]]:
        """The messages from start (inclusive) to end (exclusive) of the partitions in both, in lists, none empty."""
        unread = {partition: ends[partition] for partition, start in starts.items() if start < ends.get(partition, 0)}
        if not unread:
            return
        self._consumer.assign([TopicPartition(*partition, starts[partition]) for partition in unread])
        try:
            yield from self._messages(unread)
        finally:
            self._consumer.unassign()

    def _messages(self, unread: dict[Partition, int]) -> Iterator[list[Message]]:
        """Read until every partition has reached its end; partitions that have are removed from ``unread``."""
        received_at = time.monotonic()
        while unread and not self._cancelled():
            messages = self._request(lambda: self._consumer.consume(MESSAGES_MAX, CONSUME_SECONDS))
            if not messages:
                if time.monotonic() - received_at > self._silent_seconds_max:
                    raise self._silent()
                continue
            received_at = time.monotonic()
            wanted = [message for message in messages if message.error() is None and _is_before_end(message, unread)]
            for message in messages:
                _note_progress(message, unread)
            if wanted:
                yield wanted

    def _request(self, send: Callable[[], Answer]) -> Answer:
        try:
            return send()
        except KafkaException as exception:
            servers = self._settings.bootstrap_servers
            raise _error(f"Kafka at {servers} does not answer", error_of(exception)) from exception

    def _silent(self) -> LogReadError:
        reason = f" ({text_of(self._errors.last)})" if self._errors.last is not None else ""
        servers = self._settings.bootstrap_servers
        return LogReadError(f"received nothing from Kafka at {servers} for {self._silent_seconds_max:g} s{reason}")


def _is_before_end(message: Message, unread: Mapping[Partition, int]) -> bool:
    topic, partition, offset = position_of(message)
    return offset < unread.get((topic, partition), 0)


def _note_progress(message: Message, unread: dict[Partition, int]) -> None:
    """Remove the message's partition from ``unread`` if it has reached its end. Raises LogReadError for an error.

    Errors that the client recovers from by itself are ignored; if it does not, silence follows.
    """
    error = message.error()
    if error is not None and error.code() != PARTITION_EOF:
        if classify(error) is ErrorClass.RETRIABLE:
            return
        raise _error(f"Kafka refuses to let {message.topic()} [{message.partition()}] be read", error)
    topic, partition, offset = position_of(message)
    next_offset = offset if error is not None else offset + 1
    if (topic, partition) in unread and next_offset >= unread[topic, partition]:
        del unread[topic, partition]


def _error(what: str, error: KafkaError) -> LogReadError:
    return LogReadError(f"{what}: {text_of(error)}", error.code())


def _options(settings: KafkaSettings, client_id: str, isolation_level: str) -> dict[str, Any]:
    """A consumer that is assigned what it reads: ``group.id`` serves access control and ``committed_offsets`` only.

    An offset outside the log is an error, and reaching the end of a partition is reported.
    """
    return connection_options(settings) | {
        "client.id": client_id,
        "group.id": settings.group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": isolation_level,
        # Everything read lies before the end. A fetch that waits at the end would delay the next read.
        "fetch.wait.max.ms": 10,
        # By default the client stops fetching for a second whenever its queue is full.
        "fetch.queue.backoff.ms": 10,
        "max.partition.fetch.bytes": 262_144,
        "socket.timeout.ms": 30_000,
        "socket.keepalive.enable": True,
    }
