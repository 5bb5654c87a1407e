"""Reading a range of the source topics, without a group: in the order of the records' timestamps, or as they come.

Memory is bounded: at most ``SLICE_BYTES`` of values are held, besides what the client has fetched.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Message

from consumer.dead_letters.log_reader import LogReader, Partition
from consumer.dead_letters.record import as_bytes
from consumer.kafka.message_columns import (
    HeaderColumn,
    Timestamps,
    Values,
    headers_of,
    offset_of,
    partition_of,
    topic_of,
    value_of,
)
from consumer.ports import Headers, RawBatch
from consumer.settings.memory import MIB
from consumer.text import iso_time

SLICE_MESSAGES: Final = 5_000
"""Messages of a slice of time, about: they are read together and sorted."""
SLICE_MESSAGES_MAX: Final = 4 * SLICE_MESSAGES
SLICE_BYTES: Final = 4 * MIB
"""What is more than either, within a millisecond, is not sorted together, but handed on as it comes."""
BACKLOG_MESSAGES: Final = 2_000
"""Messages of a backlog that are decoded at once."""
SLICE_MS_FIRST: Final = 3_600_000
SLICE_SHARE_MIN: Final = 4
"""A slice with fewer than this part of ``SLICE_MESSAGES`` makes the next one twice as long."""
TIME_MS_MAX: Final = 2**53


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records: from ``since_ms`` on, or from the log's start, or (neither) from the committed offsets.

    ``until_ms`` (exclusive) and ``messages_max`` bound them; None: up to the log's end as of now.
    """

    since_ms: int | None = None
    from_start: bool = False
    until_ms: int | None = None
    messages_max: int | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """The offsets to read: ``starts`` inclusive, ``ends`` exclusive. ``origin`` says in words where they begin."""

    starts: Mapping[Partition, int]
    ends: Mapping[Partition, int]
    origin: str

    @property
    def offsets(self) -> int:
        return sum(self.ends[partition] - start for partition, start in self.starts.items())


@dataclass(frozen=True, slots=True)
class Slice:
    """Messages that are read together. Times are seconds since 1970; 0.0 without timestamps."""

    messages: Sequence[Message]
    first_seconds: float
    last_seconds: float


def range_of(log: LogReader, topics: Sequence[str], wanted: Wanted) -> Range:
    """The offsets of the wanted records. Raises BrokerError."""
    partitions = [partition for topic in topics for partition in log.partitions(topic)]
    bounds = {partition: log.bounds(partition) for partition in partitions}
    ends = {partition: high for partition, (_, high) in bounds.items()}
    if wanted.until_ms is not None:
        at = log.offsets_at(partitions, wanted.until_ms)
        ends = {partition: min(end, at[partition]) for partition, end in ends.items()}
    if wanted.since_ms is not None:
        starts, origin = log.offsets_at(partitions, wanted.since_ms), iso_time(wanted.since_ms / 1000)
    elif wanted.from_start:
        starts, origin = dict.fromkeys(partitions, 0), "the start of the log"
    else:
        starts, origin = log.committed_offsets(partitions), "the committed offsets"
        if not any(starts.values()):
            origin = "the start of the log (the group has committed nothing)"
    starts = {
        partition: min(max(start, bounds[partition][0]), max(ends[partition], bounds[partition][0]))
        for partition, start in starts.items()
    }
    ends = {partition: max(end, starts[partition]) for partition, end in ends.items()}
    return _at_most(Range(starts, ends, origin), wanted.messages_max)


def _at_most(found: Range, messages_max: int | None) -> Range:
    """The oldest of each partition, evenly, so that they are at most this many in all."""
    if messages_max is None or found.offsets <= messages_max:
        return found
    offsets = found.offsets
    ends = {
        partition: start + (found.ends[partition] - start) * messages_max // offsets
        for partition, start in found.starts.items()
    }
    return Range(found.starts, ends, found.origin)


def by_time(log: LogReader, found: Range, tick_seconds: float) -> Iterator[Slice]:
    """The messages by their timestamps, in slices of at most ``tick_seconds``.

    A message whose timestamp is older than that of one before it in its partition comes right after that one.
    """
    order = _Order(tick_seconds)
    for starts, ends in _time_slices(log, found):
        held: list[Message] = []
        held_bytes = 0
        for messages in log.read(starts, ends):
            held += messages
            held_bytes += sum(len(value_of(message) or b"") for message in messages)
            if held_bytes > SLICE_BYTES or len(held) > SLICE_MESSAGES_MAX:
                yield from order.ticks(held)
                held, held_bytes = [], 0
        yield from order.ticks(held)


def as_backlog(log: LogReader, found: Range) -> Iterator[Slice]:
    """The messages as the broker returns them, all of them now."""
    for messages in log.read(found.starts, found.ends):
        for begin in range(0, len(messages), BACKLOG_MESSAGES):
            yield Slice(messages[begin : begin + BACKLOG_MESSAGES], 0.0, 0.0)


@dataclass(slots=True)
class _Order:
    """Sorts messages by time, and keeps each partition's in the order of their offsets."""

    tick_seconds: float
    latest: dict[Partition, int] = field(default_factory=dict)
    """The latest timestamp of each partition so far."""
    clock: int = 0

    def ticks(self, messages: Sequence[Message]) -> Iterator[Slice]:
        """The messages in slices of time; time never goes back."""
        timed = sorted(((self._time_of(message), message) for message in messages), key=lambda entry: entry[0])
        tick_ms = max(int(self.tick_seconds * 1000), 1)
        begin = 0
        for index, (time, _) in enumerate(timed):
            if time - timed[begin][0] >= tick_ms:
                yield self._slice(timed[begin:index])
                begin = index
        if begin < len(timed):
            yield self._slice(timed[begin:])

    def _slice(self, timed: Sequence[tuple[int, Message]]) -> Slice:
        first = max(timed[0][0], self.clock)
        self.clock = max(timed[-1][0], self.clock)
        return Slice([message for _, message in timed], first / 1000, self.clock / 1000)

    def _time_of(self, message: Message) -> int:
        partition = topic_of(message), partition_of(message)
        kind, timestamp = message.timestamp()
        self.latest[partition] = time = max(timestamp if kind else 0, self.latest.get(partition, 0))
        return time


def _time_slices(log: LogReader, found: Range) -> Iterator[tuple[Mapping[Partition, int], Mapping[Partition, int]]]:
    """Starts and ends of slices of time with about ``SLICE_MESSAGES`` messages, found by Kafka's index of times."""
    starts, time_ms, slice_ms = dict(found.starts), 0, SLICE_MS_FIRST
    while starts != found.ends:
        until_ms = time_ms + slice_ms
        if until_ms >= TIME_MS_MAX:
            yield starts, found.ends
            return
        at = log.offsets_at(list(starts), until_ms)
        ends = {partition: min(max(at[partition], start), found.ends[partition]) for partition, start in starts.items()}
        messages = sum(ends[partition] - start for partition, start in starts.items())
        if messages > SLICE_MESSAGES and slice_ms > 1:
            slice_ms = max(slice_ms // 2, 1)
            continue
        if messages:
            yield starts, ends
        if messages < SLICE_MESSAGES // SLICE_SHARE_MIN:
            slice_ms *= 2
        starts, time_ms = ends, until_ms


def raw_batch(messages: Sequence[Message], ids: Mapping[Partition, int]) -> RawBatch:
    """The messages for the decoder; ``ids`` are the assignment ids of partitions."""

    def origin(position: int) -> tuple[bytes | None, Headers]:
        message = messages[position]
        return as_bytes(message.key()), headers_of(message) or ()

    return RawBatch(
        values=Values(messages),
        assignments=[ids[topic_of(message), partition_of(message)] for message in messages],
        offsets=[offset_of(message) for message in messages],
        timestamps=Timestamps(messages),
        ends={},
        origin=origin,
        topics={assignment_id: topic for (topic, _), assignment_id in ids.items()},
        headers=HeaderColumn(messages),
    )
