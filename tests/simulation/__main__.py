"""``make simulate``: run seeds side by side, and show what fails, shortened.

The last line is ``N passed, N failed``; the exit code is 1 if one failed.
"""

import argparse
import os
import sys
import time
from typing import Final

from tests.simulation.campaign import FIXED, outcomes, seeds_of
from tests.simulation.mutants import MUTANTS, applied
from tests.simulation.shrink import shrink
from tests.simulation.simulation import Outcome

SHOWN_MAX: Final = 10
"""Failing seeds that are told one by one; of the first one there is a trace."""


def main() -> int:
    options = _options()
    if any(os.environ.get(name) != value for name, value in FIXED.items()):
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], os.environ | FIXED)  # noqa: S606 - itself
    if options.mutants:
        return _table(options)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    seeds = seeds_of(options.mutant, seeds)
    started = time.monotonic()
    passed, steps = 0, 0
    failed: list[Outcome] = []
    processes = min(options.processes, len(seeds))
    alone = options.without_takeovers
    for outcome in outcomes(seeds, mutant=options.mutant, alone=alone, processes=processes):
        steps += outcome.steps
        if outcome.violation:
            failed.append(outcome)
            if len(failed) <= SHOWN_MAX:
                _say(f"seed {outcome.plan.seed}: {outcome.violation}")
            if options.until_first:
                break
        else:
            passed += 1
    seconds = time.monotonic() - started
    if failed and not options.no_trace:
        _show(min(failed, key=lambda outcome: outcome.plan.seed), options.mutant)
    _say(f"{steps} steps in {seconds:.1f} s on {processes} cores, {steps / max(seconds, 0.001):.0f} steps/s")
    _say(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="run just this one")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many side by side")
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS], help="with this deliberate break")
    parser.add_argument("--mutants", action="store_true", help="each break in turn: how many seeds until it is found")
    parser.add_argument("--without-takeovers", action="store_true", help="one member that keeps its partitions")
    parser.add_argument("--until-first", action="store_true", help="stop at the first failing seed")
    parser.add_argument("--no-trace", action="store_true", help="do not shorten and show the first failing seed")
    return parser.parse_args()


def _table(options: argparse.Namespace) -> int:
    """One line a mutant: its rule, and how many seeds (of its theme, where it has one) were run until one failed."""
    missed = 0
    for name, mutant in MUTANTS.items():
        seeds = seeds_of(name, range(options.first, options.first + options.seeds))
        found = 0
        for number, outcome in enumerate(outcomes(seeds, mutant=name, alone=False, processes=1), start=1):
            if outcome.violation:
                found = number
                _say(
                    f"{name:40} rule {mutant.rule:2} seeds {number:4}  {outcome.violation.partition(chr(10))[0][:100]}"
                )
                break
        if not found:
            missed += 1
            _say(f"{name:40} rule {mutant.rule:2} NOT FOUND in {len(seeds)} seeds")
    _say(f"{len(MUTANTS) - missed} found, {missed} not found")
    return 1 if missed else 0


def _show(failed: Outcome, mutant: str) -> None:
    with applied(mutant):
        short = shrink(failed)
    _say("")
    _say(
        f"seed {failed.plan.seed} shortened: {short.plan.members} members, {len(short.plan.entries)} entries, "
        f"{len(short.plan.faults)} faults, {short.steps} steps; the latest of them:"
    )
    for line in short.trace:
        _say(line)
    _say(short.violation)
    _say(f"again: make simulate SEED={failed.plan.seed}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
