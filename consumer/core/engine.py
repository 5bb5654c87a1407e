"""The only state of the service, and the promises it keeps.

No I/O here: the loop tells the engine what happened, and does what it says.

Invariants (numbers as in docs/architecture.md):

1. A watermark never passes a change that no jobID covers; a reject counts once its dead letter is confirmed.
2. At most ``max_items`` items a request, and at most one request in flight per location.
3. A failed request is planned anew, never sent again as it was: its rows go back to their place in the window, and
   newer ones win.
4. Rows, answers and confirmations of an assignment that was revoked or lost count for nothing, row by row.
5. After an unknown outcome the location is held for ``unknown_hold``; the hold and the request in flight belong to the
   location, so they outlive an empty window and a revoke.
6. The read mark of an assignment never decreases.

Times are monotonic seconds, as the caller's ``now``; offsets are Kafka's.
"""

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import polars as pl

from consumer.core.blocks import Rows
from consumer.core.items import ARRIVED, ASSIGNMENT, ITEM_KEY, OFFSET
from consumer.core.pace import Pace
from consumer.core.planner import Limits, SendReason
from consumer.core.ratio import RejectRatio
from consumer.core.retry import Accepted, Again, Decision, Hold, Refused, Stop
from consumer.core.watermark import OpenOffsets
from consumer.core.window import Window, Windows

RESUME_SHARE = 0.75
"""A paused partition resumes below this share of the limit that paused it: pausing throws away what
was fetched ahead."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What bounds the engine: items, seconds, rows."""

    items: Limits = field(default_factory=Limits)
    max_age_seconds: float = 300.0
    due_within_seconds: float = 1.0
    """A burst read in several polls is one burst: changes due so soon count as due."""
    max_in_flight: int = 8
    max_pending_changes: int = 1_000_000
    max_distance: int = 5_000_000
    rejected_ratio_max: float = 0.5
    stopped_retry_seconds: float = 60.0
    """Between two tries while the OMS refuses our credentials, permission or address."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be sent: ``taken`` are all pending changes of ``items`` items of one location, oldest item first."""

    number: int
    location: str
    taken: Rows
    items: int
    reason: SendReason

    @property
    def rows(self) -> pl.DataFrame:
        """The changes as one frame: those of ``taken``, joined now if they were not before."""
        return self.taken.frame


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """What may be committed for an assignment: its watermark, read mark, and whether a request may be under way."""

    assignment: int
    offset: int
    mark: int
    open: bool


@dataclass(slots=True)
class _Held:
    """One partition while it is ours."""

    offsets: OpenOffsets
    mark: int
    far: bool = False


@dataclass(frozen=True, slots=True)
class _Flight:
    request: Request
    sent_at: float
    assignments: frozenset[int]


class Engine:
    """Changes in, requests out, answers in, watermarks out."""

    def __init__(self, limits: EngineLimits, item_key: Sequence[str] = ITEM_KEY) -> None:
        self.limits = limits
        self._held: dict[int, _Held] = {}
        self._windows = Windows(item_key)
        self._deadlines: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}
        self._ready: set[str] = set()
        self._flights: dict[int, _Flight] = {}
        self._busy: set[str] = set()
        self._pace = Pace(limits.max_in_flight)
        self._requests = 0
        self._unconfirmed: set[tuple[int, int]] = set()
        self._covered: list[pl.DataFrame] = []
        """Assignments and offsets that jobIDs cover, to be closed together: work a commit, not a request."""
        self._over_budget = False
        self._ratio = RejectRatio(limits.rejected_ratio_max)
        self.sending_stopped = ""
        """Why nothing is sent (the OMS refuses our credentials, say); "" while all is well."""
        self.ever_accepted = False

    # Partitions

    def assigned(self, assignment: int, *, start: int | None, mark: int | None) -> None:
        """Take a partition.

        ``start`` is its committed offset (None: not known, so nothing is committed before its first rows), ``mark`` the
        read mark found beside it.
        """
        held = self._held[assignment] = _Held(OpenOffsets(), mark or 0)
        if start is not None:
            held.offsets.start(start)
            held.mark = max(held.mark, start)

    def forget(self, assignments: Collection[int]) -> None:
        """Drop all pending rows of these assignments: revoked (after the commit) or lost."""
        gone = [number for number in assignments if self._held.pop(number, None)]
        if gone:
            self._windows.forget(gone)
            self._unconfirmed = {dead for dead in self._unconfirmed if dead[0] in self._held}

    @property
    def assignments(self) -> Collection[int]:
        return self._held.keys()

    # Changes in

    def add(
        self,
        frame: pl.DataFrame,
        rejects: Iterable[tuple[int, int]],
        next_offsets: Mapping[int, int],
        now: float,
    ) -> bool:
        """Take a frame of changes, the rejects (assignment and offset), and how far each assignment is read by them.

        Every assignment of a row or reject has its entry in ``next_offsets``; what belongs to one that is gone is
        ignored. Returns whether too many of the latest changes are rejected for the service to go on.
        """
        stale = [number for number in next_offsets if number not in self._held]
        if stale:
            frame = frame.filter(~pl.col(ASSIGNMENT).is_in(stale))
        rejected = [(number, offset) for number, offset in rejects if number in self._held]
        owners, opened = frame[ASSIGNMENT], frame[OFFSET]
        for number, next_offset in next_offsets.items():
            held = self._held.get(number)
            if held is None:
                continue
            offsets = opened.filter(owners == number)
            bad = [offset for owner, offset in rejected if owner == number]
            held.offsets.give(pl.concat([offsets, pl.Series(bad, dtype=pl.Int64)]) if bad else offsets, next_offset)
            held.mark = max(held.mark, held.offsets.next_offset or 0)
        self._unconfirmed.update(rejected)
        for window in self._windows.add(frame.with_columns(pl.lit(now).alias(ARRIVED))):
            self._watch(window)
        return self._ratio.add(frame.height + len(rejected), len(rejected))

    def dead_lettered(self, confirmed: Iterable[tuple[int, int]]) -> None:
        """The broker has confirmed these dead letters, by assignment and offset."""
        for number, offset in confirmed:
            self._unconfirmed.discard((number, offset))
            if number in self._held:
                self._held[number].offsets.close(pl.Series([offset], dtype=pl.Int64))

    # Requests out

    def due(self, now: float) -> list[Request]:
        """Let a round go: what the planner says, oldest deadline first. Its requests are in flight from here on."""
        self._ripen(now)
        requests: list[Request] = []
        slots = self._pace.slots(len(self._flights))
        if slots <= 0 or now < self._pace.oms_free_at() or not self._ready:
            return requests
        for window in sorted(self._sendable(now), key=lambda window: window.first_arrived):
            if len(requests) == slots:
                break
            request = self._take(window, now)
            if request:
                requests.append(request)
        return requests

    def give_back(self, requests: Iterable[Request]) -> None:
        """The round may not leave (its commit was refused): nothing was sent, the rows take their place again."""
        for request in requests:
            self._land(self._flights[request.number].request)
            self._put_back(request)

    def next_deadline(self) -> float | None:
        """When ``due`` may have something next, as far as time alone decides; None: other things must happen first."""
        if self._pace.slots(len(self._flights)) <= 0:
            return None
        times = [self._pace.free_at(location) for location in self._ready if location not in self._busy]
        if self._deadlines:
            times.append(self._deadlines[0][0] + self.limits.max_age_seconds)
        return max(min(times), self._pace.oms_free_at()) if times else None

    # Answers in

    def attempt(self, number: int) -> int:
        """How often in a row this request's location, or the OMS as a whole, has failed before this answer."""
        return self._pace.attempt(self._flights[number].request.location)

    def answered(self, number: int, decision: Decision, now: float) -> Request:
        """Settle a request in flight; returns it. Rows of assignments that are gone count for nothing."""
        flight = self._flights[number]
        location = flight.request.location
        self._land(flight.request)
        match decision:
            case Accepted():
                self._accept(flight.request)
                return flight.request
            case Again():
                if decision.after_seconds:  # given back unsent, it is no failure of the location
                    self._pace.rest(location, now + decision.after_seconds)
                if decision.whole_oms:
                    self._pace.oms_failed(sent_at=flight.sent_at, now=now, rest_seconds=decision.after_seconds)
            case Hold():
                self._pace.rest(location, now + decision.seconds, queued=flight.assignments)
                self._pace.oms_failed(sent_at=flight.sent_at, now=now, rest_seconds=0.0)
            case Refused():
                self._pace.rest(location, now)
            case Stop():
                self.sending_stopped = decision.detail
                self._pace.oms_failed(sent_at=flight.sent_at, now=now, rest_seconds=self.limits.stopped_retry_seconds)
            case _:
                assert_never(decision)
        self._put_back(flight.request)
        return flight.request

    # Watermarks out

    def commit_points(self, now: float) -> list[CommitPoint]:
        """What may be committed now, for every assignment whose start is known."""
        under_way = {number for flight in self._flights.values() for number in flight.assignments}
        under_way |= self._pace.held_assignments(now)
        self._close_covered()
        points = []
        for number, held in self._held.items():
            watermark = held.offsets.watermark
            if watermark is not None:
                points.append(CommitPoint(number, watermark, max(held.mark, watermark), number in under_way))
        return points

    def next_offset(self, assignment: int) -> int | None:
        """How far the engine has been given the partition; None while its start is not known."""
        return self._held[assignment].offsets.next_offset

    # What the loop and the status page want to know

    def to_pause(self) -> frozenset[int]:
        """The assignments that should not be polled now: over the budget of rows, or too far past their watermark."""
        limit = self.limits.max_pending_changes
        self._over_budget = self.pending_changes > (RESUME_SHARE * limit if self._over_budget else limit)
        if any(map(self._is_far, self._held.values())):
            self._close_covered()
        for held in self._held.values():
            held.far = self._is_far(held)
        if self._over_budget or self.sending_stopped:
            return frozenset(self._held)
        return frozenset(number for number, held in self._held.items() if held.far)

    def in_flight_with(self, assignments: Collection[int]) -> int:
        """How many requests in flight have rows of these assignments."""
        return sum(not flight.assignments.isdisjoint(assignments) for flight in self._flights.values())

    @property
    def unconfirmed(self) -> int:
        """Dead letters whose confirmation is awaited."""
        return len(self._unconfirmed)

    @property
    def pending_changes(self) -> int:
        """Rows in windows and in flight: what the budget bounds."""
        return self._windows.rows + sum(flight.request.taken.height for flight in self._flights.values())

    @property
    def pending_locations(self) -> int:
        return len(self._windows)

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    def oldest_arrival(self) -> float | None:
        """When the oldest pending change was read, in windows or in flight; None without any."""
        times = [window.first_arrived for window in self._windows]
        times += [flight.request.taken.first_arrived() for flight in self._flights.values()]
        return min(times, default=None)

    def held_locations(self, now: float) -> int:
        """Locations held after an unknown outcome."""
        return self._pace.held_locations(now)

    @property
    def oms_failures(self) -> int:
        """Failures of the OMS as a whole since its last jobID."""
        return self._pace.oms_failures

    # Inside

    def _watch(self, window: Window) -> None:
        """See to it that the window is looked at when it is full, and when its oldest change is due."""
        location = window.location
        if window.items_max >= self.limits.items.flush_items:
            self._ready.add(location)
        if window.first_arrived < self._queued.get(location, float("inf")):
            self._queued[location] = window.first_arrived
            heapq.heappush(self._deadlines, (window.first_arrived, location))

    def _ripen(self, now: float) -> None:
        """Move windows whose oldest change is due from the queue of deadlines to the ready ones."""
        while self._deadlines and self._deadlines[0][0] + self.limits.max_age_seconds <= now:
            arrived, location = heapq.heappop(self._deadlines)
            if self._queued.get(location) != arrived:
                continue
            del self._queued[location]
            window = self._windows.get(location)
            if window is None:
                continue
            if self._is_due(window, now):
                self._ready.add(location)
            else:
                self._watch(window)

    def _is_due(self, window: Window, now: float) -> bool:
        return window.first_arrived + self.limits.max_age_seconds <= now

    def _due_arrived(self, window: Window, now: float) -> float:
        """Rows that arrived until then are due: none while the oldest is not."""
        if not self._is_due(window, now):
            return float("-inf")
        soon = now - self.limits.max_age_seconds + self.limits.due_within_seconds
        return max(soon, window.first_arrived)

    def _sendable(self, now: float) -> list[Window]:
        found = []
        for location in list(self._ready):
            window = self._windows.get(location)
            if window is None:
                self._ready.discard(location)
            elif location not in self._busy and self._pace.free_at(location) <= now:
                found.append(window)
        return found

    def _take(self, window: Window, now: float) -> Request | None:
        location = window.location
        self._ready.discard(location)
        taken = self._windows.take(window, due_arrived=self._due_arrived(window, now), limits=self.limits.items)
        if taken is None or taken.plan.reason is None:
            self._watch(window)
            return None
        rest = self._windows.get(location)
        if rest:
            self._watch(rest)
        self._requests += 1
        request = Request(self._requests, location, taken.rows, taken.plan.items, taken.plan.reason)
        assignments = frozenset(taken.rows.column(ASSIGNMENT).unique().to_list())
        self._flights[request.number] = _Flight(request, now, assignments)
        self._busy.add(location)
        return request

    def _land(self, request: Request) -> None:
        del self._flights[request.number]
        self._busy.discard(request.location)

    def _accept(self, request: Request) -> None:
        self._covered.append(request.rows[[ASSIGNMENT, OFFSET]])
        self._pace.accepted(request.location)
        self.sending_stopped = ""
        self.ever_accepted = True

    def _is_far(self, held: _Held) -> bool:
        distance = (held.offsets.next_offset or 0) - (held.offsets.watermark or 0)
        return distance > self.limits.max_distance * (RESUME_SHARE if held.far else 1)

    def _close_covered(self) -> None:
        if not self._covered:
            return
        covered, self._covered = pl.concat(self._covered), []
        owners, offsets = covered[ASSIGNMENT], covered[OFFSET]
        for number in owners.unique().to_list():
            if number in self._held:
                self._held[number].offsets.close(offsets.filter(owners == number))

    def _put_back(self, request: Request) -> None:
        rows = request.rows
        gone = [number for number in rows[ASSIGNMENT].unique().to_list() if number not in self._held]
        ours = rows.filter(~pl.col(ASSIGNMENT).is_in(gone)) if gone else rows
        window = self._windows.put_back(request.location, ours)
        if window:
            self._watch(window)
            self._ready.add(request.location)
