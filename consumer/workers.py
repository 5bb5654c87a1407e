"""Worker threads for blocking calls, and the one mailbox between them and the loop's thread.

    loop's thread                        worker threads
    submit(task)        --- tasks --->   receive(), receive_many(choose)
    take(), wait(...)   <-- results --   deliver(result)

The loop never blocks on a worker, and workers share nothing with the loop but tasks and results: both must not change
once they are handed over.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from consumer.errors import InvariantError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Workers(Generic[Task, Result]):
    """``count`` daemon threads that turn tasks into results.

    ``work`` is what each thread runs: it receives tasks and delivers results until there are no more tasks::

        def work(workers: Workers[Task, Result]) -> None:
            while (task := workers.receive()) is not None:
                workers.deliver(result_of(task))

    Guarantees:

    - Tasks are received in the order in which they were submitted. One thread therefore delivers in that order, too;
      several threads deliver in the order in which they finish.
    - Every delivered result is taken exactly once, also after a failure or ``close``.
    - An exception that leaves ``work`` is a bug or a reason to stop, never a result. It is kept, no further task is
      received, and ``take`` raises it once all results before it are taken.
    - ``close`` returns in bounded time, whatever the threads are doing. Threads that are still busy then are abandoned.

    Threads start with the first task. Threads are named ``name-1``, ``name-2`` ...; ``monotonic`` gives seconds.
    """

    def __init__(
        self,
        name: str,
        work: Callable[["Workers[Task, Result]"], None],
        *,
        count: int = 1,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._monotonic = monotonic
        lock = threading.Lock()
        """Guards all that follows but the threads and ``_pending``, which only the loop's thread touches.

        Each kind of waiting has a condition of its own: one for all would wake every idle thread at every task.
        """
        self._has_tasks = threading.Condition(lock)
        self._has_results = threading.Condition(lock)
        self._is_over = threading.Condition(lock)
        self._tasks: deque[Task] = deque()
        self._results: list[tuple[Result, int]] = []
        self._failure: BaseException | None = None
        self._closing = False
        self._pending = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(1, count + 1)
        ]
        self._started = False

    # For the loop's thread

    @property
    def pending(self) -> int:
        """Number of submitted tasks whose results have not been taken yet."""
        return self._pending

    def submit(self, task: Task) -> None:
        """Queue a task. Raises InvariantError after ``close``."""
        with self._has_tasks:
            if self._closing:
                raise InvariantError("a task was submitted to closed workers")
            self._tasks.append(task)
            self._has_tasks.notify()
        self._pending += 1
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()

    def take(self) -> list[Result]:
        """The results delivered since the last call, without waiting.

        Raises the exception of a failed worker if there are no results: at every call from then on.
        """
        with self._has_results:
            taken, self._results = self._results, []
            if not taken and self._failure:
                raise self._failure
        self._pending -= sum(tasks for _, tasks in taken)
        return [result for result, _ in taken]

    def wait(self, timeout_seconds: float) -> None:
        """Wait until ``take`` has something to return or to raise, at most this long."""
        with self._has_results:
            self._has_results.wait_for(lambda: self._results or self._failure, timeout_seconds)

    def close(self, timeout_seconds: float) -> None:
        """Drop the tasks that no worker has received, and wait at most this long for all threads to end.

        May be called more than once. Results delivered meanwhile can still be taken.
        """
        with self._has_tasks:
            self._closing = True
            self._tasks.clear()
            self._has_tasks.notify_all()
            self._is_over.notify_all()
        if self._started:
            deadline = self._monotonic() + timeout_seconds
            for thread in self._threads:
                thread.join(max(deadline - self._monotonic(), 0.0))

    # For the workers' threads

    @property
    def closing(self) -> bool:
        """True once ``close`` was called: long work should end early, without a result."""
        return self._closing

    def receive(self) -> Task | None:
        """Wait for the next task. None: there are no more, return from ``work``."""
        received = self.receive_many(lambda tasks: [tasks.popleft()])
        return received[0] if received else None

    def receive_many(self, choose: Callable[[deque[Task]], list[Task]]) -> list[Task]:
        """Wait for a task, then receive several at once. Empty: there are no more, return from ``work``.

        ``choose`` gets the queued tasks (at least one), oldest first, and must remove and return one or more of them.
        """
        with self._has_tasks:
            self._has_tasks.wait_for(lambda: self._tasks or self._closing or self._failure)
            if self._closing or self._failure:
                return []
            return choose(self._tasks)

    def deliver(self, result: Result, *, tasks: int = 1) -> None:
        """Hand over a result. It completes this many received tasks."""
        with self._has_results:
            self._results.append((result, tasks))
            self._has_results.notify_all()

    def sleep(self, seconds: float) -> bool:
        """Wait this long, say before a retry. True, and at once, when closing."""
        with self._is_over:
            return self._is_over.wait_for(lambda: self._closing, seconds)

    def _run(self) -> None:
        try:
            self._work(self)
        except BaseException as error:  # noqa: BLE001 - raised again by take(); a panic of polars is no Exception
            with self._has_results:
                if self._failure is None:
                    self._failure = error
                else:
                    self._failure.add_note(f"Another worker failed, too: {error!r}")
                self._has_results.notify_all()
                self._has_tasks.notify_all()
