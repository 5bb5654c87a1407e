"""The fuzzer of the decoder: ``python -m tests.fuzz --seconds 60``, or ``make fuzz SECONDS=60``.

A case is determined by its seed: ``make fuzz SEED=<seed> COUNT=1`` runs it again. Cases run in a separate process, so
that a crash, a hang or unbounded memory is found, too, and counts as a failure of that case.
"""

import argparse
import resource
import secrets
import select
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import structlog

from tests.fuzz.cases import check, draw

ROOT = Path(__file__).resolve().parents[2]
CASE_SECONDS_MAX = 30.0
"""A case takes some hundredths of a second: one that takes this long hangs."""
MEMORY_BYTES_MAX = 6 * 2**30
"""Of address space, most of which such a process never touches."""
PROGRESS_SECONDS = 10.0


@dataclass
class Tally:
    """The results of the cases."""

    began: float = field(default_factory=time.monotonic)
    messages: int = 0
    passed: int = 0
    failed: int = 0

    def line(self) -> str:
        rate = self.messages / max(time.monotonic() - self.began, 0.001)
        return f"{self.passed + self.failed} cases, {self.messages} messages, {rate:.0f} a second, {self.failed} failed"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to run, unless --count is given")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first case; random if not given")
    parser.add_argument("--count", type=int, default=None, help="number of cases, however long they take")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    if options.worker:
        work(seed)
    print(f"seed {seed}", flush=True)
    tally = Tally()
    supervise(tally, seed, options.count, options.seconds)
    print(f"{tally.line()}, seed {seed}")
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


def work(number: int) -> None:
    """Run a case for each line of input, and print its result."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for results
    for _ in sys.stdin:
        try:
            result = f"{check(draw(Random(number)))}"  # noqa: S311 - cases are to be repeatable
        except BaseException:  # noqa: BLE001 - also a panic of polars, or no memory
            result = f"failed {traceback.format_exc(limit=-3)!r}"
        print(result, flush=True)
        number += 1
    sys.exit(0)


def supervise(tally: Tally, seed: int, count: int | None, seconds: float) -> None:
    """Run ``count`` cases, or as many as there is time for."""
    number = seed
    shown = tally.began
    while count is None or number < seed + count:
        with _worker(number) as worker:
            while _continues(tally, number - seed, count, seconds):
                result = _one(worker)
                if result.isdigit():
                    tally.passed += 1
                    tally.messages += int(result)
                else:
                    tally.failed += 1
                    _show(number, result)
                number += 1
                if time.monotonic() - shown > PROGRESS_SECONDS:
                    shown = time.monotonic()
                    print(tally.line(), flush=True)
                if not result or result == "hangs":
                    break  # the next case needs a new process
            worker.kill()
        if not _continues(tally, number - seed, count, seconds):
            return


def _continues(tally: Tally, done: int, count: int | None, seconds: float) -> bool:
    return time.monotonic() - tally.began < seconds if count is None else done < count


def _worker(number: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603 - this module
        [sys.executable, "-m", "tests.fuzz", "--worker", "--seed", str(number)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # panics of polars on corrupt bytes are printed there
        text=True,
    )


def _one(worker: "subprocess.Popen[str]") -> str:
    """Run the next case; returns "" if the process ended."""
    if worker.stdin is None or worker.stdout is None:
        raise RuntimeError("the process has no pipes")
    try:
        worker.stdin.write("\n")
        worker.stdin.flush()
    except BrokenPipeError:
        return ""
    if not select.select([worker.stdout], [], [], CASE_SECONDS_MAX)[0]:
        return "hangs"
    return worker.stdout.readline().strip()


def _show(number: int, result: str) -> None:
    reason = result.removeprefix("failed ") or "the process ended"
    print(f"case {number} failed: {reason}\nagain: make fuzz SEED={number} COUNT=1", flush=True)


if __name__ == "__main__":
    sys.exit(main())
