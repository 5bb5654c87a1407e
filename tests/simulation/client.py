"""``ports.RefreshClient`` without HTTP: workers check the fence like the real ones, send, wait and time out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from consumer.core.changes.coalesce import change_ids, coalesce
from consumer.core.changes.items import CHANGE_ID, ITEM_KEY
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.ports import Answered, Submission
from tests.simulation.oms import Oms, Wire
from tests.simulation.plan import FENCE_SECONDS

if TYPE_CHECKING:
    from tests.simulation.process import Process

SENDS_MAX: Final = 2
"""As in ``oms/client.py``: a body is sent again only after a 401."""


@dataclass(eq=False, slots=True)
class Delivery:
    """A submission that a worker is sending."""

    submission: Submission
    submitted_at: float
    items: tuple[dict[str, Any], ...] = ()
    sends: int = 0


class SimulatedClient:
    """The workers of one process."""

    fence_seconds = FENCE_SECONDS

    def __init__(self, process: "Process", oms: Oms) -> None:
        self._process = process
        self._oms = oms
        self._token = 0
        self._ready: list[Answered] = []

    # ports.RefreshClient

    def submit(self, submission: Submission) -> None:
        self._process.enter()
        self._process.checker.submitted(self._process.name, self._process.source.partition_of, submission)
        self._process.stop_by_chance()
        delivery = Delivery(submission, self._process.world.now)
        self._process.after(self._process.latency(), lambda: self._prepare(delivery))

    def answers(self) -> list[Answered]:
        self._process.enter()
        ready, self._ready = self._ready, []
        for answered in ready:
            self._process.checker.answered(self._process.name, answered)
        return ready

    def wait(self, timeout_seconds: float) -> None:
        self._process.sleep(0.0 if self._ready else timeout_seconds)

    def close(self) -> None:
        return None

    # In a worker

    def _prepare(self, delivery: Delivery) -> None:
        """Build the body, then get a token, which takes time if it must be renewed."""
        items = coalesce(delivery.submission.taken.body, ITEM_KEY)
        delivery.items = tuple(
            {name: value for name, value in row.items() if value is not None} for row in items.iter_rows(named=True)
        )
        self._send_with_token(delivery)

    def _send_with_token(self, delivery: Delivery) -> None:
        if self._token:
            self._send(delivery)
        else:
            self._process.after(self._process.latency(), lambda: self._renew_and_send(delivery))

    def _renew_and_send(self, delivery: Delivery) -> None:
        self._token = self._oms.token
        self._send(delivery)

    def _send(self, delivery: Delivery) -> None:
        """Check the fence for the last time; the first byte leaves shortly after, or after a pause."""
        if self._process.uptime() - delivery.submission.commit_started_at > self.fence_seconds:
            self._answer(delivery, Answer(AnswerKind.NOT_SENT))
            return
        delivery.sends += 1
        wire = self._wire(delivery)
        self._process.after(self._process.random.uniform(0.0, 0.01), lambda: self._first_byte(delivery, wire))

    def _first_byte(self, delivery: Delivery, wire: Wire) -> None:
        self._process.note("sends %s", wire)
        done: list[Answer] = []

        def settle(answer: Answer) -> None:
            if not done:
                done.append(answer)
                self._answered(delivery, wire, answer)

        self._process.after(
            self._process.plan.http_seconds, lambda: settle(Answer(AnswerKind.UNKNOWN, detail="timeout"))
        )
        self._oms.post(wire, lambda answer: self._process.after(0.01, lambda: settle(answer)))

    def _answered(self, delivery: Delivery, wire: Wire, answer: Answer) -> None:
        if answer.kind is AnswerKind.UNAUTHORISED:
            if self._token == wire.token:
                self._token = 0
            if delivery.sends < SENDS_MAX:
                self._process.stop_by_chance()
                self._send_with_token(delivery)
                return
        self._answer(delivery, answer)

    def _answer(self, delivery: Delivery, answer: Answer) -> None:
        self._process.note("#%d: %s", delivery.submission.request_id, answer.kind.value)
        seconds = self._process.world.now - delivery.submitted_at
        self._ready.append(Answered(delivery.submission.request_id, answer, seconds))

    def _wire(self, delivery: Delivery) -> Wire:
        submission = delivery.submission
        rows = change_ids(submission.taken.frame).select(CHANGE_ID).rows()
        overlay = submission.taken.overlay
        partitions = self._process.source.partition_of
        return Wire(
            owner=self._process.name,
            request_id=submission.request_id,
            location=submission.location,
            items=delivery.items,
            checked_at=self._process.world.now,
            token=self._token,
            rows=tuple((partitions[assignment_id], offset, line) for assignment_id, offset, line in rows),
            overlaid=() if overlay is None else tuple(overlay["quantity"]),
            assigned_at={
                partitions[assignment_id]: self._process.assigned_at[assignment_id]
                for assignment_id in sorted({row[0] for row in rows})
            },
            alone=submission.request_id in self._process.observer.bisecting and len(rows) == 1,
        )
