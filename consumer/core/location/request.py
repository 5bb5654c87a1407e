"""What the engine gives out, and what bounds it."""

from dataclasses import dataclass, field

import polars as pl

from consumer.core.changes.blocks import Rows
from consumer.core.changes.coalesce import all_offsets
from consumer.core.location.planner import ItemLimits, SendReason


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What bounds the engine: items, seconds, rows."""

    items: ItemLimits = field(default_factory=ItemLimits)
    max_age_seconds: float = 300.0
    due_within_seconds: float = 1.0
    """A burst read in several polls is one burst: changes due so soon count as due."""
    max_in_flight: int = 8
    max_requests_per_second: float | None = None
    bisection_requests_max: int = 200
    """Further requests by which the bad items of a refused one are looked for."""
    max_pending_changes: int = 1_000_000
    max_uncommitted_offsets: int = 5_000_000
    unknown_hold_seconds: float = 120.0
    """How long a request of a partition's last owner may still be under way."""
    rejected_ratio_max: float = 0.5
    refused_changes_max: int = 100_000
    """The latest changes that the OMS took or refused, of which too many refused ones stop the service."""
    refused_changes_min: int = 30_000
    """More than two requests at their largest: one location that the OMS does not know must not stop all others."""
    stopped_retry_seconds: float = 60.0
    """Between two tries while the OMS refuses our credentials, permission or address."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be sent: ``taken`` are all pending changes of ``items`` items of one location, oldest item first."""

    request_id: int
    location: str
    taken: Rows
    items: int
    reason: SendReason

    @property
    def rows(self) -> pl.DataFrame:
        """The changes as one frame: those of ``taken``, joined now if they were not before."""
        return self.taken.frame

    @property
    def changes(self) -> int:
        """How many changes a jobID covers: the rows, and the older ones that rows stand for."""
        return all_offsets(self.rows).height


@dataclass(frozen=True, slots=True)
class Refusal:
    """Changes of a location that the OMS will not take, with its words: dead letters, once they are found again."""

    location: str
    rows: pl.DataFrame
    detail: str
