"""What the sandbox holds: the items that requests have set, when each was applied, and which went backwards.

Requests are numbered in the order in which they were accepted. A job is applied when it finishes, a request of smart
refresh at once, so a later request may be applied before an earlier one. An item *went backwards* if a request set it
after a later one had. Time is an argument, in seconds since 1970.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from consumer.sandbox.oms.settings import SandboxSettings
from consumer.sandbox.oms.validation import Item

KEY: Final = (
    *("partNumber", "upc", "sku", "binID"),
    *("lotCode", "condition", "date", "serialNumber", "externalID", "deliveryDate"),
)
TAGS: Final = "tags"
"""The fields that identify an item; all but the first four exist in Unified Commerce only."""

_ATTRIBUTES_MAX: Final = 63

ItemKey = tuple[str | int | frozenset[tuple[str, str]] | None, ...]
HeldItem = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AppliedItem:
    """One item of one request, when it was applied. ``number`` counts what was applied, from 1.

    ``item`` has the fields that identify it. ``request`` is the request's number in the order of acceptance.
    """

    number: int
    applied_at: float
    location: str
    item: Mapping[str, Any]
    quantity: int
    request: int
    went_backwards: bool


@dataclass(frozen=True, slots=True)
class _Application:
    """The items of one request. ``first`` is the number of the first of them."""

    first: int
    applied_at: float
    location: str
    keys: Sequence[ItemKey]
    quantities: Sequence[int]
    request: int
    backwards: frozenset[ItemKey]


class Inventory:
    """The items of all locations, and the last ``applied_kept_max`` that were applied."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._accepted = 0
        self._held: dict[str, dict[ItemKey, HeldItem]] = {}
        self._set_by: dict[str, dict[ItemKey, int]] = {}
        """By location and item, the number of the request that has set it."""
        self._newest: dict[str, int] = {}
        """By location, the highest number of a request that was applied."""
        self._applications: deque[_Application] = deque()
        self._kept = 0
        self._applied = 0
        self.held_items = 0
        self.repeated_items = 0
        """Items that were repeated within one request: 0 with a consumer that coalesces."""
        self.backward_items = 0
        """How often an item went backwards: 0 with a consumer that keeps the order."""

    def next_request(self) -> int:
        """The number of a request that is accepted now."""
        self._accepted += 1
        return self._accepted

    def held(self) -> Mapping[str, Mapping[ItemKey, HeldItem]]:
        """By location and item key, the item's current fields."""
        return self._held

    def apply(self, location: str, items: Sequence[Item], request: int, now: float) -> tuple[bool, tuple[str, ...]]:
        """Set the items of a request; returns whether that was done, and messages.

        It is not, for any of them, if the sandbox would hold too many items.
        """
        keys = [item_key(item) for item in items]
        distinct = set(keys)
        held = self._held.get(location, {})
        new = len(distinct.difference(held))
        if self.held_items + new > self._settings.held_items_max:
            return False, (f"the sandbox holds at most {self._settings.held_items_max} items (held_items_max)",)
        self.held_items += new
        self.repeated_items += len(keys) - len(distinct)
        self._held[location] = held
        overfull = 0
        for key, item in zip(keys, items, strict=True):
            held[key] = now_held = _merged(held.get(key), item)
            if "attributes" in now_held and len(now_held["attributes"]) > _ATTRIBUTES_MAX:
                overfull += 1
        self._record(location, keys, items, request, now)
        if overfull:
            return True, (f"items with more than {_ATTRIBUTES_MAX} attributes after merging: {overfull}",)
        return True, ()

    def applied(self, location: str | None = None, *, after: int = 0) -> Iterator[AppliedItem]:
        """What was applied, in that order, with a number above ``after``; at one location if it is given."""
        for application in self._applications:
            if location in {None, application.location}:
                rows = zip(application.keys, application.quantities, strict=True)
                for number, (key, quantity) in enumerate(rows, application.first):
                    if number > after:
                        yield AppliedItem(
                            number,
                            application.applied_at,
                            application.location,
                            _named(key),
                            quantity,
                            application.request,
                            key in application.backwards,
                        )

    def _record(self, location: str, keys: Sequence[ItemKey], items: Sequence[Item], request: int, now: float) -> None:
        set_by = self._set_by.setdefault(location, {})
        backwards: frozenset[ItemKey] = frozenset()
        if request < self._newest.get(location, 0):
            backwards = frozenset(key for key in keys if set_by.get(key, 0) > request)
            self.backward_items += len(backwards)
        set_by.update(dict.fromkeys(keys, request))
        self._newest[location] = max(request, self._newest.get(location, 0))
        quantities = [int(item["quantity"]) for item in items]
        self._applications.append(_Application(self._applied + 1, now, location, keys, quantities, request, backwards))
        self._applied += len(keys)
        self._kept += len(keys)
        while self._kept > self._settings.applied_kept_max:
            self._kept -= len(self._applications.popleft().keys)


def item_key(item: Item) -> ItemKey:
    """The fields that identify an item."""
    get = cast("Mapping[str, Any]", item).get
    key = tuple([get(name) for name in KEY])
    tags = get(TAGS)
    return key if tags is None else (*key, frozenset(tags.items()))


def _named(key: ItemKey) -> dict[str, Any]:
    named = {name: value for name, value in zip(KEY, key, strict=False) if value is not None}
    tags = key[len(KEY) :]
    return named | {TAGS: dict(cast("frozenset[tuple[str, str]]", tags[0]))} if tags else named


def _merged(held: HeldItem | None, item: Item) -> HeldItem:
    """The held item after this update: the quantity and the given fields are set, absent fields stay.

    Attributes are merged. The documentation does not say what happens when that makes too many, so none are cut off.
    The request's own dict is reused where possible, since nothing else needs it: twice as fast as a copy.
    """
    merged = cast("HeldItem", item)
    merged["quantity"] = int(item["quantity"])
    attributes: Sequence[str] = held.get("attributes", ()) if held else ()
    if "attributes" in merged:
        merged["attributes"] = list(dict.fromkeys([*attributes, *merged["attributes"]]))
    return merged if held is None or held.keys() <= merged.keys() else {**held, **merged}
