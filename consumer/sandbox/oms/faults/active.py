"""The standing faults of one sandbox: which calls meet them. Time comes in as a number, chance from the seed.

Each kind of call has chances of its own, and a call draws the same number of them whatever the time is and whichever
faults it meets: the same calls in the same order meet the same faults, but for those that only the clock decides.
"""

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from consumer.sandbox.oms.faults.outcome import Call, CallOutcome, CannedAnswer, over_quota
from consumer.sandbox.oms.faults.rules import RULES_MAX, ChanceRule, FaultRule, Limit, Refuse, Revoke, Rule


@dataclass(slots=True)
class ActiveFault:
    """One fault since it was given. ``rule`` is what was asked for, ``met`` how many calls it has changed."""

    rule: Rule
    since: float
    met: int = 0
    passed: deque[float] = field(default_factory=deque)
    """Of a limit: when the calls came that it let pass, as far back as it looks."""
    revoked: int = 0
    """Of a revocation by the clock: how many have come due."""

    def stands(self, now: float) -> bool:
        """True if now is in the fault's time."""
        return self.rule.stands(now - self.since)


class ActiveFaults:
    """The faults that stand, at most 100, in the order in which they were given."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._faults: list[ActiveFault] = []
        self._chances: dict[str, random.Random] = {}
        self.met: Counter[str] = Counter()
        """Calls that met a fault, since the start, by the fault's name; a call that met several counts with each."""

    def has_room(self, rules: Sequence[FaultRule]) -> bool:
        """False if too many faults would stand."""
        return len(self._faults) + len(rules) <= RULES_MAX

    def add(self, rules: Sequence[FaultRule], now: float) -> None:
        """From now on these stand, too."""
        self._faults += [ActiveFault(rule, now) for rule in rules]

    def seed(self, seed: int) -> None:
        """Begin all chances anew with this seed."""
        self._seed = seed
        self._chances.clear()

    def clear(self) -> None:
        """Nothing stands any more, and chances begin anew with the seed they had."""
        self._faults.clear()
        self._chances.clear()

    def all(self) -> Sequence[ActiveFault]:
        """Every fault given and not yet taken away, whether or not its time has come."""
        return self._faults

    def meet(self, call: Call, location: str | None, now: float) -> CallOutcome:
        """What becomes of a call that would be answered as usual: the first fault that ends it, and all else."""
        met: list[tuple[ActiveFault, CallOutcome]] = []
        for standing in self._faults:
            rule = standing.rule
            if not isinstance(rule, ChanceRule):
                continue
            hit, draw = self._draw(call) < rule.rate, self._draw(call)
            if hit and rule.concerns(call, location) and standing.stands(now):
                met.append((standing, rule.fate(draw)))
        end = next(((standing, fate) for standing, fate in met if fate.ends), None)
        is_queued = end is None or end[1].is_queued
        whole = CallOutcome()
        for standing, fate in met:
            rule = standing.rule
            of_no_job = isinstance(rule, ChanceRule) and rule.needs_queue and not is_queued
            if of_no_job or (fate.ends and end is not None and standing is not end[0]):
                continue
            self.count(standing)
            whole = whole.joined(fate)
        return whole

    def over_limit(self, call: Call, now: float) -> CannedAnswer | None:
        """The gateway's answer to a call over one of the limits; None, and it is counted, if it may pass."""
        about = [
            (standing, standing.rule)
            for standing in self._faults
            if isinstance(standing.rule, Limit) and call in standing.rule.call and standing.stands(now)
        ]
        for standing, limit in about:
            while standing.passed and standing.passed[0] <= now - limit.seconds:
                standing.passed.popleft()
            if len(standing.passed) >= limit.calls:
                self.count(standing)
                return over_quota(limit.over, limit.retry_after)
        for standing, _ in about:
            standing.passed.append(now)
        return None

    def revokes_by_clock(self, now: float) -> bool:
        """True if a revocation has come due since this was last asked."""
        due = False
        for standing in self._faults:
            rule = standing.rule
            if not isinstance(rule, Revoke) or rule.every is None:
                continue
            end = float("inf") if rule.duration is None else rule.duration
            times = int(max(0.0, min(now - standing.since - rule.begin, end)) / rule.every)
            if times > standing.revoked:
                standing.revoked = times
                self.count(standing)
                due = True
        return due

    def revokes_by_chance(self, call: Call, now: float) -> bool:
        """True if this call, whose token is good, is to find it revoked."""
        revoked = False
        for standing in self._faults:
            rule = standing.rule
            if isinstance(rule, Revoke) and rule.rate is not None:
                hit = self._draw(f"revoke {call}") < rule.rate
                if hit and standing.stands(now):
                    self.count(standing)
                    revoked = True
        return revoked

    def refusals(self, location: str, now: float) -> list[tuple[ActiveFault, Refuse]]:
        """What stands of business rules for this location."""
        return [
            (standing, standing.rule)
            for standing in self._faults
            if isinstance(standing.rule, Refuse)
            and (not standing.rule.location or location in standing.rule.location)
            and standing.stands(now)
        ]

    def count(self, standing: ActiveFault) -> None:
        """A call met it."""
        standing.met += 1
        self.met[standing.rule.fault] += 1

    def _draw(self, stream: str) -> float:
        chance = self._chances.get(stream)
        if chance is None:
            # Text as a seed goes through SHA-512: the same everywhere, and streams have nothing in common.
            chance = self._chances[stream] = random.Random(f"{self._seed} {stream}")  # noqa: S311 - not for secrets
        return chance.random()
