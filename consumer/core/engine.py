"""The engine: changes in, requests out, answers in, commits out. It keeps the rules of docs/protocol.md.

No I/O here: the loop reports what happened, and carries out what the engine decides. Most of the state is in
``Partitions`` (offsets, recovery), ``Locations`` (windows, requests in flight, holds, bisections) and
``CircuitBreaker``. ``now`` is always the caller's monotonic time in seconds.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from consumer.core.backpressure import NEAR_SHARE, Backpressure
from consumer.core.changes.barriers import newest_barriers
from consumer.core.changes.blocks import SizeOf, frame_bytes
from consumer.core.changes.items import ARRIVED, ITEM_COLUMNS, ITEM_KEY, ChangeId
from consumer.core.changes.reject_ratio import RejectRatio
from consumer.core.limits import EngineLimits
from consumer.core.location.locations import Locations
from consumer.core.location.pending import Pending
from consumer.core.location.planner import plan_under_pressure, plan_whole_chunks
from consumer.core.location.request import Refusal, Request, superseded_refusals
from consumer.core.oms.answers import Answer, Decision
from consumer.core.oms.breaker import CircuitBreaker
from consumer.core.oms.job_schedule import JobResult
from consumer.core.oms.lost_answers import LostAnswer
from consumer.core.oms.rate_limit import RateLimiter
from consumer.core.oms.request_size import RequestSize
from consumer.core.oms.smart_refresh import SmartRefresh
from consumer.core.partition.partitions import CommitPoint, Partitions
from consumer.core.partition.uncommitted import UncommittedLimits
from consumer.core.settlement import Settled, Settlement

QUEUED_PER_SLOT: Final = 7
"""A round may start this many more requests per slot than slots are free. They wait at the client's workers, covered by
the same commit, so that a fast OMS need not wait for the next round."""

FREE_QUOTA_SHARE: Final = 0.25
"""Small windows leave early only while at least this share of the quota is left for other calls."""


class Engine:
    """All decisions of the service. Not thread-safe: the loop's thread owns it."""

    def __init__(self, limits: EngineLimits, item_key: Sequence[str] = ITEM_KEY, size_of: SizeOf = frame_bytes) -> None:
        """``size_of`` is the memory that a frame of changes takes."""
        self.limits = limits
        self._item_key = tuple(item_key)
        self._items = limits.items
        self.partitions = Partitions(
            item_key,
            UncommittedLimits(limits.max_uncommitted_offsets, limits.max_uncommitted_bytes),
            size_of,
            limits.coalescing_bytes_max,
        )
        self.smart = SmartRefresh(limits.list_lag_seconds) if limits.smart_refresh else None
        """Which locations may use smart refresh (rule 34); None: all requests go to plain refresh."""
        self.locations = Locations(
            item_key,
            limits.items,
            max_age_seconds=limits.max_age_seconds,
            due_within_seconds=limits.due_within_seconds,
            bisection_requests_max=limits.bisection_requests_max,
            keep_current=self.partitions.drop_stale,
            size_of=size_of,
            coalescing_bytes_max=limits.coalescing_bytes_max,
            location_bytes=limits.location_bytes,
            set_aside=limits.set_aside,
            may_use_smart=self.smart.may_use if self.smart else None,
            small=limits.small,
        )
        self.breaker = CircuitBreaker(limits.max_in_flight, RateLimiter(limits.max_requests_per_second))
        self._backpressure = Backpressure(self.partitions, limits)
        self.request_size = RequestSize(limits.request_bytes_max, limits.request_bytes_max, limits.credible_bytes_min)
        self.locations.body_sizes.bytes_max = limits.request_bytes_max
        self._settlement = Settlement(
            limits, self.partitions, self.locations, self.breaker, self.request_size, item_key, self.smart
        )
        self._rejected_ratio = RejectRatio(limits.rejected_ratio_max)
        self._is_job_queue_full = False
        self._superseded_in_recovery: list[Refusal] = []

    # Partitions

    def assigned(
        self,
        assignment_id: int,
        *,
        start: int | None,
        read_up_to: int | None,
        in_doubt: bool = False,
        now: float = 0.0,
    ) -> None:
        """A partition was assigned. Its changes are sent once it has recovered (rule 7).

        ``start`` is the committed offset; None if it is not known, and then nothing is committed before the first
        batch. ``read_up_to`` and ``in_doubt`` are from the commit's metadata: how far previous owners have read (None:
        the group has no commit), and whether the OMS may still queue one of their requests.
        """
        hold_seconds = self.limits.retry.unknown_hold_seconds if in_doubt else 0.0
        self.partitions.assign(assignment_id, start=start, read_up_to=read_up_to, in_doubt_until=now + hold_seconds)
        if self.smart:
            self.smart.assigned(now, now + hold_seconds)
        self._end_recoveries(now)

    def begin_revoke(self, assignment_ids: Collection[int]) -> None:
        """These assignments are being revoked. No more changes of them may be added; ``forget`` must follow."""
        self.partitions.begin_revoke(assignment_ids)

    def forget(self, assignment_ids: Collection[int], now: float) -> None:
        """Drop all pending changes of these assignments: they are revoked (and committed) or lost."""
        gone = self.partitions.forget(assignment_ids)
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
        barriers: pl.DataFrame | None = None,
    ) -> bool:
        """Add a frame of changes and the rejects that were decoded with it.

        ``next_offsets`` maps assignment ids to the offset after the last one read; every assignment of a row or reject
        must be in it. ``ends`` are the assignments that were read to the end of their log. Rows and rejects of
        assignments that have ended are ignored. The changes' age counts from ``arrived`` (None: from now).
        ``barriers`` are the rejects that are barriers, as read (``changes.barriers``): what they supersede must be
        dead-lettered (``take_superseded``). Returns whether so many of the latest changes are rejects that the service
        should stop.
        """
        frame = _present(frame)
        if any(assignment_id not in self.partitions for assignment_id in next_offsets):
            frame = self.partitions.drop_stale(frame)
        rejected = [change_id for change_id in rejects if change_id.assignment_id in self.partitions]
        self.partitions.track(frame, rejected, next_offsets, ends)
        arrival = pl.lit(now if arrived is None else arrived).alias(ARRIVED)
        self.locations.add(self.partitions.hold_back(frame.with_columns(arrival)))
        if barriers is not None and barriers.height:
            self._supersede(self.partitions.drop_stale(barriers), now)
        self._end_recoveries(now)
        if self.pending_bytes > NEAR_SHARE * self.limits.max_pending_bytes:
            self._coalesce_in_place()
        if self.recovery_does_not_fit:
            self.partitions.coalesce_recoveries(at_once=True)
        return self._rejected_ratio.add(frame.height + len(rejected), len(rejected))

    def take_superseded(self) -> list[Refusal]:
        """What barriers have superseded since the last call (rule 27).

        The caller must dead-letter it; its offsets stay open until ``dead_lettered`` confirms that.
        """
        taken = self._superseded_in_recovery + self.locations.superseded.take()
        self._superseded_in_recovery = []
        current = [replace(refusal, rows=self.partitions.drop_stale(refusal.rows)) for refusal in taken]
        superseded = [refusal for refusal in current if refusal.rows.height]
        for refusal in superseded:
            self.partitions.mark_rejected(refusal.rows)
        return superseded

    def dead_lettered(self, confirmed: Iterable[ChangeId]) -> None:
        """The broker has confirmed these dead letters."""
        self.partitions.dead_lettered(confirmed)

    # Requests out

    def due(self, now: float) -> list[Request]:
        """Start a round: returns the requests that are due and permitted now, oldest first.

        They count as in flight from here on. The caller must commit, and then send them or ``give_back`` all of them.
        """
        self._end_recoveries(now)
        requests = self._start_due(now)
        small_at = self._next_small_at(now, started=len(requests))
        if small_at is not None and small_at <= now and not self.waits_for_jobs:
            requests += self._start_small(len(requests), now)
        self.breaker.rate_limiter.spend(len(requests), now)
        return requests

    def _start_due(self, now: float) -> list[Request]:
        """Start requests with what is full or due, and with what must leave for others to be read."""
        keep_bytes, resume_offsets = self._backpressure.keep_bytes, self._backpressure.resume_offsets
        is_ready = self.locations.advance(now) or keep_bytes is not None or resume_offsets
        if not is_ready or self.waits_for_jobs:
            return []
        queued_max = min(self._settlement.accepted_since_round, QUEUED_PER_SLOT * self.limits.max_in_flight)
        permits = self.breaker.permits(self.locations.requests_in_flight, now, queued_max=queued_max)
        if not permits:
            return []
        self._settlement.accepted_since_round = 0
        requests = self.locations.start_due(permits, now)
        early = self.locations.early
        if resume_offsets and len(requests) < permits:
            plan = plan_under_pressure if self._backpressure.waits_for_offsets else plan_whole_chunks
            requests += early.start_blocking(permits - len(requests), resume_offsets, now, plan)
        if keep_bytes is not None and len(requests) < permits:
            free_bytes = self.pending_bytes - self.locations.in_flight_bytes - keep_bytes
            requests += early.start_fullest(permits - len(requests), free_bytes, now)
        return requests

    def _start_small(self, started: int, now: float) -> list[Request]:
        """Start requests with few changes of quiet locations."""
        permits = self.breaker.permits(self.locations.requests_in_flight, now)
        spare = self.breaker.rate_limiter.spare(FREE_QUOTA_SHARE, now) - started
        return self.locations.early.start_small(int(min(permits, spare)), now)

    def _next_small_at(self, now: float, *, started: int = 0) -> float | None:
        """When few changes of a quiet location may leave; None while something else needs the OMS.

        That is while a partition has a backlog, or too little of the quota is left after ``started`` requests.
        """
        small_at = self.locations.early.next_small_at()
        if small_at is None or self.partitions.behind(0.0):
            return None
        return small_at if self.breaker.rate_limiter.spare(FREE_QUOTA_SHARE, now) - started >= 1.0 else None

    def give_back(self, requests: Iterable[Request], now: float) -> None:
        """Undo ``due``: the commit was refused, so nothing was sent and the changes return to their windows."""
        for request in requests:
            self.locations.give_back(request.request_id, now)

    def next_deadline(self, now: float) -> float | None:
        """Earliest time at which ``due`` can return requests; None if it first needs an answer or new data."""
        permit_at = self.breaker.next_permit_at(self.locations.requests_in_flight, now)
        send_at = self.locations.next_deadline()
        times = [self.partitions.next_deadline()]
        if send_at is not None and permit_at is not None and not self.waits_for_jobs:
            times.append(max(send_at, permit_at))
        small_at = self._next_small_at(now)
        if small_at is not None and permit_at is not None and not self.waits_for_jobs:
            times.append(max(small_at, permit_at))
        return min((time for time in times if time is not None), default=None)

    def set_job_queue_full(self, *, full: bool) -> None:
        """Whether the OMS has so many unfinished jobs that nothing may leave before some have ended (rule 22)."""
        self._is_job_queue_full = full

    def bytes_max(self, request: Request) -> int | None:
        """The largest body that this request may have (rule 25); None: any."""
        return self.request_size.bytes_max_for(can_shrink=request.can_shrink)

    @property
    def waits_for_jobs(self) -> bool:
        """Nothing leaves because of that. A probe leaves all the same: until it succeeds no job is asked about."""
        return self._is_job_queue_full and not self.breaker.failures

    def set_flush_items(self, flush_items: int) -> None:
        """Change the number of items that makes a window full."""
        if flush_items != self._items.flush_items:
            self._items = replace(self._items, flush_items=flush_items)
            self.locations.set_flush_items(self._items)

    # Answers in

    def settle(self, request_id: int, answer: Answer, *, jitter: float, now: float) -> Settled:
        """Decide what follows from an answer, and apply it. ``jitter`` is random in 0 to 1."""
        return self._settlement.settle(request_id, answer, jitter=jitter, now=now)

    def apply(self, request_id: int, decision: Decision, now: float) -> Settled:
        """Apply a decision to a request in flight: see ``Settlement.apply``."""
        return self._settlement.apply(request_id, decision, now)

    def lost_answers(self, now: float) -> list[LostAnswer]:
        """Requests whose job may end a hold early: see ``Settlement.lost_answers``."""
        return self._settlement.lost_answers(now)

    def end_hold(self, lost: LostAnswer, now: float) -> float | None:
        """See ``Settlement.end_hold``."""
        return self._settlement.end_hold(lost, now)

    def job_ended(self, result: JobResult, now: float) -> None:
        """A job of an accepted request has ended, or is not followed any more."""
        if self.smart:
            self.smart.job_ended(result.job.job_id, result.outcome, now)

    def inherits_doubt(self, now: float) -> bool:
        """Whether a partition's last owner may have left a request that the OMS still queues."""
        return self.partitions.any_in_doubt(now)

    def end_set_aside(self, now: float) -> list[Refusal]:
        """What must be dead-lettered because its location was set aside for too long (rule 30).

        Nothing while the OMS may refuse everybody. The caller must dead-letter it; its offsets stay open until
        ``dead_lettered`` confirms that.
        """
        if self.sending_stopped is not None or self.breaker.failures:
            return []
        refusals = self.locations.end_set_aside(self.partitions.are_far, now)
        for refusal in refusals:
            self.partitions.mark_rejected(refusal.rows)
        return refusals

    # Commits out

    def commit_points(self, now: float) -> list[CommitPoint]:
        """What may be committed now, for each assignment whose start is known (rules 5 and 6)."""
        return self.partitions.commit_points(self.locations.in_doubt(now), now)

    # Backpressure

    def update_backpressure(self, now: float, *, memory_pressure: bool = False) -> frozenset[int]:
        """Apply the limits of what may be pending (``Backpressure``). Returns the assignments that must be paused now.

        ``memory_pressure``: the process is close to its container's memory limit, which counts as over the budget.
        While the OMS refuses the service itself, everything is paused as soon as anything is pending. While it refuses
        locations, reading goes on: others may be accepted.
        """
        # Without rows their size may be a rounding error, and waiting for that to leave would be a deadlock.
        window_bytes = self.locations.size_bytes if self.locations.rows else 0.0
        paused = self._backpressure.update(window_bytes, now, is_memory_short=memory_pressure)
        if not self._backpressure.is_near_budget:
            self.locations.allow_coalescing()
        # Without pending changes there would be nothing to probe with, and sending would never resume.
        if self._settlement.is_access_refused and self.locations.rows:
            return frozenset(self.partitions.ids)
        return paused

    # Questions

    @property
    def sending_stopped(self) -> str | None:
        """Why the OMS refuses all requests, such as wrong credentials, until it accepts one again; None otherwise."""
        return self._settlement.sending_stopped

    @property
    def is_over_budget(self) -> bool:
        """Whether nothing is read until changes have left, as of the last ``update_backpressure``."""
        return self._backpressure.is_over_budget

    @property
    def must_free_memory(self) -> bool:
        """Whether changes must leave so that reading can go on, as of the last ``update_backpressure``."""
        return self._backpressure.keep_bytes is not None or self._backpressure.waits_for_offsets

    @property
    def recovery_does_not_fit(self) -> bool:
        """Partitions that were taken over have more to read again than fits: the process must stop.

        Nothing of it can be sent before all of a partition is read, and newer changes have been coalesced already.
        """
        recovering = self.partitions.recovery_bytes(self.partitions.catching_up)
        return recovering > self.limits.max_recovery_bytes

    @property
    def pending_changes(self) -> int:
        """Number of changes in windows, in flight and in recovery."""
        return self.locations.rows + self.partitions.recovery_rows

    @property
    def pending_bytes(self) -> float:
        """Memory of the changes in windows, in flight and in recovery. Bounded by ``max_pending_bytes``."""
        return self.locations.size_bytes + self.partitions.size_bytes

    def pending_by_location(self) -> dict[str, Pending]:
        """Pending changes by location. Visits all locations, which is too slow for every turn of the loop."""
        pending = self.locations.pending()
        for location, changes, first_arrived in self.partitions.pending():
            pending.setdefault(location, Pending()).add(changes, first_arrived)
        return pending

    def oldest_arrival(self) -> float | None:
        """When the oldest pending change was read; None without one."""
        times = (self.locations.first_arrived(), self.partitions.first_arrived())
        return min((time for time in times if time is not None), default=None)

    @property
    def flush_items(self) -> int:
        """The number of items that makes a window full, at present."""
        return self._items.flush_items

    # Inside

    def _supersede(self, barriers: pl.DataFrame, now: float) -> None:
        newest = newest_barriers(barriers, self._item_key)
        for rows, superseded in self.partitions.take_superseded(newest):
            self._superseded_in_recovery += superseded_refusals(rows, superseded)
        self.locations.supersede(newest, now)

    def _end_recoveries(self, now: float) -> None:
        for rows in self.partitions.end_recoveries(now):
            self.locations.add(rows)

    def _coalesce_in_place(self) -> None:
        """Make room: drop pending changes that a newer change of their item makes redundant (rule 10)."""
        self.partitions.coalesce_recoveries()
        for released in self.locations.coalesce():
            self.partitions.release(released)


def _present(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame without the columns of items that have no value: they would take memory while rows are held back."""
    empty = {name for name in frame.columns if name in ITEM_COLUMNS and frame[name].null_count() == frame.height}
    return frame[[name for name in frame.columns if name not in empty]]
