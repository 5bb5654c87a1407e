"""One run of the service without Kafka and without the OMS: the engine on a virtual clock.

``PlannedRun`` is fed what was read and when. It sends what the engine lets leave, and every request is accepted after a
fixed time. No I/O here, and no clock: virtual time only moves forward, to the next record, answer or deadline.
"""

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from consumer.core.changes.items import ARRIVED, CHANGE_ID, ChangeId
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.request import Refusal, Request
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_schedule import adaptive_flush_items
from consumer.errors import InvariantError
from consumer.oms.body import encode, items_of_request
from consumer.plan.totals import Totals
from consumer.ports import Decoded

AGE_STEPS: Final = 1_000
"""``max_age`` in steps in which ages are counted."""
JOBS_RESUME_SHARE: Final = 0.9
"""Of the unfinished jobs at which nothing leaves: at this many, requests leave again."""
LATE_SECONDS: Final = 0.001
"""A deadline is looked at once more this much later: a permit of the rate limiter may lack a rounding error."""
_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class SimulatedOms:
    """An OMS that accepts everything and processes one chunk after another.

    ``chunk_seconds`` is None if it is not known: then jobs are not followed. ``unfinished_jobs_max``: nothing is sent
    above it. ``adapts_flush_items``: the number of unfinished jobs decides when a window is full.
    """

    field_names: Mapping[str, str]
    answer_seconds: float = 1.0
    chunk_seconds: float | None = None
    unfinished_jobs_max: int | None = None
    adapts_flush_items: bool = False


class PlannedRun:
    """Feed it with ``add``, in the order of time, and ``finish`` it; ``totals`` has the result."""

    def __init__(
        self,
        limits: EngineLimits,
        item_key: Sequence[str],
        oms: SimulatedOms,
        *,
        on_body: Callable[[bytes], None] = lambda _body: None,
    ) -> None:
        """``on_body`` is called with the body of each request that leaves."""
        self._engine = Engine(limits, item_key)
        self._item_key = tuple(item_key)
        self._oms = oms
        self._on_body = on_body
        self._now = -_NEVER
        self._readable_from = -_NEVER
        """When reading last became possible again: what is read after that has arrived since."""
        self._answers: list[tuple[float, int, Answer]] = []
        """A heap of (time, request, answer)."""
        self._threads = [-_NEVER] * limits.max_in_flight
        """A heap of the times from which each of the client's threads is free."""
        self._chunks_in_flight: dict[int, int] = {}
        self._job_ends: deque[float] = deque()
        """When the unfinished jobs end, in the order in which they were accepted."""
        self._waits_for_jobs = False
        self.totals = Totals(limits.items.chunk_items, limits.max_age_seconds / AGE_STEPS)

    def assign(self, starts: Iterable[tuple[int, int]], now: float) -> None:
        """Begin at these offsets, each with its assignment id."""
        self._now = now
        for assignment_id, start in starts:
            self._engine.assigned(assignment_id, start=start, read_up_to=None, now=now)

    def add(self, decoded: Decoded, now: float, *, arrived: float, messages: int, ends: Collection[int] = ()) -> None:
        """Take in what was decoded at the time ``now``; the age of its changes counts from ``arrived``.

        ``ends`` are the assignments that were read to their end. While too much is pending nothing is read: then both
        times are later.
        """
        self._advance(now)
        if self._wait_for_room(decoded.next_offsets):
            self._readable_from = self._now
        totals, engine = self.totals, self._engine
        rejects = [reject.change_id for reject in decoded.rejects]
        totals.stops |= engine.add(
            decoded.frame,
            rejects,
            decoded.next_offsets,
            self._now,
            ends,
            max(arrived, self._readable_from),
            decoded.barriers,
        )
        totals.messages += messages
        totals.changes += decoded.frame.height
        totals.tombstones += decoded.tombstones
        totals.skipped.update(decoded.skipped)
        totals.rejects.update(reject.reason for reject in decoded.rejects)
        engine.dead_lettered(rejects)
        self._dead_letter(engine.take_superseded())
        self._send()

    def finish(self) -> None:
        """Nothing more is read: let everything leave that is pending."""
        self._advance(_NEVER)
        if self._engine.pending_changes:
            raise InvariantError(f"{self._engine.pending_changes} changes of a planned run never left")

    # Time

    def _advance(self, until: float) -> None:
        """Let everything happen up to this time."""
        while (at := self._next_event()) is not None and at <= until:
            self._happen(at)
        if until < _NEVER:
            self._now = max(self._now, until)

    def _wait_for_room(self, assignment_ids: Collection[int]) -> bool:
        """Wait until the engine lets these assignments be read. Returns whether that took any time."""
        began = self._now
        engine = self._engine
        while True:
            engine.update_backpressure(self._now)
            if not engine.is_over_budget and engine.partitions.over_limit().isdisjoint(assignment_ids):
                break
            self._send()
            at = self._next_event()
            if at is None:  # what is pending cannot leave before more is read
                break
            self._happen(at)
        return self._now > began

    def _next_event(self) -> float | None:
        """When the next answer, end of a job or deadline is; None without any."""
        times = [self._answers[0][0]] if self._answers else []
        if self._job_ends and (self._waits_for_jobs or self._oms.adapts_flush_items):
            times.append(self._job_ends[0])
        deadline = self._engine.next_deadline(self._now)
        if deadline is not None:
            look_at = deadline if deadline > self._now else deadline + LATE_SECONDS
            # One that has passed was looked at already: it takes an answer, or more changes, to move it.
            times += [look_at] if look_at > self._now else []
        return min(times, default=None)

    def _happen(self, at: float) -> None:
        self._now = max(self._now, at)
        while self._answers and self._answers[0][0] <= self._now:
            _, request_id, answer = heapq.heappop(self._answers)
            self._settle(request_id, answer)
        while self._job_ends and self._job_ends[0] <= self._now:
            self._job_ends.popleft()
        self._follow_jobs()
        self._send()

    # Requests out, answers in

    def _send(self) -> None:
        """Send everything that may leave now."""
        engine = self._engine
        while True:
            engine.update_backpressure(self._now)
            requests = engine.due(self._now)
            if not requests:
                return
            engine.commit_points(self._now)
            for request in requests:
                self._submit(request)

    def _submit(self, request: Request) -> None:
        body = encode(
            request.location,
            items_of_request(request.taken, self._item_key),
            field_names=self._oms.field_names,
        )
        bytes_max = self._engine.bytes_max(request)
        if bytes_max is not None and len(body) > bytes_max:
            answer = Answer(AnswerKind.TOO_LARGE, detail=f"a body of {len(body)} bytes", body_bytes=len(body))
            heapq.heappush(self._answers, (self._now, request.request_id, answer))
            return
        self.totals.add_request(request, len(body), self._ages(request))
        self._on_body(body)
        self._chunks_in_flight[request.request_id] = request.chunks
        # There may be more requests than threads: they wait for one.
        answered_at = max(heapq.heappop(self._threads), self._now) + self._oms.answer_seconds
        heapq.heappush(self._threads, answered_at)
        answer = Answer(AnswerKind.ACCEPTED, job_id="1", body_bytes=len(body))
        heapq.heappush(self._answers, (answered_at, request.request_id, answer))

    def _ages(self, request: Request) -> dict[int, int]:
        """How old the changes are, in steps, and how many of each."""
        ages = (self._now - request.taken.column(ARRIVED)) / self.totals.age_step_seconds
        counts = ages.round().cast(pl.Int64).alias("age").value_counts(name="count")
        return dict(zip(counts["age"].to_list(), counts["count"].to_list(), strict=True))

    def _settle(self, request_id: int, answer: Answer) -> None:
        settled = self._engine.settle(request_id, answer, jitter=0.0, now=self._now)
        self._dead_letter(settled.refusals)
        chunk_seconds = self._oms.chunk_seconds
        if answer.kind is AnswerKind.ACCEPTED and chunk_seconds is not None:
            begins = max(self._now, self._job_ends[-1] if self._job_ends else self._now)
            ends = begins + self._chunks_in_flight.pop(request_id) * chunk_seconds
            self._job_ends.append(ends)
            self.totals.oms_behind_seconds_max = max(self.totals.oms_behind_seconds_max, ends - self._now)
        self._follow_jobs()

    def _follow_jobs(self) -> None:
        oms, unfinished = self._oms, len(self._job_ends)
        if oms.unfinished_jobs_max is not None:
            share = JOBS_RESUME_SHARE if self._waits_for_jobs else 1.0
            self._waits_for_jobs = unfinished >= max(share * oms.unfinished_jobs_max, 1)
            self._engine.set_job_queue_full(full=self._waits_for_jobs)
        if oms.adapts_flush_items:
            items = self._engine.limits.items
            self._engine.set_flush_items(adaptive_flush_items(unfinished, items.chunk_items, items.max_items))

    def _dead_letter(self, refusals: Iterable[Refusal]) -> None:
        for refusal in refusals:
            self.totals.rejects[refusal.reason] += refusal.rows.height
            ids = refusal.rows.select(CHANGE_ID).iter_rows()
            self._engine.dead_lettered(ChangeId(*row) for row in ids)
