"""What an answer of the OMS means: a pure function for responses, and one for the errors of httpx.

docs/oms-answers.md has the table for people. Where nothing proves that a request was not queued, its outcome is
unknown: taking a gateway's word for a refusal is how stale counts are made.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from consumer.core.retry import Answer, AnswerKind

DETAIL_CHARACTERS_MAX: Final = 300
"""Of the OMS's words so many are kept: enough for a message, too few for a gateway's page."""
_WORDS_CHARACTERS_MAX: Final = 4 * DETAIL_CHARACTERS_MAX
RETRY_AFTER_SECONDS_MAX: Final = 86_400.0
_JOB_ID_DIGITS_MAX: Final = 30

_OUTAGE_CODES: Final = (5001, 5006)
"""The OMS's own codes for "unavailable" and "server error": its word that nothing was queued."""
_QUOTA_ERRORS: Final = ("OVER_QPS", "OVER_RATE")
_GATEWAY_ERROR: Final = "X-Mashery-Error-Code"

_KIND_OF_STATUS: Final[Mapping[int, AnswerKind]] = {
    400: AnswerKind.REFUSED,
    401: AnswerKind.UNAUTHORISED,
    403: AnswerKind.FORBIDDEN,
    404: AnswerKind.WRONG_ADDRESS,
    405: AnswerKind.WRONG_ADDRESS,
    410: AnswerKind.WRONG_ADDRESS,
    # The request itself could not be taken in: its length, size, type or content.
    411: AnswerKind.REFUSED,
    413: AnswerKind.REFUSED,
    415: AnswerKind.REFUSED,
    422: AnswerKind.REFUSED,
    429: AnswerKind.OVER_QUOTA,
}
"""Codes whose meaning the code alone tells (403 and 5xx may mean something else, too)."""

_KIND_OF_ERROR: Final[Mapping[type[httpx.HTTPError], AnswerKind]] = {
    # Before the first byte of the request was written: it cannot have been queued.
    httpx.ConnectError: AnswerKind.UNAVAILABLE,
    httpx.ConnectTimeout: AnswerKind.UNAVAILABLE,
    httpx.PoolTimeout: AnswerKind.UNAVAILABLE,
    httpx.ProxyError: AnswerKind.UNAVAILABLE,
    httpx.UnsupportedProtocol: AnswerKind.WRONG_ADDRESS,
    # From the first byte on there is no proof.
    httpx.WriteError: AnswerKind.UNKNOWN,
    httpx.WriteTimeout: AnswerKind.UNKNOWN,
    httpx.ReadError: AnswerKind.UNKNOWN,
    httpx.ReadTimeout: AnswerKind.UNKNOWN,
    httpx.CloseError: AnswerKind.UNKNOWN,
    httpx.RemoteProtocolError: AnswerKind.UNKNOWN,
    httpx.LocalProtocolError: AnswerKind.UNKNOWN,
    httpx.DecodingError: AnswerKind.UNKNOWN,
    # httpx raises these only by their subclasses, or not the way this service uses it; no proof, if ever it does.
    httpx.TooManyRedirects: AnswerKind.UNKNOWN,
    httpx.HTTPStatusError: AnswerKind.UNKNOWN,
    httpx.TimeoutException: AnswerKind.UNKNOWN,
    httpx.NetworkError: AnswerKind.UNKNOWN,
    httpx.ProtocolError: AnswerKind.UNKNOWN,
    httpx.TransportError: AnswerKind.UNKNOWN,
    httpx.RequestError: AnswerKind.UNKNOWN,
    httpx.HTTPError: AnswerKind.UNKNOWN,
}

_LEADING_ZEROS: Final = re.compile(rb'("jobID"\s*:\s*)0+(?=\d)')


def classify(status: int, headers: Mapping[str, str], body: bytes, *, wall: float) -> Answer:
    """What this response means.

    ``headers`` are looked up as HTTP does, whatever the case (httpx.Headers); ``body`` may be cut off at the caller's
    limit; ``wall`` is the time in seconds since 1970, against which a date in Retry-After is read. The kind is never
    NOT_SENT, and UNAUTHORISED says nothing about a renewed token: that is the caller's to know.
    """
    content = _json(body)
    if 200 <= status <= 299:
        job_id = _job_id(content)
        if job_id:
            return Answer(AnswerKind.ACCEPTED, job_id=job_id, status=status)
    return Answer(
        _kind(status, headers, content),
        status=status,
        retry_after_seconds=_retry_after(headers.get("Retry-After", ""), wall),
        detail=_detail(headers, content, body),
    )


def classify_error(error: httpx.HTTPError) -> Answer:
    """What it means that this was raised instead of a response.

    Raises KeyError for an error of httpx that is not in the table: to guess would be to guess about proof.
    """
    words = str(error) or "no details"
    return Answer(_KIND_OF_ERROR[type(error)], detail=shortened(f"{type(error).__name__}: {words}"))


def shortened(text: str) -> str:
    """One printable line of at most ``DETAIL_CHARACTERS_MAX`` characters."""
    printable = "".join(character if character.isprintable() else " " for character in text[:_WORDS_CHARACTERS_MAX])
    line = " ".join(printable.split())
    return line if len(line) <= DETAIL_CHARACTERS_MAX else line[: DETAIL_CHARACTERS_MAX - 1] + "…"


def _kind(status: int, headers: Mapping[str, str], content: Any) -> AnswerKind:
    """The kind of an answer that has no jobID."""
    if 200 <= status <= 299:
        return AnswerKind.UNREADABLE
    if 300 <= status <= 399:
        # Redirects are not followed: a POST would become a GET, or be sent twice.
        return AnswerKind.WRONG_ADDRESS
    if status == 403 and headers.get(_GATEWAY_ERROR, "").upper().endswith(_QUOTA_ERRORS):
        return AnswerKind.OVER_QUOTA
    if status in (500, 503) and _code(content) in _OUTAGE_CODES:
        return AnswerKind.UNAVAILABLE
    return _KIND_OF_STATUS.get(status, AnswerKind.UNKNOWN)


def _json(body: bytes) -> Any:
    """The body's JSON, None if it is none; a number with leading zeros as jobID is read too, as the OMS shows it."""
    for candidate in (body, _LEADING_ZEROS.sub(rb"\1", body)):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):  # RecursionError: brackets upon brackets
            continue
    return None


def _job_id(content: Any) -> str:
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


def _code(content: Any) -> int | None:
    """The OMS's own code, a number or a string of digits."""
    value = content.get("code") if isinstance(content, dict) else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    return value if isinstance(value, int) else None


def _detail(headers: Mapping[str, str], content: Any, body: bytes) -> str:
    """What the OMS, or the gateway before it, says in its own words."""
    gateway = headers.get(_GATEWAY_ERROR, "")
    if isinstance(content, dict):
        words = json.dumps(content, ensure_ascii=False)
    else:
        words = body[:_WORDS_CHARACTERS_MAX].decode("utf-8", "replace")
    return shortened(f"{gateway} {words}")


def _retry_after(value: str, wall: float) -> float | None:
    """Seconds from ``wall`` on, at least 0 and at most a day; None where the header is absent or makes no sense."""
    value = value.strip()
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
