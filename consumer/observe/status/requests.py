"""The latest requests to the OMS and their jobs, overall and of each location.

The loop's thread writes. Readers are other threads: they get tuples that are replaced whole, or copies of a dict, which
CPython makes in one step.
"""

from dataclasses import dataclass, replace
from typing import Final

from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.job_schedule import JobOutcome, JobResult
from consumer.facts import RequestAnswered
from consumer.text import one_line

REQUESTS_MAX: Final = 100
"""The latest ones are shown."""
LOCATIONS_MAX: Final = 10_000
"""The last request is kept of this many locations; the one whose last request is oldest is dropped first. They take
0.3 to 0.6 kB each, so at most 6 MB of what a process needs without its memory budget."""
DETAIL_CHARACTERS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request and its answer. ``answered_at`` is in seconds since 1970.

    ``job_outcome`` is None while its job has not ended, as far as is known, and without a job.
    """

    location: str
    items: int
    changes: int
    chunks: int
    reason: str
    outcome: AnswerKind
    status: int | None
    seconds: float
    answered_at: float
    job_id: str | None
    detail: str
    job_outcome: JobOutcome | None = None
    job_ended_at: float | None = None
    job_seconds: float | None = None
    """From its start in the OMS to its end."""


@dataclass(frozen=True, slots=True)
class LastRequests:
    """The last request of a location, and the last one that was accepted."""

    last: AnsweredRequest
    accepted: AnsweredRequest | None = None


class Requests:
    """The latest requests overall and by location."""

    def __init__(self) -> None:
        self.latest: tuple[AnsweredRequest, ...] = ()
        """Newest first."""
        self._by_location: dict[str, LastRequests] = {}

    def by_location(self) -> dict[str, LastRequests]:
        """A copy, which other threads may keep."""
        return self._by_location.copy()

    def answered(self, fact: RequestAnswered, wall: float) -> AnsweredRequest | None:
        """Keep a request with its answer; None if it was not sent at all."""
        request, answer = fact.request, fact.answered.answer
        if answer.kind is AnswerKind.NOT_SENT:
            return None
        found = AnsweredRequest(
            location=request.location,
            items=request.items,
            changes=request.changes,
            chunks=request.chunks,
            reason=request.reason,
            outcome=answer.kind,
            status=answer.status,
            seconds=fact.answered.seconds,
            answered_at=wall,
            job_id=answer.job_id,
            detail=one_line(answer.detail, DETAIL_CHARACTERS_MAX),
        )
        self.latest = (found, *self.latest)[:REQUESTS_MAX]
        before = self._by_location.pop(request.location, None)  # popped, so that it is the newest again
        accepted = before.accepted if before else None
        if fact.accepted is not None:
            accepted = found
        self._by_location[request.location] = LastRequests(found, accepted)
        if len(self._by_location) > LOCATIONS_MAX:
            del self._by_location[next(iter(self._by_location))]
        return found

    def job_ended(self, result: JobResult, wall: float) -> None:
        """Note the outcome of a job with its request."""
        job_id = result.job.job_id

        def ended(request: AnsweredRequest) -> AnsweredRequest:
            if request.job_id != job_id:
                return request
            return replace(
                request, job_outcome=result.outcome, job_ended_at=wall, job_seconds=result.processing_seconds
            )

        self.latest = tuple(map(ended, self.latest))
        known = self._by_location.get(result.job.location)
        if known and known.accepted:
            self._by_location[result.job.location] = LastRequests(ended(known.last), ended(known.accepted))
