"""Decoding batches in parts: events with many lines become many times as many rows, and memory is for rows.

As long as an event is one change, a part is all that there is, and nothing here costs anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from consumer.avro.lines import ROWS_MAX, TooManyRowsError
from consumer.ports import Decoded, Headers, RawBatch


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

    def decode_part(self, batches: Sequence[RawBatch], first: int = 0) -> tuple[Decoded, int]:
        """Decode from the message ``first`` on (its index in all batches together) as many as make up a part.

        Returns the part, and the index of the next message: the number of messages when all are decoded. Raises what
        ``BatchDecoder.decode`` raises; the caller may then call again.
        """
        messages = sum(map(len, batches))
        while True:
            stop = messages if self._messages_max is None else min(first + self._messages_max, messages)
            is_whole = first == 0 and stop == messages
            try:
                decoded = self._decoder.decode(batches if is_whole else list(_sliced(batches, first, stop)))
            except TooManyRowsError:
                self._messages_max = max((stop - first) // 2, 1)
            else:
                if self._messages_max is not None and 2 * decoded.frame.height < ROWS_MAX:
                    self._messages_max *= 2
                return decoded, stop

    def close(self) -> None:
        self._decoder.close()


def _sliced(batches: Sequence[RawBatch], first: int, stop: int) -> Iterator[RawBatch]:
    """The messages from ``first`` to ``stop``, in batches. Ends that were reached come with the message before them."""
    messages = sum(map(len, batches))
    before = 0
    for batch in batches:
        low, high = max(first - before, 0), min(stop - before, len(batch))
        has_only_ends = not len(batch) and first <= before and (before < stop or stop == messages)
        if low < high or has_only_ends:
            yield _slice(batch, low, high)
        before += len(batch)


def _slice(batch: RawBatch, low: int, high: int) -> RawBatch:
    def origin(position: int) -> tuple[bytes | None, Headers]:
        return batch.origin(low + position)

    return replace(
        batch,
        values=[batch.values[position] for position in range(low, high)],
        assignments=batch.assignments[low:high],
        offsets=batch.offsets[low:high],
        timestamps=[batch.timestamps[position] for position in range(low, high)],
        ends=batch.ends if high == len(batch) else {},
        origin=origin,
    )
