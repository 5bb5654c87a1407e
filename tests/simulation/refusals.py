"""What one process may do about refusals of whole locations: rules 30 to 32, by the answers that it was given."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from consumer.core.changes.coalesce import change_ids
from consumer.core.changes.items import CHANGE_ID, ChangeId, RejectReason
from consumer.core.engine import Engine
from consumer.core.location.planner import SendReason
from consumer.core.oms.answers import Accepted, AnswerKind, Applied, RefusedWhole, Stop
from consumer.facts import RequestAnswered
from consumer.ports import FailedChanges
from tests.simulation.plan import PROBE_SECONDS, ROOMY, SET_ASIDE_SECONDS, SimulationPlan
from tests.simulation.world import Violation

LOCATIONS_MIN: Final = 3
SHARE_WORDS: Final = "refuses whole locations"
LATE_SECONDS: Final = 1.0
"""How much earlier than this checker the process may have read its clock."""


@dataclass(slots=True)
class _Refused:
    """A location that was refused whole."""

    first_at: float
    changes: set[ChangeId] = field(default_factory=set)
    others_accepted: bool = False
    parts_accepted: int = 0
    alone: dict[ChangeId, list[tuple[float, int]]] = field(default_factory=dict)
    """By change: when it was refused alone, and how many parts had been accepted by then."""


class RefusalChecker:
    """Gets the facts of one process, in order."""

    def __init__(self, name: str, plan: SimulationPlan, now: Callable[[], float], engine: Callable[[], Engine]) -> None:
        self._name = name
        self._plan = plan
        self._now = now
        self._engine = engine
        self._stopped: str | None = None
        self._refused: dict[str, _Refused] = {}
        self._refused_whole: set[str] = set()
        """Locations that were refused whole since something was accepted."""
        self._refused_content: set[str] = set()
        """Locations of which something was refused for its content since then, and no part of it accepted."""
        self._bisected: set[str] = set()
        self._is_access_refused = False
        self._ever_accepted = False
        self._may_end = False
        """The OMS has refused everything before it accepted anything."""

    def answered(self, fact: RequestAnswered) -> None:
        request, answer = fact.request, fact.answered.answer
        changes = {ChangeId(*row) for row in change_ids(request.rows).select(CHANGE_ID).iter_rows()}
        match fact.decision:
            case Accepted() | Applied():
                self._accepted(request.location, is_part=request.reason is SendReason.BISECTION)
            case RefusedWhole():
                self._refused_whole.add(request.location)
                refused = self._refused.setdefault(request.location, _Refused(self._now()))
                refused.changes |= changes
                if len(changes) == 1:
                    refused.alone.setdefault(next(iter(changes)), []).append((self._now(), refused.parts_accepted))
            case Stop():
                self._is_access_refused = True
            case _ if answer.kind is AnswerKind.REFUSED and request.location not in self._bisected:
                self._refused_content.add(request.location)
            case _:
                pass
        engine = self._engine()
        self._may_end = self._may_end or (engine.sending_stopped is not None and not self._ever_accepted)
        self._check_stopped(engine)

    def _check_stopped(self, engine: Engine) -> None:
        """Nothing stops for refusals of fewer than three locations; at the start, of fewer than all (rule 31)."""
        before, self._stopped = self._stopped, engine.sending_stopped
        reason = self._stopped
        if reason is None or reason == before or SHARE_WORDS in reason or self._is_access_refused:
            return
        locations = engine.locations._by_name.values()
        pending = {location.name for location in locations if location.window.rows or location.in_flight}
        are_others_left = self._ever_accepted or bool(pending - self._refused_whole)
        if len(self._refused_whole) < LOCATIONS_MIN and are_others_left:
            raise Violation(f"rule 31: {self._name} stops sending because of {sorted(self._refused_whole)}: {reason}")

    def _accepted(self, location: str, *, is_part: bool) -> None:
        self._ever_accepted, self._is_access_refused = True, False
        self._refused_whole.clear()
        self._refused_content.clear()
        for other, refused in self._refused.items():
            refused.others_accepted = refused.others_accepted or other != location
        if is_part:
            self._bisected.add(location)
            if location in self._refused:
                self._refused[location].parts_accepted += 1
        else:
            self._bisected.discard(location)
            self._refused.pop(location, None)

    def may_dead_letter(self, location: str, change: ChangeId) -> bool:
        """Whether a good change may be dead-lettered because its location was refused whole (rule 30)."""
        refused = self._refused.get(location)
        if refused is None or not refused.others_accepted:
            return False
        if change not in refused.changes and not self._plan.has_short_memory:
            return False
        may_end_early = self._plan.max_uncommitted_offsets < ROOMY or self._plan.has_short_memory
        if may_end_early or self._now() - refused.first_at >= SET_ASIDE_SECONDS - LATE_SECONDS:
            return True
        times = refused.alone.get(change, [])
        return any(
            later - earlier >= PROBE_SECONDS - LATE_SECONDS and parts > parts_before
            for later, parts in times
            for earlier, parts_before in times
        )

    def dead_lettered(self, failed: FailedChanges) -> None:
        """Nothing that the OMS refuses is dead-lettered while it refuses most locations (rule 32)."""
        is_refused = failed.reason is RejectReason.REFUSED_BY_OMS
        is_limited = self._engine().limits.rejected_ratio_max < 1.0
        refuses_most = is_limited and len(self._refused_content) >= self._plan.share_locations_min == LOCATIONS_MIN
        if is_refused and refuses_most:
            raise Violation(f"rule 32: {self._name} dead-letters changes of {failed.location}: {failed.detail}")

    def stops(self) -> None:
        """The process ends because the OMS refuses it: that is for before anything was accepted."""
        if not self._may_end:
            raise Violation(f"rule 31: {self._name} ends because of a refusal after something was accepted")
