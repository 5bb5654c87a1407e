"""Fault rules: what goes wrong with calls, by chance or by the clock, until the rule is removed.

Each rule is one fault with its parameters, written the same way on the command line, in ``SandboxSettings.faults`` and
over HTTP. docs/sandbox.md lists them, generated from the docstrings here. All times are real seconds.
"""

import json
from math import exp, log
from statistics import NormalDist
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from consumer.errors import InvariantError
from consumer.sandbox.oms.faults.base import (
    DELAY_SECONDS_MAX,
    LIMIT_CALLS_MAX,
    NO_BODY_STATUSES,
    RULE_SECONDS_MAX,
    TEXT_CHARACTERS_MAX,
    VALUES_MAX,
    Calls,
    DelaySeconds,
    Messages,
    OneOrMore,
    RetryAfter,
    Rule,
    Text,
    Texts,
)
from consumer.sandbox.oms.faults.gateway import Block, BodyLimit, RequireHeader, Ripen, Scope, Skew
from consumer.sandbox.oms.faults.outcome import (
    NEVER,
    CallKind,
    CallOutcome,
    CannedAnswer,
    FaultTiming,
    JobOverride,
    QuotaKind,
    SyncForm,
    delayed,
    over_quota,
    retry_after_header,
)

_Z_OF_P99: Final = NormalDist().inv_cdf(0.99)


class CallRule(Rule):
    """A fault that changes the answers to a share of the calls, chosen at random."""

    only_if_queued: ClassVar[bool] = False
    """True if the fault makes no sense for a request that is not queued."""

    rate: float = Field(default=1, ge=0, le=1, allow_inf_nan=False)
    """The share of calls that it changes."""
    call: Calls = ("refresh",)
    location: Texts = ()
    """Only calls for these locations; empty: all."""

    @model_validator(mode="after")
    def _has_locations(self) -> Self:
        if self.location and "token" in self.call:
            raise ValueError("a token call has no location: give either location or call=token")
        return self

    def applies_to(self, call: CallKind, location: str | None) -> bool:
        """True if the rule covers this kind of call and this location."""
        return call in self.call and (not self.location or location in self.location)

    def outcome(self, draw: float, /) -> CallOutcome:
        """The outcome of a call that the rule hits; ``draw`` is a random number from 0 to 1."""
        raise NotImplementedError


class _QueueRule(CallRule):
    """A fault that comes before or after the request is queued."""

    when: FaultTiming = "before_queue"

    @model_validator(mode="after")
    def _has_a_queue(self) -> Self:
        if self.when == "after_queue" and "refresh" not in self.call:
            raise ValueError("only refresh requests are queued: when=after_queue needs call=refresh")
        return self

    def _replaced(self, **replacement: Any) -> CallOutcome:
        return CallOutcome(queued=self.when == "after_queue", **replacement)


class _AnswerRule(_QueueRule):
    """Another answer: an error of the OMS with ``code``, any body with ``text``, otherwise an empty body."""

    status: int = Field(ge=200, le=599)
    code: int | None = Field(default=None, ge=0, le=99_999)
    """The OMS's error code; the body is then the OMS's JSON."""
    message: Text = "injected by a fault rule"
    """Goes with ``code``."""
    text: str | None = Field(default=None, max_length=TEXT_CHARACTERS_MAX)
    """The body as is, sent as HTML."""
    retry_after: RetryAfter | None = None

    @model_validator(mode="after")
    def _has_one_body(self) -> Self:
        if self.code is not None and self.text is not None:
            raise ValueError("give code or text, not both")
        if self.status in NO_BODY_STATUSES and (self.code is not None or self.text is not None):
            raise ValueError(f"status {self.status} has no body: give neither code nor text")
        return self

    def outcome(self, _draw: float, /) -> CallOutcome:
        headers = retry_after_header(self.retry_after)
        if self.code is None:
            return self._replaced(answer=CannedAnswer(self.status, (self.text or "").encode(), "text/html", headers))
        body = json.dumps({"code": self.code, "message": self.message}).encode()
        return self._replaced(answer=CannedAnswer(self.status, body, headers=headers))


class Answer(_AnswerRule):
    """Any other answer."""

    fault: Literal["answer"] = "answer"


class Outage(_AnswerRule):
    """The OMS answers refresh requests and get-job as unavailable."""

    fault: Literal["outage"] = "outage"
    status: int = Field(default=503, ge=200, le=599)
    code: int | None = Field(default=5001, ge=0, le=99_999)
    message: Text = "the OMS is unavailable"
    call: Calls = ("refresh", "job")


class Quota(CallRule):
    """The gateway's 403 for too many calls, at random."""

    fault: Literal["quota"] = "quota"
    kind: QuotaKind = "qps"
    retry_after: RetryAfter | None = None

    def outcome(self, _draw: float, /) -> CallOutcome:
        return CallOutcome(answer=over_quota(self.kind, self.retry_after))


class Hang(_QueueRule):
    """No answer for some seconds, then the regular one."""

    fault: Literal["hang"] = "hang"
    seconds: DelaySeconds

    def outcome(self, _draw: float, /) -> CallOutcome:
        return delayed(self.seconds, self.when)


class Latency(_QueueRule):
    """A delay of every call: constant ``seconds``, uniform between ``min`` and ``max``, or lognormal.

    A lognormal delay has the given ``median``, and one call in a hundred takes longer than ``p99``.
    """

    fault: Literal["latency"] = "latency"
    seconds: DelaySeconds | None = None
    min: DelaySeconds | None = None
    max: DelaySeconds | None = None
    median: Annotated[float, Field(gt=0, le=DELAY_SECONDS_MAX, allow_inf_nan=False)] | None = None
    p99: Annotated[float, Field(gt=0, le=DELAY_SECONDS_MAX, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _is_one_distribution(self) -> Self:
        names = ("seconds", "min", "max", "median", "p99")
        given = tuple(name for name in names if getattr(self, name) is not None)
        if given not in (("seconds",), ("min", "max"), ("median", "p99")):
            raise ValueError("give seconds, or min and max, or median and p99")
        if (self.min or 0) > (self.max or 0) or (self.median or 0) > (self.p99 or 0):
            raise ValueError("min must not be above max, nor median above p99")
        return self

    def outcome(self, draw: float, /) -> CallOutcome:
        return delayed(self.delay_seconds(draw), self.when)

    def delay_seconds(self, draw: float) -> float:
        """The quantile ``draw`` of the delay."""
        if self.min is not None and self.max is not None:
            return self.min + (self.max - self.min) * draw
        if self.median is not None and self.p99 is not None:
            spread = log(self.p99 / self.median) / _Z_OF_P99
            # The inverse is not defined at 0.
            return min(self.median * exp(spread * NormalDist().inv_cdf(max(draw, 1e-12))), DELAY_SECONDS_MAX)
        if self.seconds is None:
            raise InvariantError("a latency was validated without a distribution")
        return self.seconds


class Reset(_QueueRule):
    """The connection is reset (RST) instead of an answer."""

    fault: Literal["reset"] = "reset"

    def outcome(self, _draw: float, /) -> CallOutcome:
        return self._replaced(drop="reset")


class Close(_QueueRule):
    """The connection is closed (FIN) instead of an answer."""

    fault: Literal["close"] = "close"

    def outcome(self, _draw: float, /) -> CallOutcome:
        return self._replaced(drop="close")


class _RefreshRule(CallRule):
    """A fault of refresh requests only."""

    call: Calls = ("refresh",)

    @model_validator(mode="after")
    def _is_about_refresh(self) -> Self:
        if self.call != ("refresh",):
            raise ValueError(f"{self.fault} applies to refresh requests only: leave out call")
        return self


class NoJobId(_RefreshRule):
    """A 2xx answer without a readable jobID."""

    fault: Literal["no_job_id"] = "no_job_id"
    status: int = Field(default=200, ge=200, le=299)
    form: Literal["object", "empty", "html", "cut-off", "null"] = "object"
    when: FaultTiming = "before_queue"

    def outcome(self, _draw: float, /) -> CallOutcome:
        body, media_type = {
            "object": (b"{}", "application/json"),
            "empty": (b"", "application/json"),
            "html": (b"<html><body>OK</body></html>", "text/html"),
            "cut-off": (b'{"jobID": 0', "application/json"),
            "null": (b'{"jobID": null}', "application/json"),
        }["empty" if self.status in NO_BODY_STATUSES else self.form]
        return CallOutcome(queued=self.when == "after_queue", answer=CannedAnswer(self.status, body, media_type))


class JobId(_RefreshRule):
    """The jobID is written in another format."""

    only_if_queued = True

    fault: Literal["job_id"] = "job_id"
    style: Literal["leading-zero", "string", "float", "blanks"]

    def outcome(self, _draw: float, /) -> CallOutcome:
        return CallOutcome(job_id_style=self.style)


class SmartAnswer(_RefreshRule):
    """The answer of smart refresh is wrong.

    It has no `method`, no results or not that of the last item, or it refuses the first item, which is then not
    applied. Of an answer with a jobID only the `method` can be missing.
    """

    only_if_queued = True

    fault: Literal["smart_answer"] = "smart_answer"
    form: SyncForm

    def outcome(self, _draw: float, /) -> CallOutcome:
        return CallOutcome(sync_form=self.form)


class FailJob(_RefreshRule):
    """The request is accepted, and its job ends as FAILED."""

    only_if_queued = True

    fault: Literal["fail_job"] = "fail_job"
    message: Messages = ()
    """The messages of the failed job; by default one of the sandbox's own."""

    def outcome(self, _draw: float, /) -> CallOutcome:
        return CallOutcome(job=JobOverride(fails=True, messages=self.message))


class StallJob(_RefreshRule):
    """The request is accepted, and its job stays WORKING for ``seconds`` while the queue moves on to later jobs.

    Its items are applied when it finishes, and overwrite what later jobs have set; without ``seconds`` it never
    finishes.
    """

    only_if_queued = True

    fault: Literal["stall_job"] = "stall_job"
    seconds: Annotated[float, Field(gt=0, le=RULE_SECONDS_MAX, allow_inf_nan=False)] | None = None

    def outcome(self, _draw: float, /) -> CallOutcome:
        return CallOutcome(job=JobOverride(stall_seconds=NEVER if self.seconds is None else self.seconds))


class Limit(Rule):
    """A real quota: more than ``calls`` within ``seconds`` are answered as over quota."""

    fault: Literal["limit"] = "limit"
    calls: int = Field(ge=1, le=LIMIT_CALLS_MAX)
    seconds: float = Field(default=1, gt=0, le=RULE_SECONDS_MAX, allow_inf_nan=False)
    call: Annotated[tuple[Literal["refresh", "job"], ...], OneOrMore, Field(min_length=1, max_length=2)] = (
        "refresh",
        "job",
    )
    """The kinds of calls that share the quota."""
    kind: QuotaKind = "qps"
    retry_after: RetryAfter | None = None


class Revoke(Rule):
    """Revoke all tokens issued so far, at random when a call comes, or every ``every`` seconds."""

    fault: Literal["revoke"] = "revoke"
    rate: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """The share of refresh and get-job calls whose valid token is revoked."""
    every: float | None = Field(default=None, ge=0.1, le=RULE_SECONDS_MAX, allow_inf_nan=False)

    @model_validator(mode="after")
    def _has_one_trigger(self) -> Self:
        if (self.rate is None) == (self.every is None):
            raise ValueError("give either rate or every")
        return self


class Refuse(Rule):
    """A business rule unknown to the consumer: requests with a matching item are answered 400.

    A request of smart refresh that is applied at once gets an error for each such item instead.

    An item matches if its partNumber, upc or sku is in ``item`` or starts with one of ``prefix``, or if its quantity is
    in ``quantity``.
    """

    fault: Literal["refuse"] = "refuse"
    item: Texts = ()
    prefix: Texts = ()
    quantity: Annotated[tuple[Annotated[int, Field(ge=0)], ...], OneOrMore, Field(max_length=VALUES_MAX)] = ()
    location: Texts = ()
    """Only requests for these locations; empty: all."""
    named: bool = True
    """Whether the answer names the first matching item, or only says that the request is invalid."""

    @model_validator(mode="after")
    def _refuses_something(self) -> Self:
        if not (self.item or self.prefix or self.quantity):
            raise ValueError("give at least one of item, prefix, quantity")
        return self


FaultRule = Annotated[
    Answer
    | Outage
    | Quota
    | Limit
    | Hang
    | Latency
    | Reset
    | Close
    | Revoke
    | Ripen
    | Scope
    | Skew
    | Block
    | BodyLimit
    | RequireHeader
    | NoJobId
    | JobId
    | SmartAnswer
    | FailJob
    | StallJob
    | Refuse,
    Field(discriminator="fault"),
]

FAULTS: Final[tuple[type[Rule], ...]] = get_args(get_args(FaultRule)[0])
"""Every fault rule."""
