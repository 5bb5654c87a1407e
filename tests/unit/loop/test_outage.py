"""An OMS outage of ten minutes in simulated time: the real loop and engine, with a steady stream of changes."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

import polars as pl
import pytest

from consumer.core.changes.items import ASSIGNMENT, CHANGE_SCHEMA, LOCATION, OFFSET
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.breaker import BreakerState
from consumer.loop.loop import Loop, LoopOptions
from consumer.observe.status.board import StatusBoard
from consumer.ports import RawBatch, Submission
from tests.support.fakes import (
    ACCEPTED,
    Diary,
    FakeClient,
    FakeClock,
    FakeDeadLetters,
    FakeDecoder,
    FakeSource,
    assignment,
    decoded,
    raw_batch,
)

pytestmark = pytest.mark.timeout(600)
"""A run takes some seconds on an idle machine."""

BEGIN, END = 400.0, 1_000.0
"""Begin and end of the outage, in seconds since the start."""
BUDGET = 300_000
CHANGES_A_SECOND = 2_000
LOCATIONS = 10
TURN_SECONDS = 0.25


@dataclass
class FullTopic(FakeSource):
    """Returns changes at a constant rate; after a pause the overdue ones too, at most 5,000 per poll."""

    decoder: FakeDecoder = field(default_factory=FakeDecoder)
    read: int = 0

    def poll(self, *, messages_max: int, timeout_seconds: float) -> RawBatch:
        super().poll(messages_max=messages_max, timeout_seconds=0.0)
        there = int((self.clock.now - 1_000.0) * CHANGES_A_SECOND)
        count = 0 if self.paused else min(messages_max, there - self.read)
        if count > 0:
            self.decoder.ready.append(
                decoded(changes(self.read, count), {1: self.read + count}, polled_at=self.clock.now)
            )
            self.read += count
        return raw_batch(range(count), [1] * count)


def changes(first: int, count: int) -> pl.DataFrame:
    number = pl.int_range(first, first + count, eager=True)
    known = {LOCATION: "store " + (number % LOCATIONS).cast(pl.String), "sku": (number % 500_000).cast(pl.String)}
    known |= {"quantity": number, OFFSET: number, ASSIGNMENT: number * 0 + 1}
    rows = pl.DataFrame(known).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in CHANGE_SCHEMA.items() if name not in known
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in CHANGE_SCHEMA.items()).sort(LOCATION)


@dataclass
class Oms(FakeClient):
    """Answers after half a second with a jobID, or with ``outage`` during the outage."""

    outage: Answer = ACCEPTED
    in_flight: list[tuple[float, Submission]] = field(default_factory=list)
    sent: list[tuple[float, str, int]] = field(default_factory=list)

    def submit(self, submission: Submission) -> None:
        self.in_flight.append((self.clock.now + 0.5, submission))
        items = submission.taken.column("sku").n_unique()
        self.sent.append((self.clock.now - 1_000.0, submission.location, items))

    def settle(self) -> None:
        now = self.clock.now
        for at, submission in [sent for sent in self.in_flight if sent[0] <= now]:
            self.answer(submission, self.outage if BEGIN <= at - 1_000.0 < END else ACCEPTED)
        self.in_flight = [sent for sent in self.in_flight if sent[0] > now]


@dataclass(frozen=True)
class Turn:
    at: float
    pending: int
    read: int
    breaker: BreakerState
    ready: bool
    stalled: str | None
    paused: bool


@dataclass
class Seen:
    """One run: the state after every turn, and every request with its time, location and items."""

    turns: list[Turn]
    sent: list[tuple[float, str, int]]

    def during(self) -> list[Turn]:
        """The turns from the first failure, when the first windows had filled up, to the end of the outage."""
        return [turn for turn in self.turns if BEGIN + 30.0 <= turn.at < END]

    def times(self, begin: float, end: float) -> list[float]:
        return [at for at, *_ in self.sent if begin <= at < end]


def run_outage(outage: Answer) -> Seen:
    clock, diary = FakeClock(), Diary()
    decoder = FakeDecoder()
    source = FullTopic(diary, clock, decoder=decoder)
    client = Oms(diary, clock, outage=outage)
    board = StatusBoard(clock, version="test", settings={}, stalled_after_seconds=60.0)
    engine = Engine(EngineLimits(max_pending_bytes=BUDGET, max_age_seconds=300.0), size_of=len)
    loop = Loop(
        engine=engine,
        clock=clock,
        source=source,
        decoder=decoder,
        client=client,
        dead_letters=FakeDeadLetters(diary),
        observer=board,
        jitter=lambda: 0.5,
        options=LoopOptions(),
    )
    source.subscribe(loop.rebalance)
    source.queue.append(lambda listener: listener.on_assigned([assignment(1, high=10**9)]))
    turns = []
    while clock.now < 1_000.0 + END + 200.0:
        clock.now += TURN_SECONDS
        client.settle()
        loop.turn()
        latest = board.latest
        paused = any(partition.paused for partition in latest.partitions)
        turns.append(
            Turn(
                clock.now - 1_000.0,
                engine.pending_changes,
                source.read,
                latest.breaker,
                board.ready(),
                board.stalled(),
                paused,
            )
        )
    return Seen(turns, client.sent)


UNAVAILABLE = Answer(AnswerKind.UNAVAILABLE, status=503, detail="code 5001")
TIMED_OUT = Answer(AnswerKind.UNKNOWN, detail="ReadTimeout")


@pytest.fixture(scope="module", params=[UNAVAILABLE, TIMED_OUT], ids=["refused with proof", "unknown outcomes"])
def seen(request: pytest.FixtureRequest) -> Seen:
    return run_outage(request.param)


def test_memory_stays_within_the_budget_of_pending_changes(seen: Seen) -> None:
    most = max(turn.pending for turn in seen.turns)
    last = seen.during()[-1]

    assert 0.9 * BUDGET < most <= BUDGET + 5_000  # one more poll may arrive after the limit is reached
    assert last.paused
    assert last.read < 0.75 * END * CHANGES_A_SECOND


def test_the_outage_opens_the_breaker_without_affecting_readiness_or_liveness(seen: Seen) -> None:
    assert {turn.breaker for turn in seen.during()} == {BreakerState.OPEN, BreakerState.HALF_OPEN}
    assert all(turn.ready and not turn.stalled for turn in seen.during())


def test_the_oms_gets_only_single_probes_with_growing_waits(seen: Seen) -> None:
    probes = seen.times(BEGIN + 30.0, END)
    waits = [later - earlier for earlier, later in pairwise(probes)]

    assert 8 <= len(probes) <= 60
    assert min(waits) >= 1.0
    assert max(waits) <= 61.0


def test_after_the_outage_one_probe_must_succeed_before_other_requests_are_sent(seen: Seen) -> None:
    probe, second, *_ = seen.times(END - 0.5, END + 200.0)

    assert second - probe >= 0.5
    assert len(seen.times(second, second + TURN_SECONDS)) > 1


def test_after_the_outage_the_backlog_is_sent_in_full_size_requests(seen: Seen) -> None:
    """Like 21,000 items go out as 12,000 and 9,000: only the last request of a location's backlog may be smaller."""
    probe = next(at for at, *_ in seen.sent if at >= END - 0.5)
    backlog: dict[str, list[int]] = defaultdict(list)
    for at, location, items in seen.sent:
        if probe <= at < probe + 130.0:  # long enough for held locations to send again
            backlog[location].append(items)

    assert len(backlog) == LOCATIONS
    for sizes in backlog.values():
        assert sizes[:2] == [12_000, 12_000]
        assert sum(size < 12_000 for size in sizes) <= 1


def test_after_the_outage_throughput_is_back_to_normal(seen: Seen) -> None:
    last = seen.turns[-1]

    assert last.breaker is BreakerState.CLOSED
    assert not last.paused
    assert last.read >= 0.99 * last.at * CHANGES_A_SECOND
