"""The engine: changes in, requests out, answers in, commits out. It keeps the promises of docs/protocol.md.

No I/O here: the loop tells the engine what happened, and does what the engine decides. Its state is that of its parts:
``Partitions`` (offsets, recovery), ``Locations`` (windows, requests in flight, holds, bisections) and the
``CircuitBreaker``. Times are monotonic seconds, as the caller's ``now``; offsets are Kafka's.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import polars as pl

from consumer.core.changes.items import ARRIVED, ITEM_KEY, ChangeId
from consumer.core.changes.reject_ratio import RejectRatio
from consumer.core.limits import EngineLimits
from consumer.core.location.locations import Locations, Pending
from consumer.core.location.request import Refusal, Request
from consumer.core.oms.answers import Accepted, Answer, Decision, Hold, Refused, Retry, Stop, decide
from consumer.core.oms.breaker import CircuitBreaker
from consumer.core.oms.rate_limit import RateLimiter
from consumer.core.partition.partition import RESUME_SHARE
from consumer.core.partition.partitions import CommitPoint, Partitions


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a request.

    ``refusals`` are changes that must be dead-lettered now; each holds its offset back until that is confirmed.
    ``fatal_reason``: the OMS refuses the service itself and has never accepted anything, so waiting is pointless; None
    otherwise. ``too_many_refused``: the OMS refuses so many of the latest changes that the service should stop.
    """

    request: Request
    decision: Decision
    refusals: Sequence[Refusal] = ()
    fatal_reason: str | None = None
    too_many_refused: bool = False


class Engine:
    """The service's decisions. One thread uses it."""

    def __init__(self, limits: EngineLimits, item_key: Sequence[str] = ITEM_KEY) -> None:
        self.limits = limits
        self._items = limits.items
        self.partitions = Partitions(item_key, limits.max_uncommitted_offsets)
        self.locations = Locations(
            item_key,
            limits.items,
            max_age_seconds=limits.max_age_seconds,
            due_within_seconds=limits.due_within_seconds,
            bisection_requests_max=limits.bisection_requests_max,
            keep_current=self.partitions.drop_stale,
        )
        self.breaker = CircuitBreaker(limits.max_in_flight, RateLimiter(limits.max_requests_per_second))
        self._is_over_budget = False
        self._rejected_ratio = RejectRatio(limits.rejected_ratio_max)
        self._refused_ratio = RejectRatio(
            limits.rejected_ratio_max,
            changes_max=limits.refused_changes_max,
            changes_min=limits.refused_changes_min,
        )
        self._ever_accepted = False
        self.sending_stopped: str | None = None
        """Why nothing is sent, such as refused credentials; None while requests may leave."""

    # Partitions

    def assigned(
        self, assignment: int, *, start: int | None, read_up_to: int | None, in_doubt: bool = False, now: float = 0.0
    ) -> None:
        """Take a partition, which recovers first.

        ``start`` is its committed offset (None: not known, so nothing is committed before its first rows),
        ``read_up_to`` that of the commit's metadata (None: no member of the group has read it), ``in_doubt`` whether a
        request of the previous owner may still be queued at the OMS.
        """
        hold_seconds = self.limits.retry.unknown_hold_seconds if in_doubt else 0.0
        self.partitions.assign(assignment, start=start, read_up_to=read_up_to, in_doubt_until=now + hold_seconds)
        self._end_recoveries(now)

    def begin_revoke(self, assignments: Collection[int]) -> None:
        """These are about to be revoked: only answers to their requests are still expected."""
        self.partitions.begin_revoke(assignments)

    def forget(self, assignments: Collection[int], now: float) -> None:
        """Drop all pending rows of these assignments: revoked (after the commit) or lost."""
        gone = self.partitions.forget(assignments)
        if gone:
            self.locations.forget(gone, now)

    # Changes in

    def add(
        self,
        frame: pl.DataFrame,
        rejects: Iterable[ChangeId],
        next_offsets: Mapping[int, int],
        now: float,
        ends: Collection[int] = (),
        arrived: float | None = None,
    ) -> bool:
        """Take a frame of changes, the rejected changes, and how far each assignment was read by them.

        Every assignment of a row or reject has its entry in ``next_offsets``; what belongs to one that is gone is
        ignored. ``ends`` are those that were read to their partition's present end. The changes' age counts from
        ``arrived`` (None: from now). Returns whether so many of the latest changes are rejected that the service should
        stop.
        """
        frame = self.partitions.drop_stale(frame)
        rejected = [change_id for change_id in rejects if change_id.assignment in self.partitions]
        self.partitions.track(frame, rejected, next_offsets, ends)
        arrival = pl.lit(now if arrived is None else arrived).alias(ARRIVED)
        self.locations.add(self.partitions.hold_back(frame.with_columns(arrival)))
        self._end_recoveries(now)
        if self.pending_changes > self.limits.max_pending_changes:
            self._coalesce_in_place()
        return self._rejected_ratio.add(frame.height + len(rejected), len(rejected))

    def dead_lettered(self, confirmed: Iterable[ChangeId]) -> None:
        """The broker has confirmed these dead letters."""
        self.partitions.dead_lettered(confirmed)

    # Requests out

    def due(self, now: float) -> list[Request]:
        """Start a round: what the planner lets leave now, oldest first. Its requests are in flight from here on."""
        self._end_recoveries(now)
        if not self.locations.advance(now):
            return []
        permits = self.breaker.permits(self.locations.requests_in_flight, now)
        requests = self.locations.start_due(permits, now) if permits else []
        self.breaker.rate_limiter.spend(len(requests), now)
        return requests

    def give_back(self, requests: Iterable[Request], now: float) -> None:
        """The round may not leave, since its commit was refused: nothing was sent, the rows wait again."""
        for request in requests:
            self.locations.give_back(request.request_id, now)

    def next_deadline(self, now: float) -> float | None:
        """Earliest time at which ``due`` can return requests; None if it first needs an answer or new data."""
        permit_at = self.breaker.next_permit_at(self.locations.requests_in_flight, now)
        send_at = self.locations.next_deadline()
        times = [self.partitions.next_deadline()]
        if send_at is not None and permit_at is not None:
            times.append(max(send_at, permit_at))
        return min((time for time in times if time is not None), default=None)

    def set_flush_items(self, flush_items: int) -> None:
        """Change the number of items from which a window is full."""
        if flush_items != self._items.flush_items:
            self._items = replace(self._items, flush_items=flush_items)
            self.locations.set_flush_items(self._items)

    # Answers in

    def settle(self, request_id: int, answer: Answer, *, jitter: float, now: float) -> Settled:
        """Decide what an answer means for its request and for the OMS, and do it. ``jitter`` is random in 0 to 1."""
        attempt = max(self.locations.failures(request_id), self.breaker.failures)
        return self.apply(request_id, decide(answer, attempt=attempt, jitter=jitter, limits=self.limits.retry), now)

    def apply(self, request_id: int, decision: Decision, now: float) -> Settled:
        """Carry out the decision on a request in flight.

        Rows of assignments that are gone are ignored; those of a request that was not accepted wait again (rule 16).
        """
        in_flight = self.locations.in_flight(request_id)
        request, sent_at = in_flight.request, in_flight.sent_at
        match decision:
            case Accepted():
                self.partitions.mark_accepted(request.rows)
                self._record_success(sent_at)
                self._ever_accepted, self.sending_stopped = True, None
                self._refused_ratio.add(request.taken.height, 0)
                return self._settled(request, decision, self.locations.accept(request_id, now))
            case Refused():
                # The OMS looked at the request, so it works: the fault is in the request's items.
                self._record_success(sent_at)
                refusals = self.locations.refuse(request_id, decision.detail, decision.named, now)
                return self._settled(request, decision, refusals)
            case Retry():
                self._retry(request_id, decision, sent_at, now)
            case Hold():
                self.locations.hold(request_id, now + decision.seconds, now)
                self._record_failure(sent_at, now, decision.breaker_seconds)
            case Stop():
                self.sending_stopped = decision.detail
                self.locations.give_back(request_id, now)
                self._record_failure(sent_at, now, self.limits.stopped_retry_seconds)
                return Settled(request, decision, fatal_reason=None if self._ever_accepted else decision.detail)
            case _:
                assert_never(decision)
        return Settled(request, decision)

    # Commits out

    def commit_points(self, now: float) -> list[CommitPoint]:
        """What may be committed now, for every assignment whose start is known (rules 5 and 6)."""
        return self.partitions.commit_points(self.locations.in_doubt(now), now)

    # Backpressure

    def update_backpressure(self) -> frozenset[int]:
        """Update the limits of what waits; returns the assignments that must not be polled now.

        That is all of them over the budget of rows, or those that are too far past their committable offset. A
        recovering partition is read up to its ``read_up_to`` however far that is; if several must be while there is no
        room, one at a time (rule 10). Pausing all would wait for ever: nothing of them may leave before.
        """
        limit = self.limits.max_pending_changes
        self._is_over_budget = self.pending_changes > (RESUME_SHARE * limit if self._is_over_budget else limit)
        if not self._is_over_budget:
            self.locations.allow_coalescing()
        self.partitions.update_limits()
        # Something must be pending to be tried, or the service would never find out that it may send again.
        if self.sending_stopped is not None and self.locations.rows:
            return frozenset(self.partitions.ids)
        reading_again = self.partitions.reading_again
        if self._is_over_budget:
            return frozenset(self.partitions.ids) - frozenset(sorted(reading_again)[:1])
        return frozenset(self.partitions.over_limit().difference(reading_again))

    # Questions

    @property
    def pending_changes(self) -> int:
        """Rows in windows, recovering and in flight: what the budget bounds."""
        return self.locations.rows + self.partitions.recovery_rows

    def pending_by_location(self) -> dict[str, Pending]:
        """What is pending per location. It walks over all of them: not for every turn of the loop."""
        pending = self.locations.pending()
        for location, changes, first_arrived in self.partitions.pending():
            pending.setdefault(location, Pending()).add(changes, first_arrived)
        return pending

    def oldest_arrival(self) -> float | None:
        """When the oldest pending change was read; None without any."""
        times = (self.locations.first_arrived(), self.partitions.first_arrived())
        return min((time for time in times if time is not None), default=None)

    @property
    def flush_items(self) -> int:
        """The number of items from which a window is full, at present."""
        return self._items.flush_items

    # Inside

    def _end_recoveries(self, now: float) -> None:
        for rows in self.partitions.end_recoveries(now):
            self.locations.add(rows)

    def _coalesce_in_place(self) -> None:
        """Make room: of an item that changed several times while it waits, the newest change is enough (rule 10)."""
        self.partitions.coalesce_recoveries()
        released = self.locations.coalesce()
        if released is not None:
            self.partitions.release(released)

    def _retry(self, request_id: int, decision: Retry, sent_at: float, now: float) -> None:
        if decision.after_seconds is None:
            self.locations.give_back(request_id, now)
        else:
            self.locations.back_off(request_id, now + decision.after_seconds, now)
            if decision.whole_oms:
                self._record_failure(sent_at, now, decision.after_seconds)
        if decision.over_quota:
            self.breaker.rate_limiter.on_throttled(sent_at=sent_at, now=now)

    def _settled(self, request: Request, decision: Decision, refusals: Sequence[Refusal]) -> Settled:
        """Changes that the OMS refuses for good stay uncovered until the broker has confirmed each dead letter."""
        too_many = False
        for refusal in refusals:
            self.partitions.mark_rejected(refusal.rows)
            too_many = self._refused_ratio.add(refusal.rows.height, refusal.rows.height)
        return Settled(request, decision, refusals, too_many_refused=too_many)

    def _record_success(self, sent_at: float) -> None:
        self.breaker.record_success(sent_at=sent_at)

    def _record_failure(self, sent_at: float, now: float, backoff_seconds: float) -> None:
        self.breaker.record_failure(sent_at=sent_at, now=now, backoff_seconds=backoff_seconds)
