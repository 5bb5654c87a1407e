"""The source topics from the oldest dead letter's change on: read once to the end, then the records added since.

All partitions of all topics that the service reads are scanned, with the service's own decoder and rules. Records of
aborted or open transactions are not read, except by ``foreign_changes``, which counts open ones, too.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

import polars as pl
from confluent_kafka import Message

from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.parts import PartDecoder
from consumer.core.changes.items import ASSIGNMENT, LINES_MAX, OCCURRED_AT, OFFSET, TIMESTAMP, RejectReason
from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.log_reader import LogReader, Partition
from consumer.dead_letters.record import RecordPosition, as_bytes, position_of, record_of, timestamp_of
from consumer.dead_letters.redrive import plan
from consumer.dead_letters.redrive.events import retry_schema
from consumer.dead_letters.redrive.plan import RECORD_ID, UNDECODABLE
from consumer.oms.apis import APIS
from consumer.ports import Decoded, Headers, RawBatch
from consumer.settings import Settings

OPEN_TRANSACTION_SECONDS_MAX: Final = 15.0
"""How long to wait for other producers' open transactions."""
POLL_SECONDS: Final = 0.2

CLIENT_ID: Final = "inventory-refresh-redrive"

_KNOWN: Final = "_known"

Progress = Callable[[int, int], None]
"""Called with the number of records scanned so far, and the number of all."""

_NEWEST: Final = {ASSIGNMENT: pl.Int32(), OFFSET: pl.Int64(), TIMESTAMP: pl.Int64(), OCCURRED_AT: pl.Int64()}


class SourceLog:
    """What the source topics have about the items of some dead letters.

    Use it from one thread and close it. A partition is named by its index in ``partitions``; that is also what the
    column ``ASSIGNMENT`` has here. Every method may raise BrokerError.
    """

    def __init__(self, settings: Settings, item: Sequence[str]) -> None:
        """``item``: the columns of an item, see ``plan.item_columns``."""
        self._item = list(item)
        with ExitStack() as stack:
            self._committed = LogReader(settings.kafka, CLIENT_ID)
            stack.callback(self._committed.close)
            self._uncommitted = LogReader(settings.kafka, CLIENT_ID, isolation_level="read_uncommitted")
            stack.callback(self._uncommitted.close)
            columns = APIS[settings.oms.api].item_columns
            decoder = build_batch_decoder(
                settings.avro, settings.events, settings.window.item_key, columns, is_patient=False
            )
            self._decoder = PartDecoder(decoder)
            stack.callback(self._decoder.close)
            self.partitions = [
                partition for topic in settings.kafka.topics for partition in self._committed.partitions(topic)
            ]
            self._stack = stack.pop_all()
        self._indices = {partition: index for index, partition in enumerate(self.partitions)}
        self._committed_offsets = self._committed.committed_offsets(self.partitions)
        """Below these the service is done: whatever it rejected became a dead letter before it committed."""
        self._next_offsets: dict[Partition, int] = {}
        self._by_source: dict[RecordPosition, Sequence[DeadLetter]] = {}
        self._events = self._known = self._newest = self._in_log = self._undecodable = pl.DataFrame()

    def close(self) -> None:
        self._stack.close()

    def index_of(self, partition: Partition) -> int | None:
        """The partition's index, None if the service does not read it."""
        return self._indices.get(partition)

    def position(self, index: int, offset: int) -> RecordPosition:
        """The position of an offset in the partition with this index."""
        topic, partition = self.partitions[index]
        return RecordPosition(topic, partition, offset)

    def start(
        self,
        events: pl.DataFrame,
        by_source: Mapping[RecordPosition, Sequence[DeadLetter]],
        known: Mapping[Partition, Sequence[int]],
    ) -> None:
        """Prepare to scan for these events, a row per line, with their dead letters.

        ``known``: the events and lines that have a dead letter, each as ``as_known`` numbers it. The dead-letter topic
        must have been read after this object was made.
        """
        self._events = events
        self._by_source = dict(by_source)
        self._known = pl.concat(
            [_known_ids(index, known.get(partition, ())) for index, partition in enumerate(self.partitions)]
        )
        self._in_log = events.clear().select(RECORD_ID)
        self._undecodable = pl.DataFrame(schema={ASSIGNMENT: pl.Int32(), UNDECODABLE: pl.Int64()})
        self._newest = pl.DataFrame(schema={**{name: events.schema[name] for name in self._item}, **_NEWEST})
        self._next_offsets = self._start_offsets()

    def scan(self, progress: Progress = lambda _done, _of: None) -> None:
        """Read the records that were added since the last scan, up to the present ends."""
        ends = {partition: self._committed.bounds(partition)[1] for partition in self.partitions}
        size = sum(max(end - self._next_offsets[partition], 0) for partition, end in ends.items())
        done = 0
        for messages in self._committed.read(self._next_offsets, ends):
            self._scan_messages(messages)
            done += len(messages)
            progress(min(done, size), size)
        self._next_offsets = {partition: max(end, self._next_offsets[partition]) for partition, end in ends.items()}
        progress(size, size)

    def judged(self) -> pl.DataFrame:
        """The events with their verdicts, from what was scanned: see ``plan.judge``."""
        return plan.judge(self._events, self._newest, self._in_log, self._undecodable, self._item)

    def lines_of(self, events: pl.DataFrame) -> pl.DataFrame:
        """The lines of these events (``RECORD_ID``)."""
        return self._events.join(events, on=RECORD_ID, how="semi", maintain_order="left")

    def foreign_changes(self, batch: pl.DataFrame, copies: pl.DataFrame) -> pl.DataFrame:
        """``RECORD_ID`` of other producers' changes of the batch's items, after the last scan and before ``copies``.

        Open transactions count as if they were committed.
        """
        last = dict(copies.group_by(ASSIGNMENT).agg(pl.col(OFFSET).max()).iter_rows())
        counts = dict(copies.group_by(ASSIGNMENT).len().iter_rows())
        ends = {
            partition: last[index] + 1 if index in last else self._uncommitted.bounds(partition)[1]
            for index, partition in enumerate(self.partitions)
        }
        with_others = {
            partition: end
            for index, (partition, end) in enumerate(ends.items())
            if end - self._next_offsets[partition] > counts.get(index, 0)  # else there are only the copies
        }
        found = [
            plan.foreign_changes(self._changes_of(decoded), batch, copies, self._item)
            for messages in self._uncommitted.read(self._next_offsets, with_others)
            for decoded in self._decode(messages)
        ]
        return pl.concat([copies.clear(), *found]).unique()

    def wait_until_readable(self, record_ids: pl.DataFrame) -> bool:
        """Wait until the transactions of these records have ended; False if one stays open too long."""
        deadline = time.monotonic() + OPEN_TRANSACTION_SECONDS_MAX
        waiting = dict(record_ids.group_by(ASSIGNMENT).agg(pl.col(OFFSET).max()).iter_rows())
        while waiting := {index: offset for index, offset in waiting.items() if not self._is_readable(index, offset)}:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _is_readable(self, index: int, offset: int) -> bool:
        return self._committed.bounds(self.partitions[index])[1] > offset

    def _start_offsets(self) -> dict[Partition, int]:
        """Where to begin: at the timestamp of the oldest change, so that the change of every dead letter is scanned."""
        timestamps = self._events[TIMESTAMP]
        oldest = 0 if timestamps.null_count() else min(timestamps)
        return self._committed.offsets_at(self.partitions, oldest)

    def _scan_messages(self, messages: Sequence[Message]) -> None:
        for decoded in self._decode(messages):
            newest = plan.newest_changes(self._changes_of(decoded), self._events, self._item)
            if len(newest):
                merged = pl.concat([self._newest, newest.select(self._newest.columns)])
                self._newest = plan.newest_of(merged, self._item)
            if decoded.rejects:
                self._note_undecodable(decoded)
        self._in_log = pl.concat([self._in_log, *self._unchanged_originals(messages)]).unique()

    def _changes_of(self, decoded: Decoded) -> pl.DataFrame:
        """The changes, and the rejects that are barriers: older counts must not be sent after these either."""
        changes = decoded.frame.select(*self._item, *_NEWEST)
        if decoded.barriers is None:
            return changes
        return pl.concat([changes, decoded.barriers.select(changes.columns)])

    def _note_undecodable(self, decoded: Decoded) -> None:
        """Note rejected changes without a dead letter that the service may accept, or has accepted.

        What it has committed, it may have accepted with other settings. What it has yet to read, it will reject as we
        do, unless it waits for the schema.
        """
        ids = [(*reject.change_id[:2], reject.line, reject.reason) for reject in decoded.rejects]
        done = [
            (index, offset, as_known(offset, line))
            for index, offset, line, reason in ids
            if offset < self._committed_offsets[self.partitions[index]] or reason is RejectReason.UNKNOWN_SCHEMA
        ]
        schema = {ASSIGNMENT: pl.Int32(), OFFSET: pl.Int64(), _KNOWN: pl.Int64()}
        rejected = pl.DataFrame(done, schema=schema, orient="row")
        whole_event = (-pl.col(OFFSET) - 1).alias(_KNOWN)
        rejected = rejected.join(self._known, on=(ASSIGNMENT, _KNOWN), how="anti")
        rejected = rejected.with_columns(whole_event).join(self._known, on=(ASSIGNMENT, _KNOWN), how="anti")
        highest = rejected.group_by(ASSIGNMENT).agg(pl.col(OFFSET).max().alias(UNDECODABLE))
        self._undecodable = pl.concat([self._undecodable, highest]).group_by(ASSIGNMENT).agg(pl.col(UNDECODABLE).max())

    def _unchanged_originals(self, messages: Sequence[Message]) -> Iterator[pl.DataFrame]:
        """``RECORD_ID`` of changes that the log has exactly as their dead letter: the topic was not recreated."""
        indices, offsets = self._ids_of(messages)
        read = pl.DataFrame({ASSIGNMENT: indices, OFFSET: offsets}, schema=self._in_log.schema)
        for row, index, offset in read.with_row_index().join(self._events, on=RECORD_ID, how="semi").iter_rows():
            dead_letter = self._by_source[self.position(index, offset)][0]
            record = record_of(messages[row])
            if (record.key, record.value) == (dead_letter.key, dead_letter.value):
                yield read[row]

    def _ids_of(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        positions = [position_of(message) for message in messages]
        return [self._indices[position[:2]] for position in positions], [position.offset for position in positions]

    def _decode(self, messages: Sequence[Message]) -> Iterator[Decoded]:
        """The messages in parts (see ``PartDecoder.decode_part``)."""
        indices, offsets = self._ids_of(messages)

        def origin(row: int) -> tuple[bytes | None, Headers]:
            record = record_of(messages[row])
            return record.key, record.headers

        raw = RawBatch(
            values=[as_bytes(message.value()) for message in messages],
            assignments=indices,
            offsets=offsets,
            timestamps=[timestamp_of(message) for message in messages],
            ends={},
            origin=origin,
            topics={index: topic for (topic, _), index in self._indices.items()},
        )
        first = 0
        while first < len(messages):
            decoded, first = retry_schema(lambda first=first: self._decoder.decode_part([raw], first))  # type: ignore[misc]
            yield decoded


def as_known(offset: int, line: int | None) -> int:
    """A change as one number: its position (see ``items.LINES_MAX``). The number of a whole event is negative."""
    return -offset - 1 if line is None else offset * LINES_MAX + line


def _known_ids(index: int, numbers: Sequence[int]) -> pl.DataFrame:
    column = pl.Series(_KNOWN, numbers, dtype=pl.Int64)
    return pl.select(pl.repeat(index, len(column), dtype=pl.Int32).alias(ASSIGNMENT)).with_columns(column)
