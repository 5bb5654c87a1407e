"""Shorten a failing plan to one that still fails in the same way."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Final, TypeVar

from tests.simulation.plan import Rates, SimulationPlan
from tests.simulation.simulation import Outcome, simulate

SHRINK_SECONDS_MAX: Final = 30.0
"""Real seconds: shortening must not take minutes."""

T = TypeVar("T")


def shrink(failed: Outcome, *, seconds_max: float = SHRINK_SECONDS_MAX) -> Outcome:
    """Drop everything that the failure does not need: random faults, planned faults, entries, members."""
    deadline = time.monotonic() + seconds_max
    kind = _kind(failed)

    def tried(plan: SimulationPlan, best: Outcome) -> Outcome:
        if time.monotonic() > deadline:
            return best
        outcome = simulate(plan)
        return outcome if outcome.violation and _kind(outcome) == kind else best

    best = failed
    for rates in _quieter(best.plan.rates):
        best = tried(replace(best.plan, rates=rates(best.plan.rates)), best)
    best = _without(best, lambda plan: plan.faults, lambda plan, faults: replace(plan, faults=faults), tried)
    best = _without(best, lambda plan: plan.entries, lambda plan, entries: replace(plan, entries=entries), tried)
    for members in range(1, best.plan.members):
        best = tried(replace(best.plan, members=members), best)
    return best


def _kind(outcome: Outcome) -> str:
    """How the violation begins: with its rule, or the exception."""
    return outcome.violation.partition(":")[0].partition(" in the service")[0][:12]


def _quieter(rates: Rates) -> Iterator[Callable[[Rates], Rates]]:
    for rate in fields(rates):
        yield lambda now, name=rate.name: replace(now, **{name: 0.0})  # type: ignore[misc]


def _without(
    best: Outcome,
    part: Callable[[SimulationPlan], tuple[T, ...]],
    with_part: Callable[[SimulationPlan, tuple[T, ...]], SimulationPlan],
    tried: Callable[[SimulationPlan, Outcome], Outcome],
) -> Outcome:
    """Drop halves, then quarters and so on, down to single elements."""
    size = len(part(best.plan)) // 2
    while size:
        at = 0
        while at < len(part(best.plan)):
            now: Sequence[T] = part(best.plan)
            shorter = tried(with_part(best.plan, (*now[:at], *now[at + size :])), best)
            if shorter is best:
                at += size
            best = shorter
        size //= 2
    return best
