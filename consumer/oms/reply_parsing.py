"""Parsing of responses from the OMS and its gateways: JSON and almost-JSON, error codes, messages, headers.

These functions do not classify: ``answers`` and ``job_client`` do. They accept any bytes and return in bounded time.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

from consumer.text import DETAIL_CHARACTERS_MAX, one_line

RETRY_AFTER_SECONDS_MAX: Final = 86_400.0

_MESSAGE_CHARACTERS_MAX: Final = 4 * DETAIL_CHARACTERS_MAX
"""Characters that are looked at to make one line of: bounds the work on a large body."""
_JOB_ID_DIGITS_MAX: Final = 30
_OMS_CODES: Final = range(5_000, 6_000)
"""All of the OMS's own codes; others are HTTP statuses that a gateway repeats."""
_QUOTA_ERRORS: Final = ("OVER_QPS", "OVER_RATE")
_GATEWAY_ERROR: Final = "X-Mashery-Error-Code"
_JOB_ID: Final = re.compile(r"\s*0*([1-9][0-9]{0,29})(?:\.0{1,9})?\s*", re.ASCII)
"""A jobID as text: blanks around it, leading zeros, and a fraction of zeros do not matter."""
_EXACT_FLOAT_MAX: Final = 2**53
"""JSON numbers with a fraction are floats, and those beyond this may be another whole number than the one sent."""
_LEADING_ZEROS: Final = re.compile(rb'("jobID"\s*:\s*)0+(?=\d)')


def read_json(body: bytes) -> Any:
    """The body's JSON, None if it is not JSON. A jobID may have leading zeros, as in the OMS's documentation."""
    for candidate in (body, _LEADING_ZEROS.sub(rb"\1", body)):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
            continue
    return None


def write_json(content: Any) -> str | None:
    """Parsed JSON as text. None if it nests too deep to be written: the limit is a little lower than for reading."""
    try:
        return json.dumps(content, ensure_ascii=False)
    except RecursionError:
        return None


def read_job_id(content: Any) -> str | None:
    """The jobID in the form that get-job takes, digits without leading zeros. None if there is no usable jobID.

    Some gateways turn the number into a float (``4711.0``) or into text with blanks.

    0 does not count: a gateway that fills in a default is more likely than an OMS that numbers a job 0.
    """
    value = content.get("jobID") if isinstance(content, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        if not (value.is_integer() and abs(value) < _EXACT_FLOAT_MAX):
            return None
        value = int(value)
    if isinstance(value, int):
        return str(value) if 0 < value < 10**_JOB_ID_DIGITS_MAX else None
    match = _JOB_ID.fullmatch(value)
    return match[1] if match else None


def read_code(content: Any) -> int | None:
    """The OMS's own error code, given as a number or as a string of digits."""
    value = content.get("code") if isinstance(content, dict) else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    return value if isinstance(value, int) else None


def has_oms_code(content: Any) -> bool:
    """Whether these are the OMS's own words by its older APIs: a JSON object with one of its numeric codes."""
    return read_code(content) in _OMS_CODES


def has_error_code(content: Any) -> bool:
    """The same by Unified Commerce: ``errorCode``, a text that names the kind of error, or one of the older codes."""
    name = content.get("errorCode") if isinstance(content, dict) else None
    return bool(isinstance(name, str) and name.strip()) or has_oms_code(content)


def has_gateway_code(headers: Mapping[str, str]) -> bool:
    """Whether the OMS's own gateway says why, in its error header."""
    return bool(headers.get(_GATEWAY_ERROR, "").strip())


def read_message(headers: Mapping[str, str], content: Any, body: bytes) -> str:
    """What the OMS or its gateway says, as one short line; ``content`` is the body's JSON."""
    gateway_error = headers.get(_GATEWAY_ERROR, "")
    written = write_json(content) if isinstance(content, dict) else None
    message = body[:_MESSAGE_CHARACTERS_MAX].decode("utf-8", "replace") if written is None else written
    return short_line(f"{gateway_error} {message}")


def is_over_quota(status: int, headers: Mapping[str, str]) -> bool:
    """Whether there were too many calls: status 429, or 403 with the gateway's error header saying so."""
    return status == 429 or (status == 403 and headers.get(_GATEWAY_ERROR, "").upper().endswith(_QUOTA_ERRORS))


def short_line(text: str) -> str:
    """The beginning of a text as one printable line of at most ``DETAIL_CHARACTERS_MAX`` characters."""
    return one_line(text[:_MESSAGE_CHARACTERS_MAX], DETAIL_CHARACTERS_MAX)


def read_retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Retry-After in seconds, between 0 and a day. None if the header is absent or malformed.

    A date counts from the response's own ``Date``, because the sender's clock may differ from ours; without one it
    counts from ``wall``.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value) if value.isascii() and value.isdigit() else _seconds_until(value, headers, wall)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)


def read_date(headers: Mapping[str, str]) -> float | None:
    """The sender's clock in seconds since 1970, by its ``Date`` header. None without a usable one."""
    try:
        return _http_date(headers.get("Date", ""))
    except (ValueError, OverflowError):
        return None


def _seconds_until(date: str, headers: Mapping[str, str], wall: float) -> float:
    """Seconds to this HTTP date. Raises ValueError, or OverflowError for a date out of range."""
    sent_at = read_date(headers)
    return _http_date(date) - (wall if sent_at is None else sent_at)


def _http_date(date: str) -> float:
    at = parsedate_to_datetime(date)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
