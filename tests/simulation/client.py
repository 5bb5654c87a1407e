"""``ports.RefreshClient`` without HTTP: workers check the fence like the real ones, send, wait and time out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


REST_SECONDS: Final = (0.5, 1.0, 2.0, 4.0)
"""The pauses of a new token that is refused, as in ``oms/token.py``."""
NEW_SECONDS: Final = 0.5
RENEWAL_SECONDS: Final = 10.0
"""A refusal that is not about the content renews the token at most once in this time."""
LET_IN: Final = (AnswerKind.ACCEPTED, AnswerKind.APPLIED, AnswerKind.REFUSED)
REFUSED_WHOLE: Final = (AnswerKind.FORBIDDEN, AnswerKind.WRONG_ADDRESS, AnswerKind.GATEWAY_PAGE)


def body_bytes(items: Sequence[Mapping[str, Any]]) -> int:
    return len(json.dumps(items))


@dataclass(eq=False, slots=True)
class Delivery:
    """A submission that a worker is sending."""

    submission: Submission
    submitted_at: float
    commit_started_at: float
    """The submission's own, for the checker."""
    items: tuple[dict[str, Any], ...] = ()
    sends: int = 0


class SimulatedClient:
    """The workers of one process."""

    fence_seconds = FENCE_SECONDS

    def __init__(self, process: "Process", oms: Oms) -> None:
        self._process = process
        self._oms = oms
        self._token = 0
        self._is_proven = False
        """A call with the token was let in."""
        self._fetches = 0
        self._fetched_at = 0.0
        self._rests = 0
        self._rests_until = 0.0
        self._keep_until = 0.0
        self._first_refused: int | None = None
        """Number of the first token with which a request was refused whole since one was accepted."""
        self._ready: list[Answered] = []

    # ports.RefreshClient

    def submit(self, submission: Submission) -> None:
        self._process.enter()
        self._process.checker.submitted(self._process.name, self._process.source.partition_of, submission)
        self._process.stop_by_chance()
        delivery = Delivery(submission, self._process.world.now, submission.commit_started_at)
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
        bytes_max = delivery.submission.bytes_max
        if bytes_max is not None and body_bytes(delivery.items) > bytes_max:
            self._answer(delivery, Answer(AnswerKind.TOO_LARGE, body_bytes=body_bytes(delivery.items)))
            return
        self._send_with_token(delivery)

    def _send_with_token(self, delivery: Delivery) -> None:
        if self._process.world.now < self._rests_until:
            self._answer(delivery, self._resting())
        elif self._token:
            self._send(delivery)
        else:
            self._process.after(self._process.latency(), lambda: self._renew_and_send(delivery))

    def _renew_and_send(self, delivery: Delivery) -> None:
        if self._token != self._oms.token:
            self._token, self._is_proven, self._rests, self._rests_until = self._oms.token, False, 0, 0.0
            self._fetches += 1
            self._fetched_at = self._process.world.now
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
        if answer.kind is AnswerKind.UNAUTHORISED and answer.status == 401:
            is_new = self._rests or self._process.world.now - self._fetched_at <= NEW_SECONDS
            if self._token == wire.token and not self._is_proven and is_new:
                self._refused_while_new(delivery, answer)
                return
            if self._token == wire.token:
                self._token = 0
            if delivery.sends < SENDS_MAX:
                self._process.stop_by_chance()
                self._send_with_token(delivery)
                return
            answer = Answer(AnswerKind.UNAVAILABLE, status=401)
        elif self._token == wire.token and answer.kind in LET_IN:
            self._is_proven = True
        self._answer(delivery, self._recorded(wire, answer))

    def _recorded(self, wire: Wire, answer: Answer) -> Answer:
        """The answer, after recording what it says about the token."""
        if answer.kind in (AnswerKind.ACCEPTED, AnswerKind.APPLIED):
            self._first_refused = None
        if answer.kind not in REFUSED_WHOLE:
            return answer
        if self._process.world.now >= self._keep_until:
            self._token = 0
            self._keep_until = self._process.world.now + RENEWAL_SECONDS
        if self._first_refused is None:
            self._first_refused = wire.fetch
        return replace(answer, repeated=wire.fetch > self._first_refused)

    def _refused_while_new(self, delivery: Delivery, answer: Answer) -> None:
        now = self._process.world.now
        if now < self._rests_until:
            self._rest(delivery)
        elif self._rests < len(REST_SECONDS):
            self._rests_until = now + REST_SECONDS[self._rests]
            self._rests += 1
            self._rest(delivery)
        else:
            self._token = 0
            self._answer(delivery, answer)

    def _rest(self, delivery: Delivery) -> None:
        """The new token rests: the request is given back, and no body is kept."""
        self._answer(delivery, self._resting())

    def _resting(self) -> Answer:
        left = self._rests_until - self._process.world.now
        return Answer(AnswerKind.UNAVAILABLE, status=401, retry_after_seconds=left)

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
            frame=coalesce(submission.taken.body, ITEM_KEY),
            is_smart=submission.is_smart,
            checked_at=self._process.world.now,
            commit_age_seconds=self._process.uptime() - delivery.commit_started_at,
            token=self._token,
            fetch=self._fetches,
            body_bytes=body_bytes(delivery.items),
            rows=tuple((partitions[assignment_id], offset, line) for assignment_id, offset, line in rows),
            overlaid=() if overlay is None else tuple(overlay["quantity"]),
            assigned_at={
                partitions[assignment_id]: self._process.assigned_at[assignment_id]
                for assignment_id in sorted({row[0] for row in rows})
            },
            alone=submission.request_id in self._process.observer.bisecting and len(rows) == 1,
        )
