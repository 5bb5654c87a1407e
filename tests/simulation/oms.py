"""The simulated OMS: refuses or queues requests, may lose answers, and applies absolute counts job by job."""

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from consumer.core.changes.items import ITEM_KEY
from consumer.core.changes.rules import ATTRIBUTES_MAX
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_list import JobList, ListedJob, ListQuery
from consumer.core.oms.job_schedule import JobReport, JobStatus
from consumer.oms.smart_reply import read_smart_reply, smart_answer
from tests.simulation.checkers import Checker
from tests.simulation.plan import (
    BAD_ATTRIBUTE,
    BAD_LOCATOR,
    MAX_ITEMS,
    ROOMY,
    Entry,
    EntryKind,
    Rates,
    SimulationPlan,
    Theme,
)
from tests.simulation.world import WALL_SECONDS, Violation, World, new_random

ASYNC_SHARE: Final = 0.3
"""So often smart refresh queues a request that it might have applied at once: the threshold is the OMS's."""
OTHER_SENDER_SHARE: Final = 0.7
"""So often another sender has a job of the same location and size as a request, at about the same time."""
WORK_SECONDS: Final = 0.5
SLOW_WORK_SECONDS: Final = 6.0
"""The longest that the OMS works on a job; slow, it falls behind what it accepts."""

ItemKey = tuple[str, str | None, str | None, int | None]
"""Location, part number, SKU, bin."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A request as sent: what the OMS sees of it, and what only the checker sees."""

    owner: str
    request_id: int
    location: str
    items: tuple[Mapping[str, Any], ...]
    frame: pl.DataFrame
    """The items as the worker has them."""
    is_smart: bool
    """It is sent to smart refresh."""
    checked_at: float
    """When its worker last checked the fence."""
    commit_age_seconds: float
    """Age of the covering commit when the body was ready to leave."""
    token: int
    fetch: int
    """Which of its owner's token requests brought the token."""
    rows: tuple[tuple[int, int, int], ...]
    """Partition, offset and line of every change in it, superseded ones included."""
    overlaid: tuple[int, ...]
    """Numbers of the changes whose values are laid over it."""
    assigned_at: Mapping[int, float]
    """By partition: when it was assigned to the sender."""
    body_bytes: int
    alone: bool
    """It is a single change, sent by a bisection."""

    def __str__(self) -> str:
        items = " ".join(f"{item.get('sku') or item.get('partNumber')}={item['quantity']}" for item in self.items)
        return f"{self.owner}#{self.request_id} {self.location}: {items}"


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job as it is listed; ``wire`` is None if another sender has queued it."""

    wire: Wire | None
    location: str
    items: int
    added: float


Reply = Callable[[Answer], None]


@dataclass(slots=True)
class ItemState:
    """An item at a location, as the OMS has it."""

    fields: dict[str, Any] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _CallOutcome:
    """What happens to one request between worker and OMS."""

    answer: Answer | None = None
    """The answer that the worker gets instead of the OMS's own; None if it gets that, provided the request arrives."""
    queued_after: float | None = None
    """Seconds until the request reaches the OMS; None if it never does."""


class Oms:
    """Accepts requests as jobs and applies these in order."""

    def __init__(self, world: World, plan: SimulationPlan, checker: Checker) -> None:
        self._world = world
        self._random = new_random(plan.seed, "oms")
        self._rates = plan.rates
        self._hold_seconds = plan.hold_seconds
        self._gateway_bytes_max = plan.gateway_bytes_max
        self._token_ripens_seconds = plan.token_ripens_seconds
        self._checker = checker
        changes = [change for entry in plan.entries for change in entry.changes]
        self._bad_counts = {change.number for change in changes if _has_bad_count(change)}
        self._jobs: deque[QueuedJob] = deque()
        self._listed: list[QueuedJob] = []
        """All jobs ever queued; the jobID of each is its place, counted from 1."""
        self._listed_jobs_max = plan.listed_jobs_max
        self._sync_items_max = plan.sync_items_max
        self._has_other_sender = plan.theme is Theme.LOST_ANSWERS and not plan.only_sender
        self._jobs_done = 0
        self._is_slow = plan.unfinished_jobs_max not in (None, ROOMY)
        self._working = False
        self.token = 1
        """The lowest valid token."""
        self._token_valid_from = 0.0
        self.down_until = 0.0
        self.refuses_until = 0.0
        self.refuses_with = Answer(AnswerKind.UNAUTHORISED)
        self._refused_locations: dict[str, tuple[float, Answer]] = {}
        """Until when each is refused, and what is said."""
        self._refused_items: dict[tuple[str, str], tuple[float, Answer]] = {}
        """The same for bodies with an item, by location and item."""
        self.items: dict[ItemKey, ItemState] = {}

    @property
    def idle(self) -> bool:
        return not self._jobs

    @property
    def rates(self) -> Rates:
        return Rates() if self._world.healed else self._rates

    def revoke_tokens(self) -> None:
        """All tokens become invalid; the next one is valid a moment after it can be fetched."""
        self.token += 1
        self._token_valid_from = self._world.now + self._token_ripens_seconds

    # Requests

    def post(self, wire: Wire, reply: Reply) -> None:
        """Send a request. ``reply`` is called when an answer arrives at the worker, if one does."""
        self._checker.sent(wire)
        if self._has_other_sender and self._random.random() < OTHER_SENDER_SHARE:
            delay = self._random.choice((self._latency(), self._random.uniform(0.0, self._hold_seconds)))
            self._world.after(delay, lambda: self._add_job_of_other(wire.location, len(wire.items)))
        is_faulty = self._random.random() < self.rates.oms
        outcome = self._faulty(wire) if is_faulty else _CallOutcome(queued_after=self._latency())
        if outcome.answer is not None:
            answer = outcome.answer
            self._world.after(self._latency(), lambda: self._answer(wire, answer, reply))
        if outcome.queued_after is None:
            return
        at = self._world.now + outcome.queued_after
        # A request queued later than this is outside the guarantees (docs/protocol.md, "Known limits").
        if at < wire.checked_at + self._hold_seconds:
            self._world.at(at, lambda: self._arrive(wire, None if outcome.answer else reply))

    def _faulty(self, wire: Wire) -> _CallOutcome:
        """One of the faults that the network or the gateway may cause."""
        random = self._random
        gateway = Answer(AnswerKind.UNKNOWN, status=502, detail="bad gateway")
        if random.random() < self.rates.late:
            left = wire.checked_at + self._hold_seconds - self._world.now
            late = max(0.0, left) * random.choice((random.random(), 0.999))
            return _CallOutcome(random.choice((gateway, None)), late)
        retry_after = random.choice((None, 0.5, 3.0))
        return random.choice(
            (
                _CallOutcome(),
                _CallOutcome(gateway),
                _CallOutcome(gateway, self._latency()),
                _CallOutcome(Answer(AnswerKind.UNKNOWN, detail="connection lost"), self._latency()),
                _CallOutcome(Answer(AnswerKind.UNREADABLE, status=200), self._latency()),
                _CallOutcome(Answer(AnswerKind.UNREADABLE, status=200)),
                _CallOutcome(Answer(AnswerKind.UNAVAILABLE, status=503, retry_after_seconds=retry_after)),
                _CallOutcome(Answer(AnswerKind.UNAVAILABLE, detail="connection refused")),
                _CallOutcome(Answer(AnswerKind.OVER_QUOTA, status=403, retry_after_seconds=retry_after)),
                _CallOutcome(Answer(AnswerKind.FORBIDDEN, status=403)),
                _CallOutcome(Answer(AnswerKind.GATEWAY_PAGE, status=random.choice((400, 403)), detail="<html>")),
            )
        )

    def _arrive(self, wire: Wire, reply: Reply | None) -> None:
        is_sync = wire.is_smart and len(wire.items) <= self._sync_items_max and self._random.random() > ASYNC_SHARE
        answer = self._judge(wire, is_sync=is_sync) or (self._apply_at_once(wire) if is_sync else self._queue(wire))
        if reply:
            self._answer(wire, answer, reply)

    def _judge(self, wire: Wire, *, is_sync: bool) -> Answer | None:
        """The answer if the OMS neither queues nor applies the request, else None."""
        of_content = None if is_sync else self._refuse_content(wire)
        return self._refuse_all(wire) or self._refused_whole(wire) or of_content

    def _refuse_all(self, wire: Wire) -> Answer | None:
        if self._world.now < self.refuses_until:
            return self.refuses_with
        if self._world.now < self.down_until:
            return Answer(AnswerKind.UNAVAILABLE, status=503, detail="5001")
        if self._gateway_bytes_max is not None and wire.body_bytes > self._gateway_bytes_max:
            return Answer(AnswerKind.TOO_LARGE, status=413, body_bytes=wire.body_bytes)
        if wire.token < self.token or self._world.now < self._token_valid_from:
            return Answer(AnswerKind.UNAUTHORISED, status=401)
        return None

    def _refuse_content(self, wire: Wire) -> Answer | None:
        bad = [item for item in wire.items if self._is_bad(item)]
        if bad:
            return Answer(AnswerKind.REFUSED, status=400, detail="5015", named=self._named(wire, bad))
        return None

    def refuse_location(self, location: str, seconds: float) -> None:
        """From now on the OMS or a gateway refuses whatever is sent for this location."""
        said = (
            Answer(AnswerKind.FORBIDDEN, status=403, detail="not your location"),
            Answer(AnswerKind.WRONG_ADDRESS, status=404, detail="no such location"),
            Answer(AnswerKind.GATEWAY_PAGE, status=403, detail="<html>"),
            Answer(AnswerKind.GATEWAY_PAGE, status=400, detail="<html>"),
        )
        self._refused_locations[location] = (self._world.now + seconds, self._random.choice(said))

    def refuse_item(self, location: str, item: str, seconds: float) -> None:
        """From now on a gateway refuses each body with this item."""
        page = Answer(AnswerKind.GATEWAY_PAGE, status=self._random.choice((400, 403)), detail="<html>item</html>")
        self._refused_items[location, item] = (self._world.now + seconds, page)

    def _refused_whole(self, wire: Wire) -> Answer | None:
        until, answer = self._refused_locations.get(wire.location, (0.0, None))
        if self._world.now < until:
            return answer
        for item in wire.items:
            until, answer = self._refused_items.get((wire.location, item.get("sku") or item["partNumber"]), (0.0, None))
            if self._world.now < until:
                return answer
        return None

    def _queue(self, wire: Wire) -> Answer:
        self._world.note("oms", "queues %s", wire)
        _check_size(wire)
        self._checker.queued(wire, wire.items)
        job_id = self._add_job(wire, wire.location, len(wire.items))
        return Answer(AnswerKind.ACCEPTED, job_id=job_id, status=200, body_bytes=wire.body_bytes)

    def _apply_at_once(self, wire: Wire) -> Answer:
        """Smart refresh: the items that are not bad overtake all jobs. Sometimes one is left out without a word."""
        _check_size(wire)
        bad = [item for item in wire.items if self._is_bad(item)]
        lost = [self._random.choice(wire.items)] if self._random.random() < self.rates.oms else []
        applied = [item for item in wire.items if item not in bad and item not in lost]
        self._world.note("oms", "applies %d items of %s at once", len(applied), wire)
        self._checker.queued(wire, applied)
        self._checker.applied(wire, applied)
        for item in applied:
            self._apply(wire.location, item)
        results = [
            {name: item[name] for name in ITEM_KEY if name in item} | {"success": item not in bad, "messages": ["bad"]}
            for item in wire.items
            if item not in lost
        ]
        body = json.dumps({"method": "sync", "jobID": None, "results": results}).encode()
        answer = smart_answer(200, read_smart_reply(body, wire.frame, ITEM_KEY), len(wire.items))
        return replace(answer, body_bytes=wire.body_bytes)

    def _add_job_of_other(self, location: str, items: int) -> None:
        if not self._world.healed:
            self._add_job(None, location, items)

    def _add_job(self, wire: Wire | None, location: str, items: int) -> str:
        job = QueuedJob(wire, location, items, self._world.now)
        self._jobs.append(job)
        self._listed.append(job)
        if not self._working:
            self._work_later()
        return str(len(self._listed))

    def _answer(self, wire: Wire, answer: Answer, reply: Reply) -> None:
        self._world.note("oms", "answers %s#%d: %s", wire.owner, wire.request_id, answer.kind.value)
        reply(answer)

    def _is_bad(self, item: Mapping[str, Any]) -> bool:
        return (
            item["quantity"] in self._bad_counts
            or item.get("inventoryLocatorName") == BAD_LOCATOR
            or BAD_ATTRIBUTE in item.get("attributes", ())
        )

    def _named(self, wire: Wire, bad: list[Mapping[str, Any]]) -> tuple[tuple[str | int | None, ...], ...]:
        """The items that the OMS's message names: the bad ones, another one, or none."""
        chosen = self._random.choice(([], [], bad, [self._random.choice(wire.items)]))
        return tuple(tuple(item.get(name) for name in ITEM_KEY) for item in chosen)

    def _latency(self) -> float:
        return self._random.choice((0.02, 0.1, 0.4)) * self._random.uniform(0.5, 1.5)

    # Jobs

    def report(self, job_id: str) -> JobReport:
        """The answer to get-job; the OMS finishes jobs in order."""
        if self._world.now < self.down_until or self._random.random() < self.rates.oms:
            return JobReport(job_id, detail="HTTP 503", http_status=503)
        return JobReport(job_id, self.job_status(int(job_id)), http_status=200)

    def job_list(self, query: ListQuery) -> JobList:
        """The newest jobs of all members and others, cut at a few, so that it often lacks older ones."""
        if self._world.now < self.down_until or self._random.random() < self.rates.oms:
            return JobList(query, detail="HTTP 503", http_status=503)
        found = [
            (number, job) for number, job in enumerate(self._listed, start=1) if query.location in (None, job.location)
        ]
        jobs = tuple(self._as_listed(number, job) for number, job in found[-self._listed_jobs_max :])
        return JobList(query, jobs, len(found) < self._listed_jobs_max, http_status=200)

    def _as_listed(self, number: int, job: QueuedJob) -> ListedJob:
        report = JobReport(str(number), self.job_status(number), added=WALL_SECONDS + job.added, http_status=200)
        return ListedJob(report, job.location, job.items)

    def job_status(self, number: int) -> JobStatus:
        """The jobs end in order."""
        if number <= self._jobs_done:
            return JobStatus.SUCCESS
        return JobStatus.WORKING if number == self._jobs_done + 1 else JobStatus.PENDING

    def _work_later(self) -> None:
        self._working = True
        longest = SLOW_WORK_SECONDS if self._is_slow and not self._world.healed else WORK_SECONDS
        self._world.after(self._random.uniform(0.01, longest), self._work)

    def _work(self) -> None:
        job = self._jobs.popleft()
        self._jobs_done += 1
        if job.wire:
            self._checker.worked(job.wire)
            self._checker.applied(job.wire, job.wire.items)
            for item in job.wire.items:
                self._apply(job.location, item)
        self._working = False
        if self._jobs:
            self._work_later()

    def _apply(self, location: str, item: Mapping[str, Any]) -> None:
        """Set count and fields, keep absent ones, and add attributes."""
        key = (location, item.get("partNumber"), item.get("sku"), item.get("binID"))
        state = self.items.setdefault(key, ItemState())
        state.fields |= {name: value for name, value in item.items() if name not in _KEYS}
        state.attributes.update(item.get("attributes", ()))


_KEYS: Final = frozenset({"partNumber", "upc", "sku", "binID", "attributes"})


def _has_bad_count(entry: Entry) -> bool:
    return entry.kind is EntryKind.BAD and not entry.fields


def _check_size(wire: Wire) -> None:
    keys = {(item.get("partNumber"), item.get("sku"), item.get("binID")) for item in wire.items}
    if not 1 <= len(wire.items) <= MAX_ITEMS:
        raise Violation(f"a request has {len(wire.items)} items, the limit is {MAX_ITEMS}: {wire}")
    if len(keys) < len(wire.items):
        raise Violation(f"a request has an item twice: {wire}")
    if any(len(item.get("attributes", ())) > ATTRIBUTES_MAX for item in wire.items):
        raise Violation(f"rule 19: an item has more attributes than the OMS takes: {wire}")
