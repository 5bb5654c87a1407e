"""Standing faults: what goes wrong with calls by chance or by the clock, until it is taken away again.

Each is one fault with its parameters, the same on the command line, in ``SandboxSettings.faults`` and over HTTP.
docs/sandbox.md has the table for people. All times are real seconds.
"""

import json
from math import exp, log
from statistics import NormalDist
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from consumer.sandbox.oms.faults.outcome import (
    NEVER,
    Call,
    CallOutcome,
    CannedAnswer,
    JobOverride,
    Over,
    When,
    over_quota,
    retry_after_header,
    waiting,
)

RULES_MAX: Final = 100
"""Faults that can stand at once: each is looked at with each call."""
WAIT_SECONDS_MAX: Final = 3_600.0
"""No call is held longer by one fault."""
WINDOW_SECONDS_MAX: Final = 604_800.0
"""A week: longer than anyone tries things out."""
RETRY_AFTER_SECONDS_MAX: Final = 86_400
LIMIT_CALLS_MAX: Final = 100_000
"""The times of so many calls are kept."""
NO_BODY_STATUSES: Final = (204, 304)

_VALUES_MAX: Final = 10_000
"""Of a list: item identifiers are given so."""
_TEXT_CHARACTERS_MAX: Final = 100_000
_Z_OF_P99: Final = NormalDist().inv_cdf(0.99)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


_Several = BeforeValidator(_listed)
"""A list may be written as its only value."""
_Text = Annotated[str, Field(min_length=1, max_length=1_000)]
_Texts = Annotated[tuple[_Text, ...], _Several, Field(max_length=_VALUES_MAX)]
_Calls = Annotated[tuple[Call, ...], _Several, Field(min_length=1, max_length=3)]
_Wait = Annotated[float, Field(ge=0, le=WAIT_SECONDS_MAX, allow_inf_nan=False)]
_RetryAfter = Annotated[int, Field(ge=0, le=RETRY_AFTER_SECONDS_MAX)]
Messages = Annotated[tuple[_Text, ...], _Several, Field(max_length=100)]


class Rule(BaseModel):
    """What all standing faults have in common: the time in which they stand."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    fault: str
    begin: float = Field(default=0, ge=0, le=WINDOW_SECONDS_MAX, allow_inf_nan=False)
    """Seconds after it was given (on the command line: after the start) from which on it stands."""
    duration: float | None = Field(default=None, gt=0, le=WINDOW_SECONDS_MAX, allow_inf_nan=False)
    """Seconds for which it stands; None: until it is taken away."""

    def stands(self, seconds: float) -> bool:
        """True if it stands so many seconds after it was given."""
        return self.begin <= seconds and (self.duration is None or seconds < self.begin + self.duration)


class ChanceRule(Rule):
    """A fault that a call meets by chance."""

    needs_queue: ClassVar[bool] = False
    """True if there is no such fault for a request that is not queued."""

    rate: float = Field(default=1, ge=0, le=1, allow_inf_nan=False)
    """The share of calls that meet it, by chance."""
    call: _Calls = ("refresh",)
    location: _Texts = ()
    """Only calls for these locations; none: all."""

    @model_validator(mode="after")
    def _has_locations(self) -> Self:
        if self.location and "token" in self.call:
            raise ValueError("a call for a token has no location: give location or call=token")
        return self

    def concerns(self, call: Call, location: str | None) -> bool:
        """True if it is about calls like this one."""
        return call in self.call and (not self.location or location in self.location)

    def fate(self, draw: float, /) -> CallOutcome:
        """What becomes of the call; ``draw`` is a number from 0 to 1, for whatever else is left to chance."""
        raise NotImplementedError


class _QueueRule(ChanceRule):
    """A fault before or after the request was queued."""

    when: When = "before_queue"

    @model_validator(mode="after")
    def _has_a_queue(self) -> Self:
        if self.when == "after_queue" and "refresh" not in self.call:
            raise ValueError("only refresh requests are queued: when=after_queue needs call=refresh")
        return self

    def _end(self, **ways: Any) -> CallOutcome:
        return CallOutcome(queued=self.when == "after_queue", **ways)


class _Answering(_QueueRule):
    """Another answer: the OMS's own with ``code``, anyone's with ``text``, else an empty one."""

    status: int = Field(ge=200, le=599)
    code: int | None = Field(default=None, ge=0, le=99_999)
    """The OMS's own code; makes its JSON body."""
    message: _Text = "a fault, as was asked of the sandbox"
    """Beside ``code``."""
    text: str | None = Field(default=None, max_length=_TEXT_CHARACTERS_MAX)
    """The body as it is, sent as HTML."""
    retry_after: _RetryAfter | None = None

    @model_validator(mode="after")
    def _has_one_body(self) -> Self:
        if self.code is not None and self.text is not None:
            raise ValueError("give code or text, not both")
        if self.status in NO_BODY_STATUSES and (self.code is not None or self.text is not None):
            raise ValueError(f"status {self.status} has no body: give neither code nor text")
        return self

    def fate(self, _draw: float, /) -> CallOutcome:
        headers = retry_after_header(self.retry_after)
        if self.code is None:
            return self._end(answer=CannedAnswer(self.status, (self.text or "").encode(), "text/html", headers))
        body = json.dumps({"code": self.code, "message": self.message}).encode()
        return self._end(answer=CannedAnswer(self.status, body, headers=headers))


class Answer(_Answering):
    """Another answer, whichever it is."""

    fault: Literal["answer"] = "answer"


class Outage(_Answering):
    """The OMS says that it is unavailable, to refresh requests and get-job."""

    fault: Literal["outage"] = "outage"
    status: int = Field(default=503, ge=200, le=599)
    code: int | None = Field(default=5001, ge=0, le=99_999)
    message: _Text = "the OMS is unavailable"
    call: _Calls = ("refresh", "job")


class Quota(ChanceRule):
    """The gateway's 403 for too many calls, by chance."""

    fault: Literal["quota"] = "quota"
    over: Over = "qps"
    retry_after: _RetryAfter | None = None

    def fate(self, _draw: float, /) -> CallOutcome:
        return CallOutcome(answer=over_quota(self.over, self.retry_after))


class Hang(_QueueRule):
    """No answer for some seconds, then the usual one."""

    fault: Literal["hang"] = "hang"
    seconds: _Wait

    def fate(self, _draw: float, /) -> CallOutcome:
        return waiting(self.seconds, self.when)


class Latency(_QueueRule):
    """A wait of each call: always ``seconds``, evenly between ``min`` and ``max``, or lognormal.

    Most calls of a lognormal latency take about ``median`` seconds, and one of a hundred more than ``p99``.
    """

    fault: Literal["latency"] = "latency"
    seconds: _Wait | None = None
    min: _Wait | None = None
    max: _Wait | None = None
    median: Annotated[float, Field(gt=0, le=WAIT_SECONDS_MAX, allow_inf_nan=False)] | None = None
    p99: Annotated[float, Field(gt=0, le=WAIT_SECONDS_MAX, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _is_one_distribution(self) -> Self:
        names = ("seconds", "min", "max", "median", "p99")
        given = tuple(name for name in names if getattr(self, name) is not None)
        if given not in (("seconds",), ("min", "max"), ("median", "p99")):
            raise ValueError("give seconds, or min and max, or median and p99")
        if (self.min or 0) > (self.max or 0) or (self.median or 0) > (self.p99 or 0):
            raise ValueError("min must not be above max, nor median above p99")
        return self

    def fate(self, draw: float, /) -> CallOutcome:
        return waiting(self.wait_seconds(draw), self.when)

    def wait_seconds(self, draw: float) -> float:
        """The wait below which the share ``draw`` of all waits lies."""
        if self.min is not None and self.max is not None:
            return self.min + (self.max - self.min) * draw
        if self.median is not None and self.p99 is not None:
            spread = log(self.p99 / self.median) / _Z_OF_P99
            # NormalDist has no value at 0 itself.
            return min(self.median * exp(spread * NormalDist().inv_cdf(max(draw, 1e-12))), WAIT_SECONDS_MAX)
        return self.seconds or 0.0


class Reset(_QueueRule):
    """The connection is reset (RST) instead of an answer."""

    fault: Literal["reset"] = "reset"

    def fate(self, _draw: float, /) -> CallOutcome:
        return self._end(drop="reset")


class Close(_QueueRule):
    """The connection is closed (FIN) instead of an answer."""

    fault: Literal["close"] = "close"

    def fate(self, _draw: float, /) -> CallOutcome:
        return self._end(drop="close")


class _RefreshRule(ChanceRule):
    """A fault that there is with refresh requests only."""

    call: _Calls = ("refresh",)

    @model_validator(mode="after")
    def _is_about_refresh(self) -> Self:
        if self.call != ("refresh",):
            raise ValueError(f"{self.fault} is about refresh requests only: leave call out")
        return self


class NoJobId(_RefreshRule):
    """A success without a jobID that could be read."""

    fault: Literal["no_job_id"] = "no_job_id"
    status: int = Field(default=200, ge=200, le=299)
    form: Literal["object", "empty", "html", "cut-off", "null"] = "object"
    when: When = "before_queue"

    def fate(self, _draw: float, /) -> CallOutcome:
        body, media_type = {
            "object": (b"{}", "application/json"),
            "empty": (b"", "application/json"),
            "html": (b"<html><body>OK</body></html>", "text/html"),
            "cut-off": (b'{"jobID": 0', "application/json"),
            "null": (b'{"jobID": null}', "application/json"),
        }["empty" if self.status in NO_BODY_STATUSES else self.form]
        return CallOutcome(queued=self.when == "after_queue", answer=CannedAnswer(self.status, body, media_type))


class JobId(_RefreshRule):
    """The jobID is written in another way."""

    needs_queue = True

    fault: Literal["job_id"] = "job_id"
    style: Literal["leading-zero", "string"]

    def fate(self, _draw: float, /) -> CallOutcome:
        return CallOutcome(job_id_style=self.style)


class FailJob(_RefreshRule):
    """The request is accepted, and its job ends as FAILED."""

    needs_queue = True

    fault: Literal["fail_job"] = "fail_job"
    message: Messages = ()
    """What the job then tells; the sandbox's own words if there are none."""

    def fate(self, _draw: float, /) -> CallOutcome:
        return CallOutcome(job=JobOverride(fails=True, messages=self.message))


class StallJob(_RefreshRule):
    """The request is accepted, and its job stays WORKING for so long, while the queue goes on past it.

    What it brings is applied when it finishes, over what later jobs have brought meanwhile; without ``seconds`` never.
    """

    needs_queue = True

    fault: Literal["stall_job"] = "stall_job"
    seconds: Annotated[float, Field(gt=0, le=WINDOW_SECONDS_MAX, allow_inf_nan=False)] | None = None

    def fate(self, _draw: float, /) -> CallOutcome:
        return CallOutcome(job=JobOverride(stall_seconds=NEVER if self.seconds is None else self.seconds))


class Limit(Rule):
    """A quota that is kept count of: more than ``calls`` in any ``seconds`` are answered as over-quota."""

    fault: Literal["limit"] = "limit"
    calls: int = Field(ge=1, le=LIMIT_CALLS_MAX)
    seconds: float = Field(default=1, gt=0, le=WINDOW_SECONDS_MAX, allow_inf_nan=False)
    call: Annotated[tuple[Literal["refresh", "job"], ...], _Several, Field(min_length=1, max_length=2)] = (
        "refresh",
        "job",
    )
    """Which calls are counted, together."""
    over: Over = "qps"
    retry_after: _RetryAfter | None = None


class Revoke(Rule):
    """All tokens issued so far are refused from then on: by chance with a call, or every so many seconds."""

    fault: Literal["revoke"] = "revoke"
    rate: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """The share of refresh and get-job calls with a good token that find it revoked."""
    every: float | None = Field(default=None, ge=0.1, le=WINDOW_SECONDS_MAX, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if (self.rate is None) == (self.every is None):
            raise ValueError("give either rate or every")
        return self


class Refuse(Rule):
    """A business rule that nobody told the consumer: requests with such an item are answered 400.

    An item is such a one if one of its partNumber, upc and sku is in ``item`` or begins with one of ``prefix``, or if
    its quantity is in ``quantity``.
    """

    fault: Literal["refuse"] = "refuse"
    item: _Texts = ()
    prefix: _Texts = ()
    quantity: Annotated[tuple[Annotated[int, Field(ge=0)], ...], _Several, Field(max_length=_VALUES_MAX)] = ()
    location: _Texts = ()
    """Only requests for these locations; none: all."""
    named: bool = True
    """The answer names the first such item; else it says no more than that the request is invalid."""

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
    | NoJobId
    | JobId
    | FailJob
    | StallJob
    | Refuse,
    Field(discriminator="fault"),
]

FAULTS: Final[tuple[type[Rule], ...]] = get_args(get_args(FaultRule)[0])
"""Every standing fault there is."""
