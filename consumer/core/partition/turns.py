"""Whose turn it is: which partition with a backlog is read while memory is short (rule 24, docs/decisions/0017).

If a location's changes are in one partition, reading that partition alone fills its window; reading all partitions at
once fills the windows of all locations a little. Times are monotonic seconds.
"""

from collections.abc import Callable, Sequence


class Turns:
    """Gives each of the waiting partitions its turn within ``max_age_seconds``, the longest waiting first.

    A turn lasts half of the time that this leaves for each, or all of it if less than ``turn_bytes_min`` were read by
    then, because what the client has fetched ahead is lost when the next turn begins. It ends early if the partition is
    no longer among those that wait. Time in which nothing is read (``stand_still``) does not count.
    """

    def __init__(self, max_age_seconds: float, turn_bytes_min: float) -> None:
        self._max_age_seconds = max_age_seconds
        self._turn_bytes_min = turn_bytes_min
        self._current: int | None = None
        self._began_at = 0.0
        self._began_bytes = 0.0
        self._last_turns: dict[int, int] = {}
        """By assignment: the number of its last turn."""
        self._turn = 0
        self._updated_at = 0.0

    def stand_still(self, now: float) -> None:
        """Nothing is read at present."""
        self._began_at += now - self._updated_at
        self._updated_at = now

    def choose(self, waiting: Sequence[int], read_bytes: Callable[[int], float], now: float) -> int:
        """Which of the ``waiting``, of which there must be one, is read now.

        ``read_bytes`` returns what was read of an assignment so far.
        """
        self._updated_at = now
        current = self._current
        if current is None or current not in waiting or self._is_over(len(waiting), read_bytes(current), now):
            self._last_turns = {found: turn for found, turn in self._last_turns.items() if found in waiting}
            self._turn += 1
            self._current = current = min(waiting, key=lambda found: (self._last_turns.get(found, 0), found))
            self._last_turns[current] = self._turn
            self._began_at, self._began_bytes = now, read_bytes(current)
        return current

    def _is_over(self, waiting: int, read_bytes: float, now: float) -> bool:
        longest_seconds = self._max_age_seconds / waiting
        is_enough = read_bytes - self._began_bytes >= self._turn_bytes_min
        return now - self._began_at >= (longest_seconds / 2 if is_enough else longest_seconds)
