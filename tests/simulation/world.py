"""Simulated time, and who runs when: one event after another, in an order that the seed decides.

Production code that waits inside a call (the loop in a poll, say) runs in a strand: a thread that runs only while the
world lets it. At any moment exactly one thread runs, so a seed gives the same run each time.
"""

import heapq
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

TRACE_MAX = 400
"""The latest notes are kept: more than a person reads."""
STACK_BYTES = 512 * 1024
"""A strand calls a loop, no more: small stacks keep hundreds of restarts cheap."""

Action = Callable[[], None]


class Killed(BaseException):
    """The process was killed: unwinds its thread. No Exception, so that nothing takes it for an error and goes on."""


class Violation(Exception):  # noqa: N818 - the protocol is violated; nothing went wrong in the simulation
    """The system under test did what the protocol forbids."""


def new_random(*seed: object) -> random.Random:
    """A generator of its own for each purpose, all from the one seed: what one draws moves no other."""
    return random.Random("/".join(map(str, seed)))  # noqa: S311 - it must be repeatable, not secret


class Strand:
    """A process with one thread. While it is stopped its events wait; once it is dead they are dropped."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.stopped_until = 0.0
        self.ended = False
        self.baton = threading.Lock()
        self.baton.acquire()
        self._thread: threading.Thread | None = None

    def start(self, body: Action) -> None:
        """Run ``body`` in this strand, from the next event on."""

        def run() -> None:
            self.baton.acquire()
            try:
                self.enter()
                body()
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001 - told in the main thread, which ends the run
                self.world.fail(error)
            self.ended = True
            self.world.run_others(self)

        self._thread = threading.Thread(target=run, name=self.name, daemon=True)
        self._thread.start()
        self.world.resume_at(self.world.now, self)

    def enter(self) -> None:
        """To be called first by whatever the strand's own thread calls."""
        if not self.alive:
            raise Killed

    def sleep(self, seconds: float) -> None:
        """Let simulated time pass, and others run."""
        self.enter()
        self.world.resume_at(self.world.now + seconds, self)
        self.world.run_others(self)
        self.enter()

    def after(self, seconds: float, action: Action) -> None:
        """Have something done by another thread of this process; it waits while the process is stopped."""
        self.world.at(self.world.now + seconds, action, self)

    def stop(self, seconds: float) -> None:
        """SIGSTOP for so long."""
        self.stopped_until = max(self.stopped_until, self.world.now + seconds)

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more."""
        if self.alive:
            self.alive = False
            if not self.ended:
                self.world.resume_at(self.world.now, self)

    def unwind(self) -> None:
        """At the end of the run: let the thread end."""
        self.alive = False
        if self._thread is not None and not self.ended:
            self.baton.release()
        if self._thread is not None:
            self._thread.join()


class World:
    """The clock, and what is to happen."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.steps = 0
        self.healed = False
        """Faults are over."""
        self.failure: BaseException | None = None
        self._random = new_random(seed, "world")
        self._events: list[tuple[float, float, int, Strand | None, Action | None]] = []
        self._events_made = 0
        self._strands: list[Strand] = []
        self._over = False
        self._closing = False
        self._main = Strand(self, "world")
        self._trace: deque[tuple[float, str, str, tuple[Any, ...]]] = deque(maxlen=TRACE_MAX)

    # What happens

    def at(self, time: float, action: Action, strand: Strand | None = None) -> None:
        """Have something done; of events at the same time the seed decides which comes first."""
        self._push(time, strand, action)

    def after(self, seconds: float, action: Action) -> None:
        self._push(self.now + seconds, None, action)

    def resume_at(self, time: float, strand: Strand) -> None:
        self._push(time, strand, None)

    def _push(self, time: float, strand: Strand | None, action: Action | None) -> None:
        self._events_made += 1
        heapq.heappush(self._events, (time, self._random.random(), self._events_made, strand, action))

    def adopt(self, strand: Strand) -> None:
        """Unwind this strand at the end."""
        self._strands.append(strand)

    # Running

    def run(self) -> None:
        """Until ``finish`` or a failure. Raises the failure."""
        try:
            self.run_others(self._main)
        finally:
            self._closing = True
            for strand in self._strands:
                strand.unwind()
        if self.failure is not None:
            raise self.failure

    def finish(self) -> None:
        self._over = True

    def fail(self, error: BaseException) -> None:
        """End the run; the first failure counts."""
        if not self._closing:
            self.failure = self.failure or error
            self._over = True

    def run_others(self, strand: Strand) -> None:
        """Run what comes next until it is this strand's turn; one that has ended returns at once."""
        if self._closing:
            return
        target = self._next()
        if target is not strand:
            target.baton.release()
            if not strand.ended:
                strand.baton.acquire()

    def _next(self) -> Strand:
        """Run events until one is a strand's turn: that strand, or the main thread when all is over."""
        while not self._over:
            time, _, _, strand, action = heapq.heappop(self._events)
            self.now = max(self.now, time)
            if strand is not None and strand.alive and strand.stopped_until > self.now:
                self._push(strand.stopped_until, strand, action)
                continue
            self.steps += 1
            if action is None:
                if strand is not None and not strand.ended:
                    return strand
            elif strand is None or strand.alive:
                try:
                    action()
                except Exception as error:  # noqa: BLE001 - told in the main thread
                    self.fail(error)
        return self._main

    # Trace

    def note(self, who: str, what: str, *args: Any) -> None:
        """Write down a step; ``args`` are formatted only if somebody reads it."""
        self._trace.append((self.now, who, what, args))

    def trace(self, lines_max: int) -> list[str]:
        latest = list(self._trace)[-lines_max:]
        return [f"{time:8.2f}  {who:<10} {what % args if args else what}" for time, who, what, args in latest]
