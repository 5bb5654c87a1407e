"""What an answer of the OMS means, and what the engine does with the request's changes because of it.

The rules are those in the table "Answers that are not a jobID" of docs/oms-answers.md. No I/O and no randomness here:
jitter is an argument.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Final, assert_never

from consumer.errors import InvariantError


class AnswerKind(StrEnum):
    """The classes of answers. Their values are the label ``outcome`` in metrics."""

    ACCEPTED = "accepted"
    """A jobID came back: the OMS has queued the request."""
    APPLIED = "applied"
    """Smart refresh has applied the request at once, and says so item by item; it may have refused some items."""
    REFUSED = "refused"
    """400 in the OMS's own words: the request, or one of its items, is wrong."""
    GATEWAY_PAGE = "gateway_page"
    """400, 403, 404 and the like in other words than the OMS's: a gateway refused the request, whatever is in it."""
    UNAUTHORISED = "unauthorised"
    """401, also with a new token: the credentials are wrong or revoked."""
    FORBIDDEN = "forbidden"
    """403 of the OMS that is not about a quota: the key lacks the permission, for all locations or for this one."""
    WRONG_ADDRESS = "wrong_address"
    """404 or 405 of the OMS: wrong base URL, the wrong API package for this key, or an unknown location. Also any
    redirect."""
    OVER_QUOTA = "over_quota"
    """429, or a gateway's 403 for too many calls."""
    UNAVAILABLE = "unavailable"
    """Proof that it was not queued: 500 or 503 with the OMS's own code, connection refused, or no token available."""
    UNREADABLE = "unreadable"
    """2xx without a readable jobID: not known to be accepted."""
    UNKNOWN = "unknown"
    """Anything that proves nothing (timeout, lost connection, a gateway's 5xx): it may have been queued."""
    TOO_LARGE = "too_large"
    """The request's body is larger than the limit, and was not sent, or a gateway says 413."""
    NOT_SENT = "not_sent"
    """The fence stopped the request before it left, or another one failed while it was queued."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request, or what came instead of one, as classified by the client.

    ``job_id`` is set if and only if the kind is ACCEPTED. ``status`` is the HTTP code, None without an HTTP answer.
    ``retry_after_seconds`` is the answer's Retry-After, None without one. ``detail`` is the OMS's message, shortened
    and without secrets. ``repeated``, only for FORBIDDEN, WRONG_ADDRESS and GATEWAY_PAGE: an earlier token was refused,
    too, and no request has been accepted since.
    """

    kind: AnswerKind
    job_id: str | None = None
    status: int | None = None
    retry_after_seconds: float | None = None
    detail: str = ""
    repeated: bool = False
    setting: str | None = None
    """Only without a token: the setting to correct, if the answer says which; otherwise it is key or secret."""
    body_bytes: int = 0
    """Size of the request's body; for ACCEPTED, APPLIED and TOO_LARGE, otherwise 0."""
    named: tuple[tuple[str | int | None, ...], ...] = ()
    """Only for REFUSED: item keys (values in the order of ``window.item_key``) that the OMS's message seems to name."""
    refused_items: tuple[tuple[str | int | None, ...], ...] = ()
    """Only for APPLIED: the keys of the items that were refused; ``detail`` is the message about the first one."""


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """Bounds on waiting, in seconds."""

    backoff_seconds_min: float = 1.0
    backoff_seconds_max: float = 60.0
    unknown_hold_seconds: float = 120.0
    """How long a request of unknown outcome may still be queued: the OMS's own time limit for requests."""
    retry_after_seconds_max: float = 3_600.0
    """A longer Retry-After is cut to this: a broken header must not stop sending for days."""

    def __post_init__(self) -> None:
        limits = (self.backoff_seconds_min, self.unknown_hold_seconds, self.retry_after_seconds_max)
        if not self.backoff_seconds_min <= self.backoff_seconds_max or min(limits) < 0:
            msg = f"need 0 <= backoff min <= max, and no limit below 0: {self}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The OMS has queued the request as this job: its changes are accepted. ``body_bytes`` is its body's size."""

    job_id: str
    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """The OMS has applied the request at once, without a job: its changes are accepted, but those of ``refused_items``.

    These are item keys; ``detail`` is the OMS's message about the first one.
    """

    body_bytes: int = 0
    refused_items: tuple[tuple[str | int | None, ...], ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """The request was certainly not queued: its location may send again after ``after_seconds``.

    None means at once, because nothing has failed. ``whole_oms``: until then nothing may be sent to the OMS at all, by
    any location. ``over_quota``: the OMS throttles us, so the rate limiter must slow down.
    """

    after_seconds: float | None
    whole_oms: bool
    over_quota: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """The request may have been queued: its location must not send for ``seconds``.

    No location may send for ``breaker_seconds``: what went wrong may affect all of them.
    """

    seconds: float
    breaker_seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The request or one of its items is wrong: sent again unchanged, it would be refused again.

    ``named`` are the item keys that the OMS's message seems to name. They are only a hint: bisection tries them first.
    ``after_seconds`` is the wait if most locations are refused (rule 32).
    """

    detail: str
    named: tuple[tuple[str | int | None, ...], ...] = ()
    after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RefusedWhole:
    """The request was refused whatever is in it, by the OMS or by a gateway's page: it may concern its location alone.

    The location waits for ``after_seconds``, or longer if it is set aside, and at least for ``retry_after_seconds``.
    ``repeated``: an earlier token was refused, too. ``advice`` is what to change if all locations are refused.
    """

    kind: AnswerKind
    status: int | None
    after_seconds: float
    retry_after_seconds: float
    detail: str
    repeated: bool
    advice: str

    @property
    def is_page(self) -> bool:
        """Whether a gateway says it, in other words than the OMS's."""
        return self.kind is AnswerKind.GATEWAY_PAGE

    def is_same(self, other: "RefusedWhole") -> bool:
        """Whether the answers are the same. Their texts may differ, as by the time or the number of an incident."""
        return (self.kind, self.status) == (other.kind, other.status)


@dataclass(frozen=True, slots=True)
class Shrink:
    """The body of ``body_bytes`` is too large: plan fewer items, which may leave at once.

    ``by_gateway``: it was sent and answered 413, so the limit is lower than this. If a body of this size cannot be too
    large, the location backs off for ``after_seconds`` instead.
    """

    body_bytes: int
    by_gateway: bool
    after_seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing can be sent before an operator changes something. ``detail`` says what, in one line."""

    kind: AnswerKind
    detail: str


Decision = Accepted | Applied | Retry | Hold | Refused | RefusedWhole | Shrink | Stop

_DOUBLINGS_MAX: Final = 32
"""More doublings exceed any sensible maximum, and 2.0**1024 would overflow."""

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


_GATEWAY_ADVICE: Final = (
    "a gateway refuses all requests: correct oms.base_url or what is between the service and the OMS"
)
_KIND_OF_PAGE: Final = {
    403: AnswerKind.FORBIDDEN,
    404: AnswerKind.WRONG_ADDRESS,
    405: AnswerKind.WRONG_ADDRESS,
    410: AnswerKind.WRONG_ADDRESS,
}
"""What to look at if a gateway's page with this status comes for all locations."""
_ABOUT_LOCATIONS: Final = (404, 410)
"""With these the OMS says that the address or the location is unknown; with others only the address can be wrong."""


def decide(  # noqa: C901, PLR0911 - one return per row of the table
    answer: Answer, *, attempt: int, jitter: float, limits: RetryLimits
) -> Decision:
    """Decide what happens to the changes of a request that got this answer.

    ``attempt`` is the number of failures in a row before this answer. ``jitter`` is random in 0 to 1; it spreads the
    retries of the group's members. No wait is shorter than the answer's Retry-After.
    """
    kind = answer.kind
    match kind:
        case AnswerKind.ACCEPTED:
            if answer.job_id is None:
                raise InvariantError("an accepted request without a jobID")
            return Accepted(answer.job_id, answer.body_bytes)
        case AnswerKind.APPLIED:
            return Applied(answer.body_bytes, answer.refused_items, _quoted(answer) if answer.refused_items else "")
        case AnswerKind.NOT_SENT:
            return Retry(after_seconds=None, whole_oms=False)
        case AnswerKind.OVER_QUOTA | AnswerKind.UNAVAILABLE:
            over_quota = kind is AnswerKind.OVER_QUOTA
            return Retry(_wait_seconds(answer, attempt, jitter, limits), whole_oms=True, over_quota=over_quota)
        case AnswerKind.UNKNOWN | AnswerKind.UNREADABLE:
            # A 2xx without a jobID proves neither acceptance nor refusal: the request may have been queued.
            wait = _wait_seconds(answer, attempt, jitter, limits)
            return Hold(max(limits.unknown_hold_seconds, wait), breaker_seconds=wait)
        case AnswerKind.REFUSED:
            return Refused(_quoted(answer), answer.named, _wait_seconds(answer, attempt, jitter, limits))
        case AnswerKind.GATEWAY_PAGE | AnswerKind.FORBIDDEN:
            return _refused_whole(answer, _wait_seconds(answer, attempt, jitter, limits), limits)
        case AnswerKind.WRONG_ADDRESS if answer.status in _ABOUT_LOCATIONS and answer.setting is None:
            return _refused_whole(answer, _wait_seconds(answer, attempt, jitter, limits), limits)
        case AnswerKind.TOO_LARGE:
            wait = _wait_seconds(answer, attempt, jitter, limits)
            return Shrink(answer.body_bytes, answer.status is not None, wait, _quoted(answer))
        case AnswerKind.UNAUTHORISED | AnswerKind.WRONG_ADDRESS:
            what = (
                f"the token request is refused: correct {answer.setting}" if answer.setting else _WHAT_TO_CHANGE[kind]
            )
            return Stop(kind, f"{what} ({_quoted(answer)})")
        case _:
            assert_never(kind)


def _refused_whole(answer: Answer, wait_seconds: float, limits: RetryLimits) -> RefusedWhole:
    kind = _KIND_OF_PAGE.get(answer.status or 0) if answer.kind is AnswerKind.GATEWAY_PAGE else answer.kind
    advice = _WHAT_TO_CHANGE[kind] if kind else _GATEWAY_ADVICE
    return RefusedWhole(
        kind=answer.kind,
        status=answer.status,
        after_seconds=wait_seconds,
        retry_after_seconds=_retry_after_seconds(answer, limits),
        detail=_quoted(answer),
        repeated=answer.repeated,
        advice=f"{advice} ({_quoted(answer)})",
    )


def backoff_seconds(attempt: int, jitter: float, limits: RetryLimits) -> float:
    """Seconds to wait after the failure with this index (from 0): between the minimum and a ceiling that doubles.

    Even the first wait is spread, over one to two minimums, because an outage hits all members at once.
    """
    if attempt < 0 or not 0 <= jitter <= 1:
        msg = f"attempt must be at least 0 and jitter between 0 and 1, not {attempt} and {jitter}"
        raise ValueError(msg)
    low = limits.backoff_seconds_min
    ceiling = min(limits.backoff_seconds_max, low * 2.0 ** min(attempt + 1, _DOUBLINGS_MAX))
    return low + jitter * (ceiling - low)


def _wait_seconds(answer: Answer, attempt: int, jitter: float, limits: RetryLimits) -> float:
    return max(backoff_seconds(attempt, jitter, limits), _retry_after_seconds(answer, limits))


def _retry_after_seconds(answer: Answer, limits: RetryLimits) -> float:
    retry_after = answer.retry_after_seconds
    if retry_after is None or not isfinite(retry_after):
        return 0.0
    return min(retry_after, limits.retry_after_seconds_max)


def _quoted(answer: Answer) -> str:
    """The OMS's message with its HTTP code."""
    code = f"HTTP {answer.status}" if answer.status is not None else "no HTTP answer"
    return f"{code}: {answer.detail}" if answer.detail else code
