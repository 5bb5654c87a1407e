"""How many items of a location go now. Integers only.

The OMS works a request off in chunks, so a request pays for every chunk it begins: the planner sends whole chunks
where it can, and a broken one only when the age of a change leaves no choice.
"""

from dataclasses import dataclass
from enum import StrEnum


class SendReason(StrEnum):
    """Why a request leaves; a label in metrics."""

    FULL = "full"
    """The window held ``flush_items`` items."""
    AGE = "age"
    """The window's oldest change was ``max_age`` old."""
    BISECTION = "bisection"
    """Part of a request that the OMS refused, to find out for which items."""


@dataclass(frozen=True, slots=True)
class ItemLimits:
    """All in items: what the OMS works off at once, takes in one request, and how many make a window full."""

    chunk_items: int = 3_000
    max_items: int = 12_000
    flush_items: int = 12_000

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_items <= self.flush_items <= self.max_items or self.flush_items % self.chunk_items:
            msg = f"need 1 <= chunk <= flush <= max items, and flush a multiple of chunk: {self}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class FlushPlan:
    """``items`` go now, oldest first; 0 and no reason: the window waits."""

    items: int
    reason: SendReason | None


WAIT = FlushPlan(0, None)


def plan_items(items: int, due: int, limits: ItemLimits) -> FlushPlan:
    """Decide how many of a window's ``items`` distinct items go now, of which the oldest ``due`` may wait no longer.

    ``due`` is 0 while the oldest is not yet due; when it is, items due within the next second count too. The caller
    asks again after each request, with what is left.
    """
    whole = min(items, limits.max_items) // limits.chunk_items * limits.chunk_items
    if items >= limits.flush_items:
        return FlushPlan(whole, SendReason.FULL)
    if due == 0:
        return WAIT
    return FlushPlan(whole if whole >= due else items, SendReason.AGE)


def chunks(items: int, chunk_items: int) -> int:
    """Chunks the OMS works off for a request of so many items: begun ones cost as much as full ones."""
    return -(-items // chunk_items)
