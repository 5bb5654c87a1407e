"""Small helpers for text that people read: one line, nothing unprintable, times in ISO 8601."""

from datetime import UTC, datetime
from typing import Final

DETAIL_CHARACTERS_MAX: Final = 300
"""Longest ``detail`` of an answer or a reject. It is enough for an error message and too short for a gateway's HTML
page, and it travels in a header of the dead letter."""

_ELLIPSIS: Final = "..."


def one_line(text: str, characters_max: int | None = None) -> str:
    """The text as one printable line: whitespace and unprintable characters become single spaces.

    A line longer than ``characters_max`` is cut to that length and ends in "...".
    """
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(text.split())
    if characters_max is None or len(line) <= characters_max:
        return line
    return line[: characters_max - len(_ELLIPSIS)] + _ELLIPSIS


def escape_unprintable(text: str) -> str:
    """The text with unprintable characters as escapes, so that it can neither end a line nor steer a terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC with milliseconds, such as ``2026-01-02T03:04:05.678Z``.

    Raises ValueError, OverflowError or OSError outside the years 1 to 9999.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
