"""Finding the items for which the OMS refused a request, with few further requests (rule 18).

Suspects are kept as item keys, never as a body: each half is planned again from all pending changes of its items. Only
a refusal bisects, and only a change that was refused alone is dead-lettered: an item with several changes is tried one
change at a time, or one bad old field would take a good count with it. The newest change goes first, and once accepted
its values are laid over the older ones: no request has an older count than one before it, even where the previous owner
has sent them all already (docs/decisions/0011-newest-count-first.md).

The number of further requests is limited; what is still suspect then is dead-lettered unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from consumer.core.changes.coalesce import newest_last, rows_with_keys, split_overfull, without_attributes
from consumer.core.changes.items import ARRIVED, CHANGE_ID

REQUESTS_MIN: Final = 32
"""Further requests that a bisection has at least: enough to find a bad item among 12,000."""

Key = tuple[str | int | None, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What of an item's or several items' pending changes leaves in one request, and what stays.

    ``overlay`` has newer values for the request's body (see ``blocks.Rows``). ``leaving`` may be empty.
    """

    leaving: pl.DataFrame
    staying: pl.DataFrame
    overlay: pl.DataFrame | None


class Suspects:
    """Items that are sent together to find out whether the OMS refuses one of them.

    ``keys`` has the columns of the item key, one row per item, the oldest item first. ``one_change_at_a_time``: there
    is a single item, whose changes are sent one by one, newest first.
    """

    def __init__(self, keys: pl.DataFrame, *, one_change_at_a_time: bool = False) -> None:
        self.keys = keys
        self.one_change_at_a_time = one_change_at_a_time
        self._untried: pl.DataFrame | None = None
        """One change at a time: ``CHANGE_ID`` of the changes still to be sent; None before the first."""
        self._accepted: pl.DataFrame | None = None
        """One change at a time: the changes that were accepted, without attributes."""

    def select(self, pending: pl.DataFrame, item_key: Sequence[str]) -> Selection:
        """Choose from all ``pending`` changes of the items what the next request carries."""
        if not self.one_change_at_a_time:
            leaving, staying = split_overfull(pending, item_key)
            return Selection(leaving, staying, without_attributes(staying))
        untried = self._refresh_untried(pending)
        leaving = newest_last(untried, item_key).tail(1)
        staying = pending.join(leaving, on=CHANGE_ID, how="anti", maintain_order="left")
        return Selection(leaving, staying, self._accepted)

    def settle(self, change: pl.DataFrame, *, accepted: bool) -> None:
        """The request with these rows was accepted, or its single change was refused."""
        if self._untried is not None:
            self._untried = self._untried.join(change, on=CHANGE_ID, how="anti")
        if accepted:
            rows = without_attributes(change)
            self._accepted = rows if self._accepted is None else pl.concat([self._accepted, rows], how="diagonal")

    @property
    def is_done(self) -> bool:
        """True if nothing is left to try."""
        return not self.one_change_at_a_time or (self._untried is not None and self._untried.is_empty())

    def _refresh_untried(self, pending: pl.DataFrame) -> pl.DataFrame:
        """Remember and return the pending changes that are still to be tried.

        The first call takes all of them; later changes are no suspects. But if one of them is gone, either a newer
        change supersedes it (windows were coalesced in place) or its partition was revoked. Then all pending changes
        are tried again, or older ones would follow what the OMS may already have of it.
        """
        if self._untried is not None:
            untried = pending.join(self._untried, on=CHANGE_ID, how="semi")
            if untried.height in (0, self._untried.height):
                return untried
        self._untried = pending.select(CHANGE_ID)
        return pending


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """A request that the OMS refused with 400.

    ``suspects`` is what it was to find out about, None for an ordinary request. ``alone``: its rows are a single
    change, and everything else in its body has been tried before. ``named``: item keys that the OMS's words seem to
    name, a hint where to look first.
    """

    rows: pl.DataFrame
    suspects: Suspects | None
    alone: bool
    detail: str
    named: Sequence[Key] = ()


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Suspects that are left at the limit of requests: their changes that had arrived by ``arrived_until``.

    That is the latest arrival in the refused request: what was read before it was sent, but came to the window after,
    was not in it.
    """

    keys: pl.DataFrame
    arrived_until: float
    detail: str


class Bisection:
    """What is left to find out about a refused request of one location: a stack of suspects."""

    def __init__(
        self, refused: RefusedRequest, item_key: Sequence[str], *, chunk_items: int, requests_max: int
    ) -> None:
        self._item_key = list(item_key)
        self._chunk_items = chunk_items
        self._requests_left = requests_max
        latest: Any = refused.rows[ARRIVED].max()
        self._arrived_until = float(latest)
        self._detail = refused.detail
        self.any_accepted = False
        """Some suspects were accepted: the OMS does accept requests of this location."""
        self._stack: list[Suspects] = []

    @property
    def is_over(self) -> bool:
        return not self._stack

    @property
    def next_suspects(self) -> Suspects:
        """What the location sends next. The bisection must not be over."""
        return self._stack[-1]

    def accepted(self, suspects: Suspects | None, rows: pl.DataFrame) -> None:
        """A request with these rows was accepted: that of ``suspects``, or an ordinary one."""
        if suspects in self._stack:
            self._requests_left -= 1
            self.any_accepted = True
            self._settle(suspects, rows, accepted=True)

    def refused(self, request: RefusedRequest) -> bool:
        """A request was refused. True: it was a single change, which is to be dead-lettered."""
        self._detail = request.detail
        if request.suspects in self._stack:
            self._requests_left -= 1
            if request.alone:
                self._settle(request.suspects, request.rows, accepted=False)
                return True
            self._stack.remove(request.suspects)
        self._stack += reversed(self._split(request.rows, request.named))
        return False

    def unresolved(self) -> Unresolved | None:
        """What is left when the limit of requests is reached: the bisection is to be ended. None before that."""
        if self._requests_left > 0:
            return None
        keys = pl.concat([suspects.keys for suspects in self._stack])
        return Unresolved(keys, self._arrived_until, self._detail)

    def keep(self, rows: pl.DataFrame) -> None:
        """Drop the suspects that have no pending change among ``rows`` (all of the location) any more."""
        pending = rows.select(self._item_key).unique()
        for suspects in self._stack:
            suspects.keys = suspects.keys.filter(rows_with_keys(suspects.keys, pending))
        self._stack = [suspects for suspects in self._stack if suspects.keys.height]

    def drop(self, suspects: Suspects) -> None:
        """These suspects have no pending changes any more."""
        self._stack.remove(suspects)

    def _settle(self, suspects: Suspects, rows: pl.DataFrame, *, accepted: bool) -> None:
        suspects.settle(rows, accepted=accepted)
        if suspects.is_done:
            self._stack.remove(suspects)

    def _split(self, rows: pl.DataFrame, named: Sequence[Key]) -> list[Suspects]:
        """The halves of a refused request with several changes, the one to send first in front."""
        keys = rows.select(self._item_key).unique(maintain_order=True)
        if keys.height == 1:
            return [Suspects(keys, one_change_at_a_time=True)]
        if named:
            is_named = rows_with_keys(keys, pl.DataFrame(list(named), schema=keys.schema, orient="row").unique())
            if 0 < is_named.sum() < keys.height:
                return [Suspects(keys.filter(is_named)), Suspects(keys.filter(~is_named))]
        middle = self._middle(keys.height)
        return [Suspects(keys.head(middle)), Suspects(keys.slice(middle))]

    def _middle(self, items: int) -> int:
        """Half of the items; whole chunks if there are several, so that good items cost the OMS no more than before."""
        chunks = -(-items // self._chunk_items)
        return items // 2 if chunks == 1 else -(-chunks // 2) * self._chunk_items
