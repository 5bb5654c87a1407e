"""What becomes of one call: what scripted answers and standing faults come to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final, Literal

Call = Literal["refresh", "job", "token"]
"""The OMS's calls, as faults name them: refresh requests, get-job, and the token endpoints."""
When = Literal["before_queue", "after_queue"]
JobIdStyle = Literal["integer", "leading-zero", "string"]
Over = Literal["qps", "rate"]
Drop = Literal["reset", "close"]

NEVER: Final = inf
"""Of ``JobOverride.stall_seconds``: the job does not finish at all."""

_OVER_QUOTA: Final[Mapping[Over, tuple[str, bytes]]] = {
    "qps": ("ERR_403_DEVELOPER_OVER_QPS", b"<h1>Developer Over Qps</h1>"),
    "rate": ("ERR_403_DEVELOPER_OVER_RATE", b"<h1>Developer Over Rate</h1>"),
}


@dataclass(frozen=True, slots=True)
class CannedAnswer:
    """An answer in place of the usual one."""

    status: int
    body: bytes = b""
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobOverride:
    """How the job of a queued request ends, ``stall_seconds`` later than it should.

    Without ``messages`` a job that fails has the sandbox's own.
    """

    fails: bool = False
    messages: tuple[str, ...] = ()
    stall_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """What happens, in this order; by default the usual, at once.

    Wait ``wait_seconds``; queue the request, if it is ``queued`` or nothing stands in place of its jobID; wait
    ``hang_seconds``; then drop the connection, or give ``answer``, or the usual one.
    """

    wait_seconds: float = 0.0
    queued: bool = False
    hang_seconds: float = 0.0
    drop: Drop | None = None
    answer: CannedAnswer | None = None
    job_id_style: JobIdStyle | None = None
    """None: as the sandbox's settings say."""
    job: JobOverride = JobOverride()

    @property
    def ends(self) -> bool:
        """True if there is no usual answer."""
        return self.drop is not None or self.answer is not None

    @property
    def is_queued(self) -> bool:
        """True if a refresh request is queued."""
        return self.queued or not self.ends

    def joined(self, other: "CallOutcome") -> "CallOutcome":
        """Both: waits add up; of two ends the first stays, and a job's fates are taken together."""
        end = self if self.ends else other
        job = JobOverride(
            fails=self.job.fails or other.job.fails,
            messages=self.job.messages + other.job.messages,
            stall_seconds=max(self.job.stall_seconds, other.job.stall_seconds),
        )
        return replace(
            end,
            wait_seconds=self.wait_seconds + other.wait_seconds,
            hang_seconds=self.hang_seconds + other.hang_seconds,
            job_id_style=self.job_id_style or other.job_id_style,
            job=job,
        )


def waiting(seconds: float, when: When) -> CallOutcome:
    """A wait before or after the request is queued."""
    return CallOutcome(wait_seconds=seconds) if when == "before_queue" else CallOutcome(hang_seconds=seconds)


def over_quota(over: Over, retry_after: int | None) -> CannedAnswer:
    """The gateway's 403 for too many calls; ``retry_after`` in seconds."""
    code, body = _OVER_QUOTA[over]
    return CannedAnswer(403, body, "text/html", {"X-Mashery-Error-Code": code, **retry_after_header(retry_after)})


def retry_after_header(seconds: int | None) -> dict[str, str]:
    """The header ``Retry-After``; none if there are no seconds."""
    return {} if seconds is None else {"Retry-After": str(seconds)}
