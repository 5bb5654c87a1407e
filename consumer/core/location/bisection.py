"""Bisection: finding the items because of which the OMS refused a request, with few further requests (rule 18).

The request is split in halves, which are sent one after the other. Suspects are kept as item keys, not as a body: each
part is built from all pending changes of its items at the time. Only a refusal bisects, and only a change that was
refused alone is dead-lettered. An item with several changes is therefore sent one change at a time; otherwise one bad
field in an old change would dead-letter a good count. The newest change is sent first, and once it is accepted, its
values overlay the older ones. So no request has an older count than one before it, even if the previous owner had
already sent all of them (docs/decisions/0011-newest-count-first.md).

The number of requests is limited. At the limit, the remaining suspects are dead-lettered without being tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import polars as pl

from consumer.core.changes.coalesce import newest_last, rows_with_keys, split_overfull, without_attributes
from consumer.core.changes.items import ARRIVED, CHANGE_ID

REQUESTS_MIN: Final = 32
"""The requests that even a bisection after futile ones may take: enough to find one bad item among 12,000."""

Key = tuple[str | int | None, ...]
"""The values of the item key's columns, in their order."""


class Verdict(Enum):
    """Whether a change that was refused alone is bad."""

    AT_ONCE = auto()
    """It is: the OMS refused its content."""
    TWICE = auto()
    """Only if it is refused again, some time later, and other parts were accepted in between (rule 30)."""
    NOT_NOW = auto()
    """It need not be, because most locations are refused (rule 32)."""


@dataclass(frozen=True, slots=True)
class RefusedAlone:
    """A change that was refused alone and need not be bad."""

    change: tuple[Any, ...]
    at: float
    parts_accepted: int
    """How many parts of the bisection had been accepted by then."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pending changes of the suspects the next request contains, and which stay in the window.

    ``leaving`` may be empty. ``overlay`` has newer values for the request's body (see ``blocks.Rows``).
    """

    leaving: pl.DataFrame
    staying: pl.DataFrame
    overlay: pl.DataFrame | None


class Suspects:
    """Items that are sent in one request to find out whether the OMS refuses one of them.

    ``keys`` has the columns of the item key and one row per item, the oldest item first. With ``one_change_at_a_time``
    it is a single item, whose changes are sent one by one, newest first.
    """

    def __init__(self, keys: pl.DataFrame, *, one_change_at_a_time: bool = False) -> None:
        self.keys = keys
        self.one_change_at_a_time = one_change_at_a_time
        self._untried: pl.DataFrame | None = None
        """With ``one_change_at_a_time``: ``CHANGE_ID`` of the changes still to be sent; None at first."""
        self._accepted: pl.DataFrame | None = None
        """With ``one_change_at_a_time``: the accepted changes, without attributes."""
        self.refused_alone: RefusedAlone | None = None
        """With ``one_change_at_a_time``: the change that was refused alone last, if it need not be bad."""

    def select(self, pending: pl.DataFrame, item_key: Sequence[str]) -> Selection:
        """Choose what the next request contains. ``pending`` are all pending changes of the items."""
        if not self.one_change_at_a_time:
            leaving, staying = split_overfull(pending, item_key)
            return Selection(leaving, staying, without_attributes(staying))
        untried = self._refresh_untried(pending)
        leaving = newest_last(untried, item_key).tail(1)
        staying = pending.join(leaving, on=CHANGE_ID, how="anti", maintain_order="left")
        return Selection(leaving, staying, self._accepted)

    def settle(self, change: pl.DataFrame, *, accepted: bool) -> None:
        """The request with this change (or with all of the items) was accepted, or its single change was refused."""
        if self._untried is not None:
            self._untried = self._untried.join(change, on=CHANGE_ID, how="anti")
        if accepted:
            rows = without_attributes(change)
            self._accepted = rows if self._accepted is None else pl.concat([self._accepted, rows], how="diagonal")

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to try after ``settle``."""
        return not self.one_change_at_a_time or (self._untried is not None and self._untried.is_empty())

    def _refresh_untried(self, pending: pl.DataFrame) -> pl.DataFrame:
        """Remember and return the pending changes that are still to be tried.

        At the first call these are all of them; changes that arrive later are not suspects. If one of them has
        disappeared, a newer change supersedes it (windows were coalesced in place) or its partition was revoked. In
        that case all pending changes are tried again; otherwise an older change could follow one that the OMS already
        has.
        """
        if self._untried is not None:
            untried = pending.join(self._untried, on=CHANGE_ID, how="semi")
            if untried.height in (0, self._untried.height):
                return untried
        self._untried = pending.select(CHANGE_ID)
        return pending


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """A request that the OMS refused for its content.

    ``suspects`` are those that it was sent for, None for an ordinary request. ``alone``: ``rows`` is a single change,
    and everything else in the request's body was accepted before. ``named`` are item keys that the OMS's message seems
    to name; they are tried first.
    """

    rows: pl.DataFrame
    suspects: Suspects | None
    alone: bool
    detail: str
    named: Sequence[Key] = ()


@dataclass(frozen=True, slots=True)
class Unresolved:
    """The suspects left at the limit of requests. Only changes that arrived by ``arrived_until`` are suspect.

    That is the latest arrival in the refused request: changes that were read before it was sent, but reached the window
    after that, were not in it.
    """

    keys: pl.DataFrame
    arrived_until: float
    detail: str


class Bisection:
    """The bisection of a refused request of one location: a stack of suspects that are still to be sent."""

    def __init__(
        self,
        refused: RefusedRequest,
        item_key: Sequence[str],
        *,
        chunk_items: int,
        requests_max: int,
        apart_seconds: float = 60.0,
    ) -> None:
        """``apart_seconds`` lie between the two refusals of a change that are needed with ``Verdict.TWICE``."""
        self._apart_seconds = apart_seconds
        self._item_key = list(item_key)
        self._chunk_items = chunk_items
        self._requests_left = requests_max
        latest: Any = refused.rows[ARRIVED].max()
        self._arrived_until = float(latest)
        self._detail = refused.detail
        self._parts_accepted = 0
        self._is_patient = False
        """The location is set aside: the time ends the bisection, and not the number of requests."""
        self._stack: list[Suspects] = []

    @property
    def is_over(self) -> bool:
        return not self._stack

    @property
    def any_accepted(self) -> bool:
        """Some suspects were accepted, so the OMS does not refuse everything of this location."""
        return self._parts_accepted > 0

    @property
    def next_suspects(self) -> Suspects:
        """The suspects to send next. The bisection must not be over."""
        return self._stack[-1]

    def accepted(self, suspects: Suspects | None, rows: pl.DataFrame) -> None:
        """A request with these rows was accepted. Does nothing unless it was sent for suspects of this bisection."""
        if suspects in self._stack:
            self._requests_left -= 1
            self._parts_accepted += 1
            self._settle(suspects, rows, accepted=True)

    def refused(self, request: RefusedRequest, verdict: Verdict = Verdict.AT_ONCE, now: float = 0.0) -> bool:
        """A request was refused. Returns True if it was a single change, which must be dead-lettered.

        A single change that need not be bad is sent again behind the other suspects.
        """
        self._detail = request.detail
        self._is_patient = self._is_patient or verdict is Verdict.TWICE
        if request.suspects in self._stack:
            self._requests_left -= verdict is not Verdict.NOT_NOW
            if request.alone:
                if verdict is not Verdict.AT_ONCE and not self._is_bad(request, verdict, now):
                    self._stack.remove(request.suspects)
                    self._stack.insert(0, request.suspects)
                    return False
                self._settle(request.suspects, request.rows, accepted=False)
                return True
            self._stack.remove(request.suspects)
        self._stack += reversed(self._split(request.rows, request.named))
        return False

    def unresolved(self) -> Unresolved | None:
        """The remaining suspects at the limit of requests, and then the caller must end the bisection; None before."""
        if self._requests_left > 0 or self._is_patient:
            return None
        keys = pl.concat([suspects.keys for suspects in self._stack])
        return Unresolved(keys, self._arrived_until, self._detail)

    def drop_without_changes(self, rows: pl.DataFrame) -> None:
        """Drop the suspects without a pending change. ``rows`` are all pending changes of the location."""
        pending = rows.select(self._item_key).unique()
        for suspects in self._stack:
            suspects.keys = suspects.keys.filter(rows_with_keys(suspects.keys, pending))
        self._stack = [suspects for suspects in self._stack if suspects.keys.height]

    def drop(self, suspects: Suspects) -> None:
        """Drop these suspects: none of their changes is pending any more."""
        self._stack.remove(suspects)

    def _is_bad(self, request: RefusedRequest, verdict: Verdict, now: float) -> bool:
        """Whether this single change counts as bad. Otherwise its refusal is remembered, if it is the first one."""
        suspects, change = request.suspects, request.rows.select(CHANGE_ID).row(0)
        if suspects is None:
            return False
        before = suspects.refused_alone
        if before is None or before.change != change:
            suspects.refused_alone = RefusedAlone(change, now, self._parts_accepted)
            return False
        is_later = now - before.at >= self._apart_seconds and self._parts_accepted > before.parts_accepted
        return verdict is Verdict.TWICE and is_later

    def _settle(self, suspects: Suspects, rows: pl.DataFrame, *, accepted: bool) -> None:
        suspects.settle(rows, accepted=accepted)
        if suspects.is_done:
            self._stack.remove(suspects)

    def _split(self, rows: pl.DataFrame, named: Sequence[Key]) -> list[Suspects]:
        """Two parts of the refused items, the one to send first in front. A single item is not split further."""
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
        """Where to split: in the middle; at a chunk boundary if there are several chunks, so that no chunk is added."""
        chunks = -(-items // self._chunk_items)
        return items // 2 if chunks == 1 else -(-chunks // 2) * self._chunk_items
