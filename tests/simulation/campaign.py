"""Many seeds, side by side on the cores."""

import multiprocessing
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from tests.simulation.mutants import MUTANTS, applied
from tests.simulation.plan import draw_plan
from tests.simulation.simulation import Outcome, simulate

FIXED: Final = {"PYTHONHASHSEED": "0", "POLARS_MAX_THREADS": "1"}
"""The environment of every run: a seed must mean the same in each process, and frames of a few rows are only slowed
down by threads."""


def seeds_of(mutant: str, seeds: Sequence[int]) -> list[int]:
    """Those of the theme in which the mutant shows, if it has one."""
    theme = MUTANTS[mutant].theme if mutant else None
    return [seed for seed in seeds if theme is None or draw_plan(seed).theme is theme]


def outcomes(seeds: Sequence[int], *, mutant: str, alone: bool, processes: int) -> Iterator[Outcome]:
    """What became of each seed, as they are done."""
    run_one = partial(_run, mutant=mutant, alone=alone)
    if processes <= 1:
        yield from map(run_one, seeds)
        return
    # Not forked: a thread of polars may hold a lock just then.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(run_one, seeds, chunksize=4)


def _run(seed: int, *, mutant: str, alone: bool) -> Outcome:
    plan = draw_plan(seed)
    with applied(mutant):
        return simulate(plan.without_takeovers if alone else plan)
