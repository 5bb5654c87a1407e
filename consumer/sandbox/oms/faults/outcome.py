"""The outcome of one call: what scripted answers and fault rules turn it into."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final, Literal

CallKind = Literal["refresh", "job", "token"]
"""The OMS's calls, as faults name them: refresh requests, get-job, and both token endpoints."""
FaultTiming = Literal["before_queue", "after_queue"]
"""Whether a fault comes before or after the refresh request is queued, or applied at once."""
JobIdStyle = Literal["integer", "leading-zero", "string", "float", "blanks"]
SyncForm = Literal["no-method", "no-results", "missing-result", "item-error"]
"""How the answer of smart refresh is wrong: without ``method``, without results or without that of the last item, or
with an error for the first item, which is then not applied."""
QuotaKind = Literal["qps", "rate"]
"""Which quota of the gateway is exceeded: calls per second, or calls per longer period."""
ConnectionDrop = Literal["reset", "close"]

NEVER: Final = inf
"""As ``JobOverride.stall_seconds``: the job never finishes."""

_OVER_QUOTA: Final[Mapping[QuotaKind, tuple[str, bytes]]] = {
    "qps": ("ERR_403_DEVELOPER_OVER_QPS", b"<h1>Developer Over Qps</h1>"),
    "rate": ("ERR_403_DEVELOPER_OVER_RATE", b"<h1>Developer Over Rate</h1>"),
}


@dataclass(frozen=True, slots=True)
class CannedAnswer:
    """An answer sent instead of the regular one."""

    status: int
    body: bytes = b""
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobOverride:
    """Makes the job of a queued request fail, or finish ``stall_seconds`` late.

    A failing job without ``messages`` gets the sandbox's own message.
    """

    fails: bool = False
    messages: tuple[str, ...] = ()
    stall_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """What happens to a call, in this order; by default the regular answer, at once.

    Wait ``delay_before_queue_seconds``; queue the request if ``is_queued`` (a small one of smart refresh is applied
    instead); wait ``delay_after_queue_seconds``; then drop the connection, send ``answer``, or send the regular answer.
    """

    delay_before_queue_seconds: float = 0.0
    queued: bool = False
    """Queue the request although the regular answer is replaced."""
    delay_after_queue_seconds: float = 0.0
    drop: ConnectionDrop | None = None
    answer: CannedAnswer | None = None
    job_id_style: JobIdStyle | None = None
    """None: as the sandbox's settings say."""
    sync_form: SyncForm | None = None
    job: JobOverride = JobOverride()

    @property
    def replaces_answer(self) -> bool:
        """True if the regular answer is not sent."""
        return self.drop is not None or self.answer is not None

    @property
    def is_queued(self) -> bool:
        """True if a refresh request with this outcome is queued."""
        return self.queued or not self.replaces_answer

    def combined_with(self, other: "CallOutcome") -> "CallOutcome":
        """Both outcomes at once: delays add up, job overrides merge, and the first replaced answer wins."""
        end = self if self.replaces_answer else other
        job = JobOverride(
            fails=self.job.fails or other.job.fails,
            messages=self.job.messages + other.job.messages,
            stall_seconds=max(self.job.stall_seconds, other.job.stall_seconds),
        )
        return replace(
            end,
            delay_before_queue_seconds=self.delay_before_queue_seconds + other.delay_before_queue_seconds,
            delay_after_queue_seconds=self.delay_after_queue_seconds + other.delay_after_queue_seconds,
            job_id_style=self.job_id_style or other.job_id_style,
            sync_form=self.sync_form or other.sync_form,
            job=job,
        )


def delayed(seconds: float, when: FaultTiming) -> CallOutcome:
    """The regular answer, delayed before or after the request is queued."""
    if when == "before_queue":
        return CallOutcome(delay_before_queue_seconds=seconds)
    return CallOutcome(delay_after_queue_seconds=seconds)


def over_quota(kind: QuotaKind, retry_after: int | None) -> CannedAnswer:
    """The gateway's 403 for too many calls; ``retry_after`` in seconds."""
    code, body = _OVER_QUOTA[kind]
    return CannedAnswer(403, body, "text/html", {"X-Mashery-Error-Code": code, **retry_after_header(retry_after)})


def retry_after_header(seconds: int | None) -> dict[str, str]:
    """The header ``Retry-After``; no header without seconds."""
    return {} if seconds is None else {"Retry-After": str(seconds)}
