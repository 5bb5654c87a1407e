"""Which item is asked about."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_

import polars as pl

from consumer.core.changes.items import IDENTIFIERS, LOCATION


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """The changes of a location that have all values of one of these alternatives, by column of the identifier.

    Other identifiers of an item, and the rest of its key, may be anything: several items may match.
    """

    location: str
    alternatives: tuple[Mapping[str, str], ...]

    @classmethod
    def of_any_identifier(cls, location: str, value: str) -> "ItemQuery":
        """The items of which any identifier is this value."""
        return cls(location, tuple({name: value} for name in IDENTIFIERS))

    def rows_of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that match, in their order. A column that ``rows`` lack has no value in any of them."""
        columns = set(rows.columns)
        possible = [alternative for alternative in self.alternatives if columns.issuperset(alternative)]
        if not possible:
            return rows.clear()
        matches = [reduce(and_, (pl.col(name) == value for name, value in found.items())) for found in possible]
        return rows.filter((pl.col(LOCATION) == self.location) & reduce(or_, matches))
