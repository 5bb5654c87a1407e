"""From an answer of the OMS to the decision what happens with the request's changes. Pure: jitter comes in as a number.

The rules are those of the table "Answers that are not a jobID" (docs/oms-answers.md).
"""

from dataclasses import dataclass
from enum import StrEnum


class AnswerKind(StrEnum):
    """What an answer of the OMS means; the one list, also in metrics (label ``outcome``)."""

    ACCEPTED = "accepted"
    """A jobID came back: the OMS has queued the request."""
    REFUSED = "refused"
    """400: the request, or one of its items, is wrong."""
    UNAUTHORISED = "unauthorised"
    """401, and again with a new token: the credentials are wrong, or revoked."""
    FORBIDDEN = "forbidden"
    """403 that is no quota: this key may not do this."""
    WRONG_ADDRESS = "wrong_address"
    """404 or 405: wrong base URL, or the wrong API package for this key."""
    OVER_QUOTA = "over_quota"
    """403 of the gateway for too many calls, or 429."""
    UNAVAILABLE = "unavailable"
    """Proof that it was not queued: 500 or 503 with the OMS's own code, connection refused, no token to be had."""
    UNREADABLE = "unreadable"
    """2xx without a readable jobID: not known to be accepted."""
    UNKNOWN = "unknown"
    """Everything that is no proof (time-out, lost connection, a gateway's 5xx): it may have been queued."""
    NOT_SENT = "not_sent"
    """The fence had closed before the request left: given back."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, classified once by the adapter that met it.

    ``job_id`` is set exactly when the kind is ACCEPTED; ``retry_after_seconds`` is the OMS's own wish, if it had one;
    ``status`` the HTTP code (0: there was none); ``detail`` the OMS's words, shortened, without secrets.
    """

    kind: AnswerKind
    job_id: str = ""
    status: int = 0
    retry_after_seconds: float | None = None
    detail: str = ""
