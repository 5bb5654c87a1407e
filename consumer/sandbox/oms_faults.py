"""Scripted faults: what the next answers of the refresh endpoint are to be instead of the usual one.

A script is used up by requests that would have been accepted (right token, every rule kept), an answer each, in order.
So it is always known what a scripted answer meets, and a bad request in between takes none.
"""

import re
from collections import deque
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

_ANSWERS_MAX: Final = 10_000
_WAIT_SECONDS_MAX: Final = 3_600.0
_NO_BODY_STATUSES: Final = (204, 304)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_HEADER_VALUE: Final = re.compile(r"[ -~]{0,1000}")
_OWN_HEADERS: Final = ("content-length", "transfer-encoding", "connection")

When = Literal["before_queue", "after_queue"]


class ScriptedAnswer(BaseModel):
    """One answer to come. With ``hang_seconds`` alone the request is accepted late, even if its sender has gone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    location: str | None = None
    """Only a request for this location takes this answer; None: the next one, whichever it is."""
    queue: bool = False
    """The request is queued before all else happens: together with an error, the lie that a gateway tells."""
    hang_seconds: float = Field(default=0, ge=0, le=_WAIT_SECONDS_MAX, allow_inf_nan=False)
    """No answer for so long."""
    reset: When | None = None
    """The connection is reset (RST) instead of an answer, before or after the request was queued."""
    close: When | None = None
    """The connection is closed (FIN) instead of an answer, before or after the request was queued."""
    quota: bool = False
    """The gateway's 403 for too many calls; ``retry_after`` goes with it."""
    retry_after: int | None = Field(default=None, ge=0, le=86_400)
    """Seconds, in the header ``Retry-After`` of whichever answer is scripted."""
    status: int | None = Field(default=None, ge=200, le=599)
    headers: dict[str, str] = Field(default_factory=dict, max_length=50)
    body: JsonValue = None
    body_text: str | None = Field(default=None, max_length=1_000_000)
    """Sent as it is, for bodies that are no JSON."""
    fail_job: bool = False
    """If the request is queued, its job ends as FAILED."""

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value) or name.lower() in _OWN_HEADERS:
                raise ValueError(f"header {name} cannot be scripted: letters, digits and - only, value printable ASCII")
        return headers

    @model_validator(mode="after")
    def _is_one_answer(self) -> Self:
        ways = [self.reset is not None, self.close is not None, self.quota, self.status is not None]
        if sum(ways) > 1:
            raise ValueError("give one of reset, close, quota, status")
        bodies = [self.body is not None, self.body_text is not None]
        if sum(bodies) > 1 or (any(bodies) and self.status is None):
            raise ValueError("body or body_text, not both, belongs to a status")
        if any(bodies) and self.status in _NO_BODY_STATUSES:
            raise ValueError(f"status {self.status} has no body")
        return self

    def queues_first(self) -> bool:
        """True if the request is to be queued before the scripted answer is given."""
        return self.queue or "after_queue" in (self.reset, self.close)

    def drops_connection(self) -> bool:
        """True if there is to be no answer at all."""
        return self.reset is not None or self.close is not None


class FaultOrder(BaseModel):
    """Body of ``POST /sandbox/faults``: answers are put behind those still to come."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answers: list[ScriptedAnswer] = Field(default_factory=list, max_length=_ANSWERS_MAX)
    revoke_tokens: bool = False
    """Every token issued so far is refused from now on."""
    delay_seconds: float | None = Field(default=None, ge=0, le=_WAIT_SECONDS_MAX, allow_inf_nan=False)
    """From now on every refresh request waits so long before it is looked at further; None leaves it as it is."""


class FaultScript:
    """The answers still to come, at most 10,000."""

    def __init__(self) -> None:
        self._answers: deque[ScriptedAnswer] = deque()
        self.delay_seconds = 0.0

    def __len__(self) -> int:
        return len(self._answers)

    def order(self, order: FaultOrder) -> bool:
        """Put the order's answers behind those still to come; False, and nothing changed, if too many would wait."""
        if len(self._answers) + len(order.answers) > _ANSWERS_MAX:
            return False
        self._answers.extend(order.answers)
        if order.delay_seconds is not None:
            self.delay_seconds = order.delay_seconds
        return True

    def clear(self) -> None:
        """All answers are the usual ones again, without delay."""
        self._answers.clear()
        self.delay_seconds = 0.0

    def take(self, location: str) -> ScriptedAnswer | None:
        """The answer for a request of this location, which is used up by that; None: the usual one."""
        for index, answer in enumerate(self._answers):
            if answer.location is None or answer.location == location:
                del self._answers[index]
                return answer
        return None
