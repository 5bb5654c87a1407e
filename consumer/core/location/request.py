"""What leaves a location: requests, and changes that the OMS refuses for good."""

from dataclasses import dataclass

import polars as pl

from consumer.core.changes.blocks import Rows
from consumer.core.changes.coalesce import count_changes
from consumer.core.location.planner import SendReason


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be sent: ``taken`` has all pending changes of ``items`` items of one location, oldest item first."""

    request_id: int
    location: str
    taken: Rows
    items: int
    chunks: int
    """Chunks that the OMS processes for it."""
    reason: SendReason

    @property
    def rows(self) -> pl.DataFrame:
        """The changes as one frame with all columns; ``taken.present`` has less, for much less."""
        return self.taken.frame

    @property
    def changes(self) -> int:
        """How many changes a jobID covers: the rows and those that they supersede."""
        return count_changes(self.taken.present)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Changes of a location that the OMS refuses for good, with its words: to be dead-lettered."""

    location: str
    rows: pl.DataFrame
    detail: str
