"""Scripted faults: what the next answers are to be instead of the usual one; and what can be ordered over HTTP.

A script is used up by calls that would have been answered as usual (right token, every rule kept), an answer each, in
order. So it is always known what a scripted answer meets, and a bad request in between takes none.
"""

import json
import re
from collections import deque
from dataclasses import replace
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from consumer.sandbox.oms.faults.outcome import (
    NEVER,
    Call,
    CallOutcome,
    CannedAnswer,
    JobIdStyle,
    JobOverride,
    When,
    over_quota,
    retry_after_header,
)
from consumer.sandbox.oms.faults.rules import (
    NO_BODY_STATUSES,
    RETRY_AFTER_SECONDS_MAX,
    RULES_MAX,
    WAIT_SECONDS_MAX,
    WINDOW_SECONDS_MAX,
    FaultRule,
    Messages,
)

_ANSWERS_MAX: Final = 10_000
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_HEADER_VALUE: Final = re.compile(r"[ -~]{0,1000}")
_OWN_HEADERS: Final = ("content-length", "transfer-encoding", "connection")


class ScriptedAnswer(BaseModel):
    """One answer to come. With ``hang_seconds`` alone the call is answered late, even if its sender has gone.

    All but ``hang_seconds``, ``reset``, ``close``, ``quota`` and ``status`` with what belongs to it is about refresh
    requests only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    call: Call = "refresh"
    """Only a call of this kind takes this answer."""
    location: str | None = None
    """Only a call for this location takes this answer; left out: the next one, whichever it is."""
    queue: bool = False
    """The request is queued before all else happens: together with an error, the lie that a gateway tells."""
    hang_seconds: float = Field(default=0, ge=0, le=WAIT_SECONDS_MAX, allow_inf_nan=False)
    """No answer for so long."""
    reset: When | None = None
    """The connection is reset (RST) instead of an answer, before or after the request was queued."""
    close: When | None = None
    """The connection is closed (FIN) instead of an answer, before or after the request was queued."""
    quota: bool = False
    """The gateway's 403 for too many calls; ``retry_after`` goes with it."""
    retry_after: int | None = Field(default=None, ge=0, le=RETRY_AFTER_SECONDS_MAX)
    """Seconds, in the header ``Retry-After`` of whichever answer is scripted."""
    status: int | None = Field(default=None, ge=200, le=599)
    """The HTTP code of another answer."""
    headers: dict[str, str] = Field(default_factory=dict, max_length=50)
    """Of that answer."""
    body: JsonValue = None
    """Of that answer, as JSON."""
    body_text: str | None = Field(default=None, max_length=1_000_000)
    """Sent as it is, for bodies that are no JSON."""
    job_id_style: JobIdStyle | None = None
    """How the jobID is written, if there is one; left out: as the settings say."""
    fail_job: bool = False
    """If the request is queued, its job ends as FAILED."""
    job_messages: Messages = ()
    """What a job that fails so tells; the sandbox's own words if there are none."""
    stall_job: bool = False
    """If the request is queued, its job stays WORKING for ``stall_seconds``, and the queue goes on past it."""
    stall_seconds: float | None = Field(default=None, gt=0, le=WINDOW_SECONDS_MAX, allow_inf_nan=False)
    """For how long; left out: a stalled job never finishes."""

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
        if any(bodies) and self.status in NO_BODY_STATUSES:
            raise ValueError(f"status {self.status} has no body")
        return self

    @model_validator(mode="after")
    def _fits_its_call(self) -> Self:
        about_queue = self.queues_first() or self.fail_job or self.stall_job or self.job_id_style is not None
        if about_queue and self.call != "refresh":
            raise ValueError(f"a {self.call} call queues nothing: leave out what is about queue, job and jobID")
        if self.location is not None and self.call == "token":
            raise ValueError("a call for a token has no location")
        if (self.job_messages and not self.fail_job) or (self.stall_seconds is not None and not self.stall_job):
            raise ValueError("job_messages belong to fail_job, stall_seconds to stall_job")
        return self

    def queues_first(self) -> bool:
        """True if the request is to be queued before the scripted answer is given."""
        return self.queue or "after_queue" in (self.reset, self.close)

    def fate(self) -> CallOutcome:
        """The same as what becomes of the call."""
        first = self.queues_first()
        stall_seconds = (NEVER if self.stall_seconds is None else self.stall_seconds) if self.stall_job else 0.0
        return CallOutcome(
            wait_seconds=0.0 if first else self.hang_seconds,
            queued=first,
            hang_seconds=self.hang_seconds if first else 0.0,
            drop="reset" if self.reset else "close" if self.close else None,
            answer=self._answer(),
            job_id_style=self.job_id_style,
            job=JobOverride(self.fail_job, self.job_messages, stall_seconds),
        )

    def _answer(self) -> CannedAnswer | None:
        if self.quota:
            answer = over_quota("qps", self.retry_after)
            return replace(answer, headers={**self.headers, **answer.headers})
        if self.status is None:
            return None
        text = self.body_text or ""
        if self.body is not None:
            text = json.dumps(self.body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        headers = {**self.headers, **retry_after_header(self.retry_after)}
        return CannedAnswer(self.status, text.encode(), headers=headers)


class FaultOrder(BaseModel):
    """Body of ``POST /sandbox/faults``: answers are put behind those still to come, rules beside those that stand."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    answers: list[ScriptedAnswer] = Field(default_factory=list, max_length=_ANSWERS_MAX)
    rules: list[FaultRule] = Field(default_factory=list, max_length=RULES_MAX)
    """Standing faults."""
    seed: int | None = None
    """The chances of standing faults begin anew with this seed; left out, they stay as they are."""
    revoke_tokens: bool = False
    """Every token issued so far is refused from now on."""
    delay_seconds: float | None = Field(default=None, ge=0, le=WAIT_SECONDS_MAX, allow_inf_nan=False)
    """From now on every refresh request waits so long before it is looked at further; left out, that stays as it is."""


class FaultScript:
    """The answers still to come, at most 10,000."""

    def __init__(self) -> None:
        self._answers: deque[ScriptedAnswer] = deque()
        self.delay_seconds = 0.0

    def __len__(self) -> int:
        return len(self._answers)

    def has_room(self, order: FaultOrder) -> bool:
        """False if too many answers would wait."""
        return len(self._answers) + len(order.answers) <= _ANSWERS_MAX

    def order(self, order: FaultOrder) -> None:
        """Put the order's answers behind those still to come."""
        self._answers.extend(order.answers)
        if order.delay_seconds is not None:
            self.delay_seconds = order.delay_seconds

    def clear(self) -> None:
        """All answers are the usual ones again, without delay."""
        self._answers.clear()
        self.delay_seconds = 0.0

    def take(self, call: Call, location: str | None) -> ScriptedAnswer | None:
        """The answer for a call of this location, which is used up by that; None: there is none."""
        for index, answer in enumerate(self._answers):
            if answer.call == call and (answer.location is None or answer.location == location):
                del self._answers[index]
                return answer
        return None
