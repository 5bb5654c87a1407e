"""What leaves a location: requests to the OMS, and refused changes for the dead-letter topic."""

from dataclasses import dataclass

import polars as pl

from consumer.core.changes.barriers import BARRIER_OFFSET
from consumer.core.changes.blocks import Rows
from consumer.core.changes.coalesce import count_changes
from consumer.core.changes.items import CHANGE_ID, LOCATION, RejectReason
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
    is_smart: bool = False
    """It goes to smart refresh (rule 34)."""

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
    """Changes of a location that must be dead-lettered: mostly the OMS refuses them, and ``detail`` is its message.

    Columns of items without any value may be missing from ``rows``.
    """

    location: str
    rows: pl.DataFrame
    detail: str
    reason: RejectReason = RejectReason.REFUSED_BY_OMS


def superseded_refusals(rows: pl.DataFrame, superseded: pl.DataFrame) -> list[Refusal]:
    """Rows that barriers supersede, by location and barrier (rule 27).

    ``superseded`` is the result of ``barriers.superseded_by``, for these rows.
    """
    joined = rows.join(superseded, on=CHANGE_ID, how="inner", maintain_order="left")
    parts = joined.partition_by(LOCATION, BARRIER_OFFSET, as_dict=True, maintain_order=True)
    return [
        Refusal(
            location=location,
            rows=part.drop(BARRIER_OFFSET),
            detail=f"the newer change of the item at offset {offset} has a count that cannot be sent",
            reason=RejectReason.SUPERSEDED_BY_REJECT,
        )
        for (location, offset), part in parts.items()
    ]
