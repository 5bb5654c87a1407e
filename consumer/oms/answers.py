"""Classification of the OMS's answers: one pure function for responses, one for the errors of httpx.

docs/oms-answers.md explains the table. Without proof that a request was not queued its outcome is unknown (rule 14 of
docs/protocol.md): a request that a gateway reports as failed may still be queued, and overwrite newer counts later.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.oms.certificates import is_strictness
from consumer.oms.http import TunnelError
from consumer.oms.reply_parsing import (
    has_gateway_code,
    has_oms_code,
    is_over_quota,
    read_code,
    read_job_id,
    read_json,
    read_message,
    read_retry_after,
    short_line,
)

_OUTAGE_CODES: Final = (5001, 5006)
"""The OMS's own codes for "unavailable" and "server error". With one of them, nothing was queued."""

_KIND_OF_STATUS: Final[Mapping[int, AnswerKind]] = {
    400: AnswerKind.REFUSED,
    401: AnswerKind.UNAUTHORISED,
    403: AnswerKind.FORBIDDEN,
    404: AnswerKind.WRONG_ADDRESS,
    405: AnswerKind.WRONG_ADDRESS,
    # A proxy that wants a login passes nothing on.
    407: AnswerKind.UNAVAILABLE,
    410: AnswerKind.WRONG_ADDRESS,
    413: AnswerKind.TOO_LARGE,
    # The request itself is not acceptable: its length, type or content.
    411: AnswerKind.REFUSED,
    415: AnswerKind.REFUSED,
    422: AnswerKind.REFUSED,
}
"""By status alone. A 403 is looked up here only after the quota check; a status that is missing here is unknown."""

_KINDS_IN_OWN_WORDS: Final = frozenset({AnswerKind.REFUSED, AnswerKind.FORBIDDEN, AnswerKind.WRONG_ADDRESS})
"""Only the OMS itself, or its own gateway by its header, can say these."""

_KIND_OF_ERROR: Final[Mapping[type[httpx.HTTPError], AnswerKind]] = {
    # Before the first byte of the request was written: it cannot have been queued.
    httpx.ConnectError: AnswerKind.UNAVAILABLE,
    httpx.ConnectTimeout: AnswerKind.UNAVAILABLE,
    httpx.PoolTimeout: AnswerKind.UNAVAILABLE,
    httpx.ProxyError: AnswerKind.UNAVAILABLE,
    TunnelError: AnswerKind.UNAVAILABLE,
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
    # Base classes, and errors of features that this service does not use. If one is raised, there is no proof.
    httpx.TooManyRedirects: AnswerKind.UNKNOWN,
    httpx.HTTPStatusError: AnswerKind.UNKNOWN,
    httpx.TimeoutException: AnswerKind.UNKNOWN,
    httpx.NetworkError: AnswerKind.UNKNOWN,
    httpx.ProtocolError: AnswerKind.UNKNOWN,
    httpx.TransportError: AnswerKind.UNKNOWN,
    httpx.RequestError: AnswerKind.UNKNOWN,
    httpx.HTTPError: AnswerKind.UNKNOWN,
}


def classify(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    wall: float,
    is_own: Callable[[Any], bool] = has_oms_code,
) -> Answer:
    """Classify a response.

    ``is_own`` says whether the body's JSON is in the OMS's own words; a refusal in other words is a gateway's page.

    ``headers`` must ignore case, as httpx.Headers do; ``body`` may be cut off at the caller's limit; ``wall`` is the
    time in seconds since 1970, against which a date in Retry-After is read. The kind is never NOT_SENT. UNAUTHORISED
    means any 401: only the caller knows whether the token was a new one.
    """
    content = read_json(body)
    if 200 <= status <= 299:
        job_id = read_job_id(content)
        if job_id:
            return Answer(AnswerKind.ACCEPTED, job_id=job_id, status=status)
    return Answer(
        _kind(status, headers, content, is_own),
        status=status,
        retry_after_seconds=read_retry_after(headers, wall),
        detail=_detail(status, headers, content, body),
    )


def classify_error(error: httpx.HTTPError) -> Answer:
    """Classify an error that httpx raised instead of returning a response.

    Raises KeyError for an error that is not in the table: whether it proves that nothing was sent must not be guessed.
    """
    message = f"{type(error).__name__}: {str(error) or 'no details'}"
    advice = _advice(error)
    return Answer(_KIND_OF_ERROR[type(error)], detail=short_line(f"{advice} ({message})" if advice else message))


def _advice(error: httpx.HTTPError) -> str | None:
    """What to look at, if the error's own message does not say it."""
    if isinstance(error, httpx.ProxyError):
        return "the proxy refuses: look at oms.proxy, or HTTPS_PROXY and NO_PROXY"
    if is_strictness(error):
        return "the certificates fail a strict check only: have them reissued, or set oms.tls_strict: false"
    return None


def _detail(status: int, headers: Mapping[str, str], content: Any, body: bytes) -> str:
    message = read_message(headers, content, body)
    location = headers.get("Location", "").strip()
    if 300 <= status <= 399 and location:
        return short_line(f"redirected to {location}; redirects are not followed. {message}")
    return message


def _kind(status: int, headers: Mapping[str, str], content: Any, is_own: Callable[[Any], bool]) -> AnswerKind:
    """The kind of an answer without a jobID."""
    if 200 <= status <= 299:
        return AnswerKind.UNREADABLE
    if 300 <= status <= 399:
        # Redirects are not followed: a POST would become a GET, or be sent twice.
        return AnswerKind.WRONG_ADDRESS
    if is_over_quota(status, headers):
        return AnswerKind.OVER_QUOTA
    if status in (500, 503) and read_code(content) in _OUTAGE_CODES:
        return AnswerKind.UNAVAILABLE
    kind = _KIND_OF_STATUS.get(status, AnswerKind.UNKNOWN)
    is_page = kind in _KINDS_IN_OWN_WORDS and not is_own(content) and not has_gateway_code(headers)
    return AnswerKind.GATEWAY_PAGE if is_page else kind
