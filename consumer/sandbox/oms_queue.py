"""The OMS's queue: accepted requests are jobs, worked off one at a time, at a cost for each begun chunk.

When a job starts and finishes is settled as it is added (each begins when the one before it is done), so the queue
needs no thread: time comes in as a number, and ``finish_one`` applies a job that is done by then. Times are seconds
since 1970; costs are OMS seconds, each of which takes ``time_scale`` real ones.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, cast

from consumer.sandbox.oms_rules import Item
from consumer.sandbox.oms_settings import SandboxSettings

_ATTRIBUTES_MAX: Final = 63

ItemKey = tuple[str | None, str | None, str | None, int | None]
HeldItem = dict[str, Any]


class JobStatus(StrEnum):
    """As the OMS names them."""

    PENDING = "PENDING"
    WORKING = "WORKING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


@dataclass(slots=True)
class Job:
    """One accepted request. ``items`` is dropped when the job is done, and None where items are only counted."""

    number: int
    location: str
    item_count: int
    chunks: int
    cost_seconds: float
    added: float
    started: float
    finished: float
    items: list[Item] | None
    fails: bool
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

    def add(self, location: str, item_count: int, items: list[Item] | None, now: float, *, fails: bool = False) -> Job:
        """Put a job at the end of the queue. ``fails``: it will end as FAILED, with nothing applied."""
        settings = self._settings
        chunks = -(-item_count // settings.chunk_items)
        cost = settings.seconds_per_job + chunks * settings.seconds_per_chunk
        started = max(now, self._free_at)
        job = Job(
            number=self._next_number,
            location=location,
            item_count=item_count,
            chunks=chunks,
            cost_seconds=cost,
            added=now,
            started=started,
            finished=started + cost * settings.time_scale,
            items=items,
            fails=fails,
        )
        self._next_number += 1
        self._free_at = job.finished
        self._waiting.append(job)
        self._jobs[job.number] = job
        self.queued_items += item_count
        self.items += item_count
        self.chunks += chunks
        self.cost_seconds += cost
        return job

    def next_finish(self) -> float | None:
        """When the next job is done; None if the queue is empty."""
        return self._waiting[0].finished if self._waiting else None

    def finish_one(self, now: float) -> bool:
        """Apply the oldest job that is done by now, if there is one; False if not.

        One a call, so that a caller with a lock lets others in between: 12,000 items take some milliseconds.
        """
        if not self._waiting or self._waiting[0].finished > now:
            return False
        job = self._waiting.popleft()
        self._apply(job)
        job.items = None
        self.queued_items -= job.item_count
        self.busy_seconds += job.cost_seconds
        self.ended[job.status(job.finished)] += 1
        while len(self._jobs) - len(self._waiting) > self._settings.jobs_kept_max:
            del self._jobs[next(iter(self._jobs))]
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

    def _apply(self, job: Job) -> None:
        if job.fails:
            job.messages.append("the job failed, as was asked of the sandbox")
            return
        if job.items is None:
            return
        keys = [(item.get("partNumber"), item.get("upc"), item.get("sku"), item.get("binID")) for item in job.items]
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
