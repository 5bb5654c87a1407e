"""``make simulate``: run many seeds in parallel, and print a shortened trace of the first that fails.

The last line is ``N passed, N failed``; the exit code is 1 if any seed failed.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from tests.simulation.campaign import FIXED, outcomes, seeds_of
from tests.simulation.mutants import MUTANTS, applied
from tests.simulation.shrink import shrink
from tests.simulation.simulation import Outcome

SHOWN_MAX: Final = 10
"""How many failing seeds are printed; the first one also gets a trace."""


def main() -> int:
    options = _options()
    if any(os.environ.get(name) != value for name, value in FIXED.items()):
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], os.environ | FIXED)  # noqa: S606 - itself
    if options.mutants:
        return _table(options)
    seeds: Sequence[int] = [options.seed]
    if options.seed is None:
        seeds = seeds_of(options.mutant, range(options.first, options.first + options.seeds))
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
    parser.add_argument("--seeds", type=int, default=500, help="number of seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run only this seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="number of worker processes")
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS], help="run with this mutant")
    parser.add_argument("--mutants", action="store_true", help="run every mutant and count the seeds until it is found")
    parser.add_argument("--without-takeovers", action="store_true", help="a single member that keeps its partitions")
    parser.add_argument("--until-first", action="store_true", help="stop at the first failing seed")
    parser.add_argument("--no-trace", action="store_true", help="do not shorten and print the first failing seed")
    return parser.parse_args()


def _table(options: argparse.Namespace) -> int:
    """One line per mutant: its rule, and how many seeds (of its theme, if it has one) ran until one failed."""
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
