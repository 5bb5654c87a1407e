"""Scripted answers, which replace the answers to the next calls; and the request body that adds faults over HTTP.

Each scripted answer is used once, in order, by a call that would otherwise get the regular answer (valid token, valid
body). An invalid request uses none, so a test knows which of its calls gets which answer.
"""

import json
import re
from collections import deque
from dataclasses import replace
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from consumer.sandbox.oms.faults.base import (
    DELAY_SECONDS_MAX,
    NO_BODY_STATUSES,
    RETRY_AFTER_SECONDS_MAX,
    RULE_SECONDS_MAX,
    RULES_MAX,
    Messages,
)
from consumer.sandbox.oms.faults.outcome import (
    NEVER,
    CallKind,
    CallOutcome,
    CannedAnswer,
    FaultTiming,
    JobIdStyle,
    JobOverride,
    SyncForm,
    over_quota,
    retry_after_header,
)
from consumer.sandbox.oms.faults.rules import FaultRule

_ANSWERS_MAX: Final = 10_000
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_HEADER_VALUE: Final = re.compile(r"[ -~]{0,1000}")
_OWN_HEADERS: Final = ("content-length", "transfer-encoding", "connection")


class ScriptedAnswer(BaseModel):
    """One scripted answer. With ``hang_seconds`` alone the regular answer is late, even if the caller has given up.

    What concerns the queue, the job or the jobID applies to refresh requests only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    call: CallKind = "refresh"
    """Only a call of this kind gets this answer."""
    location: str | None = None
    """Only a call for this location gets this answer; by default the next call for any location."""
    queue: bool = False
    """The request is queued first: together with an error status, a gateway that reports a failure wrongly."""
    hang_seconds: float = Field(default=0, ge=0, le=DELAY_SECONDS_MAX, allow_inf_nan=False)
    """Seconds without an answer."""
    reset: FaultTiming | None = None
    """The connection is reset (RST) instead of an answer, before or after the request is queued."""
    close: FaultTiming | None = None
    """The connection is closed (FIN) instead of an answer, before or after the request is queued."""
    quota: bool = False
    """The gateway's 403 for too many calls; ``retry_after`` can go with it."""
    retry_after: int | None = Field(default=None, ge=0, le=RETRY_AFTER_SECONDS_MAX)
    """Seconds in the answer's ``Retry-After`` header."""
    status: int | None = Field(default=None, ge=200, le=599)
    """The HTTP status of another answer."""
    headers: dict[str, str] = Field(default_factory=dict, max_length=50)
    """Headers of that answer."""
    body: JsonValue = None
    """Body of that answer, as JSON."""
    body_text: str | None = Field(default=None, max_length=1_000_000)
    """Body of that answer, sent as is; for bodies that are not JSON."""
    job_id_style: JobIdStyle | None = None
    """The format of the jobID, if one is sent; by default the one in the settings."""
    sync_form: SyncForm | None = None
    """How the answer of smart refresh is wrong, as the fault `smart_answer` says."""
    fail_job: bool = False
    """The job ends as FAILED, if the request is queued."""
    job_messages: Messages = ()
    """The messages of the failed job; by default one of the sandbox's own."""
    stall_job: bool = False
    """The job stays WORKING for ``stall_seconds`` while the queue moves on, if the request is queued."""
    stall_seconds: float | None = Field(default=None, gt=0, le=RULE_SECONDS_MAX, allow_inf_nan=False)
    """How long a stalled job takes; by default it never finishes."""

    @field_validator("headers")
    @classmethod
    def _has_valid_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value) or name.lower() in _OWN_HEADERS:
                raise ValueError(f"header {name} cannot be scripted: letters, digits and - only, value printable ASCII")
        return headers

    @model_validator(mode="after")
    def _is_one_answer(self) -> Self:
        answers = [self.reset is not None, self.close is not None, self.quota, self.status is not None]
        if sum(answers) > 1:
            raise ValueError("give one of reset, close, quota, status")
        bodies = [self.body is not None, self.body_text is not None]
        if sum(bodies) > 1 or (any(bodies) and self.status is None):
            raise ValueError("give either body or body_text, together with a status")
        if any(bodies) and self.status in NO_BODY_STATUSES:
            raise ValueError(f"status {self.status} has no body")
        return self

    @model_validator(mode="after")
    def _fits_its_call(self) -> Self:
        formed = self.job_id_style is not None or self.sync_form is not None
        needs_queue = self.queues_first() or self.fail_job or self.stall_job or formed
        if needs_queue and self.call != "refresh":
            raise ValueError(f"a {self.call} call queues nothing: leave out all keys about queue, job and jobID")
        if self.location is not None and self.call == "token":
            raise ValueError("a token call has no location")
        if (self.job_messages and not self.fail_job) or (self.stall_seconds is not None and not self.stall_job):
            raise ValueError("job_messages needs fail_job, stall_seconds needs stall_job")
        return self

    def queues_first(self) -> bool:
        """True if the request is queued before the scripted answer is sent."""
        return self.queue or "after_queue" in (self.reset, self.close)

    def outcome(self) -> CallOutcome:
        """The outcome of the call that gets this answer."""
        first = self.queues_first()
        stall_seconds = (NEVER if self.stall_seconds is None else self.stall_seconds) if self.stall_job else 0.0
        return CallOutcome(
            delay_before_queue_seconds=0.0 if first else self.hang_seconds,
            queued=first,
            delay_after_queue_seconds=self.hang_seconds if first else 0.0,
            drop="reset" if self.reset else "close" if self.close else None,
            answer=self._answer(),
            job_id_style=self.job_id_style,
            sync_form=self.sync_form,
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


class FaultRequest(BaseModel):
    """Body of ``POST /sandbox/faults``: its answers and rules are added to those that are already there."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    answers: list[ScriptedAnswer] = Field(default_factory=list, max_length=_ANSWERS_MAX)
    """Scripted answers: the next valid calls use them, one each, in order."""
    rules: list[FaultRule] = Field(default_factory=list, max_length=RULES_MAX)
    """Fault rules."""
    seed: int | None = None
    """Restarts the random choices of the fault rules with this seed; by default they continue."""
    revoke_tokens: bool = False
    """Revokes every token issued so far."""
    delay_seconds: float | None = Field(default=None, ge=0, le=DELAY_SECONDS_MAX, allow_inf_nan=False)
    """Delays every refresh request from now on by this many seconds; by default the current delay stays."""


class FaultScript:
    """The scripted answers not used yet, at most 10,000, and the delay of all refresh requests."""

    def __init__(self) -> None:
        self._answers: deque[ScriptedAnswer] = deque()
        self.delay_seconds = 0.0

    def __len__(self) -> int:
        return len(self._answers)

    def has_room(self, request: FaultRequest) -> bool:
        """False if adding the request's answers would exceed the limit."""
        return len(self._answers) + len(request.answers) <= _ANSWERS_MAX

    def add(self, request: FaultRequest) -> None:
        """Append the request's answers, and set its delay if it has one."""
        self._answers.extend(request.answers)
        if request.delay_seconds is not None:
            self.delay_seconds = request.delay_seconds

    def clear(self) -> None:
        """Remove all answers and the delay."""
        self._answers.clear()
        self.delay_seconds = 0.0

    def take(self, call: CallKind, location: str | None) -> ScriptedAnswer | None:
        """Remove and return the first answer for this kind of call and this location; None if there is none."""
        for index, answer in enumerate(self._answers):
            if answer.call == call and (answer.location is None or answer.location == location):
                del self._answers[index]
                return answer
        return None
