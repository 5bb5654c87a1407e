"""The state of a sandbox, behind one lock: tokens, job queue, faults, and counters.

The server's threads and a test's own thread share it: every public method may be called from any thread, and returns
copies. Time is read from ``clock`` only, so a test can let an hour pass.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from consumer.sandbox.oms.errors import OmsCode, RefusalError
from consumer.sandbox.oms.faults.active import ActiveFaults
from consumer.sandbox.oms.faults.outcome import CallKind, CallOutcome, CannedAnswer, JobOverride, SyncForm
from consumer.sandbox.oms.faults.refusals import ItemRefusals
from consumer.sandbox.oms.faults.rules import Refuse
from consumer.sandbox.oms.faults.scripted import FaultRequest, FaultScript
from consumer.sandbox.oms.inventory import AppliedItem, HeldItem, Inventory
from consumer.sandbox.oms.job_queue import JobQueue, JobStatus
from consumer.sandbox.oms.reports import JobRecord, Summary, job_record
from consumer.sandbox.oms.settings import Package, SandboxSettings
from consumer.sandbox.oms.smart_refresh import SyncRefresh
from consumer.sandbox.oms.tokens import Tokens
from consumer.sandbox.oms.validation import Refresh

SCRIPTED: Final = "scripted"
"""The name under which scripted answers are counted, among the names of the fault rules."""

Clock = Callable[[], float]


def steady_wall_clock() -> Clock:
    """Seconds since 1970 that never go back, even if the machine's clock is set back."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class SandboxState:
    """Tokens, queue, faults and counters of one sandbox."""

    def __init__(self, settings: SandboxSettings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or steady_wall_clock()
        self.on_job_added: Callable[[], None] = lambda: None
        """Called after a job was added, without the lock."""
        self._lock = threading.Lock()
        self._tokens = Tokens(settings)
        self._inventory = Inventory(settings)
        self._queue = JobQueue(settings, self._inventory)
        self._sync_requests = 0
        self._sync_items = 0
        self._script = FaultScript()
        self._scripted_hits = 0
        self._faults = ActiveFaults(settings.fault_seed)
        self._faults.add(settings.faults, self.clock())
        self._answers: dict[str, Counter[str]] = {}
        self._bytes_received = 0
        self._locations: set[str] = set()
        self._in_flight: Counter[str] = Counter()
        self._last_answered_at: dict[str, float] = {}
        self._max_in_flight = 0
        self._max_in_flight_per_location = 0

    def package_for(self, key: str, secret: str, packages: Collection[Package]) -> Package | None:
        """The package of this API key, if it is one of ``packages``; None for an unknown key or a wrong secret."""
        return self._tokens.package_for(key, secret, packages)

    def issue_token(self, package: Package) -> str:
        """Issue a new token for the package."""
        with self._lock:
            now = self.clock()
            self._revoke_if_due(now)
            return self._tokens.issue(package, now, ripens_seconds=self._faults.ripens_seconds(now))

    def authenticate(self, token: str, call: CallKind) -> Package | None:
        """The package that the call's token gives access to; None if it is not valid, or a fault revokes it now."""
        with self._lock:
            now = self.clock()
            self._revoke_if_due(now)
            package = self._tokens.package_of(token, now)
            if package is not None and self._faults.revokes_token(call, now):
                self._tokens.revoke_all()
                return None
            return package

    def over_limit(self, call: CallKind) -> CannedAnswer | None:
        """The gateway's answer to a call that exceeds a ``limit``; None if it may pass."""
        with self._lock:
            return self._faults.over_limit(call, self.clock())

    def gateway_answer(self, headers: Mapping[str, str], body: bytes | None) -> CannedAnswer | None:
        """What a gateway answers by a fault, instead of passing the call on; ``body`` is None before it was read."""
        with self._lock:
            return self._faults.gateway_answer(headers, body, self.clock())

    def wanted_scope(self) -> str | None:
        """The scope that token requests must name by a fault; None without one."""
        with self._lock:
            return self._faults.wanted_scope(self.clock())

    def date(self) -> float:
        """The time in the Date header of answers, in seconds since 1970."""
        with self._lock:
            now = self.clock()
            return now + self._faults.skew_seconds(now)

    def package_of(self, token: str) -> Package | None:
        """The package that the token gives access to; None if it is not valid."""
        with self._lock:
            return self._tokens.package_of(token, self.clock())

    @contextmanager
    def in_flight(self, location: str, arrived: float) -> Generator[None]:
        """Count a request for this location as in flight from ``arrived`` (before its body) to the end of the block.

        The block must end before the answer is sent, since a client may send the next request as soon as it has the
        answer. Raises RefusalError (503) if the location is new and there are already ``locations_max``.
        """
        with self._lock:
            self._register_location(location)
            # The previous request may have been answered while this body was still being read: both were in flight.
            answered_at = self._last_answered_at.get(location)
            overlaps = answered_at is not None and answered_at > arrived
            self._in_flight[location] += 1
            at_location = self._in_flight[location] + overlaps
            self._max_in_flight_per_location = max(self._max_in_flight_per_location, at_location)
            self._max_in_flight = max(self._max_in_flight, self._in_flight.total())
        try:
            yield
        finally:
            with self._lock:
                self._last_answered_at[location] = self.clock()
                self._in_flight[location] -= 1
                if not self._in_flight[location]:
                    del self._in_flight[location]

    def check_refusals(self, refresh: Refresh) -> None:
        """Raises RefusalError (400) if an active ``refuse`` fault covers one of the request's items."""
        with self._lock:
            refusals = self._faults.refusals(refresh.location, self.clock())
        for fault, rule in refusals:
            refusal = ItemRefusals(rule).find(refresh.items or ())
            if refusal is not None:
                with self._lock:
                    self._faults.count_hit(fault)
                raise refusal

    def apply_faults(self, call: CallKind, location: str | None = None) -> CallOutcome:
        """The outcome of a call that would get the regular answer: a scripted one, else that of the active faults."""
        with self._lock:
            scripted = self._script.take(call, location)
            if scripted is None:
                return self._faults.apply(call, location, self.clock())
            self._scripted_hits += 1
            return scripted.outcome()

    def accept(self, refresh: Refresh, override: JobOverride | None = None) -> int:
        """Queue a request and return its jobID. Raises RefusalError (503, nothing queued) if the queue is full."""
        with self._lock:
            if self._queue.queued_items + refresh.item_count > self.settings.queued_items_max:
                message = f"the sandbox queues at most {self.settings.queued_items_max} items (queued_items_max)"
                raise RefusalError(503, OmsCode.UNAVAILABLE, message)
            job = self._queue.add(refresh.location, refresh.item_count, refresh.items, self.clock(), override)
        self.on_job_added()
        return job.job_id

    def apply_at_once(self, refresh: SyncRefresh, form: SyncForm | None = None) -> list[dict[str, Any]]:
        """Apply the valid items of a small request of smart refresh; returns each item's result.

        It overtakes the requests in the queue. Raises RefusalError (503, nothing applied) if the sandbox would hold too
        many items.
        """
        errors = self._errors_of(refresh, form)
        self._finish_due_jobs()
        with self._lock:
            now = self.clock()
            # What is due by now was applied before; usually that is nothing more.
            while self._queue.finish_next(now):
                pass
            items = refresh.without(errors)
            is_applied, messages = self._inventory.apply(refresh.location, items, self._inventory.next_request(), now)
            if not is_applied:
                raise RefusalError(503, OmsCode.UNAVAILABLE, messages[0])
            self._sync_requests += 1
            self._sync_items += len(items)
        return refresh.results(errors)

    def _errors_of(self, refresh: SyncRefresh, form: SyncForm | None) -> dict[int, str]:
        """By position, why items are refused: they are invalid, or a fault says so."""
        errors = dict(refresh.errors)
        with self._lock:
            for fault, rule in self._faults.refusals(refresh.location, self.clock()):
                refused = ItemRefusals(rule).find_all(refresh.items, except_for=errors)
                if refused:
                    self._faults.count_hit(fault)
                errors = refused | errors
        first = next((index for index in range(len(refresh.items)) if index not in errors), None)
        if form == "item-error" and first is not None:
            errors[first] = f"items[{first}] is refused by an injected fault"
        return errors

    def finish_due_jobs(self) -> float | None:
        """Finish every job that is due; returns the seconds until the next one is, None if no job will become due."""
        now = self._finish_due_jobs()
        with self._lock:
            next_due_at = self._queue.next_due_at()
        return None if next_due_at is None else max(0.0, next_due_at - now)

    def add_faults(self, request: FaultRequest) -> bool:
        """Carry out the request; False, with nothing changed, if there would be too many answers or fault rules.

        Raises RefusalError (400) for ``refuse`` in a sandbox that only counts items.
        """
        if self.settings.validation == "count" and any(isinstance(rule, Refuse) for rule in request.rules):
            raise RefusalError(400, OmsCode.BAD_REQUEST, "rules: items that are only counted cannot be refused")
        with self._lock:
            if not (self._script.has_room(request) and self._faults.has_room(request.rules)):
                return False
            self._script.add(request)
            if request.seed is not None:
                self._faults.reseed(request.seed)
            self._faults.add(request.rules, self.clock())
            if request.revoke_tokens:
                self._tokens.revoke_all()
            return True

    def clear_faults(self) -> None:
        """Remove all scripted answers, the delay and all fault rules, and restart the rules' random choices."""
        with self._lock:
            self._script.clear()
            self._faults.clear()

    def script(self) -> tuple[int, float]:
        """The number of scripted answers left, and the delay of each refresh request in seconds."""
        with self._lock:
            return len(self._script), self._script.delay_seconds

    def fault_rules(self) -> list[dict[str, Any]]:
        """The fault rules in the order in which they were added, each with ``hits``, the calls that it changed."""
        with self._lock:
            return [
                {"fault": fault.rule.fault, **fault.rule.model_dump(exclude_defaults=True), "hits": fault.hits}
                for fault in self._faults.all()
            ]

    def count_answer(self, endpoint: str, status: str) -> None:
        """Count an answer by endpoint and HTTP status (or ``DROPPED``)."""
        with self._lock:
            self._answers.setdefault(endpoint, Counter())[status] += 1

    def count_bytes(self, received: int) -> None:
        """Count the bytes of a refresh body."""
        with self._lock:
            self._bytes_received += received

    def job(self, job_id: int) -> JobRecord | None:
        """The job with this ID; None if there is none."""
        now = self._finish_due_jobs()
        with self._lock:
            job = self._queue.job(job_id)
            return None if job is None else job_record(job, now)

    def jobs(self) -> list[JobRecord]:
        """Every job that is still kept, oldest first."""
        now = self._finish_due_jobs()
        with self._lock:
            return [job_record(job, now) for job in self._queue.jobs()]

    def inventory(self, location: str | None = None) -> dict[str, list[HeldItem]]:
        """The items that finished jobs have set, by location; of one location if it is given."""
        self._finish_due_jobs()
        with self._lock:
            held = self._inventory.held()
            names = held.keys() if location is None else held.keys() & {location}
            # Values are replaced, never changed in place, so shallow copies of the items are enough.
            return {name: [dict(item) for item in held[name].values()] for name in names}

    def applied(self, location: str | None = None, *, after: int = 0) -> list[AppliedItem]:
        """What was applied with a number above ``after``, in that order; at one location if it is given.

        Only the last ``applied_kept_max`` items are kept.
        """
        self._finish_due_jobs()
        with self._lock:
            return list(self._inventory.applied(location, after=after))

    def summary(self) -> Summary:
        """Totals since the start."""
        self._finish_due_jobs()
        with self._lock:
            queue = self._queue
            ended = queue.ended
            unfinished = queue.jobs_added - sum(ended.values())
            by_status = {JobStatus.PENDING: unfinished - queue.working, JobStatus.WORKING: queue.working, **ended}
            return Summary(
                jobs=queue.jobs_added,
                jobs_by_status={str(status): count for status, count in by_status.items()},
                items=queue.items + self._sync_items,
                sync_requests=self._sync_requests,
                sync_items=self._sync_items,
                repeated_items=self._inventory.repeated_items,
                backward_items=self._inventory.backward_items,
                chunks=queue.chunks,
                unused_chunk_items=queue.chunks * self.settings.chunk_items - queue.items,
                cost_seconds=queue.cost_seconds,
                busy_seconds=queue.busy_seconds,
                tokens_issued=self._tokens.issued,
                requests={endpoint: dict(statuses) for endpoint, statuses in self._answers.items()},
                bytes_received=self._bytes_received,
                max_in_flight=self._max_in_flight,
                max_in_flight_per_location=self._max_in_flight_per_location,
                locations=len(self._locations),
                held_items=self._inventory.held_items,
                scripted_answers_left=len(self._script),
                fault_hits=self._fault_hits(),
                stalled_jobs=queue.stalled,
            )

    def _fault_hits(self) -> dict[str, int]:
        return {**self._faults.hits, **({SCRIPTED: self._scripted_hits} if self._scripted_hits else {})}

    def _revoke_if_due(self, now: float) -> None:
        if self._faults.revocation_is_due(now):
            self._tokens.revoke_all()

    def _finish_due_jobs(self) -> float:
        """Finish every job that is due; returns the time up to which jobs were finished."""
        now = self.clock()
        finished = True
        while finished:
            # The lock is released after every job, so that requests can be answered in between.
            with self._lock:
                finished = self._queue.finish_next(now)
        return now

    def _register_location(self, location: str) -> None:
        if location in self._locations:
            return
        if len(self._locations) >= self.settings.locations_max:
            message = f"the sandbox accepts at most {self.settings.locations_max} locations (locations_max)"
            raise RefusalError(503, OmsCode.UNAVAILABLE, message)
        self._locations.add(location)
