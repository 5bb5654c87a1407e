"""How much was read of a partition past its committable offset, in bytes (rule 10).

A new owner starts at the committed offset and must read all of that again before it may send any of it. So the owner
reads only as far as another member with the same memory can read again.
"""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UncommittedLimits:
    """How far a partition may be read past its committable offset."""

    offsets_max: int
    bytes_max: float
    """Bytes of rows, those that were sent since included."""


@dataclass(slots=True)
class _Span:
    """The rows between the previous span and the offset ``stop``."""

    stop: int
    size_bytes: float


class UncommittedBytes:
    """The bytes of the rows from the committable offset on, whether they wait, are in flight or were accepted.

    They are counted in spans of about ``step_bytes``; a span counts until the committable offset has passed all of it.
    """

    def __init__(self, step_bytes: float) -> None:
        self._step_bytes = step_bytes
        self._spans: deque[_Span] = deque()
        self.size_bytes = 0.0

    def add(self, stop: int, size_bytes: float) -> None:
        """Rows of this many bytes were read, up to the offset ``stop``, which is after the last of them."""
        if not size_bytes:
            return
        self.size_bytes += size_bytes
        last = self._spans[-1] if self._spans else None
        if last and last.size_bytes + size_bytes <= self._step_bytes:
            last.stop = stop
            last.size_bytes += size_bytes
        else:
            self._spans.append(_Span(stop, size_bytes))

    def drop_below(self, committable_offset: int) -> None:
        """The committable offset has moved here."""
        while self._spans and self._spans[0].stop <= committable_offset:
            self.size_bytes -= self._spans.popleft().size_bytes
        if not self._spans:
            self.size_bytes = 0.0  # what rounding has left

    def offset_that_leaves(self, bytes_max: float) -> int:
        """The lowest offset from which on at most this many bytes were read; 0 if that holds for all."""
        offset, left = 0, self.size_bytes
        for span in self._spans:
            if left <= bytes_max:
                break
            offset, left = span.stop, left - span.size_bytes
        return offset
