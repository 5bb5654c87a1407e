"""Reading what the OMS, or a gateway before it, wrote: JSON and nearly JSON, its codes, its words, its headers.

Nothing here judges: ``answers`` and ``jobs`` do. Whatever the other side sends, these return, in bounded time.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

DETAIL_CHARACTERS_MAX: Final = 300
"""Of the OMS's words so many are kept: enough for a message, too few for a gateway's page."""
RETRY_AFTER_SECONDS_MAX: Final = 86_400.0

_WORDS_CHARACTERS_MAX: Final = 4 * DETAIL_CHARACTERS_MAX
_JOB_ID_DIGITS_MAX: Final = 30
_QUOTA_ERRORS: Final = ("OVER_QPS", "OVER_RATE")
_GATEWAY_ERROR: Final = "X-Mashery-Error-Code"
_LEADING_ZEROS: Final = re.compile(rb'("jobID"\s*:\s*)0+(?=\d)')


def read_json(body: bytes) -> Any:
    """The body's JSON, None if it is none; a number with leading zeros as jobID is read too, as the OMS shows it."""
    for candidate in (body, _LEADING_ZEROS.sub(rb"\1", body)):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):  # RecursionError: brackets upon brackets
            continue
    return None


def write_json(content: Any) -> str | None:
    """Parsed JSON as text; None where it nests deeper than can be written, which is a little less than can be read."""
    try:
        return json.dumps(content, ensure_ascii=False)
    except RecursionError:
        return None


def read_job_id(content: Any) -> str:
    """The jobID in the one form that get-job takes, digits without leading zeros; "" if there is none.

    0 is none: an OMS that numbers a job so is less likely than a gateway that fills a field in.
    """
    value = content.get("jobID") if isinstance(content, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        return ""
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= _JOB_ID_DIGITS_MAX):
        return ""
    number = int(value)
    return str(number) if 0 < number < 10**_JOB_ID_DIGITS_MAX else ""


def read_code(content: Any) -> int | None:
    """The OMS's own code, a number or a string of digits."""
    value = content.get("code") if isinstance(content, dict) else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    return value if isinstance(value, int) else None


def read_words(headers: Mapping[str, str], content: Any, body: bytes) -> str:
    """What the OMS, or the gateway before it, says in its own words, shortened; ``content`` is the body's JSON."""
    gateway = headers.get(_GATEWAY_ERROR, "")
    written = write_json(content) if isinstance(content, dict) else None
    words = body[:_WORDS_CHARACTERS_MAX].decode("utf-8", "replace") if written is None else written
    return shortened(f"{gateway} {words}")


def is_over_quota(status: int, headers: Mapping[str, str]) -> bool:
    """Whether there were too many calls: the gateway says so by a header of a 403, others by 429."""
    return status == 429 or (status == 403 and headers.get(_GATEWAY_ERROR, "").upper().endswith(_QUOTA_ERRORS))


def shortened(text: str) -> str:
    """One printable line of at most ``DETAIL_CHARACTERS_MAX`` characters."""
    printable = "".join(character if character.isprintable() else " " for character in text[:_WORDS_CHARACTERS_MAX])
    line = " ".join(printable.split())
    return line if len(line) <= DETAIL_CHARACTERS_MAX else line[: DETAIL_CHARACTERS_MAX - 1] + "…"


def read_retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds from ``wall`` on, at least 0 and at most a day; None where the header is absent or makes no sense."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value) if value.isascii() and value.isdigit() else _until(value, wall)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)


def _until(date: str, wall: float) -> float:
    """Seconds from ``wall`` to this HTTP date. Raises ValueError, or OverflowError far from our age."""
    at = parsedate_to_datetime(date)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - wall
