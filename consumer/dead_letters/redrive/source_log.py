"""What the source topics hold after the letters' changes: read once to the end, then whatever is added.

All partitions of all topics that the service reads are looked through, with the service's own decoder and rules. What
has been aborted, or stands in an open transaction, does not count here: it is not read. ``between`` reads that too.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

import polars as pl
from confluent_kafka import Message

from consumer.avro.batches import BatchDecoder
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.core.changes.items import ASSIGNMENT, OCCURRED_AT, OFFSET, TIMESTAMP
from consumer.dead_letters.letters import DeadLetter, RecordPosition
from consumer.dead_letters.log_reader import Partition, Reader, as_headers, bytes_of, timestamp_of
from consumer.dead_letters.redrive.events import with_patience
from consumer.dead_letters.redrive.plan import CHANGE_ID, UNREAD, judge, newest_changes, newest_of, slipped_in
from consumer.oms.apis import APIS
from consumer.ports import Decoded, Headers, RawBatch
from consumer.settings import Settings

OPEN_SECONDS_MAX: Final = 15.0
"""How long open transactions of others are waited for."""
OPEN_POLL_SECONDS: Final = 0.2

Progress = Callable[[int, int], None]
"""Hears how many messages have been looked through, and of how many."""

_NEWEST: Final = {ASSIGNMENT: pl.Int32(), OFFSET: pl.Int64(), TIMESTAMP: pl.Int64(), OCCURRED_AT: pl.Int64()}


class SourceLog:
    """The logs of the source topics, for these letters. Use it from one thread; every method may raise BrokerError."""

    def __init__(self, settings: Settings, item: Sequence[str]) -> None:
        """``item``: the columns of an item, see ``plan.item_columns``."""
        self._item = list(item)
        with ExitStack() as stack:
            self._committed = Reader(settings.kafka)
            stack.callback(self._committed.close)
            self._everything = Reader(settings.kafka, committed=False)
            stack.callback(self._everything.close)
            columns = APIS[settings.oms.api].item_columns
            self._decoder: BatchDecoder = build_batch_decoder(settings.avro, settings.window.item_key, columns)
            stack.callback(self._decoder.close)
            self.partitions = [each for topic in settings.kafka.topics for each in self._committed.partitions(topic)]
            self._stack = stack.pop_all()
        self._numbers = {partition: number for number, partition in enumerate(self.partitions)}
        self._settled = self._committed.committed_offsets(self.partitions)
        """Up to here the service has done with everything: what it rejected was a dead letter before it committed."""
        self._positions: dict[Partition, int] = {}
        self._by_place: dict[RecordPosition, DeadLetter] = {}
        self._letters = self._known = self._newest = self._in_log = self._unread = pl.DataFrame()

    def close(self) -> None:
        self._stack.close()

    def number(self, partition: Partition) -> int | None:
        """The partition's number, None where the service does not read it."""
        return self._numbers.get(partition)

    def place(self, number: int, offset: int) -> RecordPosition:
        """The place of an offset of the partition of that number."""
        topic, partition = self.partitions[number]
        return RecordPosition(topic, partition, offset)

    def look_for(
        self,
        letters: pl.DataFrame,
        by_place: Mapping[RecordPosition, DeadLetter],
        known: Mapping[Partition, Sequence[int]],
    ) -> None:
        """Begin with these letters. ``known``: the offsets of all changes that have a dead letter.

        They must have been read from the dead-letter topic after this was made.
        """
        self._letters = letters
        self._by_place = dict(by_place)
        self._known = pl.concat(
            [_places(number, known.get(partition, ())) for number, partition in enumerate(self.partitions)]
        )
        self._in_log = self._known.clear()
        self._unread = pl.DataFrame(schema={ASSIGNMENT: pl.Int32(), UNREAD: pl.Int64()})
        self._newest = pl.DataFrame(schema={**{name: letters.schema[name] for name in self._item}, **_NEWEST})
        self._positions = self._starts()

    def read_on(self, progress: Progress = lambda _done, _of: None) -> None:
        """Look through what has been added, up to the present ends."""
        ends = {partition: self._committed.bounds(partition)[1] for partition in self.partitions}
        size = sum(max(end - self._positions[partition], 0) for partition, end in ends.items())
        done = 0
        for messages in self._committed.read(self._positions, ends):
            self._take_in(messages)
            done += len(messages)
            progress(min(done, size), size)
        self._positions = {partition: max(end, self._positions[partition]) for partition, end in ends.items()}
        progress(size, size)

    def judged(self) -> pl.DataFrame:
        """The letters with their verdicts, by what has been read: see ``plan.judge``."""
        return judge(self._letters, self._newest, self._in_log, self._unread, self._item)

    def between(self, batch: pl.DataFrame, ours: pl.DataFrame) -> pl.DataFrame:
        """What has been added since ``read_on``, before the copies ``ours``, of the batch's items: its ``CHANGE_ID``.

        Open transactions count as if they were committed.
        """
        last = dict(ours.group_by(ASSIGNMENT).agg(pl.col(OFFSET).max()).iter_rows())
        counts = dict(ours.group_by(ASSIGNMENT).len().iter_rows())
        ends = {
            partition: last[number] + 1 if number in last else self._everything.bounds(partition)[1]
            for number, partition in enumerate(self.partitions)
        }
        others = {
            partition: end
            for number, (partition, end) in enumerate(ends.items())
            if end - self._positions[partition] > counts.get(number, 0)  # else there is nothing but ours
        }
        found = [
            slipped_in(self._decoded(messages).frame, batch, ours, self._item)
            for messages in self._everything.read(self._positions, others)
        ]
        return pl.concat([ours.clear(), *found]).unique()

    def wait_past(self, places: pl.DataFrame) -> bool:
        """Wait until these may be read, or have been aborted; False where a transaction stays open too long."""
        deadline = time.monotonic() + OPEN_SECONDS_MAX
        left = dict(places.group_by(ASSIGNMENT).agg(pl.col(OFFSET).max()).iter_rows())
        while left := {n: offset for n, offset in left.items() if not self._is_committed(n, offset)}:
            if time.monotonic() > deadline:
                return False
            time.sleep(OPEN_POLL_SECONDS)
        return True

    def _is_committed(self, number: int, offset: int) -> bool:
        return self._committed.bounds(self.partitions[number])[1] > offset

    def _starts(self) -> dict[Partition, int]:
        """Where to begin: at the time of the oldest letter's change, so that no letter's own change is passed over."""
        moments = self._letters[TIMESTAMP]
        oldest = 0 if moments.null_count() else min(moments)
        return self._committed.offsets_at(self.partitions, oldest)

    def _take_in(self, messages: Sequence[Message]) -> None:
        decoded = self._decoded(messages)
        newest = newest_changes(decoded.frame, self._letters, self._item)
        if len(newest):
            self._newest = newest_of(pl.concat([self._newest, newest.select(self._newest.columns)]), self._item)
        self._in_log = pl.concat([self._in_log, *self._originals(messages)]).unique()
        if decoded.rejects:
            self._note_unread(decoded)

    def _note_unread(self, decoded: Decoded) -> None:
        """Changes that cannot be decoded, and are done with though they are no dead letters.

        They may have been accepted, under other settings. What the service has yet to read it will reject, as we do.
        """
        places = [
            (reject.change_id.assignment, reject.change_id.offset)
            for reject in decoded.rejects
            if reject.change_id.offset < self._settled[self.partitions[reject.change_id.assignment]]
        ]
        rejected = pl.DataFrame(places, schema=self._known.schema, orient="row").join(
            self._known, on=CHANGE_ID, how="anti"
        )
        highest = rejected.group_by(ASSIGNMENT).agg(pl.col(OFFSET).max().alias(UNREAD))
        self._unread = pl.concat([self._unread, highest]).group_by(ASSIGNMENT).agg(pl.col(UNREAD).max())

    def _originals(self, messages: Sequence[Message]) -> Iterator[pl.DataFrame]:
        """The places where the log has a letter's change just as the letter has it: it is the same log still."""
        numbers, offsets = self._places(messages)
        read = pl.DataFrame({ASSIGNMENT: numbers, OFFSET: offsets}, schema=self._known.schema)
        for position, number, offset in read.with_row_index().join(self._letters, on=CHANGE_ID, how="semi").iter_rows():
            letter = self._by_place[self.place(number, offset)]
            message = messages[position]
            if (bytes_of(message.key()), bytes_of(message.value())) == (letter.key, letter.value):
                yield read[position]

    def _places(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        numbers = [self._numbers[str(message.topic()), int(message.partition() or 0)] for message in messages]
        return numbers, [int(message.offset() or 0) for message in messages]

    def _decoded(self, messages: Sequence[Message]) -> Decoded:
        numbers, offsets = self._places(messages)

        def origin(position: int) -> tuple[bytes | None, Headers]:
            return bytes_of(messages[position].key()), as_headers(messages[position].headers() or ())

        raw = RawBatch(
            values=[bytes_of(message.value()) for message in messages],
            assignments=numbers,
            offsets=offsets,
            timestamps=[timestamp_of(message) for message in messages],
            ends={},
            origin=origin,
        )
        return with_patience(lambda: self._decoder.decode([raw]))


def _places(number: int, offsets: Sequence[int]) -> pl.DataFrame:
    column = pl.Series(OFFSET, offsets, dtype=pl.Int64)
    return pl.select(pl.repeat(number, len(column), dtype=pl.Int32).alias(ASSIGNMENT)).with_columns(column)
