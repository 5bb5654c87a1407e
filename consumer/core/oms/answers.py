"""From an answer of the OMS to the decision about the request's changes. Pure: jitter is an argument.

The rules are those of the table "Answers that are not a jobID" (docs/oms-answers.md).
"""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Final, assert_never

from consumer.errors import InvariantError


class AnswerKind(StrEnum):
    """What an answer of the OMS means; the one list, also in metrics (label ``outcome``)."""

    ACCEPTED = "accepted"
    """A jobID came back: the OMS has queued the request."""
    REFUSED = "refused"
    """400: the request, or one of its items, is wrong."""
    UNAUTHORISED = "unauthorised"
    """401, and again with a new token: the credentials are wrong, or revoked."""
    FORBIDDEN = "forbidden"
    """403 that is not about a quota: the key lacks the permission."""
    WRONG_ADDRESS = "wrong_address"
    """404 or 405: wrong base URL, or the wrong API package for this key."""
    OVER_QUOTA = "over_quota"
    """429, or a gateway's 403 for too many calls."""
    UNAVAILABLE = "unavailable"
    """Proof that it was not queued: 500 or 503 with the OMS's own code, connection refused, or no token available."""
    UNREADABLE = "unreadable"
    """2xx without a readable jobID: not known to be accepted."""
    UNKNOWN = "unknown"
    """Everything that proves nothing (time-out, lost connection, a gateway's 5xx): it may have been queued."""
    NOT_SENT = "not_sent"
    """The fence stopped the request before it left, or another one failed while it was queued."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, classified once by the adapter that met it.

    ``job_id`` is set exactly when the kind is ACCEPTED; ``retry_after_seconds`` is the OMS's own wish, if it had one;
    ``status`` the HTTP code (None: no HTTP answer); ``detail`` the OMS's words, shortened, without secrets.
    ``repeated``, only for FORBIDDEN: another token was forbidden before, and nothing has been accepted since.
    """

    kind: AnswerKind
    job_id: str | None = None
    status: int | None = None
    retry_after_seconds: float | None = None
    detail: str = ""
    repeated: bool = False
    named: tuple[tuple[str | int | None, ...], ...] = ()
    """Only for REFUSED: item keys (values in the order of ``window.item_key``) that the OMS's words seem to name."""


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """What bounds waiting, in seconds."""

    backoff_seconds_min: float = 1.0
    backoff_seconds_max: float = 60.0
    unknown_hold_seconds: float = 120.0
    """The OMS's own time limit: a request of unknown outcome may still be queued until then."""
    retry_after_seconds_max: float = 3_600.0
    """A longer Retry-After is cut to this: an odd header must not silence a location for days."""

    def __post_init__(self) -> None:
        numbers = (self.backoff_seconds_min, self.unknown_hold_seconds, self.retry_after_seconds_max)
        if not self.backoff_seconds_min <= self.backoff_seconds_max or min(numbers) < 0:
            msg = f"need 0 <= backoff min <= max, and no limit below 0: {self}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request's changes are covered by this job."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Surely not queued: plan the location again after ``after_seconds``; None: at once, nothing has failed.

    ``whole_oms``: until then nothing at all may be sent to the OMS. ``over_quota``: there were too many calls, so send
    fewer per second from now on.
    """

    after_seconds: float | None
    whole_oms: bool
    over_quota: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """It may have been queued: the location may not send for ``seconds`` and is planned again after that.

    Nothing at all may be sent to the OMS for ``breaker_seconds``: whatever went wrong may not be over.
    """

    seconds: float
    breaker_seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The request, or one of its items, is wrong: sent again unchanged, it would be refused again.

    ``named`` are the item keys that the OMS's words seem to name: a hint where to look first.
    """

    detail: str
    named: tuple[tuple[str | int | None, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing can be sent until an operator changes something; ``detail`` says what, in one line."""

    kind: AnswerKind
    detail: str


Decision = Accepted | Retry | Hold | Refused | Stop

_DOUBLINGS_MAX: Final = 32
"""More doublings change nothing under any sensible maximum, and 2.0**1024 would overflow."""

_WHAT_TO_CHANGE: Final = {
    AnswerKind.UNAUTHORISED: "the OMS does not accept the credentials: correct oms.api_key and oms.api_secret",
    AnswerKind.FORBIDDEN: (
        "the OMS does not allow this key to refresh inventory: have its package enabled, or correct oms.api or "
        "oms.api_key"
    ),
    AnswerKind.WRONG_ADDRESS: (
        "the OMS does not know this address: correct oms.base_url, oms.token_url, or oms.api for the key's package"
    ),
}


def decide(answer: Answer, *, attempt: int, jitter: float, limits: RetryLimits) -> Decision:  # noqa: PLR0911 - a return a row
    """Decide what happens to the changes of a request with this answer.

    ``attempt`` counts the failures in a row before this answer (0: the first); ``jitter`` is random in 0 to 1 and
    spreads the retries of several members. A Retry-After of the OMS is a lower bound of any wait.
    """
    kind = answer.kind
    match kind:
        case AnswerKind.ACCEPTED:
            if answer.job_id is None:
                raise InvariantError("an accepted request has a jobID")
            return Accepted(answer.job_id)
        case AnswerKind.NOT_SENT:
            return Retry(after_seconds=None, whole_oms=False)
        case AnswerKind.OVER_QUOTA | AnswerKind.UNAVAILABLE:
            over_quota = kind is AnswerKind.OVER_QUOTA
            return Retry(_wait_seconds(answer, attempt, jitter, limits), whole_oms=True, over_quota=over_quota)
        case AnswerKind.UNKNOWN | AnswerKind.UNREADABLE:
            # A 2xx without a jobID is no acceptance, and no proof of refusal either: it may well have been queued.
            wait = _wait_seconds(answer, attempt, jitter, limits)
            return Hold(max(limits.unknown_hold_seconds, wait), breaker_seconds=wait)
        case AnswerKind.REFUSED:
            return Refused(_quoted(answer), answer.named)
        case AnswerKind.FORBIDDEN if not answer.repeated:
            # The token may be stale: the client has dropped it, and the next request goes out with a new one.
            return Retry(_wait_seconds(answer, 0, jitter, limits), whole_oms=True)
        case AnswerKind.FORBIDDEN | AnswerKind.UNAUTHORISED | AnswerKind.WRONG_ADDRESS:
            return Stop(kind, f"{_WHAT_TO_CHANGE[kind]} ({_quoted(answer)})")
        case _:
            assert_never(kind)


def backoff_seconds(attempt: int, jitter: float, limits: RetryLimits) -> float:
    """Seconds to wait after failure number ``attempt`` (from 0): between the minimum and a doubling ceiling.

    Even the first wait is spread (from one to two minimums), since an outage hits all members at once.
    """
    if attempt < 0 or not 0 <= jitter <= 1:
        msg = f"attempt counts from 0 and jitter lies in 0 to 1, not {attempt} and {jitter}"
        raise ValueError(msg)
    low = limits.backoff_seconds_min
    ceiling = min(limits.backoff_seconds_max, low * 2.0 ** min(attempt + 1, _DOUBLINGS_MAX))
    return low + jitter * (ceiling - low)


def _wait_seconds(answer: Answer, attempt: int, jitter: float, limits: RetryLimits) -> float:
    wished = answer.retry_after_seconds
    if wished is None or not isfinite(wished):
        wished = 0.0
    return max(backoff_seconds(attempt, jitter, limits), min(wished, limits.retry_after_seconds_max))


def _quoted(answer: Answer) -> str:
    """The OMS's words with their HTTP code."""
    code = f"HTTP {answer.status}" if answer.status is not None else "no HTTP answer"
    return f"{code}: {answer.detail}" if answer.detail else code
