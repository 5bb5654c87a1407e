"""The real loop and engine, a simulated world: no seed may violate a rule, and every one ends with all sent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.campaign import FIXED
from tests.simulation.plan import draw_plan
from tests.simulation.simulation import simulate

ROOT = Path(__file__).parents[2]
SEEDS_A_CHUNK = 30
CHUNKS = 12
SECONDS_MAX = 600
"""For what takes a few seconds where there is nothing else to do."""

pytestmark = pytest.mark.timeout(SECONDS_MAX)


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.simulation", "--processes", "1", *options]
    return subprocess.run(  # noqa: S603 - our own command
        command, cwd=ROOT, env=os.environ | FIXED, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_change_is_lost_and_no_count_goes_backwards_whatever_fails(chunk: int) -> None:
    done = run("--first", str(chunk * SEEDS_A_CHUNK), "--seeds", str(SEEDS_A_CHUNK))

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"{SEEDS_A_CHUNK} passed, 0 failed\n")


def test_a_member_that_keeps_its_partitions_sends_every_change_in_order() -> None:
    done = run("--without-takeovers", "--first", "10000", "--seeds", "40")

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_seed_always_gives_the_same_run() -> None:
    first, second = simulate(draw_plan(5)), simulate(draw_plan(5))

    assert (first.steps, first.seconds) == (second.steps, second.seconds)


def test_the_count_of_a_bad_change_sent_with_older_changes_may_be_the_last_one() -> None:
    assert simulate(draw_plan(2752)).violation == ""


def test_a_failing_seed_is_shortened_and_printed_with_its_last_steps() -> None:
    done = run("--mutant", "skips_recovery", "--seeds", "40", "--until-first")

    assert done.returncode == 1
    *trace, violation, again, _rate, verdict = done.stdout.splitlines()
    assert len(trace) < 80
    assert violation.startswith("stale: ")
    assert again.startswith("again: make simulate SEED=")
    assert verdict.endswith(", 1 failed")
