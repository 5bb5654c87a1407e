"""One process of the service: the real loop and engine with simulated ports. A restart creates a new one."""

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from consumer.core.engine import Engine
from consumer.core.limits import UNCOMMITTED_SHARE, EngineLimits
from consumer.core.location.planner import ItemLimits, SendReason
from consumer.core.location.set_aside import SetAsideLimits
from consumer.core.location.small_windows import SmallLimits
from consumer.core.oms.answers import Accepted, RetryLimits
from consumer.core.oms.breaker import CircuitBreaker
from consumer.core.oms.job_schedule import JobLimits, JobResult
from consumer.errors import OmsRefusedError, StopError
from consumer.facts import (
    ChangesDeadLettered,
    ChangesDecoded,
    Fact,
    JobEnded,
    RequestAnswered,
    RequestSent,
    Snapshot,
)
from consumer.loop.hold_queries import OnlySender
from consumer.loop.job_follower import JobFollower
from consumer.loop.loop import Loop, LoopOptions
from consumer.loop.schema_wait import MESSAGE_BYTES
from consumer.ports import CommitRefused
from tests.simulation.broker import Broker
from tests.simulation.checkers import Checker
from tests.simulation.client import SimulatedClient
from tests.simulation.dead_letters import SimulatedDeadLetters
from tests.simulation.decoder import SimulatedDecoder
from tests.simulation.jobs import SimulatedJobs
from tests.simulation.oms import Oms
from tests.simulation.plan import (
    CHUNK_ITEMS,
    FAULTY_SECONDS,
    LITTLE_MEMORY,
    MAX_ITEMS,
    OPERATOR_SECONDS,
    PARKED_MESSAGES_MAX,
    PROBE_SECONDS,
    REVOKE_SECONDS_MAX,
    SCHEMA_WAIT_SECONDS,
    SET_ASIDE_SECONDS,
    Entry,
    Rates,
    SimulationPlan,
    Theme,
    draw_pause_seconds,
)
from tests.simulation.refusals import RefusalChecker
from tests.simulation.source import SimulatedSource
from tests.simulation.world import WALL_SECONDS, Strand, Violation, World, new_random

QUICK_SECONDS: Final = 0.02
SLOW_SECONDS: Final = 2.0
STALL_SECONDS: Final = 1.0
TURN_CHANGES_MIN: Final = 3
TURN_SECONDS_MAX: Final = 0.5
"""A longer turn of the loop counts as this long: a process that stands still gives no partition its turn."""
TURNS_LATE_SECONDS: Final = 1.6
"""How much later than ``max_age`` a partition may get its turn, since the loop's turns are long."""
IDLE_TURNS_MAX: Final = 8
"""A round follows within two turns; others may wait for a poll, an answer or a stall."""


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

    def __init__(self, name: str, environment: Environment, *, has_little_memory: bool = False) -> None:
        super().__init__(environment.world, name)
        self.has_little_memory = has_little_memory
        self.plan = environment.plan
        self.broker = environment.broker
        self.checker = environment.checker
        self.random: Random = new_random(environment.plan.seed, name)
        self.disconnected_until = 0.0
        self.assigned_at: dict[int, float] = {}
        """By assignment id: the time of the assignment."""
        self._clock_error = new_random(environment.plan.seed, f"{name}'s clock").uniform(-2.0, 2.0)
        """Seconds by which its idea of the OMS's time is off."""
        self._booted = self.random.uniform(0.0, 10_000.0)
        self.source = SimulatedSource(self, environment.broker)
        self.client = SimulatedClient(self, environment.oms)
        self.dead_letters = SimulatedDeadLetters(self)
        self.decoder = SimulatedDecoder(self, environment.entries, batches_max=self.plan.batches_pending_max)
        self.refusals = RefusalChecker(name, environment.plan, lambda: environment.world.now, lambda: self.engine)
        self.observer = ProcessObserver(self)
        self._oms = environment.oms
        self._jobs = SimulatedJobs(self, environment.oms)
        self.job_follower: JobFollower | None = None
        self._loop: Loop | None = None
        self._waited: dict[int, float] = {}
        """By assignment: how long it was not read while others were, although it has a backlog."""
        self._checked_at = 0.0
        self._turns_idle = 0
        """Turns in a row with nothing in flight, although reading waits for memory and a location might free some."""

    def run(self) -> None:
        """The process's main thread."""
        limits = engine_limits(self.plan)
        if self.has_little_memory:
            limits = replace(
                limits, max_pending_bytes=LITTLE_MEMORY, max_uncommitted_bytes=LITTLE_MEMORY // 2, in_hand_bytes_max=0
            )
        if self.plan.theme is Theme.LOCATIONS and self.world.now > FAULTY_SECONDS + OPERATOR_SECONDS:
            limits = replace(limits, rejected_ratio_max=1.0)
        self.engine = engine = Engine(limits, size_of=len)
        self.job_follower = self._follower(engine)
        self._loop = Loop(
            engine=engine,
            clock=self,
            source=self.source,
            decoder=self.decoder,
            client=self.client,
            dead_letters=self.dead_letters,
            observer=self.observer,
            jitter=self.random.random,
            options=loop_options(self.plan),
            job_follower=self.job_follower,
        )
        self.observer.breaker, self.observer.limits = engine.breaker, limits
        try:
            self._loop.run(after_turn=lambda now, _idle: self._check_turn(engine, now))
        except StopError as error:
            self.note("stops: %s", error)
            self.checker.stopped(self.name, error)
            if isinstance(error, OmsRefusedError):
                self.refusals.stops()
        self.note("has ended")

    def _check_turn(self, engine: Engine, now: float) -> None:
        self._check_progress(engine, now)
        assert self._loop is not None
        read = set() if self._loop._puts_poll_off else self.source.unpaused
        recovering = read.intersection(engine.partitions.catching_up)
        self._check_waiting(engine, now)
        half = UNCOMMITTED_SHARE * engine.limits.max_pending_bytes
        if len(recovering) > 1 and engine.pending_bytes > half:
            raise Violation(f"rule 10: {self.name} recovers {len(recovering)} partitions at once")

    def check_read(self, assignment_ids: set[int]) -> None:
        """A poll has read messages of these, which were assigned before it. The contract tests have no loop."""
        if self._loop is None:
            return
        engine = self._loop._engine
        if engine.is_over_budget and assignment_ids.difference(engine.partitions.catching_up):
            raise Violation(f"rule 10: {self.name} reads although it is over the budget")

    def _check_waiting(self, engine: Engine, now: float) -> None:
        """While memory is short each partition with a backlog has its turn within ``max_age``."""
        seconds, self._checked_at = min(now - self._checked_at, TURN_SECONDS_MAX), now
        reads_nothing = engine.is_over_budget or engine.partitions.catching_up or not self.decoder.room()
        assert self._loop is not None
        elsewhere = engine.partitions.over_limit() | self._loop._schema_wait.to_pause() | self.source.unpaused
        waiting = set(engine.partitions.behind(0.0)) - elsewhere
        if reads_nothing or engine.sending_stopped:
            seconds = 0.0
        self._waited = {found: self._waited.get(found, 0.0) + seconds for found in waiting}
        if max(self._waited.values(), default=0.0) > self.plan.max_age_seconds + TURNS_LATE_SECONDS:
            raise Violation(f"rule 24: a partition of {self.name} with a backlog gets no turn")

    def _check_progress(self, engine: Engine, now: float) -> None:
        """If reading waits for memory, some request that frees it must be in flight, if any may be sent."""
        assert self._loop is not None
        is_fenced = self._loop._commits.is_fenced
        can_send = (
            not is_fenced
            and not engine.waits_for_jobs
            and engine.sending_stopped is None
            and engine.breaker.permits(0, now) > 0
        )
        is_idle = can_send and engine.must_free_memory and not engine.locations.requests_in_flight
        if is_idle and _can_free_memory(engine, now) and not self.observer.was_refused:
            self._turns_idle += 1
        else:
            self._turns_idle = 0
        self.observer.was_refused = False
        if self._turns_idle > IDLE_TURNS_MAX:
            raise Violation(f"pressure: {self.name} sends nothing, although nothing more can be read")

    def _follower(self, engine: Engine) -> JobFollower | None:
        if self.plan.unfinished_jobs_max is None:
            return None
        return JobFollower(
            client=self._jobs,
            limits=JobLimits(unfinished_max=self.plan.unfinished_jobs_max),
            engine=engine,
            dead_letters=self.dead_letters,
            observer=self.observer,
            jitter=self.random.random,
            only_sender=OnlySender(self._oms_time, lambda: self.plan.partitions) if self.plan.has_lists else None,
        )

    def _oms_time(self) -> float:
        return self.world.now + WALL_SECONDS + self._clock_error

    def check_job_ended(self, result: JobResult) -> None:
        """A job ends as the OMS says, and none that is queued counts as unknown."""
        status = self._oms.job_status(int(result.job.job_id))
        if result.outcome.name != status.name:
            raise Violation(f"rule 29: job {result.job.job_id} of {self.name} is {status}, not {result.outcome}")

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
        self.was_refused = False
        """A commit was refused since the last turn: its round was given back."""
        self.breaker: CircuitBreaker | None = None
        self.limits = EngineLimits()
        self._unfinished_jobs = 0

    def observe(self, fact: Fact) -> None:
        match fact:
            case RequestSent():
                self._check_job_queue(fact)
            case RequestAnswered():
                self._unfinished_jobs += isinstance(fact.decision, Accepted)
                self._process.refusals.answered(fact)
            case ChangesDeadLettered():
                for failed in fact.changes:
                    self._process.refusals.dead_lettered(failed)
            case JobEnded():
                self._unfinished_jobs -= 1
                self._process.check_job_ended(fact.result)
            case _:
                pass
        match fact:
            case RequestSent() if fact.request.reason is SendReason.BISECTION:
                self.bisecting.add(fact.request.request_id)
            case ChangesDecoded():
                self._process.checker.decoded(self._process.name, self._process.source.partition_of, fact.decoded)
            case CommitRefused():
                self.was_refused = True
            case Snapshot():
                self._process.checker.snapshot(self._process.name, fact, self.limits)
            case _:
                pass

    def _check_job_queue(self, sent: RequestSent) -> None:
        """With too many unfinished jobs only a probe leaves, or whatever is due while the OMS tells nothing of jobs."""
        limit, follower = self._process.plan.unfinished_jobs_max, self._process.job_follower
        if limit is None or follower is None or self._unfinished_jobs < limit:
            return
        is_probe = self.breaker is not None and self.breaker.failures > 0
        if not is_probe and follower.jobs.unavailable_reason is None:
            raise Violation(
                f"rule 22: {self._process.name}#{sent.request.request_id} is sent with {self._unfinished_jobs} "
                "unfinished jobs"
            )


def _can_free_memory(engine: Engine, now: float) -> bool:
    """Whether a location may send what must leave before reading goes on."""
    if engine._backpressure.keep_bytes is not None:
        return engine.locations.may_send(now)
    blocking = engine.locations._windows.blocking_locations(engine._backpressure.resume_offsets)
    return any(engine.locations._by_name[found.location].may_send(now) for found in blocking)


def engine_limits(plan: SimulationPlan) -> EngineLimits:
    return EngineLimits(
        items=ItemLimits(chunk_items=CHUNK_ITEMS, max_items=MAX_ITEMS, flush_items=plan.flush_items),
        max_age_seconds=plan.max_age_seconds,
        due_within_seconds=0.2,
        max_in_flight=plan.max_in_flight,
        max_requests_per_second=plan.max_requests_per_second,
        bisection_requests_max=100_000,
        max_pending_bytes=plan.max_pending_changes,
        turn_bytes_min=TURN_CHANGES_MIN,
        in_hand_bytes_max=2 * plan.undecoded_changes_max,
        max_uncommitted_offsets=plan.max_uncommitted_offsets,
        max_uncommitted_bytes=int(UNCOMMITTED_SHARE * plan.max_pending_changes),
        retry=RetryLimits(backoff_seconds_min=0.3, backoff_seconds_max=3.0, unknown_hold_seconds=plan.hold_seconds),
        stopped_retry_seconds=2.0,
        set_aside=SetAsideLimits(
            seconds_max=SET_ASIDE_SECONDS, probe_seconds_min=PROBE_SECONDS, probe_seconds_max=4 * PROBE_SECONDS
        ),
        share_locations_min=plan.share_locations_min,
        only_sender=plan.only_sender,
        smart_refresh=plan.smart_refresh,
        small=SmallLimits(items=2, max_age_seconds=0.5),
        list_lag_seconds=0.0,
        request_bytes_max=plan.request_bytes_max,
        credible_bytes_min=100,
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
        schema_wait_seconds=SCHEMA_WAIT_SECONDS,
        parked_bytes_max=PARKED_MESSAGES_MAX * MESSAGE_BYTES,
    )
