"""The OMS's queue: accepted requests are jobs, worked off one at a time, at a cost for each begun chunk.

A job can be made to stall: it stays WORKING, the queue goes on past it when its own time is over, and what it brings is
applied when it finishes at last, or never.

When a job starts and finishes is settled as it is added (each begins when the one before it is done), so the queue
needs no thread: time comes in as a number, and ``finish_one`` applies a job that is done by then. Times are seconds
since 1970; costs are OMS seconds, each of which takes ``time_scale`` real ones.
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
_KEY: Final = ("partNumber", "upc", "sku", "binID", "lotCode", "condition", "date", "serialNumber", "externalID")
"""What makes an item another one; the last five only come with Unified Commerce."""
_FAILED: Final = ("the job failed, as was asked of the sandbox",)

ItemKey = tuple[str | int | None, ...]
HeldItem = dict[str, Any]


class JobStatus(StrEnum):
    """As the OMS names them."""

    PENDING = "PENDING"
    WORKING = "WORKING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


@dataclass(slots=True)
class Job:
    """One accepted request. ``items`` is dropped when the job is done, and None where items are only counted.

    ``leaves`` is when the queue goes on to the next job: when this one is ``finished``, unless it stalls.
    """

    number: int
    location: str
    item_count: int
    chunks: int
    cost_seconds: float
    added: float
    started: float
    leaves: float
    finished: float
    items: list[Item] | None
    fails: bool
    failure: tuple[str, ...] = _FAILED
    messages: list[str] = field(default_factory=list)

    def status(self, now: float) -> JobStatus:
        """Where the job is at this time."""
        if now < self.started:
            return JobStatus.PENDING
        if now < self.finished:
            return JobStatus.WORKING
        return JobStatus.FAILED if self.fails else JobStatus.SUCCESS


class JobQueue:
    """Jobs, and the counts that the finished ones left behind."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._next_number = settings.first_job_id
        self._free_at = 0.0
        self._waiting: deque[Job] = deque()
        self._stalled: list[tuple[float, int, Job]] = []
        """Heap, by when they finish, of the stalled jobs that do."""
        self.stalled = 0
        """Jobs that the queue has gone past, and that have not finished."""
        self._jobs: dict[int, Job] = {}
        self._held: dict[str, dict[ItemKey, HeldItem]] = {}
        self.held_items = 0
        self.queued_items = 0
        self.items = 0
        self.repeated_items = 0
        """Items that came more than once in one request: a consumer that coalesces sends none."""
        self.chunks = 0
        self.cost_seconds = 0.0
        self.ended: dict[JobStatus, int] = {JobStatus.SUCCESS: 0, JobStatus.FAILED: 0}
        self.busy_seconds = 0.0

    @property
    def added(self) -> int:
        """Jobs taken since the start."""
        return self._next_number - self._settings.first_job_id

    @property
    def working(self) -> int:
        """Jobs that are WORKING, as of the last time that all done ones were finished."""
        return self.stalled + bool(self._waiting)

    def add(
        self, location: str, item_count: int, items: list[Item] | None, now: float, fate: JobOverride | None = None
    ) -> Job:
        """Put a job at the end of the queue; one whose fate is to fail will have applied nothing."""
        fate = fate or JobOverride()
        settings = self._settings
        chunks = -(-item_count // settings.chunk_items)
        cost = settings.seconds_per_job + chunks * settings.seconds_per_chunk
        started = max(now, self._free_at)
        leaves = started + cost * settings.time_scale
        job = Job(
            number=self._next_number,
            location=location,
            item_count=item_count,
            chunks=chunks,
            cost_seconds=cost,
            added=now,
            started=started,
            leaves=leaves,
            finished=leaves + fate.stall_seconds,
            items=items,
            fails=fate.fails,
            failure=fate.messages or _FAILED,
        )
        self._next_number += 1
        self._free_at = leaves
        self._waiting.append(job)
        self._jobs[job.number] = job
        self.queued_items += item_count
        self.items += item_count
        self.chunks += chunks
        self.cost_seconds += cost
        return job

    def next_change(self) -> float | None:
        """When the next job finishes or is gone past; None if there is none to come."""
        times = [self._waiting[0].leaves] if self._waiting else []
        times += [self._stalled[0][0]] if self._stalled else []
        return min(times, default=None)

    def finish_one(self, now: float) -> bool:
        """Apply the job that was the first to be done by now, if there is one, or go past it; False if not.

        One a call, so that a caller with a lock lets others in between: 12,000 items take some milliseconds.
        """
        change = self.next_change()
        if change is None or change > now:
            return False
        if self._stalled and self._stalled[0][0] == change:
            self.stalled -= 1
            self._end(heapq.heappop(self._stalled)[2])
            return True
        job = self._waiting.popleft()
        self.busy_seconds += job.cost_seconds
        if job.finished > job.leaves:
            self._stall(job)
        else:
            self._end(job)
        return True

    def job(self, number: int) -> Job | None:
        """The job of this number; None if there never was one, or it is finished and forgotten."""
        return self._jobs.get(number)

    def jobs(self) -> Iterable[Job]:
        """Every job remembered, oldest first."""
        return self._jobs.values()

    def held(self) -> Mapping[str, Mapping[ItemKey, HeldItem]]:
        """What finished jobs left: by location and item key, the item's fields as last set."""
        return self._held

    def _stall(self, job: Job) -> None:
        self.stalled += 1
        if job.finished < inf:
            heapq.heappush(self._stalled, (job.finished, job.number, job))
        else:
            self._drop_items(job)

    def _end(self, job: Job) -> None:
        self._apply(job)
        self._drop_items(job)
        self.ended[job.status(job.finished)] += 1

    def _drop_items(self, job: Job) -> None:
        """Nothing more will be done with the job, so that it may be forgotten, if it is the oldest of too many."""
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
            location[key] = now_held = _after(held, item)
            if "attributes" in now_held and len(now_held["attributes"]) > _ATTRIBUTES_MAX:
                overfull += 1
        if overfull:
            job.messages.append(f"{overfull} items now have more than {_ATTRIBUTES_MAX} attributes")


def _key(item: Item) -> ItemKey:
    get = cast("Mapping[str, Any]", item).get
    return tuple([get(name) for name in _KEY])


def _after(held: HeldItem | None, item: Item) -> HeldItem:
    """What is held after this item: its count and the fields that came are set, what did not come stays.

    Attributes are merged. The documentation does not say what becomes of too many merged ones, so nothing is cut off.
    The request's own dict is used where it can be (nobody else needs it any more): twice as quick as a copy.
    """
    after = cast("HeldItem", item)
    after["quantity"] = int(item["quantity"])
    attributes: Sequence[str] = held.get("attributes", ()) if held else ()
    if "attributes" in after:
        after["attributes"] = list(dict.fromkeys([*attributes, *after["attributes"]]))
    return after if held is None or held.keys() <= after.keys() else {**held, **after}
