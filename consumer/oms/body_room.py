"""The memory that request bodies may take, shared by the worker threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Claim:
    """What one request has claimed of a room."""

    def __init__(self, room: "BodyRoom", claimed_bytes: int) -> None:
        self._room = room
        self.claimed_bytes = claimed_bytes

    def shrink(self, needed_bytes: int) -> None:
        """Give back what is no longer needed; a request never asks for more while it holds some."""
        released = max(self.claimed_bytes - needed_bytes, 0)
        self.claimed_bytes -= released
        self._room.release(released)


class BodyRoom:
    """At most this many bytes are claimed at a time; a request that alone needs more gets them when it is alone."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._claimed_bytes = 0
        self._changed = threading.Condition()

    @contextmanager
    def claim(self, needed_bytes: int) -> Iterator[Claim]:
        """Wait for room, and give it back at the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._claimed_bytes or self._claimed_bytes + needed_bytes <= self._bytes_max
            )
            self._claimed_bytes += needed_bytes
        claim = Claim(self, needed_bytes)
        try:
            yield claim
        finally:
            claim.shrink(0)

    def release(self, released_bytes: int) -> None:
        """For a claim only."""
        with self._changed:
            self._claimed_bytes -= released_bytes
            self._changed.notify_all()
