"""Simulated time and scheduling: one event after another, in an order that the seed decides.

Production code that blocks (the loop in a poll, for example) runs in a strand: a thread that runs only when it is
scheduled. Exactly one thread runs at any moment, so a seed always gives the same run.
"""

import heapq
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

TRACE_MAX = 400
"""Number of notes kept, the latest ones."""
STACK_BYTES = 512 * 1024
"""Strands need little stack, and small ones keep hundreds of restarts cheap."""

Action = Callable[[], None]

WALL_SECONDS = 1_700_000_000.0
"""The wall clock at the start of a run."""


class Killed(BaseException):
    """Unwinds the thread of a killed process. Not an ``Exception``, so that no error handler catches it."""


class Violation(Exception):  # noqa: N818 - the protocol is violated; the simulation itself is fine
    """The system under test broke a rule."""


def new_random(*seed: object) -> random.Random:
    """A separate generator for every purpose, all derived from the seed, so that draws do not affect each other."""
    return random.Random("/".join(map(str, seed)))  # noqa: S311 - it must be repeatable, not secret


class Strand:
    """A process with one thread. Events of a paused process wait; those of a killed one are dropped."""

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
        """Schedule ``body`` to run in this strand."""

        def run() -> None:
            self.baton.acquire()
            try:
                self.enter()
                body()
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                self.world.fail(error)
            self.ended = True
            self.world.run_others(self)

        self._thread = threading.Thread(target=run, name=self.name, daemon=True)
        self._thread.start()
        self.world.resume_at(self.world.now, self)

    def enter(self) -> None:
        """Raise ``Killed`` in a killed process. Simulated ports call this before they do anything."""
        if not self.alive:
            raise Killed

    def sleep(self, seconds: float) -> None:
        """Let simulated time pass while other strands run."""
        self.enter()
        self.world.resume_at(self.world.now + seconds, self)
        self.world.run_others(self)
        self.enter()

    def after(self, seconds: float, action: Action) -> None:
        """Schedule work of another thread of this process; it waits while the process is paused."""
        self.world.at(self.world.now + seconds, action, self)

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after ``seconds``."""
        self.stopped_until = max(self.stopped_until, self.world.now + seconds)

    def kill(self) -> None:
        """SIGKILL."""
        if self.alive:
            self.alive = False
            if not self.ended:
                self.world.resume_at(self.world.now, self)

    def unwind(self) -> None:
        """End the thread, at the end of the run."""
        self.alive = False
        if self._thread is not None and not self.ended:
            self.baton.release()
        if self._thread is not None:
            self._thread.join()


class World:
    """The clock and the queue of events."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.steps = 0
        self.healed = False
        """The phase of faults is over."""
        self.failure: BaseException | None = None
        self._random = new_random(seed, "world")
        self._events: list[tuple[float, float, int, Strand | None, Action | None]] = []
        self._events_pushed = 0
        self._strands: list[Strand] = []
        self._over = False
        self._closing = False
        self._main = Strand(self, "world")
        self._trace: deque[tuple[float, str, str, tuple[Any, ...]]] = deque(maxlen=TRACE_MAX)

    # Events

    def at(self, time: float, action: Action, strand: Strand | None = None) -> None:
        """Schedule an action; the seed decides the order of simultaneous events."""
        self._push(time, strand, action)

    def after(self, seconds: float, action: Action) -> None:
        self._push(self.now + seconds, None, action)

    def resume_at(self, time: float, strand: Strand) -> None:
        self._push(time, strand, None)

    def _push(self, time: float, strand: Strand | None, action: Action | None) -> None:
        self._events_pushed += 1
        heapq.heappush(self._events, (time, self._random.random(), self._events_pushed, strand, action))

    def adopt(self, strand: Strand) -> None:
        """Register a strand, to be unwound at the end."""
        self._strands.append(strand)

    # Running

    def run(self) -> None:
        """Run until ``finish`` or a failure, which is raised."""
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
        """End the run with this error, unless there was an earlier one."""
        if not self._closing:
            self.failure = self.failure or error
            self._over = True

    def run_others(self, strand: Strand) -> None:
        """Run events until it is this strand's turn again. A strand that has ended returns at once."""
        if self._closing:
            return
        target = self._next()
        if target is not strand:
            target.baton.release()
            if not strand.ended:
                strand.baton.acquire()

    def _next(self) -> Strand:
        """Run events until a strand is due, and return it; return the main thread when the run is over."""
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
                except Exception as error:  # noqa: BLE001 - raised in the main thread
                    self.fail(error)
        return self._main

    # Trace

    def note(self, who: str, what: str, *args: Any) -> None:
        """Add a line to the trace; ``args`` are formatted only if it is printed."""
        self._trace.append((self.now, who, what, args))

    def trace(self, lines_max: int) -> list[str]:
        latest = list(self._trace)[-lines_max:]
        return [f"{time:8.2f}  {who:<10} {what % args if args else what}" for time, who, what, args in latest]
