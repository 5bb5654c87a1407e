"""Decoding batches in parts: events with many lines become many times as many rows, and memory is for rows.

As long as an event is one change, a part is all that there is, and nothing here costs anything.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from consumer.avro.lines import ROWS_MAX, TooManyRowsError
from consumer.ports import AwaitedSchema, Decoded, RawBatch


class WholeDecoder(Protocol):
    """Decodes batches at once (``batches.BatchDecoder``); raises TooManyRowsError if they have too many lines."""

    def decode(self, batches: Sequence[RawBatch]) -> Decoded: ...

    def close(self) -> None: ...


class PartDecoder:
    """Decodes batches in parts with at most ``ROWS_MAX`` rows, or of a single event. Not thread-safe."""

    def __init__(self, decoder: WholeDecoder) -> None:
        self._decoder = decoder
        self._messages_max: int | None = None
        """Messages that are tried at once; None: all."""
        self._awaits: dict[int, AwaitedSchema] = {}
        self._tombstones = 0
        """Of the parts of the present batches so far, as in ``Decoded``."""

    def decode_part(self, batches: Sequence[RawBatch], first: int = 0) -> tuple[Decoded, int]:
        """Decode from the message ``first`` on (its index in all batches together) as many as make up a part.

        Returns the part, and the index of the next message: the number of messages when all are decoded. Of an
        assignment that awaits a schema since one part, later parts have nothing. Raises what ``BatchDecoder.decode``
        raises; the caller may then call again.
        """
        messages = sum(map(len, batches))
        if first == 0:
            self._awaits, self._tombstones = {}, 0
        while True:
            stop = messages if self._messages_max is None else min(first + self._messages_max, messages)
            is_whole = first == 0 and stop == messages
            try:
                decoded = self._decoder.decode(
                    batches if is_whole else list(_sliced(batches, first, stop, self._awaits))
                )
            except TooManyRowsError:
                self._messages_max = max((stop - first) // 2, 1)
            else:
                if self._messages_max is not None and 2 * decoded.frame.height < ROWS_MAX:
                    self._messages_max *= 2
                return self._part(decoded, len(batches) if stop == messages else 0), stop

    def _part(self, decoded: Decoded, batches: int) -> Decoded:
        """The part as it is passed on: what concerns the batches as a whole comes with the last one."""
        self._awaits |= decoded.awaits
        self._tombstones += decoded.tombstones
        if not batches:
            return replace(decoded, batches=0, awaits={}, tombstones=0)
        return replace(decoded, batches=batches, awaits=self._awaits, tombstones=self._tombstones)

    def close(self) -> None:
        self._decoder.close()


def _sliced(batches: Sequence[RawBatch], first: int, stop: int, without: Collection[int]) -> Iterator[RawBatch]:
    """The messages from ``first`` to ``stop``, except those of the assignments ``without``, in batches.

    Ends that were reached come with the message before them.
    """
    messages = sum(map(len, batches))
    before = 0
    for batch in batches:
        low, high = max(first - before, 0), min(stop - before, len(batch))
        has_only_ends = not len(batch) and first <= before and (before < stop or stop == messages)
        if low < high or has_only_ends:
            yield _slice(batch, low, high, without)
        before += len(batch)


def _slice(batch: RawBatch, low: int, high: int, without: Collection[int]) -> RawBatch:
    positions = [position for position in range(low, high) if batch.assignments[position] not in without]
    ends = batch.ends if high == len(batch) else {}
    return replace(
        batch,
        values=[batch.values[position] for position in positions],
        assignments=[batch.assignments[position] for position in positions],
        offsets=[batch.offsets[position] for position in positions],
        timestamps=[batch.timestamps[position] for position in positions],
        ends={owner: end for owner, end in ends.items() if owner not in without},
        origin=lambda position: batch.origin(positions[position]),
        headers=None if batch.headers is None else [batch.headers[position] for position in positions],
    )
