"""Finding the items for which the OMS refused a request, with few further requests: bisection, by rule 18.

The suspects of a refused request are kept as item keys, never as a body: each part is planned anew from all pending
changes of its items. Only a refusal narrows, and only a change that was refused alone is dead-lettered: of a refused
item with several changes each is tried by itself, or one bad old field would take a good count with it. The newest
comes first, and what was accepted of it stands beside the older ones: no request has an older count than one before it,
even where a last owner has sent them all already (docs/decisions/0011-newest-count-first.md).
A request has a limit of further requests; past it what is left of it is dead-lettered unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from consumer.core.changes.coalesce import without_attributes
from consumer.core.changes.items import ASSIGNMENT, OFFSET

CHANGE_ID: Final = (ASSIGNMENT, OFFSET)
"""What tells changes apart."""
REQUESTS_MIN: Final = 32
"""Further requests that a refused one has at least: enough to find a bad item among 12,000."""

Key = tuple[str | int | None, ...]


@dataclass(eq=False, slots=True)
class Suspects:
    """Suspects that are sent together. ``keys`` has the columns of the item key, a row an item, oldest item first."""

    keys: pl.DataFrame
    one_by_one: bool = False
    """The part is one item, whose changes are sent one by one, newest first."""
    left: pl.DataFrame | None = None
    """Of those: assignments and offsets of the changes that are still to be tried; None before the first."""
    good: pl.DataFrame | None = None
    """Of those: the changes that were accepted, without attributes."""

    def to_try(self, pending: pl.DataFrame) -> pl.DataFrame:
        """Which of the item's pending changes are still to be tried: at first all; what comes later is no suspect.

        But where one of them is gone, a newer change stands for it (windows were coalesced in place), or its partition
        went. Then all that are pending are to be tried, or older ones would go after what the OMS may have of it.
        """
        found = pending if self.left is None else pending.join(self.left, on=CHANGE_ID, how="semi")
        if self.left is None or 0 < found.height < self.left.height:
            self.left, found = pending.select(CHANGE_ID), pending
        return found

    def tried(self, change: pl.DataFrame, *, good: bool) -> None:
        """The change is accepted, or refused alone."""
        if self.left is not None:
            self.left = self.left.join(change, on=CHANGE_ID, how="anti")
        if good:
            rows = without_attributes(change)
            self.good = rows if self.good is None else pl.concat([self.good, rows], how="diagonal")

    @property
    def is_done(self) -> bool:
        """True if nothing is left to try."""
        return not self.one_by_one or (self.left is not None and self.left.is_empty())


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Suspects past the limit of requests: their changes that had arrived by ``arrived_until`` are dead letters."""

    keys: pl.DataFrame
    arrived_until: float
    detail: str


@dataclass(slots=True)
class _Narrowing:
    """What is left to find out about one refused request. ``parts`` is a stack."""

    refused_sent_at: float
    requests_left: int
    detail: str = ""
    cleared: bool = False
    """Some part was accepted: the OMS does take requests of this location."""
    parts: list[Suspects] = field(default_factory=list)


class Bisections:
    """The refused requests that are being narrowed down, at most one a location."""

    def __init__(self, item_key: Sequence[str], *, chunk_items: int, requests_max: int) -> None:
        self._item_key = list(item_key)
        self._chunk_items = chunk_items
        self._requests_max = requests_max
        self._open: dict[str, _Narrowing] = {}
        self._hopeless: dict[str, int] = {}
        """How often in a row nothing of a location's refused request was accepted: each time half as much is tried."""

    def __len__(self) -> int:
        return len(self._open)

    def locations(self) -> list[str]:
        return list(self._open)

    def part(self, location: str) -> Suspects | None:
        """What the location sends next; None: nothing of it is suspect."""
        narrowing = self._open.get(location)
        return narrowing.parts[-1] if narrowing else None

    def accepted(self, location: str, part: Suspects | None, rows: pl.DataFrame) -> None:
        """A request of the location with these rows was accepted: that of ``part``, or an ordinary one."""
        self._hopeless.pop(location, None)
        narrowing = self._open.get(location)
        if narrowing and part in narrowing.parts:
            narrowing.requests_left -= 1
            narrowing.cleared = True
            self._settle(location, narrowing, part, rows, good=True)

    def refused(
        self,
        location: str,
        part: Suspects | None,
        rows: pl.DataFrame,
        *,
        alone: bool,
        sent_at: float,
        detail: str,
        named: Sequence[Key] = (),
    ) -> bool:
        """A request with these rows was refused: that of ``part``, or an ordinary one.

        ``alone``: they are a single change, and nothing that was not tried before went with it. True: that change is
        to be dead-lettered; its part is settled by that.
        """
        narrowing = self._open.get(location)
        if narrowing is None:
            if alone:
                return True
            requests = max(REQUESTS_MIN, self._requests_max >> self._hopeless.get(location, 0))
            narrowing = self._open[location] = _Narrowing(sent_at, min(requests, self._requests_max))
        narrowing.detail = detail
        if part in narrowing.parts:
            narrowing.requests_left -= 1
            if alone:
                self._settle(location, narrowing, part, rows, good=False)
                return True
            narrowing.parts.remove(part)
        narrowing.parts += reversed(self._cut(rows, named))
        return False

    def given_up(self, location: str) -> Unresolved | None:
        """What is left over when the limit of further requests is reached; its narrowing is over by that."""
        narrowing = self._open.get(location)
        if narrowing is None or narrowing.requests_left > 0:
            return None
        if not narrowing.cleared:
            self._hopeless[location] = self._hopeless.get(location, 0) + 1
        del self._open[location]
        keys = pl.concat([part.keys for part in narrowing.parts])
        return Unresolved(keys, narrowing.refused_sent_at, narrowing.detail)

    def keep(self, location: str, rows: pl.DataFrame) -> None:
        """Drop the suspects that have no pending change among ``rows`` (all of the location) any more."""
        narrowing = self._open[location]
        for part in narrowing.parts:
            part.keys = part.keys.filter(chosen(part.keys, rows.select(self._item_key).unique()))
        narrowing.parts = [part for part in narrowing.parts if part.keys.height]
        self._close_if_empty(location, narrowing)

    def forget(self, location: str) -> None:
        """Nothing of the location is pending any more."""
        del self._open[location]

    def drop(self, location: str, part: Suspects) -> None:
        """The part has no pending changes any more."""
        narrowing = self._open[location]
        narrowing.parts.remove(part)
        self._close_if_empty(location, narrowing)

    def _settle(
        self, location: str, narrowing: _Narrowing, part: Suspects | None, rows: pl.DataFrame, *, good: bool
    ) -> None:
        """The request of this part told all: it is done, or its next change is on."""
        for settled in [found for found in narrowing.parts if found is part]:
            settled.tried(rows, good=good)
            if settled.is_done:
                narrowing.parts.remove(settled)
        self._close_if_empty(location, narrowing)

    def _close_if_empty(self, location: str, narrowing: _Narrowing) -> None:
        if not narrowing.parts:
            del self._open[location]

    def _cut(self, rows: pl.DataFrame, named: Sequence[Key]) -> list[Suspects]:
        """The parts of a refused request with several changes, the one to send first in front."""
        keys = rows.select(self._item_key).unique(maintain_order=True)
        if keys.height == 1:
            return [Suspects(keys, one_by_one=True)]
        if named:
            is_named = chosen(keys, pl.DataFrame(list(named), schema=keys.schema, orient="row").unique())
            if 0 < is_named.sum() < keys.height:
                return [Suspects(keys.filter(is_named)), Suspects(keys.filter(~is_named))]
        middle = self._middle(keys.height)
        return [Suspects(keys.head(middle)), Suspects(keys.slice(middle))]

    def _middle(self, items: int) -> int:
        """Half of the items; of several chunks whole ones, so that good ones cost the OMS no more than before."""
        chunks = -(-items // self._chunk_items)
        return items // 2 if chunks == 1 else -(-chunks // 2) * self._chunk_items


def chosen(rows: pl.DataFrame, keys: pl.DataFrame) -> pl.Series:
    """Which of ``rows`` are changes of the items in ``keys`` (distinct), nulls in a key being equal."""
    marked = keys.with_columns(pl.lit(value=True).alias("_chosen"))
    joined = rows.select(keys.columns).join(
        marked, on=keys.columns, how="left", nulls_equal=True, maintain_order="left"
    )
    return joined["_chosen"].is_not_null()
