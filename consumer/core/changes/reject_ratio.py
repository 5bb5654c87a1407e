"""Whether so many of the latest changes are rejected that something upstream must be wrong."""

from collections import deque

CHANGES_MAX = 10_000
"""The latest changes that count, at least as many as came in one frame."""
CHANGES_MIN = 1_000
"""Fewer tell nothing: the first change of a topic may well be a bad one."""


class RejectRatio:
    """Counts per frame, as far back as the latest ``changes_max`` changes, and not before there are ``changes_min``."""

    def __init__(self, ratio_max: float, *, changes_max: int = CHANGES_MAX, changes_min: int = CHANGES_MIN) -> None:
        self._ratio_max = ratio_max
        self._changes_max = changes_max
        self._changes_min = changes_min
        self._frames: deque[tuple[int, int]] = deque()
        self.changes = 0
        self.rejected = 0

    def add(self, changes: int, rejected: int) -> bool:
        """Count a frame's ``changes``, rejected ones included; True: more than the set share is rejected."""
        self._frames.append((changes, rejected))
        self.changes += changes
        self.rejected += rejected
        while self.changes - self._frames[0][0] >= self._changes_max:
            old_changes, old_rejected = self._frames.popleft()
            self.changes -= old_changes
            self.rejected -= old_rejected
        return self.changes >= self._changes_min and self.rejected > self._ratio_max * self.changes
