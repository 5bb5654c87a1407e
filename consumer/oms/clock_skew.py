"""How far the OMS's clock is ahead of ours, by the Date header of its answers."""

from collections.abc import Mapping
from typing import Final

import structlog

from consumer.oms.reply_parsing import read_date

SKEW_SECONDS_MAX: Final = 30.0
"""A larger difference is logged: tokens may then seem to be valid too early or too late."""
_SAMPLE_SECONDS: Final = 10.0
"""Reading a date takes as long as a good part of an answer, and clocks do not move that fast."""

_log = structlog.get_logger("inventory_refresh.oms")


class ClockSkew:
    """The difference, sampled now and then. Any thread may call it; the last sample wins."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        """Seconds that the OMS's clock is ahead, exact to about a second; None before the first sample."""
        self._sampled_at = float("-inf")
        self._is_large = False

    def observe(self, headers: Mapping[str, str], wall: float) -> None:
        """Take a sample from an answer that has just arrived; ``wall`` is our time in seconds since 1970."""
        if 0 <= wall - self._sampled_at < _SAMPLE_SECONDS:
            return
        date = read_date(headers)
        if date is None:
            return
        self._sampled_at = wall
        self.seconds = date - wall
        was_large, self._is_large = self._is_large, abs(self.seconds) > SKEW_SECONDS_MAX
        if self._is_large and not was_large:
            _log.warning(
                "oms_clock_differs",
                skew_seconds=round(self.seconds),
                next_step="correct this machine's clock, or report it to the operator of the OMS",
            )
