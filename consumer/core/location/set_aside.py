"""Locations that are set aside: the OMS, or a gateway, refuses them whole while it accepts others (rule 30).

They are probed behind all others, at growing intervals, and their requests are bisected. It ends when the rest of a
location's changes is accepted, or once it has lasted too long: then the changes of the refused requests are
dead-lettered, and later ones are sent as usual. Times are monotonic seconds.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import polars as pl

from consumer.core.changes.items import ASSIGNMENT, CHANGE_ID, distinct_ids
from consumer.core.location.location import Location

PAGES_MIN: Final = 3
"""A gateway's page must come this often in a row before it is taken to be about the location."""
LOOK_SECONDS: Final = 1.0
_DOUBLINGS_MAX: Final = 10
CHANGE_ID_BYTES: Final = 24
"""Memory of a remembered change."""

IsFar = Callable[[Collection[int]], bool]
"""Whether one of these assignments was read half as far past its committable offset as it may."""


@dataclass(frozen=True, slots=True)
class SetAsideLimits:
    """How long locations are set aside, and how often they are probed.

    For the locations ``dead_letter`` it ends at once. ``change_bytes`` is what each refused change counts as memory.
    """

    seconds_max: float = 3_600.0
    dead_letter: frozenset[str] = frozenset()
    probe_seconds_min: float = 60.0
    probe_seconds_max: float = 900.0
    change_bytes: int = 0


@dataclass(frozen=True, slots=True)
class WholeRefusal:
    """A request was refused whatever is in it. ``answer`` is the same text for answers that are the same.

    ``is_page``: a gateway says it, in other words than the OMS's. The location waits for ``after_seconds``, longer if
    it is set aside, and at least for ``retry_after_seconds``.
    """

    answer: str
    is_page: bool
    detail: str
    after_seconds: float
    retry_after_seconds: float


@dataclass(slots=True)
class WholeRefusals:
    """The refusals in a row of a location's requests. It is set aside from ``since`` on; None: not yet."""

    said: WholeRefusal
    change_ids: pl.DataFrame
    """The changes in refused requests (columns ``CHANGE_ID``): the end dead-letters those that are still pending."""
    acceptances_before: int
    """How many requests of all locations had been accepted before."""
    times: int = 0
    """How often in a row the answer was the same."""
    since: float | None = None
    probes: int = 0
    """Refused in a row since something of the location was accepted."""


class SetAsideLocations:
    """Which locations are refused whole, and how long they wait."""

    def __init__(self, limits: SetAsideLimits) -> None:
        self.limits = limits
        self._refused: dict[Location, WholeRefusals] = {}
        self._acceptances = 0
        self._looked_at = float("-inf")

    def __contains__(self, location: Location | None) -> bool:
        refusals = self._refused.get(location) if location else None
        return refusals is not None and refusals.since is not None

    @property
    def locations(self) -> list[Location]:
        """The locations that are set aside, sorted by name."""
        return sorted((location for location in self._refused if location in self), key=lambda found: found.name)

    @property
    def size_bytes(self) -> int:
        """Memory of the remembered changes."""
        return self.limits.change_bytes * sum(refusals.change_ids.height for refusals in self._refused.values())

    def said_of(self, location: Location) -> str:
        """What was said about a location that is set aside."""
        return self._refused[location].said.detail

    def refused(self, location: Location, rows: pl.DataFrame, said: WholeRefusal, now: float) -> float:
        """A request with these rows was refused whole. Returns when the location may send again.

        It is set aside if others were accepted since its first refusal, and a page has come often enough.
        """
        refusals = self._refused.get(location)
        if refusals is None:
            refusals = WholeRefusals(said, rows.select(CHANGE_ID), self._acceptances)
            self._refused[location] = refusals
        refusals.times = refusals.times + 1 if refusals.said.answer == said.answer else 1
        refusals.said = said
        refusals.change_ids = pl.concat([refusals.change_ids, rows.select(CHANGE_ID)]).unique()
        others_accepted = self._acceptances > refusals.acceptances_before
        if refusals.since is None and others_accepted and (not said.is_page or refusals.times >= PAGES_MIN):
            refusals.since = now
        if refusals.since is None:
            return now + said.after_seconds
        wait = self.limits.probe_seconds_min * 2.0 ** min(refusals.probes, _DOUBLINGS_MAX)
        refusals.probes += 1
        return now + max(min(wait, self.limits.probe_seconds_max), said.retry_after_seconds)

    def accepted(self, location: Location) -> None:
        """A request of this location was accepted. If it is set aside, it stays so while suspects of it are left."""
        self._acceptances += 1
        refusals = self._refused.get(location)
        if refusals is not None:
            refusals.probes = 0
            if refusals.since is None or not location.bisection:
                del self._refused[location]

    def forget(self, location: Location) -> None:
        """The location has no pending changes any more: what it reads next is refused for the first time."""
        self._refused.pop(location, None)

    def ended(self, is_far: IsFar, now: float) -> list[Location]:
        """The locations that have been set aside long enough and have no request in flight.

        They are looked at once in ``LOOK_SECONDS``, because there may be thousands.
        """
        if not self._refused or now - self._looked_at < LOOK_SECONDS:
            return []
        self._looked_at = now
        return [
            location
            for location, refusals in self._refused.items()
            if location.in_flight is None and self._has_ended(location, refusals, is_far, now)
        ]

    def end(self, location: Location) -> WholeRefusals:
        """Setting this location aside ends. Returns what was refused; its next refusal is a first one."""
        return self._refused.pop(location)

    def _has_ended(self, location: Location, refusals: WholeRefusals, is_far: IsFar, now: float) -> bool:
        if refusals.since is None:
            return False
        if location.name in self.limits.dead_letter or now - refusals.since >= self.limits.seconds_max:
            return True
        return is_far(distinct_ids(refusals.change_ids[ASSIGNMENT]))
