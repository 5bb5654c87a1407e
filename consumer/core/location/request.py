"""What leaves a location: requests to the OMS, and refused changes for the dead-letter topic."""

from dataclasses import dataclass

import polars as pl

from consumer.core.changes.blocks import Rows
from consumer.core.changes.coalesce import count_changes
from consumer.core.location.planner import SendReason


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the OMS: ``taken`` has the changes of ``items`` items of one location, oldest item first."""

    request_id: int
    location: str
    taken: Rows
    items: int
    chunks: int
    """Number of chunks in which the OMS processes it."""
    reason: SendReason

    @property
    def rows(self) -> pl.DataFrame:
        """The changes as one frame with all columns; ``taken.present`` has less, for much less."""
        return self.taken.frame

    @property
    def can_shrink(self) -> bool:
        """Whether the planner could send fewer of its items. Parts of a bisection are split by the bisection."""
        return self.items > 1 and self.reason is not SendReason.BISECTION

    @property
    def changes(self) -> int:
        """Number of changes that a jobID covers: the rows and the changes that they supersede."""
        return count_changes(self.taken.present)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Changes of a location that must be dead-lettered because the OMS refuses them. ``detail`` is its message."""

    location: str
    rows: pl.DataFrame
    detail: str
