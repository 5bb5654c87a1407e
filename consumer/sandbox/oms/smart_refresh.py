"""Requests of smart refresh: a small one is applied at once and answered item by item, a larger one becomes a job.

The vendor documents ``method`` and ``jobID`` of the answer, and that a small request is answered with results, but not
their form. Here each is like the inventory API's other results for an item: the fields that identify it, ``onHand``,
``success`` and ``messages``.
"""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consumer.sandbox.oms.errors import RefusalError
from consumer.sandbox.oms.inventory import KEY, TAGS
from consumer.sandbox.oms.settings import Package
from consumer.sandbox.oms.validation import LOCATION_FIELDS, Item, Refresh, count_refresh, parse_refresh

_LOCATION: Final = LOCATION_FIELDS[Package.UNIFIED]
_VALID_ITEM: Final[Item] = {"sku": "valid", "quantity": 0}


@dataclass(frozen=True, slots=True)
class SyncRefresh:
    """A request that is applied at once. ``errors`` says why items are invalid, by their position in ``items``."""

    location: str
    items: Sequence[Any]
    errors: Mapping[int, str]

    def without(self, refused: Container[int]) -> list[Item]:
        """The items that are not at these positions."""
        return [item for index, item in enumerate(self.items) if index not in refused]

    def results(self, errors: Mapping[int, str]) -> list[dict[str, Any]]:
        """The result of each item: the error at its position, or that it was applied."""
        return [_result(item, errors.get(index)) for index, item in enumerate(self.items)]


def parse_smart_refresh(
    body: bytes, *, max_items: int, sync_items_max: int, counts_only: bool = False
) -> Refresh | SyncRefresh:
    """Parse a request's body: ``SyncRefresh`` for at most ``sync_items_max`` items, otherwise as ``parse_refresh``.

    With ``counts_only``, items of larger requests are only counted. Raises RefusalError (400) if the request as a whole
    is invalid, or an item of a larger one.
    """
    if counts_only:
        counted = count_refresh(body, max_items=max_items, package=Package.UNIFIED)
        if counted.item_count > sync_items_max:
            return counted
    try:
        refresh = parse_refresh(body, max_items=max_items, package=Package.UNIFIED)
    except RefusalError as refusal:
        if refusal.item is None:
            raise
        # The body is a JSON object with items, otherwise the refusal would not be about one of them.
        content = json.loads(body, parse_constant=str)
        items: list[Any] = content["items"]
        if len(items) > sync_items_max:
            raise
        rest = _parse({**content, "items": [_VALID_ITEM]})
        errors = {index: error for index, item in enumerate(items) if (error := _error(item, index)) is not None}
        return SyncRefresh(rest.location, items, errors)
    if refresh.item_count > sync_items_max:
        return refresh
    return SyncRefresh(refresh.location, refresh.items or (), {})


def _parse(content: Mapping[str, Any]) -> Refresh:
    return parse_refresh(json.dumps(content).encode(), max_items=1, package=Package.UNIFIED)


def _error(item: Any, index: int) -> str | None:
    """Why an item is invalid; None if it is not."""
    try:
        _parse({_LOCATION: "valid", "items": [item]})
    except RefusalError as refusal:
        return str(refusal).replace("items[0]", f"items[{index}]", 1)
    return None


def _result(item: Any, error: str | None) -> dict[str, Any]:
    named = {name: item[name] for name in (*KEY, TAGS) if name in item} if isinstance(item, dict) else {}
    if error is not None:
        return {**named, "success": False, "messages": [error]}
    return {**named, "onHand": int(item["quantity"]), "success": True, "messages": []}
