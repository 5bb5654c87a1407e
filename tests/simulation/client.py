"""``ports.RefreshClient`` without HTTP: workers that look at the fence as the real ones do, send, wait and give up."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from consumer.core.changes.coalesce import change_ids, coalesce
from consumer.core.changes.items import ASSIGNMENT, ITEM_KEY, OFFSET
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.ports import Answered, Submission
from tests.simulation.oms import Oms, Wire
from tests.simulation.plan import FENCE_SECONDS

if TYPE_CHECKING:
    from tests.simulation.process import Process

SENDS_MAX: Final = 2
"""As in ``oms/client.py``: a body goes out again only after a 401."""


@dataclass(eq=False, slots=True)
class Flight:
    """A submission in its worker's hands."""

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
        self._process.checker.submitted(self._process.name, submission)
        self._process.stop_by_chance()
        flight = Flight(submission, self._process.world.now)
        self._process.after(self._process.latency(), lambda: self._prepare(flight))

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

    def _prepare(self, flight: Flight) -> None:
        """Body and token; to renew a token takes time."""
        items = coalesce(flight.submission.taken.body, ITEM_KEY)
        flight.items = tuple(
            {name: value for name, value in row.items() if value is not None} for row in items.iter_rows(named=True)
        )
        self._send_with_token(flight)

    def _send_with_token(self, flight: Flight) -> None:
        if self._token:
            self._send(flight)
        else:
            self._process.after(self._process.latency(), lambda: self._renew_and_send(flight))

    def _renew_and_send(self, flight: Flight) -> None:
        self._token = self._oms.token
        self._send(flight)

    def _send(self, flight: Flight) -> None:
        """The last look at the fence; then the first byte leaves, a moment or a pause later."""
        if self._process.uptime() - flight.submission.covered_at > self.fence_seconds:
            self._answer(flight, Answer(AnswerKind.NOT_SENT))
            return
        flight.sends += 1
        wire = self._wire(flight)
        self._process.after(self._process.random.uniform(0.0, 0.01), lambda: self._first_byte(flight, wire))

    def _first_byte(self, flight: Flight, wire: Wire) -> None:
        self._process.note("sends %s", wire)
        done: list[Answer] = []

        def settle(answer: Answer) -> None:
            if not done:
                done.append(answer)
                self._answered(flight, wire, answer)

        self._process.after(
            self._process.plan.http_seconds, lambda: settle(Answer(AnswerKind.UNKNOWN, detail="time-out"))
        )
        self._oms.post(wire, lambda answer: self._process.after(0.01, lambda: settle(answer)))

    def _answered(self, flight: Flight, wire: Wire, answer: Answer) -> None:
        if answer.kind is AnswerKind.UNAUTHORISED:
            if self._token == wire.token:
                self._token = 0
            if flight.sends < SENDS_MAX:
                self._process.stop_by_chance()
                self._send_with_token(flight)
                return
        self._answer(flight, answer)

    def _answer(self, flight: Flight, answer: Answer) -> None:
        self._process.note("#%d: %s", flight.submission.request_id, answer.kind.value)
        seconds = self._process.world.now - flight.submitted_at
        self._ready.append(Answered(flight.submission.request_id, answer, seconds))

    def _wire(self, flight: Flight) -> Wire:
        submission = flight.submission
        rows = change_ids(submission.taken.frame).select(ASSIGNMENT, OFFSET).rows()
        partitions = self._process.source.partition_of
        return Wire(
            owner=self._process.name,
            number=submission.request_id,
            location=submission.location,
            items=flight.items,
            checked_at=self._process.world.now,
            token=self._token,
            rows=tuple((partitions[number], offset) for number, offset in rows),
            given_at={
                partitions[number]: self._process.given_at[number] for number in sorted({row[0] for row in rows})
            },
            alone=submission.request_id in self._process.observer.narrowing and len(rows) == 1,
        )
