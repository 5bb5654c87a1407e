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
6. The read mark of an assignment never decreases, and nothing of a partition leaves before it is read up to the mark
   of its last owner, nor while a request of that owner may still be under way (gathering).

Times are monotonic seconds, as the caller's ``now``; offsets are Kafka's.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

import polars as pl

from consumer.core.changes.blocks import Rows
from consumer.core.changes.items import ARRIVED, ITEM_KEY, ChangeId
from consumer.core.changes.reject_ratio import RejectRatio
from consumer.core.location.backoff import LocationBackoff
from consumer.core.location.bisection import Bisections, Suspects
from consumer.core.location.in_flight import Flight, InFlightRequests
from consumer.core.location.planner import SendReason
from consumer.core.location.request import EngineLimits, Refusal, Request
from consumer.core.location.schedule import FlushSchedule
from consumer.core.location.window import Window, Windows
from consumer.core.oms.answers import Accepted, Decision, Hold, Refused, Retry, Stop
from consumer.core.oms.breaker import CircuitBreaker
from consumer.core.oms.rate_limit import RateLimiter
from consumer.core.partition.partitions import RESUME_SHARE, CommitPoint, Partitions
from consumer.core.partition.recovery import Recoveries
from consumer.core.pending import Pending, pending_by_location

COALESCE_GROWTH = 1.25
"""Windows are coalesced in place again when there are so many times more rows than the last time left."""


class Engine:
    """Changes in, requests out, answers in, watermarks out."""

    def __init__(self, limits: EngineLimits, item_key: Sequence[str] = ITEM_KEY) -> None:
        self.limits = limits
        self._item_limits = limits.items
        self._partitions = Partitions(limits.max_uncommitted_offsets)
        self._windows = Windows(item_key)
        self._gatherings = Recoveries(item_key)
        self._agenda = FlushSchedule(
            self._windows,
            flush_items=limits.items.flush_items,
            max_age_seconds=limits.max_age_seconds,
            due_within_seconds=limits.due_within_seconds,
        )
        self._flights = InFlightRequests()
        self._pace = LocationBackoff()
        self.health = CircuitBreaker(limits.max_in_flight, RateLimiter(limits.max_requests_per_second))
        """How the OMS is; for others to ask, and to tell of calls of theirs."""
        self._narrowings = Bisections(
            item_key, chunk_items=limits.items.chunk_items, requests_max=limits.bisection_requests_max
        )
        self._requests = 0
        self._refusals: list[Refusal] = []
        self._over_budget = False
        self._coalesce_from = 0
        self._ratio = RejectRatio(limits.rejected_ratio_max)
        self._refused_ratio = RejectRatio(
            limits.rejected_ratio_max,
            changes_max=limits.refused_changes_max,
            changes_min=limits.refused_changes_min,
        )
        self.too_many_refused = False
        """Of the latest changes the OMS refused so many that the service should not go on."""
        self.sending_stopped = ""
        """Why nothing is sent (the OMS refuses our credentials, say); "" while all is well."""
        self.ever_accepted = False

    # Partitions

    def assigned(
        self, assignment: int, *, start: int | None, mark: int | None, open_: bool = False, now: float = 0.0
    ) -> None:
        """Take a partition: it gathers first.

        ``start`` is its committed offset (None: not known, so nothing is committed before its first rows), ``mark`` the
        read mark found beside it (None: no member of the group has read it), ``open_`` whether a request of its last
        owner may still be under way.
        """
        self._partitions.assigned(assignment, start=start, mark=mark)
        open_until = now + self.limits.unknown_hold_seconds if open_ else now
        self._gatherings.begin(assignment, mark=mark or 0, open_until=open_until, start=start)
        self._end_gathering(now)

    def forget(self, assignments: Collection[int]) -> None:
        """Drop all pending rows of these assignments: revoked (after the commit) or lost."""
        gone = self._partitions.forget(assignments)
        if gone:
            self._gatherings.forget(gone)
            self._windows.forget(gone)
            self._keep_suspects()

    @property
    def assignments(self) -> Collection[int]:
        return self._partitions.numbers

    # Changes in

    def add(
        self,
        frame: pl.DataFrame,
        rejects: Iterable[ChangeId],
        next_offsets: Mapping[int, int],
        now: float,
        ends: Collection[int] = (),
    ) -> bool:
        """Take a frame of changes, the rejects (assignment and offset), and how far each assignment is read by them.

        Every assignment of a row or reject has its entry in ``next_offsets``; what belongs to one that is gone is
        ignored. ``ends`` are those that were read to their partition's present end. Returns whether too many of the
        latest changes are rejected for the service to go on.
        """
        frame = self._partitions.ours(frame)
        rejected = [change_id for change_id in rejects if change_id.assignment in self._partitions]
        self._partitions.give(frame, rejected, next_offsets)
        self._put(self._gatherings.keep(frame.with_columns(pl.lit(now).alias(ARRIVED))))
        self._gatherings.read(next_offsets, ends)
        self._end_gathering(now)
        if self.pending_changes > self.limits.max_pending_changes:
            self._coalesce_in_place()
        return self._ratio.add(frame.height + len(rejected), len(rejected))

    def dead_lettered(self, confirmed: Iterable[ChangeId]) -> None:
        """The broker has confirmed these dead letters, by assignment and offset."""
        self._partitions.dead_lettered(confirmed)

    # Requests out

    def due(self, now: float) -> list[Request]:
        """Let a round go: what the planner says, oldest deadline first. Its requests are in flight from here on."""
        self._end_gathering(now)
        self._agenda.ripen(now)
        requests: list[Request] = []
        slots = self.health.slots(len(self._flights), now) if self._agenda.ready else 0
        if not slots:
            return requests
        for window in sorted(self._sendable(now), key=lambda window: (window.first_arrived, window.location)):
            if len(requests) == slots:
                break
            request = self._take(window, now)
            if request:
                requests.append(request)
        self.health.quota.spend(len(requests), now)
        return requests

    def give_back(self, requests: Iterable[Request]) -> None:
        """The round may not leave (its commit was refused): nothing was sent, the rows take their place again."""
        for request in requests:
            self._flights.land(request.request_id)
            self._put_back(request)

    def next_deadline(self, now: float) -> float | None:
        """When ``due`` may have something next, as far as time alone decides; None: other things must happen first."""
        oms_free_at = self.health.free_at(len(self._flights), now)
        times = [self._pace.free_at(location) for location in self._agenda.ready if not self._flights.at(location)]
        next_age = self._agenda.next_deadline()
        if next_age is not None:
            times.append(next_age)
        sends_at = max(min(times), oms_free_at) if times and oms_free_at is not None else None
        gathered_at = self._gatherings.next_deadline()
        return min((at for at in (sends_at, gathered_at) if at is not None), default=None)

    def aim(self, flush_items: int) -> None:
        """Windows are full from another number of items on, as the OMS's queue allows."""
        if flush_items != self._item_limits.flush_items:
            self._item_limits = replace(self._item_limits, flush_items=flush_items)
            self._agenda.aim(flush_items)

    # Answers in

    def attempt(self, number: int) -> int:
        """How often in a row this request's location, or the OMS as a whole, has failed before this answer."""
        return max(self._pace.attempt(self._flights[number].request.location), self.health.failures)

    def answered(self, number: int, decision: Decision, now: float) -> Request:
        """Settle a request in flight; returns it. Rows of assignments that are gone count for nothing."""
        flight = self._flights.land(number)
        location = flight.request.location
        match decision:
            case Accepted():
                self._accept(flight)
                return flight.request
            case Retry():
                if decision.after_seconds:  # given back unsent, it is no failure of the location
                    self._pace.rest(location, now + decision.after_seconds)
                if decision.whole_oms:
                    self.health.failed(sent_at=flight.sent_at, now=now, rest_seconds=decision.after_seconds)
                if decision.over_quota:
                    self.health.quota.over(sent_at=flight.sent_at, now=now)
            case Hold():
                self._pace.rest(location, now + decision.seconds, queued=flight.assignments)
                self.health.failed(sent_at=flight.sent_at, now=now, rest_seconds=decision.oms_rest_seconds)
            case Refused():
                self._refuse(flight, decision)
                return flight.request
            case Stop():
                self.sending_stopped = decision.detail
                self.health.failed(sent_at=flight.sent_at, now=now, rest_seconds=self.limits.stopped_retry_seconds)
            case _:
                assert_never(decision)
        self._put_back(flight.request)
        return flight.request

    def refusals(self) -> list[Refusal]:
        """The changes that were found since the last call to be refused for good; they await ``dead_lettered``."""
        refusals, self._refusals = self._refusals, []
        return refusals

    # Watermarks out

    def commit_points(self, now: float) -> list[CommitPoint]:
        """What may be committed now, for every assignment whose start is known (rules 5 and 6)."""
        under_way = self._flights.assignments()
        under_way |= self._pace.held_assignments(now)
        under_way |= self._gatherings.waiting(now)  # what we inherited may still be queued, whoever comes after us
        return self._partitions.commit_points(under_way)

    def next_offset(self, assignment: int) -> int | None:
        """How far the engine has been given the partition; None while its start is not known."""
        return self._partitions.next_offset(assignment)

    # What the loop and the status page want to know

    def to_pause(self) -> frozenset[int]:
        """The assignments that should not be polled now: over the budget of rows, or too far past their watermark.

        A partition is read up to its mark whatever its distance (rule 10); of several that must be, one at a time while
        there is no room. Pausing them all would wait for ever: nothing of them may leave before.
        """
        limit = self.limits.max_pending_changes
        self._over_budget = self.pending_changes > (RESUME_SHARE * limit if self._over_budget else limit)
        if not self._over_budget:
            self._coalesce_from = 0
        # Something must be there to be tried, or sending would never be found to work again.
        if self.sending_stopped and (self._windows.rows or len(self._flights)):
            return frozenset(self.assignments)
        if self._over_budget:
            return frozenset(self.assignments) - {self._gatherings.to_read_on()}
        return frozenset(self._partitions.far() - self._gatherings.unread())

    def in_flight_with(self, assignments: Collection[int]) -> int:
        """How many requests in flight have rows of these assignments."""
        return self._flights.with_rows_of(assignments)

    @property
    def unconfirmed(self) -> int:
        """Dead letters whose confirmation is awaited."""
        return self._partitions.unconfirmed

    @property
    def pending_changes(self) -> int:
        """Rows in windows, gathered and in flight: what the budget bounds."""
        return self._windows.rows + self._gatherings.rows + self._flights.rows

    @property
    def pending_locations(self) -> int:
        return len(self._windows)

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    def pending_by_location(self) -> dict[str, Pending]:
        """What is pending of each location. It walks over all of them: nothing for every turn."""
        return pending_by_location(self._windows, self._flights, self._gatherings)

    def oldest_arrival(self) -> float | None:
        """When the oldest pending change was read, in windows or in flight; None without any."""
        in_windows = min((window.first_arrived for window in self._windows), default=None)
        times = (in_windows, self._flights.first_arrived(), self._gatherings.first_arrived())
        return min((time for time in times if time is not None), default=None)

    def held_locations(self, now: float) -> int:
        """Locations held after an unknown outcome."""
        return self._pace.held_locations(now)

    @property
    def oms_failures(self) -> int:
        """Failures of the OMS as a whole since it was last well."""
        return self.health.failures

    @property
    def bisecting_locations(self) -> int:
        """Locations of which a refused request is being narrowed down."""
        return len(self._narrowings)

    @property
    def flush_items(self) -> int:
        """From how many items on a window is full, at present."""
        return self._item_limits.flush_items

    @property
    def gathering(self) -> Collection[int]:
        """The assignments that send nothing yet, as they read again what their last owner had read."""
        return self._gatherings.numbers

    # Inside

    def _put(self, rows: pl.DataFrame) -> None:
        for window in self._windows.add(rows):
            self._agenda.watch(window)

    def _end_gathering(self, now: float) -> None:
        for rows in self._gatherings.over(now):
            self._put(rows)

    def _coalesce_in_place(self) -> None:
        """Make room: of an item that changed several times while it waits, the newest change is enough.

        Gathered rows whenever they have doubled; windows only when they have grown clearly, for it takes a second a few
        million rows.
        """
        for free in self._gatherings.compact():
            self._partitions.close(free)
        if self._windows.rows >= self._coalesce_from:
            self._partitions.close(self._windows.coalesce())
            self._coalesce_from = int(COALESCE_GROWTH * self._windows.rows)
            for window in self._windows:
                self._agenda.watch(window)

    def _sendable(self, now: float) -> list[Window]:
        found = []
        for location in list(self._agenda.ready):
            window = self._windows.get(location)
            if window is None:
                self._agenda.ready.discard(location)
            elif not self._flights.at(location) and self._pace.free_at(location) <= now:
                found.append(window)
        return found

    def _take(self, window: Window, now: float) -> Request | None:
        """What the window lets go now, in flight; None: nothing."""
        location = window.location
        self._agenda.ready.discard(location)
        part = self._narrowings.part(location)
        if part:
            return self._take_part(window, part, now)
        due_arrived = self._agenda.due_arrived(window, now)
        taken = self._windows.take(window, due_arrived=due_arrived, limits=self._item_limits)
        if taken is None or taken.plan.reason is None:
            self._agenda.watch(window)
            return None
        return self._depart(location, taken.rows, taken.plan.items, taken.plan.reason, now)

    def _take_part(self, window: Window, part: Suspects, now: float) -> Request | None:
        rows = self._windows.take_part(window, part)
        if rows is None:
            self._narrowings.drop(window.location, part)
            return self._take(window, now)
        items = part.keys.height
        return self._depart(window.location, rows, items, SendReason.BISECTION, now, part)

    def _depart(
        self, location: str, rows: Rows, items: int, reason: SendReason, now: float, part: Suspects | None = None
    ) -> Request:
        rest = self._windows.get(location)
        if rest:
            self._agenda.watch(rest)
        self._requests += 1
        request = Request(self._requests, location, rows, items, reason)
        self._flights.depart(request, now, part)
        return request

    def _accept(self, flight: Flight) -> None:
        request = flight.request
        self._partitions.cover(request.rows)
        self._pace.well(request.location)
        self.health.well(sent_at=flight.sent_at)
        self.sending_stopped = ""
        self.ever_accepted = True
        self._refused_ratio.add(request.taken.height, 0)
        self._narrowings.accepted(request.location, flight.part, request.rows)
        self._go_on_narrowing(request.location)

    def _refuse(self, flight: Flight, decision: Refused) -> None:
        """A 400: the OMS is well, and looked at the request. Its suspects are narrowed down."""
        location = flight.request.location
        self._pace.well(location)
        self.health.well(sent_at=flight.sent_at)
        rows = self._partitions.ours(flight.request.rows)
        if rows.is_empty():
            return
        one_by_one = flight.part is not None and flight.part.one_by_one
        is_bad = self._narrowings.refused(
            location,
            flight.part,
            rows,
            alone=flight.request.taken.height == 1 and (one_by_one or flight.request.taken.beside is None),
            sent_at=flight.sent_at,
            detail=decision.detail,
            named=decision.named,
        )
        if is_bad:
            self._condemn(location, rows, decision.detail)
        else:
            self._put_back(flight.request)
        self._go_on_narrowing(location)

    def _go_on_narrowing(self, location: str) -> None:
        """Look at the location again for its next suspects, or give the rest of them up."""
        given_up = self._narrowings.given_up(location)
        window = self._windows.get(location)
        if given_up and window:
            rows = self._windows.take_arrived(window, given_up.keys, given_up.arrived_until)
            self._condemn(location, rows, given_up.detail)
        if self._narrowings.part(location) or given_up:
            self._agenda.ready.add(location)

    def _condemn(self, location: str, rows: pl.DataFrame, detail: str) -> None:
        """These changes are dead letters: they stay open until the broker has confirmed each."""
        self._partitions.condemn(rows)
        self._refusals.append(Refusal(location, rows, detail))
        self.too_many_refused = self._refused_ratio.add(rows.height, rows.height)

    def _keep_suspects(self) -> None:
        """Suspects without a pending change, in the window or in flight, are dropped."""
        for location in self._narrowings.locations():
            window = self._windows.get(location)
            frames = [self._windows.rows_of(window)] if window else []
            flight = self._flights.at(location)
            if flight:
                frames.append(self._partitions.ours(flight.request.rows))
            if frames:
                self._narrowings.keep(location, pl.concat(frames))
            else:
                self._narrowings.forget(location)

    def _put_back(self, request: Request) -> None:
        """Its rows, not its body, wait again: they are planned anew with what has come meanwhile (rule 16)."""
        window = self._windows.put_back(request.location, self._partitions.ours(request.rows))
        if window:
            self._agenda.watch(window)
            self._agenda.ready.add(request.location)
