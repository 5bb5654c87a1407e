"""The planner: how many items of a location are sent now. Integers only.

The OMS processes a request in chunks, and a partial chunk costs as much as a full one. The planner therefore sends
whole chunks if it can, and a partial one only if a change is due because of its age.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class SendReason(StrEnum):
    """Why a request is sent; a label in metrics."""

    FULL = "full"
    """The window had ``flush_items`` items."""
    AGE = "age"
    """The window's oldest change was ``max_age`` old."""
    PRESSURE = "pressure"
    """The memory budget was used up: waiting was pointless, since nothing more could be read."""
    SMALL = "small"
    """The window had few items, of a quiet location that may use smart refresh (``window.small_max_age``)."""
    BISECTION = "bisection"
    """Part of a refused request, to find out which items the OMS refuses."""


@dataclass(frozen=True, slots=True)
class ItemLimits:
    """Numbers of items: in a chunk of the OMS, in a request at most, and in a full window."""

    chunk_items: int = 3_000
    max_items: int = 12_000
    flush_items: int = 12_000

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_items <= self.flush_items <= self.max_items or self.flush_items % self.chunk_items:
            msg = f"need 1 <= chunk <= flush <= max items, and flush a multiple of chunk: {self}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class FlushPlan:
    """``items`` are sent now, oldest first; 0 and no reason mean that the window waits."""

    items: int
    reason: SendReason | None


WAIT = FlushPlan(0, None)

Planner = Callable[[int, int, ItemLimits], FlushPlan]
"""From the distinct items of a window, those that are due, and the limits, to what leaves now."""


def plan_items(items: int, due: int, limits: ItemLimits) -> FlushPlan:
    """Decide how many of a window's ``items`` distinct items are sent now.

    The oldest ``due`` of them must not wait longer; 0 if the oldest is not due yet. After each request the caller must
    ask again about what is left.
    """
    whole = min(items, limits.max_items) // limits.chunk_items * limits.chunk_items
    if items >= limits.flush_items:
        return FlushPlan(whole, SendReason.FULL)
    if due == 0:
        return WAIT
    return FlushPlan(whole if whole >= due else items, SendReason.AGE)


def plan_under_pressure(items: int, due: int, limits: ItemLimits) -> FlushPlan:
    """As ``plan_items``, when nothing more can be read: whole chunks leave, or everything if there is no whole one."""
    planned = plan_items(items, due, limits)
    if planned.items or not items:
        return planned
    whole = min(items, limits.max_items) // limits.chunk_items * limits.chunk_items
    return FlushPlan(whole or items, SendReason.PRESSURE)


def plan_whole_chunks(items: int, due: int, limits: ItemLimits) -> FlushPlan:
    """As ``plan_items``, while a partition waits for its committable offset and others are read: whole chunks leave."""
    planned = plan_under_pressure(items, due, limits)
    is_partial = planned.reason is SendReason.PRESSURE and planned.items % limits.chunk_items
    return WAIT if is_partial else planned


def plan_small(items_max: int) -> Planner:
    """All of a window with at most ``items_max`` items, however young its changes are."""

    def plan(items: int, _due: int, limits: ItemLimits) -> FlushPlan:
        return FlushPlan(items, SendReason.SMALL) if items <= min(items_max, limits.max_items) else WAIT

    return plan


def plan_at_most(planned: FlushPlan, items_max: int, limits: ItemLimits) -> FlushPlan:
    """The plan cut to this many items, because more would make the request's body too large: whole chunks if any."""
    if planned.items <= items_max:
        return planned
    return FlushPlan(items_max // limits.chunk_items * limits.chunk_items or items_max, planned.reason)


def chunks(items: int, chunk_items: int) -> int:
    """Number of chunks in a request with this many items, including a partial one."""
    return -(-items // chunk_items)
