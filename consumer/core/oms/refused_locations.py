"""Whether the OMS refuses single locations or everybody: what the latest answers say about that (rules 31 and 32)."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

from consumer.core.oms.answers import RefusedWhole

LOCATIONS_MIN: Final = 3
"""The same answer must come from this many locations before it is taken to be about all of them."""
SHARE_LOCATIONS_MIN: Final = 5
SHARE_LOCATIONS_MAX: Final = 20
"""If too many of the 5 to 20 locations that were answered last were refused whole, something is wrong with all."""


class RefusedLocations:
    """The locations that were refused whole since a request was last accepted, and those that were answered last."""

    def __init__(self, *, share_max: float = 0.5, share_locations_min: int = SHARE_LOCATIONS_MIN) -> None:
        """A larger share of refused locations than ``share_max`` is too large."""
        self._share_max = share_max
        self._share_locations_min = share_locations_min
        self._said: RefusedWhole | None = None
        self._ever_accepted = False
        self._locations: set[str] = set()
        self._is_under_two_tokens = False
        self._latest: OrderedDict[str, bool] = OrderedDict()
        """The locations that were answered last, and whether they were refused."""
        self._is_share_exceeded = False

    def accepted(self, location: str) -> None:
        """A request of this location was accepted: others need not be refused, either."""
        self._said, self._is_under_two_tokens = None, False
        self._ever_accepted = True
        self._locations.clear()
        if self._is_share_exceeded:
            self._latest.clear()
            self._is_share_exceeded = False
        self._answered(location, is_refused=False)

    def refused(self, location: str, said: RefusedWhole) -> None:
        """A request of this location was refused whole, whatever is in it."""
        if self._said is None or not self._said.is_same(said):
            self._locations.clear()
            self._is_under_two_tokens = False
        self._said = said
        if len(self._locations) < LOCATIONS_MIN:
            self._locations.add(location)
        self._is_under_two_tokens = self._is_under_two_tokens or said.repeated
        self._answered(location, is_refused=True)

    def content_refused(self, location: str) -> None:
        """A request of this location was refused for its content, and no part of it has been accepted."""
        self._answered(location, is_refused=True)

    @property
    def may_be_all(self) -> bool:
        """Whether enough locations got the same answer to slow down."""
        return len(self._locations) >= LOCATIONS_MIN

    def stop_reason(self, are_others_pending: Callable[[Collection[str]], bool]) -> str | None:
        """Why nothing can be sent at all; None if others may be accepted.

        Before anything was accepted, fewer locations are enough if there are none but them: ``are_others_pending`` says
        whether there are.
        """
        if self._said is None or not self._is_under_two_tokens:
            return None
        if len(self._locations) < LOCATIONS_MIN and (self._ever_accepted or are_others_pending(self._locations)):
            return None
        return self._said.advice

    def share_reason(self) -> str | None:
        """Why nothing may be dead-lettered until a request is accepted; None while most locations are accepted."""
        refused, answered = sum(self._latest.values()), len(self._latest)
        exceeds = answered >= self._share_locations_min and refused > self._share_max * answered
        self._is_share_exceeded = self._is_share_exceeded or exceeds
        if not self._is_share_exceeded:
            return None
        return (
            f"the OMS refuses whole locations, {refused} of the last {answered}: correct what upstream sends, "
            "events.fields, or the locations in the OMS; nothing is dead-lettered until it accepts a request, or "
            "until dead_letters.max_ratio is raised to 1"
        )

    def _answered(self, location: str, *, is_refused: bool) -> None:
        self._latest.pop(location, None)
        self._latest[location] = is_refused
        while len(self._latest) > SHARE_LOCATIONS_MAX:
            self._latest.popitem(last=False)
