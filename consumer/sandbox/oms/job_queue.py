"""The OMS's queue: accepted requests become jobs, processed one at a time, at a cost for each chunk, full or not.

A job can be made to stall: it stays WORKING, the queue moves on to the next job after the regular time, and the stalled
job's items are applied when it finishes, or never.

The times at which a job starts and finishes are fixed when it is added (each starts when the previous one is done), so
the queue needs no thread: time is an argument, and ``finish_next`` applies a job that is due. Times are seconds since
1970; costs are OMS seconds, each of which takes ``time_scale`` real seconds.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any, Final, cast

from consumer.sandbox.oms.faults.outcome import JobOverride
from consumer.sandbox.oms.settings import SandboxSettings
from consumer.sandbox.oms.validation import Item

_ATTRIBUTES_MAX: Final = 63
_KEY: Final = (
    *("partNumber", "upc", "sku", "binID"),
    *("lotCode", "condition", "date", "serialNumber", "externalID", "deliveryDate"),
)
_TAGS: Final = "tags"
"""The fields that identify an item; all but the first four exist in Unified Commerce only."""
_FAILED: Final = ("the job failed because of an injected fault",)

ItemKey = tuple[str | int | frozenset[tuple[str, str]] | None, ...]
HeldItem = dict[str, Any]


class JobStatus(StrEnum):
    """The OMS's names."""

    PENDING = "PENDING"
    WORKING = "WORKING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


@dataclass(slots=True)
class Job:
    """One accepted request. ``items`` is None once the job is done, and where items are only counted.

    At ``released_at`` the queue moves on to the next job: when this one is ``finished``, or earlier if it stalls.
    """

    job_id: int
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
    """Jobs, and the items that the finished ones have set."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._next_job_id = settings.first_job_id
        self._free_at: float | None = None
        """When the queue is done with its last job; None before the first."""
        self._waiting: deque[Job] = deque()
        self._stalled: list[tuple[float, int, Job]] = []
        """Heap of the stalled jobs that will finish, by the time at which they do."""
        self.stalled = 0
        """Jobs that the queue has moved past and that have not finished."""
        self._jobs: dict[int, Job] = {}
        self._held: dict[str, dict[ItemKey, HeldItem]] = {}
        self.held_items = 0
        self.queued_items = 0
        self.items = 0
        self.repeated_items = 0
        """Items that were repeated within one request: 0 with a consumer that coalesces."""
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

    def held(self) -> Mapping[str, Mapping[ItemKey, HeldItem]]:
        """The items that finished jobs have set: by location and item key, the item's current fields."""
        return self._held

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
        keys = [_key(item) for item in job.items]
        distinct = set(keys)
        location = self._held.get(job.location, {})
        new = len(distinct.difference(location))
        if self.held_items + new > self._settings.held_items_max:
            job.fails = True
            job.messages.append(f"the sandbox holds at most {self._settings.held_items_max} items (held_items_max)")
            return
        self.held_items += new
        self.repeated_items += len(keys) - len(distinct)
        self._held[job.location] = location
        overfull = 0
        for key, item in zip(keys, job.items, strict=True):
            held = location.get(key)
            location[key] = now_held = _merged(held, item)
            if "attributes" in now_held and len(now_held["attributes"]) > _ATTRIBUTES_MAX:
                overfull += 1
        if overfull:
            job.messages.append(f"items with more than {_ATTRIBUTES_MAX} attributes after merging: {overfull}")


def _key(item: Item) -> ItemKey:
    get = cast("Mapping[str, Any]", item).get
    key = tuple([get(name) for name in _KEY])
    tags = get(_TAGS)
    return key if tags is None else (*key, frozenset(tags.items()))


def _merged(held: HeldItem | None, item: Item) -> HeldItem:
    """The held item after this update: the quantity and the given fields are set, absent fields stay.

    Attributes are merged. The documentation does not say what happens when that makes too many, so none are cut off.
    The request's own dict is reused where possible, since nothing else needs it: twice as fast as a copy.
    """
    merged = cast("HeldItem", item)
    merged["quantity"] = int(item["quantity"])
    attributes: Sequence[str] = held.get("attributes", ()) if held else ()
    if "attributes" in merged:
        merged["attributes"] = list(dict.fromkeys([*attributes, *merged["attributes"]]))
    return merged if held is None or held.keys() <= merged.keys() else {**held, **merged}
