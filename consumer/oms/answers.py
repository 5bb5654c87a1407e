"""What an answer of the OMS means: a pure function for responses, and one for the errors of httpx.

docs/oms-answers.md has the table for people. Where nothing proves that a request was not queued, its outcome is
unknown (rule 14 of docs/protocol.md): taking a gateway's word for a refusal is how stale counts are made.
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.oms.reply_parsing import (
    is_over_quota,
    read_code,
    read_job_id,
    read_json,
    read_retry_after,
    read_words,
    shortened,
)

_OUTAGE_CODES: Final = (5001, 5006)
"""The OMS's own codes for "unavailable" and "server error": its word that nothing was queued."""

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


def classify(status: int, headers: Mapping[str, str], body: bytes, *, wall: float) -> Answer:
    """What this response means.

    ``headers`` are looked up as HTTP does, whatever the case (httpx.Headers); ``body`` may be cut off at the caller's
    limit; ``wall`` is the time in seconds since 1970, against which a date in Retry-After is read. The kind is never
    NOT_SENT, and UNAUTHORISED says nothing about a renewed token: that is the caller's to know.
    """
    content = read_json(body)
    if 200 <= status <= 299:
        job_id = read_job_id(content)
        if job_id:
            return Answer(AnswerKind.ACCEPTED, job_id=job_id, status=status)
    return Answer(
        _kind(status, headers, content),
        status=status,
        retry_after_seconds=read_retry_after(headers, wall),
        detail=read_words(headers, content, body),
    )


def classify_error(error: httpx.HTTPError) -> Answer:
    """What it means that this was raised instead of a response.

    Raises KeyError for an error of httpx that is not in the table: to guess would be to guess about proof.
    """
    words = str(error) or "no details"
    return Answer(_KIND_OF_ERROR[type(error)], detail=shortened(f"{type(error).__name__}: {words}"))


def _kind(status: int, headers: Mapping[str, str], content: Any) -> AnswerKind:
    """The kind of an answer that has no jobID."""
    if 200 <= status <= 299:
        return AnswerKind.UNREADABLE
    if 300 <= status <= 399:
        # Redirects are not followed: a POST would become a GET, or be sent twice.
        return AnswerKind.WRONG_ADDRESS
    if is_over_quota(status, headers):
        return AnswerKind.OVER_QUOTA
    if status in (500, 503) and read_code(content) in _OUTAGE_CODES:
        return AnswerKind.UNAVAILABLE
    return _KIND_OF_STATUS.get(status, AnswerKind.UNKNOWN)
