"""A status board with a shop's day on it, for tests of the status page."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from consumer.core.changes.items import ChangeId, RejectReason
from consumer.core.location.location import LocationState
from consumer.core.location.views import LocationView
from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.job_schedule import Job, JobOutcome, JobResult
from consumer.facts import (
    ChangesDeadLettered,
    JobEnded,
    LocationViews,
    MessagesRead,
    PartitionsAssigned,
    PartitionView,
    Snapshot,
)
from consumer.observe.status.board import StatusBoard
from consumer.observe.status.history import SAMPLE_SECONDS
from consumer.ports import FailedChanges
from tests.support.facts import accepted, assignment, decoded, failed, reject, request
from tests.support.fakes import FakeClock
from tests.support.frames import change

STORES = 120
FLUSH_ITEMS = 12_000
SETTINGS = {"oms": {"base_url": "https://oms.example", "api_secret": "***"}, "window": {"max_age": 300.0}}


def store(number: int) -> str:
    return f"Store {number:03}"


@dataclass
class Story:
    """``board`` shows what happened so far. Each step replaces the latest snapshot and the views of locations."""

    stores: int = STORES
    lag: int = 0
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.board = StatusBoard(self.clock, version="1.2.3", settings=SETTINGS, stalled_after_seconds=60.0)
        self.board.observe(PartitionsAssigned([assignment()]))

    def happen(self, *, state: LocationState = LocationState.PENDING, **of_snapshot: object) -> None:
        """The loop publishes its state."""
        now = self.clock.now
        views = self.views(state)
        partitions = tuple(
            PartitionView("stock", number, 36_000, 35_900, 38_500, paused=False, end_offset=38_500 + behind)
            for number, behind in enumerate((self.lag, 0))
        )
        self.board.observe(LocationViews(views, now))
        known = {
            "partitions": partitions,
            "pending_changes": sum(view.pending_changes for view in views),
            "pending_locations": len(views),
            "oldest_pending_seconds": max((now - (view.oldest_arrived or now) for view in views), default=None),
            "requests_in_flight": 2,
            "flush_items": FLUSH_ITEMS,
        }
        self.board.observe(Snapshot(at=now, **known | of_snapshot))  # type: ignore[arg-type]

    def views(self, state: LocationState = LocationState.PENDING) -> Sequence[LocationView]:
        now = self.clock.now
        return [
            LocationView(store(number), state, 40 * number, 30 * number, now - number, now + 300 - number)
            for number in range(1, self.stores + 1)
        ]

    def wait(self, seconds: float, *, read_per_second: int = 800) -> None:
        """Let time pass. What is still to be read gets less."""
        rng = random.Random(1)  # noqa: S311 - not for secrets
        for _ in range(int(seconds / SAMPLE_SECONDS)):
            self.clock.now += SAMPLE_SECONDS
            read = int(SAMPLE_SECONDS * read_per_second * rng.uniform(0.8, 1.2))
            self.lag = max(self.lag - read, 0)
            self.board.observe(MessagesRead(read))
            self.happen(pending_changes=int(200_000 + 100_000 * rng.random()))

    def send_requests(self) -> None:
        """Requests of all stores are accepted, and the jobs of every other one end."""
        for number in range(1, self.stores + 1):
            sent = request([change(store(number), f"SKU{item}", arrived=1.0) for item in range(3)])
            self.board.observe(accepted(sent, job_id=f"{7_000 + number}"))
            if number % 2:
                self._end_job(number, JobOutcome.SUCCESS)

    def go_wrong(self) -> None:
        """Refused changes, rejects, a failed job, and requests without an answer."""
        changes = FailedChanges(
            "stock",
            0,
            tuple(ChangeId(1, offset) for offset in range(14)),
            RejectReason.REFUSED_BY_OMS,
            "HTTP 400: upc B-1 is not known",
            store(21),
        )
        self.board.observe(ChangesDeadLettered([changes]))
        self.board.observe(
            decoded(*(reject(RejectReason.NO_QUANTITY, detail="the field qty is null") for _ in range(3)))
        )
        self.wait(200)
        self._end_job(2, JobOutcome.FAILED, "queue item could not be processed")
        sent = request([change(store(5), "a", arrived=1.0)])
        for _ in range(4):
            self.board.observe(failed(sent, kind=AnswerKind.UNAVAILABLE, status=503, detail="try later"))
        self.wait(40)

    def _end_job(self, number: int, outcome: JobOutcome, *messages: str) -> None:
        job = Job(f"{7_000 + number}", store(number), items=3, chunks=1)
        self.board.observe(JobEnded(JobResult(job, outcome, processing_seconds=1.5, messages=messages)))
