"""Numbers and times as people say them."""

from typing import Final

_MILLION: Final = 1_000_000
_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_UNITS_FROM: Final = 2
"""From this many of a unit on it is used: 90 seconds rather than 1 minute."""
_NOW_SECONDS: Final = 1.5


def count(number: float) -> str:
    """A count: ``12,340``, ``1.2 M``."""
    return f"{number / _MILLION:,.1f} M" if abs(number) >= _MILLION else f"{number:,.0f}"


def counted(number: int, noun: str) -> str:
    """A count and what is counted: ``1 change``, ``2 changes``."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time span in its largest suitable unit: ``45 seconds``, ``4 minutes``, ``3 hours``."""
    seconds = max(seconds, 0.0)
    for size, name in _UNITS:
        if seconds >= _UNITS_FROM * size:
            return f"{round(seconds / size)} {name}s"
    return "1 second" if round(seconds) == 1 else f"{seconds:.1f} seconds"


def ago(seconds: float) -> str:
    """How long ago something was."""
    return "just now" if seconds < _NOW_SECONDS else f"{duration(seconds)} ago"


def ahead(seconds: float) -> str:
    """When something will be."""
    return "now" if seconds < _NOW_SECONDS else f"in {duration(seconds)}"
