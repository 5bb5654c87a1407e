"""Messages found again in their topic by offset, beside the loop: pending rows hold columns, not bytes.

One thread with a consumer of its own reads them; it belongs to no group and commits nothing. A broker that stays away
is asked again and again, and meanwhile nothing is confirmed, so nothing is committed past these changes.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumer.core.changes.items import ChangeId
from consumer.kafka.errors import PARTITION_EOF, error_of, text_of
from consumer.kafka.options import connection_options, new_client
from consumer.ports import FailedChanges, Headers
from consumer.settings import KafkaSettings

GAP_OFFSETS_MAX: Final = 1_000
"""Offsets so near to each other are read in one go; what lies between costs less than another seek."""
FOUND_MAX: Final = 5_000
"""So many found messages wait for the loop, and the thread for it to take them: they are in memory with their bytes."""
FOUND_BYTES_MAX: Final = 32 * 1024 * 1024
"""And so many bytes of values."""
READ_MESSAGES_MAX: Final = 1_000
READ_SECONDS: Final = 0.5
SILENT_SECONDS_MAX: Final = 30.0
"""After so long without a message or an error the offsets are looked for anew."""
REQUEST_SECONDS_MAX: Final = 10.0
UNKNOWN_ANSWERS_MAX: Final = 3
"""So often the broker must know nothing of topic or partition: one that has just started may not know them yet."""
BACKOFF_SECONDS_MIN: Final = 0.5
BACKOFF_SECONDS_MAX: Final = 30.0
CLOSE_SECONDS_MAX: Final = 5.0

_GONE: Final = (
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - librdkafka's own code: the offset is out of the log
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)

_log = logging.getLogger("inventory_refresh.kafka")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A change found again, or ``gone`` from its topic: then it has no key, headers and timestamp, and no value."""

    changes: FailedChanges
    change_id: ChangeId
    gone: bool
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    timestamp: int | None = None


_Wanted = dict[int, list[tuple[FailedChanges, ChangeId]]]
"""Offsets, and the orders that each stands in."""


class OriginalFetcher:
    """Looks for messages, partition by partition. ``ask`` and ``found`` are for the dead letters' one thread."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._changed = threading.Condition()
        self._orders: deque[FailedChanges] = deque()
        self._found: list[Fetched] = []
        self._found_bytes = 0
        self._waiting = 0
        self._stuck = False
        self._closing = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def ask(self, changes: Sequence[FailedChanges]) -> None:
        """Look for these."""
        with self._changed:
            self._orders.extend(changes)
            self._waiting += sum(len(each.change_ids) for each in changes)
            self._changed.notify_all()
        if self._thread is None and changes:
            self._thread = threading.Thread(target=self._work, name="recall", daemon=True)
            self._thread.start()

    def waiting(self) -> int:
        """How many were asked for and not yet taken from ``found``."""
        return self._waiting

    def stuck(self) -> bool:
        """Whether the broker does not answer at present, and is asked again later."""
        return self._stuck

    def found(self) -> list[Fetched]:
        """Those that were found since the last call, or are gone. Raises what the thread met and nobody foresaw."""
        if not self._waiting:
            return []
        with self._changed:
            found, self._found = self._found, []
            self._found_bytes = 0
            self._waiting -= len(found)
            self._changed.notify_all()
            if not found and self._failure:
                raise self._failure
            return found

    def close(self) -> None:
        """Look for nothing more; what was not found is looked for again when its change is read again."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread:
            self._thread.join(CLOSE_SECONDS_MAX)

    # In the thread

    def _work(self) -> None:
        try:
            consumer = new_client(Consumer, reader_options(self._settings, "inventory-refresh-recall"), self._settings)
            try:
                while orders := self._next():
                    self._look_for(consumer, orders)
            finally:
                consumer.close()
        except BaseException as error:  # noqa: BLE001 - raised again by found(), on the loop's thread
            with self._changed:
                self._failure = error

    def _next(self) -> list[FailedChanges]:
        """The first order and all others of its partition, waiting for one; none when closing.

        Together, since each time that reading begins somewhere it takes a while: the OMS may refuse items one by one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._orders or self._closing)
            if self._closing:
                return []
            first = self._orders[0]
            taken = [each for each in self._orders if (each.topic, each.partition) == (first.topic, first.partition)]
            left = [each for each in self._orders if (each.topic, each.partition) != (first.topic, first.partition)]
            self._orders = deque(left)
            return taken

    def _look_for(self, consumer: Consumer, orders: Sequence[FailedChanges]) -> None:
        """Find all changes of a partition's orders, however long the broker stays away."""
        left: _Wanted = {}
        for order in orders:
            for change_id in order.change_ids:
                left.setdefault(change_id.offset, []).append((order, change_id))
        partition = TopicPartition(orders[0].topic, orders[0].partition)
        backoff_seconds = BACKOFF_SECONDS_MIN
        unknown = 0
        while left and not self._closing:
            before = len(left)
            try:
                for run in _runs(sorted(left)):
                    self._read_run(consumer, partition, run, left)
            except KafkaException as exception:
                error = error_of(exception)
                if len(left) < before:
                    unknown, backoff_seconds = 0, BACKOFF_SECONDS_MIN
                unknown += error.code() in _GONE
                if unknown > UNKNOWN_ANSWERS_MAX:
                    self._tell_gone(sorted(left), left)
                    return
                _log.warning(
                    "%d changes of %s [%d] cannot be found again yet, for their dead letters: %s",
                    *(len(left), partition.topic, partition.partition, text_of(error)),
                )
                self._stuck = True
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, BACKOFF_SECONDS_MAX)

    def _read_run(self, consumer: Consumer, partition: TopicPartition, run: list[int], left: _Wanted) -> None:
        """Read from the first to the last offset of a run; those found, or gone, leave ``left``."""
        low, high = consumer.get_watermark_offsets(partition, timeout=REQUEST_SECONDS_MAX)
        self._stuck = False
        wanted = {offset for offset in run if low <= offset < high}
        self._tell_gone([offset for offset in run if offset not in wanted], left)
        if not wanted:
            return
        consumer.assign([TopicPartition(partition.topic, partition.partition, min(wanted))])
        try:
            for message in self._messages(consumer, last=max(wanted)):
                offset = message.offset()
                if offset in wanted:
                    wanted.discard(offset)
                    self._tell([_found(order, change_id, message) for order, change_id in left.pop(offset)])
        finally:
            consumer.unassign()
        if not self._closing:  # passed by without a message: compacted away
            self._tell_gone(sorted(wanted), left)

    def _messages(self, consumer: Consumer, last: int) -> Iterator[Message]:
        """The messages up to this offset or the partition's end. Raises KafkaException for an error among them."""
        silent_seconds = 0.0
        while not self._closing:
            messages = consumer.consume(READ_MESSAGES_MAX, READ_SECONDS)
            silent_seconds = 0.0 if messages else silent_seconds + READ_SECONDS
            if silent_seconds >= SILENT_SECONDS_MAX:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - as the client itself would
            for message in messages:
                error = message.error()
                if error is None:
                    if (message.offset() or 0) > last:
                        return
                    yield message
                    if message.offset() == last:
                        return
                elif error.code() == PARTITION_EOF:
                    return
                else:
                    raise KafkaException(error)

    def _tell_gone(self, offsets: Sequence[int], left: _Wanted) -> None:
        self._tell(
            [Fetched(order, change_id, gone=True) for offset in offsets for order, change_id in left.pop(offset)]
        )

    def _tell(self, found: list[Fetched]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._has_room() or self._closing)
            self._found += found
            self._found_bytes += sum(len(each.value or b"") for each in found)

    def _has_room(self) -> bool:
        return len(self._found) < FOUND_MAX and self._found_bytes < FOUND_BYTES_MAX


def _runs(offsets: Sequence[int]) -> list[list[int]]:
    """The offsets in groups that are near to each other."""
    runs: list[list[int]] = []
    for offset in offsets:
        if runs and offset - runs[-1][-1] <= GAP_OFFSETS_MAX:
            runs[-1].append(offset)
        else:
            runs.append([offset])
    return runs


def _found(order: FailedChanges, change_id: ChangeId, message: Message) -> Fetched:
    kind, stamp = message.timestamp()
    headers: Any = message.headers() or ()
    return Fetched(
        order,
        change_id,
        gone=False,
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers=headers,
        timestamp=stamp if kind else None,
    )


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def reader_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """A consumer that joins no group: it is assigned what it reads, and the group's id is only for access control.

    An offset that is out of the log is an error, and a partition's end is told.
    """
    return connection_options(settings) | {
        "client.id": client_id,
        "group.id": settings.group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": settings.properties.get("isolation.level", "read_committed"),
        # What was asked for lies before the end; a fetch that waits there holds the next place to read up.
        "fetch.wait.max.ms": 10,
        "queued.max.messages.kbytes": 16_384,
        "socket.timeout.ms": 30_000,
        "socket.keepalive.enable": True,
    }
