"""A timer for what the loop does at intervals."""


class Timer:
    """Due at first, and again ``interval_seconds`` after each ``restart``. Times are monotonic seconds."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self.due_at = float("-inf")

    def is_due(self, now: float) -> bool:
        return now >= self.due_at

    def restart(self, now: float) -> None:
        self.due_at = now + self._interval_seconds

    def expire(self) -> None:
        """Make it due now."""
        self.due_at = float("-inf")
