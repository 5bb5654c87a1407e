"""An engine that can be asked where an item is, driven step by step: what the loop does, without its ports."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from consumer.core.changes.barriers import barrier_columns
from consumer.core.changes.items import ITEM_KEY, ChangeId, RejectReason
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import ItemLimits
from consumer.core.location.request import Request
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_schedule import Job, JobOutcome, JobResult
from consumer.core.trace.answer import ItemTrace
from consumer.core.trace.query import ItemQuery
from consumer.facts import (
    ChangesDeadLettered,
    ChangesDecoded,
    JobEnded,
    PartitionsAssigned,
    RequestAnswered,
    RequestSent,
)
from consumer.loop.failed_changes import refused_changes
from consumer.loop.traces import Traces
from consumer.mailbox import Mailbox
from consumer.ports import Answered, Decoded, Reject, x_request_id
from tests.support.facts import assignment
from tests.support.fakes import FakeClock
from tests.support.frames import change, frame

MAX_AGE_SECONDS = 300.0
INSTANCE = "0123456789"
ITEMS = ItemLimits(chunk_items=3, max_items=12, flush_items=12)
BYTES_MAX = 1_000_000


class TracedEngine:
    """Partitions ``stock[0]`` and ``stock[1]`` are assignments 1 and 2. A step tells the traces what the loop would."""

    def __init__(
        self,
        questions: Mailbox[ItemQuery, ItemTrace] | None = None,
        clock: FakeClock | None = None,
        *,
        engine: Engine | None = None,
        bytes_max: int = BYTES_MAX,
        read_up_to: int = 0,
        **limits: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.engine = engine or Engine(EngineLimits(items=ITEMS, max_age_seconds=MAX_AGE_SECONDS, **limits))
        self.questions = questions or Mailbox[ItemQuery, ItemTrace](2)
        self.traces = Traces(
            self.questions,
            self.engine,
            self.clock,
            item_key=ITEM_KEY,
            bytes_max=bytes_max,
            instance=INSTANCE,
            follows_jobs=True,
        )
        self.assignments = {number: assignment(number, partition=number - 1) for number in (1, 2)}
        self.traces.observe(PartitionsAssigned(list(self.assignments.values())))
        for number in () if engine else self.assignments:
            self.engine.assigned(number, start=0, read_up_to=read_up_to, now=self.clock.now)

    def read(self, *rows: dict[str, Any]) -> None:
        """Changes are read: made by ``change``, of the partition of their assignment."""
        next_offsets = {1: 0, 2: 0}
        for row in rows:
            next_offsets[row["_assignment"]] = row["_offset"] + 1
        self.engine.add(
            frame(rows), [], {owner: offset for owner, offset in next_offsets.items() if offset}, self.clock.now
        )

    def reject(self, row: dict[str, Any], reason: RejectReason, detail: str) -> None:
        """A change is read whose item is known, and whose count cannot be sent."""
        change_id = ChangeId(row["_assignment"], row["_offset"], row["_line"])
        barriers = frame([row]).select(barrier_columns(ITEM_KEY))
        reject = Reject(change_id, reason, detail, value=b"x")
        next_offsets = {change_id.assignment_id: change_id.offset + 1}
        decoded = Decoded(frame([]), (reject,), 0, next_offsets, self.clock.now, barriers=barriers)
        self.engine.add(decoded.frame, [change_id], next_offsets, self.clock.now, barriers=barriers)
        self.traces.observe(ChangesDecoded(decoded))
        self._dead_letter(self.engine.take_superseded(), None)

    def send(self) -> Request:
        """A location's request leaves: time passes until its window is due."""
        self.clock.now += MAX_AGE_SECONDS
        (request,) = self.engine.due(self.clock.now)
        self.traces.observe(RequestSent(request, x_request_id(INSTANCE, request.request_id)))
        return request

    def answer(self, request: Request, kind: AnswerKind = AnswerKind.ACCEPTED, **of_answer: Any) -> None:
        answer = Answer(kind, **of_answer)
        self.clock.now += 1.0
        settled = self.engine.settle(request.request_id, answer, jitter=0.0, now=self.clock.now)
        answered = Answered(request.request_id, answer, 1.0)
        name = x_request_id(INSTANCE, request.request_id)
        self.traces.observe(RequestAnswered(settled.request, answered, settled.decision, name, settled.accepted))
        self._dead_letter(settled.refusals, name)

    def end_job(self, job_id: str, outcome: JobOutcome, *messages: str) -> None:
        self.clock.now += 1.0
        self.traces.observe(JobEnded(JobResult(Job(job_id, "Rome", 1, 1), outcome, messages=messages)))

    def trace(self, sku: str, location: str = "Rome") -> ItemTrace:
        return self.traces.trace(ItemQuery(location, ({"sku": sku},)))

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Answer questions on another thread, as the loop does, until the block ends."""
        is_over = threading.Event()

        def turns() -> None:
            while not is_over.wait(0.002):
                self.traces.turn()

        thread = threading.Thread(target=turns, name="loop")
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _dead_letter(self, refusals: Sequence[Any], name: str | None) -> None:
        for refusal in refusals:
            self.traces.observe(ChangesDeadLettered(refused_changes(refusal, self.assignments, name)))


def story_of_an_item(questions: Mailbox[ItemQuery, ItemTrace], clock: FakeClock) -> TracedEngine:
    """Item B-1 of Rome: an applied change, one of a failed job, one in flight, two that wait."""
    traced = TracedEngine(questions, clock)
    traced.read(change("Rome", "B-1", 3, offset=10))
    traced.answer(traced.send(), job_id="7001")
    traced.end_job("7001", JobOutcome.SUCCESS)
    traced.read(change("Rome", "B-1", 4, offset=11))
    traced.answer(traced.send(), job_id="7002")
    traced.end_job("7002", JobOutcome.FAILED, "queue item could not be processed")
    traced.read(change("Rome", "B-1", 5, offset=12))
    traced.send()
    traced.read(change("Rome", "B-1", 6, offset=13), change("Rome", "B-1", 7, offset=14))
    return traced
