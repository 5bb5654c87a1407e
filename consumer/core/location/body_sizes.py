"""How many items of a location fit into a request's body, by what bodies that were too large have measured."""

from consumer.core.location.location import Location
from consumer.core.location.planner import FlushPlan, ItemLimits, Planner, plan_at_most


class BodySizes:
    """The largest body, and measures of items; a location without a measure of its own is planned by the smallest."""

    def __init__(self) -> None:
        self.bytes_max: int | None = None
        """The largest body that may be planned; None while no limit is known."""
        self._item_bytes = 0.0

    def measure(self, location: Location, items: int, body_bytes: int) -> None:
        """A body with this many items of the location was too large."""
        location.item_bytes = body_bytes / items
        self._item_bytes = min(location.item_bytes, self._item_bytes or location.item_bytes)

    def within(self, location: Location, plan: Planner) -> Planner:
        """The planner, kept to as many items as the largest body has room for."""
        item_bytes = location.item_bytes or self._item_bytes
        if self.bytes_max is None or not item_bytes:
            return plan
        items_max = max(1, int(self.bytes_max / item_bytes))

        def planned(items: int, due: int, limits: ItemLimits) -> FlushPlan:
            return plan_at_most(plan(items, due, limits), items_max, limits)

        return planned
