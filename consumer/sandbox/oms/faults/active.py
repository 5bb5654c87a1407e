"""The fault rules of one sandbox, and the calls they apply to. Time is an argument; chance comes from the seed.

Each kind of call has its own random stream, and every call draws the same number of values from it, whatever the time
and whichever faults apply. With the same seed, the same calls in the same order therefore meet the same faults, except
for faults that depend on the clock.
"""

import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from consumer.sandbox.oms.faults.base import RULES_MAX, Rule
from consumer.sandbox.oms.faults.gateway import GatewayRule, Ripen, Scope, Skew
from consumer.sandbox.oms.faults.outcome import CallKind, CallOutcome, CannedAnswer, over_quota
from consumer.sandbox.oms.faults.rules import CallRule, FaultRule, Limit, Refuse, Revoke


@dataclass(slots=True)
class ActiveFault:
    """One fault rule since it was added, and the number of calls that it has changed."""

    rule: Rule
    added_at: float
    hits: int = 0
    passed_at: deque[float] = field(default_factory=deque)
    """Of a ``limit``: the times of the calls that it let through within its period."""
    revocations: int = 0
    """Of a ``revoke`` by the clock: how many revocations have come due."""

    def is_active(self, now: float) -> bool:
        """True within the rule's ``begin`` and ``duration``."""
        return self.rule.is_active(now - self.added_at)


class ActiveFaults:
    """The fault rules in force, at most 100, in the order in which they were added."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._faults: list[ActiveFault] = []
        self._streams: dict[str, random.Random] = {}
        self.hits: Counter[str] = Counter()
        """Calls changed since the start, by the fault's name; a call changed by several faults counts for each."""

    def has_room(self, rules: Sequence[FaultRule]) -> bool:
        """False if adding these rules would exceed the limit."""
        return len(self._faults) + len(rules) <= RULES_MAX

    def add(self, rules: Sequence[FaultRule], now: float) -> None:
        """Put these rules into force as well."""
        self._faults += [ActiveFault(rule, now) for rule in rules]

    def reseed(self, seed: int) -> None:
        """Restart all random streams with this seed."""
        self._seed = seed
        self._streams.clear()

    def clear(self) -> None:
        """Remove all rules, and restart the random streams with the current seed."""
        self._faults.clear()
        self._streams.clear()

    def all(self) -> Sequence[ActiveFault]:
        """Every rule that was added and not removed, including those outside their ``begin`` and ``duration``."""
        return self._faults

    def apply(self, call: CallKind, location: str | None, now: float) -> CallOutcome:
        """The outcome of a call that would get the regular answer.

        Only the first fault that replaces the answer counts; delays and job overrides of all other faults apply too.
        """
        hits: list[tuple[ActiveFault, CallRule, CallOutcome]] = []
        for fault in self._faults:
            rule = fault.rule
            if not isinstance(rule, CallRule):
                continue
            is_hit, draw = self._draw(call) < rule.rate, self._draw(call)
            if is_hit and rule.applies_to(call, location) and fault.is_active(now):
                hits.append((fault, rule, rule.outcome(draw)))
        replacing = next(((fault, outcome) for fault, _, outcome in hits if outcome.replaces_answer), None)
        is_queued = replacing is None or replacing[1].is_queued
        combined = CallOutcome()
        for fault, rule, outcome in hits:
            is_second_answer = outcome.replaces_answer and replacing is not None and fault is not replacing[0]
            if is_second_answer or (rule.only_if_queued and not is_queued):
                continue
            self.count_hit(fault)
            combined = combined.combined_with(outcome)
        return combined

    def over_limit(self, call: CallKind, now: float) -> CannedAnswer | None:
        """The gateway's answer to a call that exceeds a ``limit``; None, and the call is counted, if it may pass."""
        limits = [
            (fault, fault.rule)
            for fault in self._faults
            if isinstance(fault.rule, Limit) and call in fault.rule.call and fault.is_active(now)
        ]
        for fault, limit in limits:
            while fault.passed_at and fault.passed_at[0] <= now - limit.seconds:
                fault.passed_at.popleft()
            if len(fault.passed_at) >= limit.calls:
                self.count_hit(fault)
                return over_quota(limit.kind, limit.retry_after)
        for fault, _ in limits:
            fault.passed_at.append(now)
        return None

    def gateway_answer(self, headers: Mapping[str, str], body: bytes | None, now: float) -> CannedAnswer | None:
        """What the first gateway that stops the call answers; None if all pass it on."""
        for fault in self._faults:
            if isinstance(fault.rule, GatewayRule) and fault.is_active(now) and fault.rule.stops(headers, body):
                self.count_hit(fault)
                return fault.rule.page()
        return None

    def ripens_seconds(self, now: float) -> float:
        """How long after its issue a token becomes valid."""
        ripening = [fault for fault in self._faults if isinstance(fault.rule, Ripen) and fault.is_active(now)]
        for fault in ripening:
            self.count_hit(fault)
        return max((fault.rule.seconds for fault in ripening if isinstance(fault.rule, Ripen)), default=0.0)

    def wanted_scope(self, now: float) -> str | None:
        """The scope that a token request must name; None if none is wanted."""
        rules = (fault.rule for fault in self._faults if fault.is_active(now))
        return next((rule.value for rule in rules if isinstance(rule, Scope)), None)

    def skew_seconds(self, now: float) -> float:
        """How far the clock is ahead."""
        rules = (fault.rule for fault in self._faults if fault.is_active(now))
        return sum(rule.seconds for rule in rules if isinstance(rule, Skew))

    def revocation_is_due(self, now: float) -> bool:
        """True if a ``revoke`` by the clock has come due since the last call of this method."""
        is_due = False
        for fault in self._faults:
            rule = fault.rule
            if not isinstance(rule, Revoke) or rule.every is None:
                continue
            duration = inf if rule.duration is None else rule.duration
            revocations = int(max(0.0, min(now - fault.added_at - rule.begin, duration)) / rule.every)
            if revocations > fault.revocations:
                fault.revocations = revocations
                self.count_hit(fault)
                is_due = True
        return is_due

    def revokes_token(self, call: CallKind, now: float) -> bool:
        """True if a ``revoke`` by chance hits this call, whose token is valid."""
        is_revoked = False
        for fault in self._faults:
            rule = fault.rule
            if isinstance(rule, Revoke) and rule.rate is not None:
                is_hit = self._draw(f"revoke {call}") < rule.rate
                if is_hit and fault.is_active(now):
                    self.count_hit(fault)
                    is_revoked = True
        return is_revoked

    def refusals(self, location: str, now: float) -> list[tuple[ActiveFault, Refuse]]:
        """The active ``refuse`` rules for this location."""
        return [
            (fault, fault.rule)
            for fault in self._faults
            if isinstance(fault.rule, Refuse)
            and (not fault.rule.location or location in fault.rule.location)
            and fault.is_active(now)
        ]

    def count_hit(self, fault: ActiveFault) -> None:
        """Count a call that the fault has changed."""
        fault.hits += 1
        self.hits[fault.rule.fault] += 1

    def _draw(self, stream: str) -> float:
        rng = self._streams.get(stream)
        if rng is None:
            # A text seed is hashed with SHA-512: the same on every machine, and the streams are independent.
            rng = self._streams[stream] = random.Random(f"{self._seed} {stream}")  # noqa: S311 - not for secrets
        return rng.random()
