"""What barriers take out of a location (rule 27): older changes that wait, and those that come back from a request."""

from collections.abc import Sequence

import polars as pl

from consumer.core.changes.barriers import newest_barriers, of_items, superseded_by
from consumer.core.changes.items import CHANGE_ID
from consumer.core.location.location import Location
from consumer.core.location.request import Refusal, superseded_refusals
from consumer.core.location.window import Windows


class SupersededChanges:
    """Applies barriers to locations, and collects what they supersede until it is taken."""

    def __init__(self, item_key: Sequence[str]) -> None:
        self._item_key = tuple(item_key)
        self._superseded: list[Refusal] = []

    def take(self) -> list[Refusal]:
        """What was superseded since the last call, to be dead-lettered."""
        superseded, self._superseded = self._superseded, []
        return superseded

    def apply(self, windows: Windows, location: Location, barriers: pl.DataFrame) -> bool:
        """Apply barriers of this location. Returns whether its window has lost changes."""
        taken = windows.take_superseded(location.window, barriers) if location.window.rows else None
        if taken is not None:
            self._superseded += superseded_refusals(*taken)
        if location.in_flight is not None:
            sent = location.in_flight.request.taken.present
            relevant = of_items(barriers, sent, self._item_key)
            known = [relevant] if location.barriers is None else [location.barriers, relevant]
            if relevant.height:
                location.barriers = newest_barriers(pl.concat(known), self._item_key)
        return taken is not None

    def without_superseded(self, location: Location, returning: pl.DataFrame) -> pl.DataFrame:
        """The rows of a failed request without those that are older than a barrier read since it was started."""
        if location.barriers is None:
            return returning
        superseded = superseded_by(returning, location.barriers, self._item_key)
        self._superseded += superseded_refusals(returning, superseded)
        return returning.join(superseded, on=CHANGE_ID, how="anti", maintain_order="left")
