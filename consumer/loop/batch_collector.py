"""Collecting what polls bring, so that little is not decoded message by message.

A frame costs a millisecond or two to decode and to take in, however few its changes: as much as a thousand changes of
a full one. So batches wait for others: until there are enough messages, or for a short time if few come. The age of
a change counts from its poll (rule 21), so the wait costs no change its time.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain

from consumer.errors import InvariantError
from consumer.ports import Headers, RawBatch


class BatchCollector:
    """Batches that wait to be decoded together. Times are monotonic seconds.

    They are due at ``messages_due`` messages or ``bytes_due`` bytes of values, ``seconds`` after the poll that brought
    the first, or once someone cannot wait (``hurry``).
    """

    def __init__(self, *, messages_due: int, bytes_due: int, seconds: float) -> None:
        self._messages_due = messages_due
        self._bytes_due = bytes_due
        self._seconds = seconds
        self._batches: list[RawBatch] = []
        self._messages = 0
        self._bytes = 0
        self._is_urgent = False

    @property
    def due_at(self) -> float | None:
        """When what is collected is due by time; None: nothing is collected."""
        return self._batches[0].polled_at + self._seconds if self._batches else None

    def add(self, batch: RawBatch, polled_at: float) -> None:
        """Collect a batch, with or without messages, whose poll returned at ``polled_at``."""
        self._batches.append(replace(batch, polled_at=polled_at))
        self._messages += len(batch)
        self._bytes += batch.value_bytes()

    def hurry(self) -> None:
        """Someone waits for what is collected: it is due now."""
        self._is_urgent = bool(self._batches)

    def is_due(self, now: float) -> bool:
        """Whether what is collected should wait no longer; False if there is nothing."""
        due_at = self.due_at
        if due_at is None:
            return False
        is_enough = self._messages >= self._messages_due or self._bytes >= self._bytes_due
        return self._is_urgent or is_enough or now >= due_at

    def take(self) -> RawBatch:
        """Remove and return what is collected, as one batch in the order in which it was read.

        Raises InvariantError if there is nothing.
        """
        if not self._batches:
            raise InvariantError("nothing is collected")
        batches, self._batches = self._batches, []
        self._messages, self._bytes, self._is_urgent = 0, 0, False
        return batches[0] if len(batches) == 1 else joined(batches)


def joined(batches: Sequence[RawBatch]) -> RawBatch:
    """Batches as one, in order, with the time of the oldest."""
    stops = list(accumulate(len(batch) for batch in batches))
    ends: dict[int, int] = {}
    for batch in batches:
        ends.update(batch.ends)

    def origin(position: int) -> tuple[bytes | None, Headers]:
        index = bisect_right(stops, position)
        return batches[index].origin(position - stops[index] + len(batches[index]))

    return RawBatch(
        values=list(chain.from_iterable(batch.values for batch in batches)),
        assignments=list(chain.from_iterable(batch.assignments for batch in batches)),
        offsets=list(chain.from_iterable(batch.offsets for batch in batches)),
        timestamps=list(chain.from_iterable(batch.timestamps for batch in batches)),
        ends=ends,
        origin=origin,
        headers=None
        if any(batch.headers is None for batch in batches)
        else list(chain.from_iterable(batch.header_column() for batch in batches)),
        polled_at=min(batch.polled_at for batch in batches),
        topics={assignment: topic for batch in batches for assignment, topic in batch.topics.items()},
    )
