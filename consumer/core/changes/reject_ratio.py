"""Detects that too large a share of the latest changes is rejected, so that something upstream must be wrong."""

from collections import deque

CHANGES_MAX = 10_000
"""The ratio is that of the latest changes, at least this many (once there are) and always whole frames."""
CHANGES_MIN = 1_000
"""Fewer changes prove nothing: the first change of a topic may happen to be a bad one."""


class RejectRatio:
    """The share of rejected changes among the latest ``changes_max``; ignored below ``changes_min`` changes."""

    def __init__(self, ratio_max: float, *, changes_max: int = CHANGES_MAX, changes_min: int = CHANGES_MIN) -> None:
        self._ratio_max = ratio_max
        self._changes_max = changes_max
        self._changes_min = changes_min
        self._frames: deque[tuple[int, int]] = deque()
        self.changes = 0
        self.rejected = 0

    def add(self, changes: int, rejected: int) -> bool:
        """Count a frame's changes, ``rejected`` of which are. Returns whether the share is above ``ratio_max``."""
        self._frames.append((changes, rejected))
        self.changes += changes
        self.rejected += rejected
        while self.changes - self._frames[0][0] >= self._changes_max:
            old_changes, old_rejected = self._frames.popleft()
            self.changes -= old_changes
            self.rejected -= old_rejected
        return self.changes >= self._changes_min and self.rejected > self._ratio_max * self.changes
