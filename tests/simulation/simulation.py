"""One run: members that start and stop, a phase with faults, then one without, in which everything must be sent."""

from dataclasses import dataclass
from typing import Final

from consumer.core.oms.answers import Answer, AnswerKind
from tests.simulation.broker import Broker
from tests.simulation.checkers import Checker
from tests.simulation.group import Group
from tests.simulation.oms import Oms
from tests.simulation.plan import (
    FAULTY_SECONDS,
    HEALED_SECONDS_MAX,
    LOCATIONS,
    OPERATOR_SECONDS,
    POLL_SECONDS_MAX,
    SESSION_SECONDS,
    Fault,
    FaultKind,
    SimulationPlan,
    Theme,
)
from tests.simulation.process import Environment, Process
from tests.simulation.world import Violation, World, new_random

RESTART_SECONDS: Final = 2.0
"""How long after its end a process is restarted, as Kubernetes does."""
REFUSALS_OF_ALL: Final = (
    Answer(AnswerKind.UNAUTHORISED),
    Answer(AnswerKind.FORBIDDEN, status=403),
    Answer(AnswerKind.WRONG_ADDRESS, status=404),
    Answer(AnswerKind.WRONG_ADDRESS, status=405),
    Answer(AnswerKind.GATEWAY_PAGE, status=404),
)
CHECK_SECONDS: Final = 1.0
"""Interval of the check whether everything is done, once the faults are over."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a plan; ``violation`` is "" if there was none."""

    plan: SimulationPlan
    violation: str
    steps: int
    seconds: float
    """Simulated time."""
    trace: tuple[str, ...]


def simulate(plan: SimulationPlan, *, trace_lines: int = 60) -> Outcome:
    """Run a plan to its end or to the first violation."""
    simulation = Simulation(plan)
    violation = ""
    try:
        simulation.world.run()
    except Violation as found:
        violation = str(found)
    except Exception as error:  # noqa: BLE001 - anything that the service raises, except StopError, is a bug
        violation = f"{type(error).__name__} in the service: {error}{_place(error)}"
    world = simulation.world
    return Outcome(plan, violation, world.steps, world.now, tuple(world.trace(trace_lines)) if violation else ())


def _place(error: BaseException) -> str:
    """The innermost frames of the traceback, the raising one last."""
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return f" ({' > '.join(frames[-6:])})"


class Simulation:
    """Wires up a plan: broker, OMS, members and faults."""

    def __init__(self, plan: SimulationPlan) -> None:
        self.world = World(plan.seed)
        self._plan = plan
        self._random = new_random(plan.seed, "simulation")
        self._checker = Checker(self.world, plan)
        self._group = Group(
            self.world,
            plan.seed,
            plan.partitions,
            session_seconds=SESSION_SECONDS,
            rebalance_seconds=POLL_SECONDS_MAX,
        )
        self._broker = Broker(self.world, plan, self._checker, self._group)
        self._oms = Oms(self.world, plan, self._checker)
        entries = {entry.number: entry for entry in plan.entries}
        self._environment = Environment(self.world, plan, self._broker, self._oms, self._checker, entries)
        self._members: list[Process | None] = [None] * plan.members
        self._starts = [0] * plan.members
        self._all_down_until = 0.0
        self._little_memory_until = [0.0] * plan.members
        for member in range(plan.members):
            self.world.after(self._random.uniform(0.0, 5.0), lambda member=member: self._start(member))  # type: ignore[misc]
        for fault in plan.faults:
            self.world.at(fault.at, lambda fault=fault: self._inject(fault))  # type: ignore[misc]
        self.world.at(FAULTY_SECONDS, self._heal)

    # Members

    def _start(self, member: int) -> None:
        if self._running(member) or self.world.now < self._all_down_until:
            return
        self._starts[member] += 1
        has_little_memory = not self.world.healed and self.world.now < self._little_memory_until[member]
        process = Process(
            f"{'ABCDEFGH'[member]}{self._starts[member]}", self._environment, has_little_memory=has_little_memory
        )
        self._members[member] = process
        self.world.adopt(process)

        def live() -> None:
            process.run()
            self.world.after(RESTART_SECONDS, lambda: self._start(member))

        self.world.note(process.name, "starts")
        process.start(live)

    def _running(self, member: int) -> Process | None:
        process = self._members[member]
        return process if process is not None and process.alive and not process.ended else None

    # Faults

    def _inject(self, fault: Fault) -> None:
        self.world.note("fault", "%s %d for %.1f", fault.kind, fault.target, fault.seconds)
        match fault.kind:
            case FaultKind.MOVE:
                self._group.move(fault.target % self._plan.partitions)
            case FaultKind.FOREIGN_METADATA:
                self._broker.foreign_metadata.add(fault.target % self._plan.partitions)
            case FaultKind.REDRIVE:
                self._broker.redrive()
            case FaultKind.TOKENS_REVOKED:
                self._oms.revoke_tokens()
            case FaultKind.OMS_DOWN:
                self._oms.down_until = self.world.now + fault.seconds
            case FaultKind.OMS_REFUSES:
                self._oms.refuses_until = self.world.now + fault.seconds
                self._oms.refuses_with = self._random.choice(REFUSALS_OF_ALL)
            case FaultKind.LOCATION_REFUSED:
                self._oms.refuse_location(LOCATIONS[fault.target], fault.seconds)
            case FaultKind.ITEM_REFUSED:
                location = LOCATIONS[fault.target]
                self._oms.refuse_item(location, f"{location[0]}{self._random.randrange(3)}", fault.seconds)
            case FaultKind.BACKLOG:
                self._kill_all(fault.seconds)
            case _:
                self._inject_into_member(fault)

    def _kill_all(self, seconds: float) -> None:
        self._all_down_until = self.world.now + seconds
        for member in range(self._plan.members):
            process = self._running(member)
            if process is not None:
                process.kill()
            self.world.after(seconds, lambda member=member: self._start(member))  # type: ignore[misc]

    def _inject_into_member(self, fault: Fault) -> None:
        member = fault.target % self._plan.members
        if fault.kind is FaultKind.LESS_MEMORY:
            self._little_memory_until[member] = self.world.now + fault.seconds
        process = self._running(member)
        if process is None:
            return
        match fault.kind:
            case FaultKind.PAUSE:
                process.stop(fault.seconds)
            case FaultKind.DISCONNECT:
                process.disconnected_until = self.world.now + fault.seconds
            case FaultKind.KILL:
                process.kill()
                self.world.after(fault.seconds, lambda: self._start(member))
            case FaultKind.LESS_MEMORY:
                process.kill()
                self.world.after(RESTART_SECONDS, lambda: self._start(member))
            case _:
                process.terminate()

    def _heal(self) -> None:
        """End the phase of faults: every fault is over and every member runs."""
        self.world.note("fault", "no more")
        self.world.healed = True
        self._all_down_until = 0.0
        self._oms.down_until = self._oms.refuses_until = 0.0
        for member in range(self._plan.members):
            process = self._running(member)
            if process is None:
                self._start(member)
            elif process.has_little_memory:
                process.terminate()
            else:
                process.stopped_until = process.disconnected_until = 0.0
        if self._plan.theme is Theme.LOCATIONS:
            self.world.after(OPERATOR_SECONDS + 1.0, self._raise_ratio)
        self._check_done()

    def _raise_ratio(self) -> None:
        """The operator restarts all members with another ``dead_letters.max_ratio``."""
        for member in range(self._plan.members):
            process = self._running(member)
            if process is not None:
                process.terminate()

    def _check_done(self) -> None:
        """Finish the run if everything is sent and applied."""
        unsettled = self._checker.unsettled(self._oms)
        if not unsettled:
            self._checker.settled(self._oms)
            self.world.finish()
        elif self.world.now > FAULTY_SECONDS + HEALED_SECONDS_MAX:
            raise Violation(f"not done {HEALED_SECONDS_MAX:.0f} s after the faults: {'; '.join(unsettled)}")
        else:
            self.world.after(CHECK_SECONDS, self._check_done)
