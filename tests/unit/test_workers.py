import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from consumer.errors import InvariantError
from consumer.workers import Workers

WAIT_SECONDS_MAX = 60.0

Numbers = Workers[int, int]
MakeWorkers = Callable[..., Numbers]


class PolarsPanic(BaseException):
    """As polars's PanicException: not an Exception."""


@pytest.fixture
def make_workers() -> Iterator[MakeWorkers]:
    """Workers that are closed after the test."""
    made: list[Numbers] = []

    def make(work: Callable[[Numbers], None], count: int = 1) -> Numbers:
        made.append(Workers("test", work, count=count))
        return made[-1]

    yield make
    for workers in made:
        workers.close(WAIT_SECONDS_MAX)


def work(workers: Numbers) -> None:
    """A negative task fails; any other is its own result."""
    while (task := workers.receive()) is not None:
        if task < 0:
            raise ValueError(f"task {task}")
        workers.deliver(task)


def threads_of(workers: Numbers) -> list[threading.Thread]:
    return workers._threads


def take_all(workers: Numbers, count: int) -> list[int]:
    """Take until there are this many results."""
    results: list[int] = []
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while len(results) < count:
        assert time.monotonic() < deadline, f"only {len(results)} of {count} results came"
        workers.wait(1.0)
        results += workers.take()
    return results


def failure_of(workers: Numbers) -> BaseException:
    """Take until the failure is raised."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        workers.wait(1.0)
        try:
            workers.take()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is returned
            return error
    raise AssertionError("no failure was raised")


def wait_until_ended(thread: threading.Thread) -> None:
    thread.join(WAIT_SECONDS_MAX)
    assert not thread.is_alive()


def test_one_worker_delivers_in_the_order_of_the_tasks(make_workers: MakeWorkers) -> None:
    workers = make_workers(work)
    for task in range(1_000):
        workers.submit(task)

    assert take_all(workers, 1_000) == list(range(1_000))
    assert workers.take() == []


def test_several_workers_deliver_every_task_exactly_once(make_workers: MakeWorkers) -> None:
    workers = make_workers(work, count=8)
    taken: list[int] = []
    for task in range(2_000):
        workers.submit(task)
        taken += workers.take()

    taken += take_all(workers, 2_000 - len(taken))

    assert sorted(taken) == list(range(2_000))
    assert workers.pending == 0


def test_as_many_tasks_run_at_the_same_time_as_there_are_threads(make_workers: MakeWorkers) -> None:
    together = threading.Barrier(4, timeout=WAIT_SECONDS_MAX)

    def meet(workers: Numbers) -> None:
        while (task := workers.receive()) is not None:
            together.wait()
            workers.deliver(task)

    workers = make_workers(meet, count=4)
    for task in range(4):
        workers.submit(task)

    assert sorted(take_all(workers, 4)) == [0, 1, 2, 3]


def test_threads_are_named_daemons_and_start_with_the_first_task(make_workers: MakeWorkers) -> None:
    workers = make_workers(work, count=2)
    assert [(thread.name, thread.daemon, thread.is_alive()) for thread in threads_of(workers)] == [
        ("test-1", True, False),
        ("test-2", True, False),
    ]

    workers.submit(1)

    assert all(thread.is_alive() for thread in threads_of(workers))


def test_a_task_is_pending_until_its_result_is_taken(make_workers: MakeWorkers) -> None:
    workers = make_workers(work)
    workers.submit(1)
    workers.submit(2)
    assert workers.pending == 2

    workers.wait(WAIT_SECONDS_MAX)
    assert workers.pending == 2

    take_all(workers, 2)
    assert workers.pending == 0


def test_a_sleeping_worker_does_not_keep_a_task_from_an_idle_one(make_workers: MakeWorkers) -> None:
    asleep = threading.Event()

    def sleeps_at_zero(workers: Numbers) -> None:
        while (task := workers.receive()) is not None:
            if task == 0:
                asleep.set()
                workers.sleep(WAIT_SECONDS_MAX)
                return
            workers.deliver(task)

    workers = make_workers(sleeps_at_zero, count=2)
    workers.submit(0)
    assert asleep.wait(WAIT_SECONDS_MAX)
    for task in range(1, 50):
        workers.submit(task)
        assert take_all(workers, 1) == [task]


def test_several_tasks_can_be_received_and_completed_together(make_workers: MakeWorkers) -> None:
    all_queued = threading.Event()

    def choose_even(tasks: deque[int]) -> list[int]:
        chosen = [task for task in tasks if task % 2 == 0] or [tasks[0]]
        for task in chosen:
            tasks.remove(task)
        return chosen

    def add(workers: Numbers) -> None:
        all_queued.wait(WAIT_SECONDS_MAX)
        while received := workers.receive_many(choose_even):
            workers.deliver(sum(received), tasks=len(received))

    workers = make_workers(add)
    for task in (1, 2, 3, 4):
        workers.submit(task)
    all_queued.set()

    assert take_all(workers, 3) == [6, 1, 3]
    assert workers.pending == 0


def test_waiting_ends_with_a_result(make_workers: MakeWorkers) -> None:
    go_on = threading.Event()

    def slow(workers: Numbers) -> None:
        while (task := workers.receive()) is not None:
            go_on.wait(WAIT_SECONDS_MAX)
            workers.deliver(task)

    workers = make_workers(slow)
    workers.submit(7)
    started_at = time.monotonic()
    threading.Timer(0.05, go_on.set).start()

    workers.wait(WAIT_SECONDS_MAX)

    assert time.monotonic() - started_at < WAIT_SECONDS_MAX / 2
    assert workers.take() == [7]


def test_waiting_ends_with_a_failure(make_workers: MakeWorkers) -> None:
    workers = make_workers(work)
    started_at = time.monotonic()
    workers.submit(-1)

    workers.wait(WAIT_SECONDS_MAX)

    assert time.monotonic() - started_at < WAIT_SECONDS_MAX / 2
    with pytest.raises(ValueError, match="task -1"):
        workers.take()


def test_waiting_ends_at_its_timeout_without_either(make_workers: MakeWorkers) -> None:
    workers = make_workers(work)

    workers.wait(0.01)

    assert workers.take() == []


def test_a_failure_is_raised_after_the_results_before_it_and_at_every_call_from_then_on(
    make_workers: MakeWorkers,
) -> None:
    workers = make_workers(work)
    for task in (1, 2, -3):
        workers.submit(task)
    wait_until_ended(threads_of(workers)[0])

    assert workers.take() == [1, 2]
    for _ in range(2):
        with pytest.raises(ValueError, match="task -3"):
            workers.take()


def test_no_task_is_received_after_a_failure(make_workers: MakeWorkers) -> None:
    workers = make_workers(work, count=3)
    workers.submit(-1)
    assert isinstance(failure_of(workers), ValueError)

    workers.submit(2)

    for thread in threads_of(workers):
        wait_until_ended(thread)
    assert isinstance(failure_of(workers), ValueError)


def test_a_result_that_another_worker_delivers_after_a_failure_is_not_lost(make_workers: MakeWorkers) -> None:
    received, failed = threading.Event(), threading.Event()

    def slow_or_failing(workers: Numbers) -> None:
        task = workers.receive()
        if task == 1:
            received.set()
            failed.wait(WAIT_SECONDS_MAX)
            workers.deliver(1)
        elif task == 2:
            received.wait(WAIT_SECONDS_MAX)
            raise ValueError("task 2")

    workers = make_workers(slow_or_failing, count=2)
    workers.submit(1)
    workers.submit(2)
    assert isinstance(failure_of(workers), ValueError)
    failed.set()
    for thread in threads_of(workers):
        wait_until_ended(thread)

    assert workers.take() == [1]
    assert isinstance(failure_of(workers), ValueError)


def test_a_second_failure_is_noted_on_the_first(make_workers: MakeWorkers) -> None:
    together = threading.Barrier(2, timeout=WAIT_SECONDS_MAX)

    def fail(workers: Numbers) -> None:
        task = workers.receive()
        together.wait()
        raise ValueError(f"task {task}")

    workers = make_workers(fail, count=2)
    workers.submit(1)
    workers.submit(2)
    for thread in threads_of(workers):
        wait_until_ended(thread)

    failure = failure_of(workers)
    words = " ".join([str(failure), *failure.__notes__])
    assert "task 1" in words
    assert "task 2" in words


def test_a_failure_need_not_be_an_exception(make_workers: MakeWorkers) -> None:
    def panic(workers: Numbers) -> None:
        workers.receive()
        raise PolarsPanic

    workers = make_workers(panic)
    workers.submit(1)

    assert isinstance(failure_of(workers), PolarsPanic)


def test_closing_drops_queued_tasks_and_keeps_the_result_of_the_running_one(make_workers: MakeWorkers) -> None:
    received, go_on = threading.Event(), threading.Event()

    def slow(workers: Numbers) -> None:
        while (task := workers.receive()) is not None:
            received.set()
            go_on.wait(WAIT_SECONDS_MAX)
            workers.deliver(task)

    workers = make_workers(slow)
    workers.submit(1)
    workers.submit(2)
    assert received.wait(WAIT_SECONDS_MAX)
    closer = threading.Thread(target=workers.close, args=[WAIT_SECONDS_MAX])
    closer.start()
    while not workers.closing:
        time.sleep(0.001)
    go_on.set()
    wait_until_ended(closer)

    assert workers.take() == [1]
    assert workers.take() == []
    assert not threads_of(workers)[0].is_alive()


def test_closing_does_not_wait_longer_than_its_timeout_for_all_hanging_workers_together(
    make_workers: MakeWorkers,
) -> None:
    hang = threading.Event()

    def hanging(workers: Numbers) -> None:
        workers.receive()
        hang.wait(WAIT_SECONDS_MAX)

    workers = make_workers(hanging, count=4)
    workers.submit(1)
    started_at = time.monotonic()
    workers.close(0.2)
    seconds = time.monotonic() - started_at
    hang.set()

    assert 0.2 <= seconds < WAIT_SECONDS_MAX / 2


def test_the_deadline_of_closing_is_read_from_the_clock_that_was_given() -> None:
    hang = threading.Event()
    times = iter([0.0, 0.0, 100.0])

    def hanging(workers: Numbers) -> None:
        workers.receive()
        hang.wait(WAIT_SECONDS_MAX)

    workers: Numbers = Workers("test", hanging, count=2, monotonic=lambda: next(times))
    workers.submit(1)
    workers.submit(2)
    workers.close(0.01)  # by this clock, the second thread has no time left
    hang.set()

    for thread in threads_of(workers):
        wait_until_ended(thread)


def test_closing_ends_a_sleep_at_once(make_workers: MakeWorkers) -> None:
    asleep, woken = threading.Event(), []

    def retry(workers: Numbers) -> None:
        workers.receive()
        assert not workers.sleep(0.001)
        asleep.set()
        woken.append(workers.sleep(WAIT_SECONDS_MAX))

    workers = make_workers(retry)
    workers.submit(1)
    assert asleep.wait(WAIT_SECONDS_MAX)
    started_at = time.monotonic()
    workers.close(WAIT_SECONDS_MAX)

    assert time.monotonic() - started_at < WAIT_SECONDS_MAX / 2
    assert woken == [True]


def test_closing_twice_or_before_the_first_task_is_harmless(make_workers: MakeWorkers) -> None:
    workers = make_workers(work, count=2)
    workers.close(WAIT_SECONDS_MAX)
    workers.close(WAIT_SECONDS_MAX)

    assert workers.take() == []


def test_submitting_after_close_is_a_bug(make_workers: MakeWorkers) -> None:
    workers = make_workers(work)
    workers.close(WAIT_SECONDS_MAX)

    with pytest.raises(InvariantError, match="closed"):
        workers.submit(1)
    assert workers.pending == 0
