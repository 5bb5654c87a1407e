"""How many items of a location leave now. Integers only.

The OMS processes a request in chunks and charges for every chunk begun, so the planner sends whole chunks where it
can, and a partial one only when the age of a change leaves no choice.
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
    """Part of a refused request, to find out which items the OMS refuses."""


@dataclass(frozen=True, slots=True)
class ItemLimits:
    """All in items: the OMS's chunk, the most that a request may have, and how many make a window full."""

    chunk_items: int = 3_000
    max_items: int = 12_000
    flush_items: int = 12_000

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_items <= self.flush_items <= self.max_items or self.flush_items % self.chunk_items:
            msg = f"need 1 <= chunk <= flush <= max items, and flush a multiple of chunk: {self}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class FlushPlan:
    """``items`` leave now, oldest first; 0 and no reason: the window waits."""

    items: int
    reason: SendReason | None


WAIT = FlushPlan(0, None)


def plan_items(items: int, due: int, limits: ItemLimits) -> FlushPlan:
    """Decide how many of a window's ``items`` distinct items leave now; the oldest ``due`` of them may not wait longer.

    ``due`` is 0 while the oldest is not yet due; once it is, items due within the next second count too. The caller
    asks again after each request, with what is left.
    """
    whole = min(items, limits.max_items) // limits.chunk_items * limits.chunk_items
    if items >= limits.flush_items:
        return FlushPlan(whole, SendReason.FULL)
    if due == 0:
        return WAIT
    return FlushPlan(whole if whole >= due else items, SendReason.AGE)


def chunks(items: int, chunk_items: int) -> int:
    """Chunks that the OMS processes for a request of this many items; a partial chunk costs as much as a full one."""
    return -(-items // chunk_items)
