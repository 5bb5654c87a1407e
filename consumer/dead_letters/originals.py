"""Fetches the original records of failed changes from their topic: rows in memory have columns, not the record's bytes.

One worker thread with a consumer of its own reads them by their offsets. While the broker is unavailable it retries
without end; nothing is confirmed meanwhile, so nothing past these changes is committed.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog
from confluent_kafka import KafkaError

from consumer.core.changes.items import ChangeId
from consumer.dead_letters.log_reader import LogReader, LogReadError, Partition
from consumer.dead_letters.record import Record, record_of
from consumer.ports import FailedChanges
from consumer.settings import KafkaSettings
from consumer.settings.memory import DEFAULT_SHARES
from consumer.workers import Workers

GAP_OFFSETS_MAX: Final = 1_000
"""Offsets at most this far apart are read in one go: reading what lies between costs less than another seek."""
CHANGE_BYTES: Final = 512
"""Of a change whose original is still to be fetched: its id, its place and its item as JSON."""
RECORD_OVERHEAD_BYTES: Final = 4 * 1024
"""Counted for every record on top of its value: key, headers and Python objects."""
PAUSE_SECONDS: Final = 0.02
UNKNOWN_ANSWERS_MAX: Final = 3
"""This often the broker must not know topic, partition or offset: a broker that has just started may not know yet."""
BACKOFF_SECONDS_MIN: Final = 0.5
BACKOFF_SECONDS_MAX: Final = 30.0
CLOSE_SECONDS_MAX: Final = 5.0

_MISSING: Final = (
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - librdkafka's own code: the offset is outside the log
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)

_log = structlog.get_logger("inventory_refresh.dead_letters")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A failed change and its original record; None if the record is missing from its topic."""

    changes: FailedChanges
    change_id: ChangeId
    original: Record | None


class _Task(NamedTuple):
    changes: FailedChanges
    change_id: ChangeId

    @property
    def partition(self) -> Partition:
        return self.changes.topic, self.changes.partition


_Wanted = dict[int, list[_Task]]
"""The offsets still to be read; different failures may name the same one."""


class OriginalFetcher:
    """Fetches original records on a worker thread. All methods are for one other thread."""

    def __init__(self, settings: KafkaSettings, memory_bytes: int = DEFAULT_SHARES.originals_bytes) -> None:
        """A quarter of ``memory_bytes`` is for the consumer's queue and a quarter for records not taken yet.

        The other half is for the changes that wait (``changes_max``).
        """
        self._settings = settings
        self._queue_bytes = self._fetched_bytes_max = memory_bytes // 4
        self._workers: Workers[_Task, Fetched] = Workers("original-fetcher", self._work)
        self._unavailable = False
        self._delivered_bytes = 0
        """Written by the worker only, as ``_taken_bytes`` is by the other thread only, so neither needs a lock."""
        self._taken_bytes = 0

    def fetch(self, changes: Sequence[FailedChanges]) -> None:
        """Start to fetch the originals of these changes."""
        for failed in changes:
            for change_id in failed.change_ids:
                self._workers.submit(_Task(failed, change_id))

    @property
    def pending(self) -> int:
        """Number of changes whose originals were requested and have not been taken yet."""
        return self._workers.pending

    @property
    def unavailable(self) -> bool:
        """True while the broker does not answer and the worker retries."""
        return self._unavailable

    def take(self) -> list[Fetched]:
        """What was fetched since the last call, without waiting. Raises the exception of a failed worker."""
        if not self._workers.pending:
            return []
        taken = self._workers.take()
        self._taken_bytes += sum(map(_size_of, taken))
        return taken

    def close(self) -> None:
        """Stop fetching. Changes that are still pending have no dead letter; the caller must not commit them."""
        self._workers.close(CLOSE_SECONDS_MAX)

    # On the worker thread

    def _work(self, workers: Workers[_Task, Fetched]) -> None:
        with closing(
            LogReader(
                self._settings,
                "inventory-refresh-originals",
                isolation_level=str(self._settings.properties.get("isolation.level", "read_committed")),
                queue_bytes=self._queue_bytes,
                cancelled=lambda: workers.closing,
            )
        ) as reader:
            while tasks := workers.receive_many(_of_first_partition):
                self._fetch_partition(reader, tasks)

    def _fetch_partition(self, reader: LogReader, tasks: Sequence[_Task]) -> None:
        """Fetch the originals of one partition, retrying while the broker is unavailable."""
        wanted: _Wanted = {}
        for task in tasks:
            wanted.setdefault(task.change_id.offset, []).append(task)
        backoff_seconds = BACKOFF_SECONDS_MIN
        unknown_answers = 0
        while wanted and not self._workers.closing:
            before = len(wanted)
            try:
                for run in _runs(sorted(wanted)):
                    self._fetch_run(reader, tasks[0].partition, run, wanted)
            except LogReadError as error:
                if len(wanted) < before:
                    unknown_answers, backoff_seconds = 0, BACKOFF_SECONDS_MIN
                unknown_answers += error.code in _MISSING
                if unknown_answers > UNKNOWN_ANSWERS_MAX:
                    self._deliver_missing(sorted(wanted), wanted)
                    return
                self._back_off(tasks[0].partition, len(wanted), error, backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, BACKOFF_SECONDS_MAX)

    def _fetch_run(self, reader: LogReader, partition: Partition, run: list[int], wanted: _Wanted) -> None:
        """Read from the first to the last offset of a run; what is found or missing is removed from ``wanted``."""
        low, end = reader.bounds(partition)
        self._unavailable = False
        in_log = [offset for offset in run if low <= offset < end]
        self._deliver_missing([offset for offset in run if not low <= offset < end], wanted)
        if not in_log:
            return
        for messages in reader.read({partition: in_log[0]}, {partition: in_log[-1] + 1}):
            for message in messages:
                tasks = wanted.pop(message.offset() or 0, [])
                if tasks:
                    record = record_of(message)
                    self._deliver(Fetched(task.changes, task.change_id, record) for task in tasks)
        if not self._workers.closing:  # offsets without a message: compacted, or aborted
            self._deliver_missing([offset for offset in in_log if offset in wanted], wanted)

    def _back_off(self, partition: Partition, changes: int, error: LogReadError, seconds: float) -> None:
        self._unavailable = True
        _log.warning(
            "originals_unavailable",
            topic=partition[0],
            partition=partition[1],
            changes=changes,
            error=str(error),
            retry_seconds=seconds,
            next_step="none if it passes; else check that the brokers can be reached and the topic can be read",
        )
        self._workers.sleep(seconds)

    def _deliver_missing(self, offsets: Iterable[int], wanted: _Wanted) -> None:
        for offset in offsets:
            self._deliver(Fetched(task.changes, task.change_id, None) for task in wanted.pop(offset))

    def _deliver(self, fetched: Iterable[Fetched]) -> None:
        limit = self._fetched_bytes_max
        while self._delivered_bytes - self._taken_bytes > limit and not self._workers.sleep(PAUSE_SECONDS):
            pass
        for result in fetched:
            self._delivered_bytes += _size_of(result)
            self._workers.deliver(result)


def changes_max(memory_bytes: int) -> int:
    """How many changes may wait for their originals before no more should be read."""
    return memory_bytes // 2 // CHANGE_BYTES


def _of_first_partition(tasks: deque[_Task]) -> list[_Task]:
    """Remove and return all tasks of the first one's partition.

    Together, since starting to read at an offset takes a while, and the OMS may refuse many items one by one.
    """
    partition = tasks[0].partition
    chosen = [task for task in tasks if task.partition == partition]
    others = [task for task in tasks if task.partition != partition]
    tasks.clear()
    tasks.extend(others)
    return chosen


def _runs(offsets: Sequence[int]) -> list[list[int]]:
    """Ascending offsets, split where the gap is larger than ``GAP_OFFSETS_MAX``."""
    runs: list[list[int]] = []
    for offset in offsets:
        if runs and offset - runs[-1][-1] <= GAP_OFFSETS_MAX:
            runs[-1].append(offset)
        else:
            runs.append([offset])
    return runs


def _size_of(fetched: Fetched) -> int:
    value = fetched.original.value if fetched.original else None
    return RECORD_OVERHEAD_BYTES + len(value or b"")
