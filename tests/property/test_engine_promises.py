"""The engine keeps its invariants in every valid order of events, and finally sends every change."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consumer.core.changes.items import ASSIGNMENT, LOCATION, OFFSET, ChangeId
from consumer.core.engine import QUEUED_PER_SLOT, Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import ItemLimits, SendReason
from consumer.core.location.request import Request
from consumer.core.oms.answers import Accepted, Decision, Hold, Refused, Retry
from tests.support.frames import change, frame

LOCATIONS = ["Berlin", "Rome", "Oslo"]
ITEMS = 7
PARTITIONS = 3
CHUNK = 3
REFUSED = 9
"""The OMS refuses a request with an item of this quantity."""
LIMITS = EngineLimits(
    items=ItemLimits(chunk_items=CHUNK, max_items=4 * CHUNK, flush_items=2 * CHUNK),
    max_age_seconds=10.0,
    due_within_seconds=0.5,
    max_in_flight=2,
)


@dataclass
class Log:
    """A partition's log, and how far the group has committed it."""

    changes: list[tuple[str, str, int] | None] = field(default_factory=list)
    """Location, item and quantity; None for a change that can never be sent."""
    committed: int = 0
    read: int = 0
    assignment_id: int = 0


class EnginePromises(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(LIMITS)
        self.now = 0.0
        self.logs = [Log() for _ in range(PARTITIONS)]
        self.accepted: dict[int, set[int]] = defaultdict(set)
        """By assignment: offsets with a jobID or a confirmed dead letter."""
        self.unconfirmed: list[ChangeId] = []
        self.in_flight: dict[int, Request] = {}
        self.oms: dict[tuple[str, str], int] = {}
        self.last_assignment_id = 0
        self.held_until: dict[str, float] = {}
        self.read_at: dict[tuple[int, int], float] = {}

    @initialize()
    def take_all(self) -> None:
        for log in self.logs:
            self.assign(log)

    def assign(self, log: Log) -> None:
        self.last_assignment_id += 1
        log.assignment_id = self.last_assignment_id
        log.read = log.committed
        self.engine.assigned(log.assignment_id, start=log.committed, read_up_to=None)

    @rule(
        changes=st.lists(
            st.tuples(st.sampled_from(LOCATIONS), st.integers(0, ITEMS - 1), st.integers(0, 9)), min_size=1, max_size=12
        ),
        bad=st.sets(st.integers(0, 11), max_size=1),
    )
    def publish(self, changes: list[tuple[str, int, int]], bad: set[int]) -> None:
        """The changes of an item are all in one partition, those of a location in several."""
        for at, (location, item, quantity) in enumerate(changes):
            log = self.logs[item % PARTITIONS]
            log.changes.append(None if at in bad else (location, f"sku-{item}", quantity))

    @rule(partition=st.integers(0, PARTITIONS - 1), most=st.integers(1, 20))
    def read(self, partition: int, most: int) -> None:
        log = self.logs[partition]
        if not log.assignment_id:
            return
        next_offset = min(len(log.changes), log.read + most)
        rows: list[dict[str, Any]] = []
        rejects: list[ChangeId] = []
        for offset in range(log.read, next_offset):
            event = log.changes[offset]
            if event is None:
                rejects.append(ChangeId(log.assignment_id, offset))
                continue
            rows.append(change(*event, offset=offset, assignment=log.assignment_id))
            self.read_at[log.assignment_id, offset] = self.now
        self.engine.add(frame(rows), rejects, {log.assignment_id: next_offset}, self.now)
        self.unconfirmed += rejects
        log.read = next_offset

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 11.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def send(self) -> None:
        for request in self.engine.due(self.now):
            assert request.location not in {other.location for other in self.in_flight.values()}
            assert self.held_until.get(request.location, 0.0) <= self.now
            assert 1 <= request.items <= LIMITS.items.max_items
            assert request.rows["sku"].n_unique() == request.items
            if request.reason is SendReason.BISECTION:
                assert request.items <= LIMITS.items.max_items // 2 or request.items == 1
            assert request.rows[LOCATION].unique().to_list() == [request.location]
            self.in_flight[request.request_id] = request
        assert len(self.in_flight) <= LIMITS.max_in_flight * (1 + QUEUED_PER_SLOT)

    @precondition(lambda self: self.in_flight)
    @rule(
        data=st.data(), outcome=st.sampled_from(["accepted", "accepted", "refused for now", "lost", "lost but queued"])
    )
    def answer(self, data: st.DataObject, outcome: str) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.in_flight)))
        self.settle(request_id, outcome)

    def settle(self, request_id: int, outcome: str) -> None:
        request = self.in_flight.pop(request_id)
        decision: Decision = Accepted("1")
        newest = self.newest(request)
        if REFUSED in newest.values() and outcome != "refused for now":
            outcome = "refused" if outcome == "accepted" else "lost"
        if outcome in {"accepted", "lost but queued"}:
            self.oms.update({(request.location, sku): quantity for sku, quantity in newest.items()})
        if outcome == "refused":
            decision = Refused("400")
        elif outcome == "accepted":
            for row in request.rows.select(ASSIGNMENT, OFFSET).iter_rows():
                self.accepted[row[0]].add(row[1])
        elif outcome == "refused for now":
            decision = Retry(after_seconds=2.0, whole_oms=True)
        else:
            decision = Hold(seconds=5.0, breaker_seconds=1.0)
            self.held_until[request.location] = self.now + 5.0
        for refusal in self.engine.apply(request_id, decision, self.now).refusals:
            assert refusal.rows["quantity"].to_list() == [REFUSED]  # only a bad change, alone
            self.unconfirmed += [ChangeId(*row) for row in refusal.rows.select(ASSIGNMENT, OFFSET).iter_rows()]

    def newest(self, request: Request) -> dict[str, int]:
        """The newest quantity of every item in the request."""
        rows = request.taken.body.sort(OFFSET).group_by("sku", maintain_order=True).agg(pl.col("quantity").last())
        return dict(rows.iter_rows())

    @rule()
    def confirm_dead_letters(self) -> None:
        self.engine.dead_lettered(self.unconfirmed)
        for change_id in self.unconfirmed:
            self.accepted[change_id.assignment_id].add(change_id.offset)
        self.unconfirmed = []

    @rule()
    def commit(self) -> None:
        for point in self.engine.commit_points(self.now):
            log = next(log for log in self.logs if log.assignment_id == point.assignment_id)
            assert point.offset >= log.committed
            log.committed = point.offset

    @rule(partition=st.integers(0, PARTITIONS - 1), gracefully=st.booleans())
    def lose(self, partition: int, gracefully: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        """Revoke a partition, after settling its requests and a commit, or lose it; then assign it again."""
        log = self.logs[partition]
        if gracefully:
            for request_id, request in list(self.in_flight.items()):
                if log.assignment_id in request.rows[ASSIGNMENT]:
                    self.settle(request_id, "accepted")
            self.commit()
        self.engine.forget([log.assignment_id], 0.0)
        self.assign(log)

    @invariant()
    def committable_offset_is_the_lowest_offset_not_accepted(self) -> None:
        for point in self.engine.commit_points(self.now):
            log = next(log for log in self.logs if log.assignment_id == point.assignment_id)
            unaccepted = set(range(log.committed, log.read)) - self.accepted[log.assignment_id]
            assert point.offset == min(unaccepted, default=log.read)
            assert point.read_up_to == log.read

    @invariant()
    def every_row_is_pending_once(self) -> None:
        current = {log.assignment_id for log in self.logs}
        unaccepted = sum(
            len(set(range(log.committed, log.read)) - self.accepted[log.assignment_id]) for log in self.logs
        )
        stale = sum(int((~request.rows[ASSIGNMENT].is_in(list(current))).sum()) for request in self.in_flight.values())
        unconfirmed = sum(change_id.assignment_id in current for change_id in self.unconfirmed)
        assert self.engine.pending_changes - stale + unconfirmed == unaccepted

    def teardown(self) -> None:
        """Without faults every change is sent within ``max_age`` and a few rounds; the OMS has the newest counts."""
        for partition in range(PARTITIONS):
            self.read(partition, 10_000)
        for _ in range(60):
            for request_id in list(self.in_flight):
                self.settle(request_id, "accepted")
            self.send()
            self.now += 1.0
        self.confirm_dead_letters()
        self.commit()
        assert [log.committed for log in self.logs] == [len(log.changes) for log in self.logs]
        last = {event[:2]: event[2] for log in self.logs for event in log.changes if event and event[2] != REFUSED}
        assert self.oms == last


TestEnginePromises = EnginePromises.TestCase
TestEnginePromises.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
