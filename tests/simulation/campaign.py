"""Many seeds, in parallel processes."""

import multiprocessing
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count, islice
from typing import Final

from tests.simulation.mutants import MUTANTS, applied
from tests.simulation.plan import draw_plan
from tests.simulation.simulation import Outcome, simulate

FIXED: Final = {"PYTHONHASHSEED": "0", "POLARS_MAX_THREADS": "1"}
"""Environment variables of every run: a seed must give the same run in every process, and threads would only slow
down frames of a few rows."""


def seeds_of(mutant: str, seeds: range) -> Sequence[int]:
    """The seeds of the mutant's theme, or all if it has none: as many as ``seeds``, from its first one on."""
    theme = MUTANTS[mutant].theme if mutant else None
    if theme is None:
        return seeds
    of_theme = (seed for seed in count(seeds.start) if draw_plan(seed).theme is theme)
    return list(islice(of_theme, len(seeds)))


def outcomes(seeds: Sequence[int], *, mutant: str, alone: bool, processes: int) -> Iterator[Outcome]:
    """The outcome of every seed, in the order in which they finish."""
    run_one = partial(_run, mutant=mutant, alone=alone)
    if processes <= 1:
        yield from map(run_one, seeds)
        return
    # Not forked: a thread of polars could hold a lock at that moment.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(run_one, seeds, chunksize=4)


def _run(seed: int, *, mutant: str, alone: bool) -> Outcome:
    plan = draw_plan(seed)
    with applied(mutant):
        return simulate(plan.without_takeovers if alone else plan)
