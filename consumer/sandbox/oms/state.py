"""All that a sandbox knows, behind one lock: tokens, queue, faults, and what it has seen.

The server's threads and a test's own thread share it: every public method may be called from any of them, and returns
copies. Time is read from ``clock`` alone, so a test can let an hour pass.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from consumer.sandbox.oms.errors import OmsCode, RefusalError
from consumer.sandbox.oms.faults.active import ActiveFaults
from consumer.sandbox.oms.faults.outcome import Call, CallOutcome, CannedAnswer, JobOverride
from consumer.sandbox.oms.faults.refusals import ItemRefusals
from consumer.sandbox.oms.faults.rules import Refuse
from consumer.sandbox.oms.faults.scripted import FaultOrder, FaultScript
from consumer.sandbox.oms.job_queue import HeldItem, Job, JobQueue, JobStatus
from consumer.sandbox.oms.settings import Package, SandboxSettings
from consumer.sandbox.oms.tokens import Tokens
from consumer.sandbox.oms.validation import Refresh
from consumer.text import iso_time

SCRIPTED: Final = "scripted"
"""Under which scripted answers are counted, beside the names of standing faults."""

Clock = Callable[[], float]


def steady_wall_clock() -> Clock:
    """Seconds since 1970 that never go back, whatever is done to the machine's clock."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it is at one moment. Times are seconds since 1970, the cost is in OMS seconds."""

    job_id: int
    location: str
    items: int
    chunks: int
    cost_seconds: float
    status: JobStatus
    added: float
    started: float | None
    finished: float | None
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals since the start.

    ``requests``: answers by endpoint and HTTP code ("lost": dropped on purpose). ``faults_met``: calls by the faults
    that they met. ``stalled_jobs``: those of the WORKING ones that the queue has gone past.
    """

    jobs: int
    jobs_by_status: dict[str, int]
    items: int
    repeated_items: int
    chunks: int
    unused_chunk_items: int
    cost_seconds: float
    busy_seconds: float
    tokens_issued: int
    requests: dict[str, dict[str, int]]
    bytes_received: int
    max_in_flight: int
    max_in_flight_per_location: int
    locations: int
    held_items: int
    faults_left: int
    faults_met: dict[str, int]
    stalled_jobs: int


class SandboxState:
    """Tokens, queue, faults and counters of one sandbox."""

    def __init__(self, settings: SandboxSettings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or steady_wall_clock()
        self.job_added: Callable[[], None] = lambda: None
        """Called, outside the lock, after a job was added."""
        self._lock = threading.Lock()
        self._tokens = Tokens(settings)
        self._queue = JobQueue(settings)
        self._script = FaultScript()
        self._scripted = 0
        self._standing = ActiveFaults(settings.fault_seed)
        self._standing.add(settings.faults, self.clock())
        self._requests: dict[str, Counter[str]] = {}
        self._bytes_received = 0
        self._locations: set[str] = set()
        self._open: Counter[str] = Counter()
        self._left_at: dict[str, float] = {}
        self._max_in_flight = 0
        self._max_in_flight_per_location = 0

    def package_for(self, key: str, secret: str, packages: Collection[Package]) -> Package | None:
        """Which of these packages the key is for; None if none, or if the secret is not the key's."""
        return self._tokens.package_for(key, secret, packages)

    def issue_token(self, package: Package) -> str:
        """A new token for the package."""
        with self._lock:
            now = self.clock()
            self._revoke_by_clock(now)
            return self._tokens.issue(package, now)

    def admit(self, token: str, call: Call) -> Package | None:
        """What the token that came with a call is good for; None if it is good for nothing, or is revoked just now."""
        with self._lock:
            now = self.clock()
            self._revoke_by_clock(now)
            package = self._tokens.package_of(token, now)
            if package is not None and self._standing.revokes_by_chance(call, now):
                self._tokens.revoke_all()
                return None
            return package

    def over_limit(self, call: Call) -> CannedAnswer | None:
        """The gateway's answer to a call that is one too many; None if it may pass."""
        with self._lock:
            return self._standing.over_limit(call, self.clock())

    def package_of(self, token: str) -> Package | None:
        """What the token is good for, None if it is good for nothing."""
        with self._lock:
            return self._tokens.package_of(token, self.clock())

    @contextmanager
    def in_flight(self, location: str, arrived: float) -> Generator[None]:
        """Count a request of this location as under way from ``arrived`` (before its body) to the end of the block.

        Raises RefusalError (503) if the location is new and one too many. The block must end before the answer is sent:
        whoever has the answer may send the next request at once.
        """
        with self._lock:
            self._meet_location(location)
            # Its predecessor may have left while this one's body was still being read: then both were under way.
            overtook = self._left_at.get(location, 0.0) > arrived
            self._open[location] += 1
            here = self._open[location] + overtook
            self._max_in_flight_per_location = max(self._max_in_flight_per_location, here)
            self._max_in_flight = max(self._max_in_flight, self._open.total())
        try:
            yield
        finally:
            with self._lock:
                self._left_at[location] = self.clock()
                self._open[location] -= 1
                if not self._open[location]:
                    del self._open[location]

    def refuse(self, refresh: Refresh) -> None:
        """Raises RefusalError (400) if a standing fault is about one of the request's items."""
        with self._lock:
            refusals = self._standing.refusals(refresh.location, self.clock())
        for standing, rule in refusals:
            refusal = ItemRefusals(rule).find(refresh.items or ())
            if refusal is not None:
                with self._lock:
                    self._standing.count(standing)
                raise refusal

    def fate(self, call: Call, location: str | None = None) -> CallOutcome:
        """What becomes of a call that would be answered as usual: the next scripted answer, else what faults stand."""
        with self._lock:
            scripted = self._script.take(call, location)
            if scripted is None:
                return self._standing.meet(call, location, self.clock())
            self._scripted += 1
            return scripted.fate()

    def accept(self, refresh: Refresh, fate: JobOverride | None = None) -> int:
        """Queue a request and return its jobID. Raises RefusalError (503, nothing queued) if the queue is full."""
        with self._lock:
            if self._queue.queued_items + refresh.item_count > self.settings.queued_items_max:
                message = f"the sandbox queues at most {self.settings.queued_items_max} items (queued_items_max)"
                raise RefusalError(503, OmsCode.UNAVAILABLE, message)
            job = self._queue.add(refresh.location, refresh.item_count, refresh.items, self.clock(), fate)
        self.job_added()
        return job.number

    def work_off(self) -> float | None:
        """Apply every job that is done by now; seconds until the next one is, None if the queue is empty."""
        now = self._worked_off()
        with self._lock:
            change = self._queue.next_change()
        return None if change is None else max(0.0, change - now)

    def order_faults(self, order: FaultOrder) -> bool:
        """Do what the order says; False, with nothing changed, if there would be too many answers or standing faults.

        Raises RefusalError (400) for ``refuse`` in a sandbox that only counts items.
        """
        if self.settings.validation == "count" and any(isinstance(rule, Refuse) for rule in order.rules):
            raise RefusalError(400, OmsCode.BAD_REQUEST, "rules: items that are only counted cannot be refused")
        with self._lock:
            if not (self._script.has_room(order) and self._standing.has_room(order.rules)):
                return False
            self._script.order(order)
            if order.seed is not None:
                self._standing.seed(order.seed)
            self._standing.add(order.rules, self.clock())
            if order.revoke_tokens:
                self._tokens.revoke_all()
            return True

    def clear_faults(self) -> None:
        """All answers are the usual ones again, without delay; chances begin anew."""
        with self._lock:
            self._script.clear()
            self._standing.clear()

    def faults(self) -> tuple[int, float]:
        """Scripted answers still to come, and seconds of delay before each refresh request."""
        with self._lock:
            return len(self._script), self._script.delay_seconds

    def standing_faults(self) -> list[dict[str, Any]]:
        """The standing faults in the order given: as they were given, and under ``met`` the calls that met each."""
        with self._lock:
            return [
                {"fault": one.rule.fault, **one.rule.model_dump(exclude_defaults=True), "met": one.met}
                for one in self._standing.all()
            ]

    def count_request(self, endpoint: str, outcome: str) -> None:
        """Count an answer, by endpoint and HTTP code."""
        with self._lock:
            self._requests.setdefault(endpoint, Counter())[outcome] += 1

    def count_bytes(self, received: int) -> None:
        """Count a refresh body's bytes."""
        with self._lock:
            self._bytes_received += received

    def job(self, number: int) -> JobRecord | None:
        """The job of this number, None if there is none."""
        now = self._worked_off()
        with self._lock:
            job = self._queue.job(number)
            return None if job is None else _record(job, now)

    def jobs(self) -> list[JobRecord]:
        """Every job remembered, oldest first."""
        now = self._worked_off()
        with self._lock:
            return [_record(job, now) for job in self._queue.jobs()]

    def inventory(self, location: str | None = None) -> dict[str, list[HeldItem]]:
        """What finished jobs left: the items now held, by location; of one location where it is given."""
        self._worked_off()
        with self._lock:
            held = self._queue.held()
            names = held.keys() if location is None else held.keys() & {location}
            # Fields are replaced, never changed in place, so copies of the items themselves are enough.
            return {name: [dict(item) for item in held[name].values()] for name in names}

    def summary(self) -> Summary:
        """Totals since the start."""
        self._worked_off()
        with self._lock:
            queue = self._queue
            ended = queue.ended
            under_way = queue.added - sum(ended.values())
            by_status = {JobStatus.PENDING: under_way - queue.working, JobStatus.WORKING: queue.working, **ended}
            return Summary(
                jobs=queue.added,
                jobs_by_status={str(status): count for status, count in by_status.items()},
                items=queue.items,
                repeated_items=queue.repeated_items,
                chunks=queue.chunks,
                unused_chunk_items=queue.chunks * self.settings.chunk_items - queue.items,
                cost_seconds=queue.cost_seconds,
                busy_seconds=queue.busy_seconds,
                tokens_issued=self._tokens.issued,
                requests={endpoint: dict(codes) for endpoint, codes in self._requests.items()},
                bytes_received=self._bytes_received,
                max_in_flight=self._max_in_flight,
                max_in_flight_per_location=self._max_in_flight_per_location,
                locations=len(self._locations),
                held_items=queue.held_items,
                faults_left=len(self._script),
                faults_met=self._faults_met(),
                stalled_jobs=queue.stalled,
            )

    def _faults_met(self) -> dict[str, int]:
        return {**self._standing.met, **({SCRIPTED: self._scripted} if self._scripted else {})}

    def _revoke_by_clock(self, now: float) -> None:
        if self._standing.revokes_by_clock(now):
            self._tokens.revoke_all()

    def _worked_off(self) -> float:
        """Apply every job that is done by now; returns that now, for it is at that time that what follows is true."""
        now = self.clock()
        finished = True
        while finished:
            # One job for each time the lock is held, so that requests are answered in between.
            with self._lock:
                finished = self._queue.finish_one(now)
        return now

    def _meet_location(self, location: str) -> None:
        if location in self._locations:
            return
        if len(self._locations) >= self.settings.locations_max:
            message = f"the sandbox knows at most {self.settings.locations_max} locations (locations_max)"
            raise RefusalError(503, OmsCode.UNAVAILABLE, message)
        self._locations.add(location)


def oms_job(record: JobRecord) -> dict[str, Any]:
    """The job as the OMS's get-job answers it. ``success`` is true when it ended well."""
    return {
        "jobID": record.job_id,
        "type": "REFRESH",
        "status": record.status,
        "added": _iso(record.added),
        "started": _iso(record.started),
        "finished": _iso(record.finished),
        "itemCount": record.items,
        "success": record.status is JobStatus.SUCCESS,
        "messages": list(record.messages),
    }


def sandbox_job(record: JobRecord) -> dict[str, Any]:
    """The job with what the OMS would not tell: location, chunks, cost in OMS seconds."""
    told = oms_job(record)
    return told | {
        "locationName": record.location,
        "chunks": record.chunks,
        "costSeconds": record.cost_seconds,
    }


def summary_json(summary: Summary) -> dict[str, Any]:
    """The summary as a JSON object, with the names of its fields."""
    return asdict(summary)


def _record(job: Job, now: float) -> JobRecord:
    return JobRecord(
        job_id=job.number,
        location=job.location,
        items=job.item_count,
        chunks=job.chunks,
        cost_seconds=job.cost_seconds,
        status=job.status(now),
        added=job.added,
        started=job.started if job.started <= now else None,
        finished=job.finished if job.finished <= now else None,
        messages=tuple(job.messages),
    )


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else iso_time(seconds)
