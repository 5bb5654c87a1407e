"""Which locations leave first when memory must be freed: those with the most whole chunks, then with the most items."""

import heapq
from collections.abc import Iterable

from consumer.core.location.location import Location
from consumer.core.location.planner import ItemLimits


def fullest(locations: Iterable[Location], count: int, limits: ItemLimits, now: float) -> list[Location]:
    """At most ``count`` locations that may send now, by what one request of each would free, the most first."""

    def freed(location: Location) -> tuple[int, int]:
        items = min(location.window.items_max, limits.max_items)
        return items // limits.chunk_items, items

    free = [location for location in locations if location.window.rows and location.may_send(now)]
    return heapq.nlargest(count, free, key=freed)
