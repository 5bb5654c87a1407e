"""The OMS's queue: accepted requests become jobs, processed one at a time, at a cost for each chunk, full or not.

A job can be made to stall: it stays WORKING, the queue moves on to the next job after the regular time, and the stalled
job's items are applied when it finishes, or never.

The times at which a job starts and finishes are fixed when it is added (each starts when the previous one is done), so
the queue needs no thread: time is an argument, and ``finish_next`` applies a job that is due. Times are seconds since
1970; costs are OMS seconds, each of which takes ``time_scale`` real seconds.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Final

from consumer.sandbox.oms.faults.outcome import JobOverride
from consumer.sandbox.oms.inventory import Inventory
from consumer.sandbox.oms.settings import SandboxSettings
from consumer.sandbox.oms.validation import Item

_FAILED: Final = ("the job failed because of an injected fault",)


class JobStatus(StrEnum):
    """The OMS's names."""

    PENDING = "PENDING"
    WORKING = "WORKING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


@dataclass(slots=True)
class Job:
    """One accepted request. ``items`` is None once the job is done, and where items are only counted.

    ``request`` is its number among all accepted requests. At ``released_at`` the queue moves on to the next job: when
    this one is ``finished``, or earlier if it stalls.
    """

    job_id: int
    request: int
    location: str
    item_count: int
    chunks: int
    cost_seconds: float
    added: float
    started: float
    released_at: float
    finished: float
    items: list[Item] | None
    fails: bool
    failure: tuple[str, ...] = _FAILED
    messages: list[str] = field(default_factory=list)

    def status(self, now: float) -> JobStatus:
        """The job's status at this time."""
        if now < self.started:
            return JobStatus.PENDING
        if now < self.finished:
            return JobStatus.WORKING
        return JobStatus.FAILED if self.fails else JobStatus.SUCCESS


class JobQueue:
    """Jobs; the finished ones have set their items in the inventory."""

    def __init__(self, settings: SandboxSettings, inventory: Inventory) -> None:
        self._settings = settings
        self.inventory = inventory
        self._next_job_id = settings.first_job_id
        self._free_at: float | None = None
        """When the queue is done with its last job; None before the first."""
        self._waiting: deque[Job] = deque()
        self._stalled: list[tuple[float, int, Job]] = []
        """Heap of the stalled jobs that will finish, by the time at which they do."""
        self.stalled = 0
        """Jobs that the queue has moved past and that have not finished."""
        self._jobs: dict[int, Job] = {}
        self.queued_items = 0
        self.items = 0
        self.chunks = 0
        self.cost_seconds = 0.0
        self.ended: dict[JobStatus, int] = {JobStatus.SUCCESS: 0, JobStatus.FAILED: 0}
        self.busy_seconds = 0.0

    @property
    def jobs_added(self) -> int:
        """Jobs added since the start."""
        return self._next_job_id - self._settings.first_job_id

    @property
    def working(self) -> int:
        """Jobs that are WORKING, as of the last time at which all due jobs were finished."""
        return self.stalled + bool(self._waiting)

    def add(
        self, location: str, item_count: int, items: list[Item] | None, now: float, override: JobOverride | None = None
    ) -> Job:
        """Append a job to the queue; one that the override makes fail applies nothing."""
        override = override or JobOverride()
        settings = self._settings
        chunks = -(-item_count // settings.chunk_items)
        cost = settings.seconds_per_job + chunks * settings.seconds_per_chunk
        started = now if self._free_at is None else max(now, self._free_at)
        released_at = started + cost * settings.time_scale
        job = Job(
            job_id=self._next_job_id,
            request=self.inventory.next_request(),
            location=location,
            item_count=item_count,
            chunks=chunks,
            cost_seconds=cost,
            added=now,
            started=started,
            released_at=released_at,
            finished=released_at + override.stall_seconds,
            items=items,
            fails=override.fails,
            failure=override.messages or _FAILED,
        )
        self._next_job_id += 1
        self._free_at = released_at
        self._waiting.append(job)
        self._jobs[job.job_id] = job
        self.queued_items += item_count
        self.items += item_count
        self.chunks += chunks
        self.cost_seconds += cost
        return job

    def next_due_at(self) -> float | None:
        """When the next job finishes or the queue moves past it; None if there is no such job."""
        times = [self._waiting[0].released_at] if self._waiting else []
        times += [self._stalled[0][0]] if self._stalled else []
        return min(times, default=None)

    def finish_next(self, now: float) -> bool:
        """Finish the first job that is due, or move past it if it stalls; False if none is due.

        One job per call, so that the caller can release a lock in between: 12,000 items take some milliseconds.
        """
        due_at = self.next_due_at()
        if due_at is None or due_at > now:
            return False
        if self._stalled and self._stalled[0][0] == due_at:
            self.stalled -= 1
            self._finish(heapq.heappop(self._stalled)[2])
            return True
        job = self._waiting.popleft()
        self.busy_seconds += job.cost_seconds
        if job.finished > job.released_at:
            self._stall(job)
        else:
            self._finish(job)
        return True

    def job(self, job_id: int) -> Job | None:
        """The job with this ID; None if there never was one, or it is finished and no longer kept."""
        return self._jobs.get(job_id)

    def jobs(self) -> Iterable[Job]:
        """Every job that is still kept, oldest first."""
        return self._jobs.values()

    def _stall(self, job: Job) -> None:
        self.stalled += 1
        if job.finished < inf:
            heapq.heappush(self._stalled, (job.finished, job.job_id, job))
        else:
            self._drop_items(job)

    def _finish(self, job: Job) -> None:
        self._apply(job)
        self._drop_items(job)
        self.ended[job.status(job.finished)] += 1

    def _drop_items(self, job: Job) -> None:
        """Free the job's items, and forget the oldest jobs that exceed ``jobs_kept_max``."""
        job.items = None
        self.queued_items -= job.item_count
        while len(self._jobs) - len(self._waiting) > self._settings.jobs_kept_max:
            del self._jobs[next(iter(self._jobs))]

    def _apply(self, job: Job) -> None:
        if job.fails:
            job.messages.extend(job.failure)
            return
        if job.items is None:
            return
        is_applied, messages = self.inventory.apply(job.location, job.items, job.request, job.finished)
        job.fails = not is_applied
        job.messages.extend(messages)
