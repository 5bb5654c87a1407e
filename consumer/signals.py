"""SIGTERM and SIGINT, from the first moment of the process.

Two things make this more than a signal handler:

- Process 1 of a container has no default actions. A signal that arrives before there is a handler is dropped, and
  Kubernetes then waits for the whole grace period. Imports take most of a second.
- Python runs a handler on the main thread, between two instructions. That thread may be in a call of librdkafka or of
  the resolver for seconds.

So the signals are blocked before anything else happens, which keeps those that arrive, and a thread waits for them.
(The image also has an init for the moments before: the interpreter itself needs some to start.)
This module is imported before all others: it must stay small and import nothing that takes time.
"""

import os
import signal
import sys
from collections.abc import Callable
from threading import Thread
from types import FrameType
from typing import Final, NoReturn

HANDLED: Final = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Waits for signals that ask the process to stop. For the main thread, before it starts others."""

    def __init__(self) -> None:
        """Until ``call`` is used, a signal ends the process at once, with exit code 0: it has not done anything yet."""
        self._callback: Callable[[signal.Signals], None] = lambda _number: exit_now()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        Thread(target=self._wait, name="signals", daemon=True).start()

    def call(self, callback: Callable[[signal.Signals], None]) -> None:
        """From now on call this for every signal, on a thread of its own."""
        self._callback = callback

    def _wait(self) -> None:
        while True:
            number = signal.sigwait(HANDLED)
            self._callback(signal.Signals(number))


def exit_now(code: int = 0) -> NoReturn:
    """End the process without cleaning up, from any thread, whatever the others are doing."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_on_sigterm() -> None:
    """Have SIGTERM end process 1 as it ends any other process. For commands that need no orderly end."""

    def end(number: int, _frame: FrameType | None) -> None:
        exit_now(128 + number)

    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, end)
