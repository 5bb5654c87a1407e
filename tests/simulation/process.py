"""One process of the service: the real loop and engine with simulated ports. A restart creates a new one."""

from dataclasses import dataclass
from random import Random
from typing import Final

from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import ItemLimits, SendReason
from consumer.core.oms.answers import RetryLimits
from consumer.errors import StopError
from consumer.facts import Fact, RequestSent, Snapshot
from consumer.loop.loop import Loop, LoopOptions
from tests.simulation.broker import Broker
from tests.simulation.checkers import Checker
from tests.simulation.client import SimulatedClient
from tests.simulation.dead_letters import SimulatedDeadLetters
from tests.simulation.decoder import SimulatedDecoder
from tests.simulation.oms import Oms
from tests.simulation.plan import (
    CHUNK_ITEMS,
    MAX_ITEMS,
    REVOKE_SECONDS_MAX,
    Entry,
    Rates,
    SimulationPlan,
    draw_pause_seconds,
)
from tests.simulation.source import SimulatedSource
from tests.simulation.world import Strand, World, new_random

QUICK_SECONDS: Final = 0.02
SLOW_SECONDS: Final = 2.0
STALL_SECONDS: Final = 1.0
WALL_SECONDS: Final = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything that the processes share."""

    world: World
    plan: SimulationPlan
    broker: Broker
    oms: Oms
    checker: Checker
    entries: dict[int, Entry]


class Process(Strand):
    """A process from start to end."""

    def __init__(self, name: str, environment: Environment) -> None:
        super().__init__(environment.world, name)
        self.plan = environment.plan
        self.checker = environment.checker
        self.random: Random = new_random(environment.plan.seed, name)
        self.disconnected_until = 0.0
        self.assigned_at: dict[int, float] = {}
        """By assignment id: the time of the assignment."""
        self._booted = self.random.uniform(0.0, 10_000.0)
        self.source = SimulatedSource(self, environment.broker)
        self.client = SimulatedClient(self, environment.oms)
        self.dead_letters = SimulatedDeadLetters(self)
        self.decoder = SimulatedDecoder(self, environment.entries, batches_max=self.plan.batches_in_hand_max)
        self.observer = ProcessObserver(self)
        self._loop: Loop | None = None

    def run(self) -> None:
        """The process's main thread."""
        self._loop = Loop(
            engine=Engine(engine_limits(self.plan)),
            clock=self,
            source=self.source,
            decoder=self.decoder,
            client=self.client,
            dead_letters=self.dead_letters,
            observer=self.observer,
            jitter=self.random.random,
            options=loop_options(self.plan),
        )
        try:
            self._loop.run()
        except StopError as error:
            self.note("stops: %s", error)
        self.note("has ended")

    def terminate(self) -> None:
        """SIGTERM."""
        if self._loop is not None:
            self._loop.stop()

    # ports.Clock

    def monotonic(self) -> float:
        self.enter()
        if self.by_chance(self.rates.stall):
            self.sleep(self.random.uniform(0.0, STALL_SECONDS))
        return self.uptime()

    def wall(self) -> float:
        return self.world.now + WALL_SECONDS

    # For the simulated ports

    def uptime(self) -> float:
        """The monotonic clock, without stalls."""
        return self.world.now + self._booted

    @property
    def rates(self) -> Rates:
        return _NO_RATES if self.world.healed else self.plan.rates

    def by_chance(self, rate: float) -> bool:
        return rate > 0 and self.random.random() < rate

    def stop_by_chance(self) -> None:
        """SIGSTOP at this point, with the probability ``rates.pause``."""
        if self.by_chance(self.rates.pause):
            seconds = draw_pause_seconds(self.random)
            self.note("is paused for %.1f s", seconds)
            self.stop(seconds)

    def latency(self) -> float:
        """How many seconds a step takes: a few milliseconds, rarely up to ``SLOW_SECONDS``."""
        longest = SLOW_SECONDS if self.by_chance(self.rates.slow) else QUICK_SECONDS
        return self.random.uniform(0.0, longest)

    def new_assignment(self, partition: int) -> int:
        assignment_id = len(self.assigned_at) + 1
        self.assigned_at[assignment_id] = self.world.now
        self.checker.assigned(self.name, partition)
        return assignment_id

    def note(self, what: str, *args: object) -> None:
        self.world.note(self.name, what, *args)


_NO_RATES: Final = Rates()


class ProcessObserver:
    """Passes facts on to the checker."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.bisecting: set[int] = set()
        """Ids of bisection requests."""

    def observe(self, fact: Fact) -> None:
        match fact:
            case RequestSent() if fact.request.reason is SendReason.BISECTION:
                self.bisecting.add(fact.request.request_id)
            case Snapshot():
                plan = self._process.plan
                in_hand_max = plan.messages_max * (plan.batches_in_hand_max + 1)
                self._process.checker.snapshot(self._process.name, fact, in_hand_max=in_hand_max)
            case _:
                pass


def engine_limits(plan: SimulationPlan) -> EngineLimits:
    return EngineLimits(
        items=ItemLimits(chunk_items=CHUNK_ITEMS, max_items=MAX_ITEMS, flush_items=plan.flush_items),
        max_age_seconds=plan.max_age_seconds,
        due_within_seconds=0.2,
        max_in_flight=plan.max_in_flight,
        max_requests_per_second=plan.max_requests_per_second,
        bisection_requests_max=100_000,
        max_pending_changes=plan.max_pending_changes,
        max_uncommitted_offsets=plan.max_uncommitted_offsets,
        retry=RetryLimits(backoff_seconds_min=0.3, backoff_seconds_max=3.0, unknown_hold_seconds=plan.hold_seconds),
        stopped_retry_seconds=2.0,
    )


def loop_options(plan: SimulationPlan) -> LoopOptions:
    """Longer intervals than in production, so that a simulated second takes only a few turns."""
    return LoopOptions(
        poll_messages_max=plan.messages_max,
        poll_seconds_max=0.5,
        answer_seconds_max=0.5,
        poll_seconds_busy=0.1,
        collect_messages=2,
        collect_seconds_max=1.0,
        collect_age_share=0.2,
        commit_interval_seconds=1.0,
        round_interval_seconds=0.1,
        snapshot_interval_seconds=1.0,
        revoke_seconds_max=REVOKE_SECONDS_MAX,
    )
