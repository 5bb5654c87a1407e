"""Inventory changes made from a seed: what the demo publishes, what the OMS should hold after it, load for benchmarks.

What should be held is reckoned here in plain Python, one change after the other, without any code of the service: so
that the two can be held against each other.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consumer.core.changes.items import RejectReason
from consumer.sandbox.publisher import Change, Encoder, Event, item_key

ItemKey = tuple[str | None, str | None, str | None, int | None]
"""partNumber, upc, sku, binID."""
Held = dict[str, dict[ItemKey, dict[str, Any]]]
"""By location and item key, the item's fields as the OMS should hold them; attributes oldest first."""

LOCATIONS_SMALL: Final = 40
ITEMS_SMALL_MAX: Final = 150
"""Items of a small location, at most."""
BURST_LOCATION: Final = "Central Warehouse"
BURST_ITEMS: Final = 21_000
CHANGES_OF_ITEM_MAX: Final = 5
ATTRIBUTES: Final = tuple(f"ATTRIBUTE{number}" for number in range(1, 41))
STARTED_MS: Final = 1_767_225_600_000
"""When the first generated change occurred: the beginning of 2026."""
SCHEMA_ID: Final = 1


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Events in the order to publish them in, and what should come of them."""

    events: Sequence[Event]
    held: Held
    rejects: Mapping[RejectReason, int]
    tombstones: int
    changes: Sequence[Change] = ()
    """The good ones, in their order; ``eventId`` names each."""


def plan_demo(seed: int, *, schema_id: int = SCHEMA_ID, burst_items: int = BURST_ITEMS) -> DemoPlan:
    """40 small locations, one with a burst of distinct items, items changed several times, bad events among them."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets: the same seed makes the same plan
    encoder = Encoder(schema_id)
    histories = [history for number in range(1, LOCATIONS_SMALL + 1) for history in _small_location(number, chance)]
    histories += [[_burst_change(number, chance)] for number in range(1, burst_items + 1)]
    changes = _interleaved(histories, chance)
    for at, change in enumerate(changes):
        change["occurredAt"] = STARTED_MS + at
        change["eventId"] = f"demo-{seed}-{at}"
    events = [encoder.event(change) for change in changes]
    bad = _bad_events(encoder)
    for event, _ in bad:
        events.insert(chance.randrange(len(events)), event)
    reasons = Counter(reason for _, reason in bad if reason is not None)
    return DemoPlan(events, held_after(changes), dict(reasons), sum(event.value is None for event, _ in bad), changes)


def distinct_changes(count: int, *, locations: int, seed: int, schema_id: int = SCHEMA_ID) -> Iterator[Event]:
    """Changes of ``count`` different items, dealt to the locations in turn, each value 56 bytes.

    Encoded by putting texts and counts of always the same length into one encoded change: ten times as quick as
    encoding each. Raises ValueError for more locations or items than have names of that length.
    """
    if locations > 10**_LOCATION_DIGITS or count > 10**_ITEM_DIGITS:
        raise ValueError(f"at most {10**_LOCATION_DIGITS} locations and {10**_ITEM_DIGITS} items")
    chance = random.Random(seed)  # noqa: S311 - not for secrets: the same seed makes the same load
    location, sku = _location_name(0), _item_name(0)
    change = {"locationName": location, "sku": sku, "quantity": _TWO_BYTES_MIN, "occurredAt": STARTED_MS}
    head, _, rest = Encoder(schema_id).value(change).partition(location.encode())
    middle, _, rest = rest.partition(sku.encode())
    tail = rest[2:]  # the schema has the quantity next
    for number in range(count):
        location, sku = _location_name(number % locations), _item_name(number)
        zigzag = 2 * chance.randrange(_TWO_BYTES_MIN, _TWO_BYTES_MAX + 1)
        quantity = bytes((zigzag & 0x7F | 0x80, zigzag >> 7))
        value = b"".join((head, location.encode(), middle, sku.encode(), quantity, tail))
        yield Event(f"{location}|||{sku}|".encode(), value)


_LOCATION_DIGITS: Final = 5
_ITEM_DIGITS: Final = 10
_TWO_BYTES_MIN: Final = 64
_TWO_BYTES_MAX: Final = 8_191
"""The counts that Avro writes in two bytes."""


def _location_name(number: int) -> str:
    return f"location-{number:0{_LOCATION_DIGITS}}"


def _item_name(number: int) -> str:
    return f"sku-{number:0{_ITEM_DIGITS}}"


def held_after(changes: Iterable[Change]) -> Held:
    """What the OMS should hold when every change was applied in this order.

    The count is the last one; a field that a change lacks stays as it was; attributes are added to those there.
    """
    held: Held = {}
    for change in changes:
        item = held.setdefault(change["locationName"], {}).setdefault(_item_key(change), {})
        for name, value in change.items():
            if value is None or name in {"locationName", "occurredAt", "eventId"}:
                continue
            item[name] = list(dict.fromkeys([*item.get(name, ()), *value])) if name == "attributes" else value
    return held


def differences(expected: Held, actual: Mapping[str, Mapping[ItemKey, Mapping[str, Any]]]) -> list[str]:
    """One line for each item that is not held as expected, or not expected at all; the order of attributes is free."""
    found: list[str] = []
    for location in sorted(expected.keys() | actual.keys()):
        wanted, there = expected.get(location, {}), actual.get(location, {})
        for key in sorted(wanted.keys() | there.keys(), key=repr):
            want, have = wanted.get(key), there.get(key)
            if want is None or have is None or _comparable(want) != _comparable(have):
                found.append(f"{location} {key}: expected {want}, held {have}")
    return found


def _comparable(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: sorted(value) if name == "attributes" else value for name, value in item.items()}


def _item_key(change: Mapping[str, Any]) -> ItemKey:
    return change.get("partNumber"), change.get("upc"), change.get("sku"), change.get("binID")


def _small_location(number: int, chance: random.Random) -> list[list[Change]]:
    """Each of its items' changes, oldest first."""
    location = f"Store {number:02}"
    return [_history(location, item, chance) for item in range(1, chance.randrange(5, ITEMS_SMALL_MAX + 1))]


def _history(location: str, number: int, chance: random.Random) -> list[Change]:
    """One item's changes; it is named in the same way in each."""
    names: Change = {"locationName": location, "sku": f"SKU{number:05}"}
    if chance.random() < 0.3:
        names |= {"partNumber": f"PART{number:05}", "upc": f"{number:012}"}
    if chance.random() < 0.1:
        names["binID"] = chance.randrange(1, 10)
    times = chance.choice((1, 1, 1, 2, 3, CHANGES_OF_ITEM_MAX))
    return [names | {"quantity": chance.randrange(500)} | _optional_fields(chance) for _ in range(times)]


_OPTIONAL: Final[Mapping[str, Callable[[random.Random], Any]]] = {
    "ltd": lambda chance: chance.randrange(1_000) / 8,
    "floor": lambda chance: chance.randrange(5),
    "safetyStock": lambda chance: chance.randrange(20),
    "currencyID": lambda chance: chance.randrange(1, 4),
    "retailPrice": lambda chance: chance.randrange(100, 100_000) / 100,
    "inventoryLocatorName": lambda chance: f"Aisle {chance.randrange(1, 30)}",
    "attributes": lambda chance: chance.sample(ATTRIBUTES, chance.randrange(1, 6)),
}


def _optional_fields(chance: random.Random) -> Change:
    return {name: make(chance) for name, make in _OPTIONAL.items() if chance.random() < 0.25}


def _burst_change(number: int, chance: random.Random) -> Change:
    return {"locationName": BURST_LOCATION, "sku": f"SKU{number:05}", "quantity": chance.randrange(1_000)}


def _interleaved(histories: Sequence[list[Change]], chance: random.Random) -> list[Change]:
    """All changes in a random order that keeps each history's own."""
    turns = [number for number, history in enumerate(histories) for _ in history]
    chance.shuffle(turns)
    rest = [iter(history) for history in histories]
    return [next(rest[number]) for number in turns]


def _bad_events(encoder: Encoder) -> list[tuple[Event, RejectReason | None]]:
    """One event of each kind that can never be sent, with its reason; a tombstone has none, it is passed over."""
    reason = RejectReason
    good: Change = {"locationName": "Store 01", "sku": "BAD", "quantity": 1}
    breaking: list[tuple[Change, RejectReason]] = [
        (good | {"quantity": -1}, reason.NEGATIVE_QUANTITY),
        (good | {"quantity": 2**60}, reason.INTEGER_OUT_OF_RANGE),
        (good | {"locationName": ""}, reason.NO_LOCATION),
        (good | {"sku": ""}, reason.NO_IDENTIFIER),
        (good | {"binID": 0}, reason.BIN_ID_TOO_SMALL),
        (good | {"inventoryLocatorName": "x" * 51}, reason.LOCATOR_TOO_LONG),
        (good | {"attributes": [f"A{number}" for number in range(64)]}, reason.TOO_MANY_ATTRIBUTES),
        (good | {"retailPrice": math.nan}, reason.NOT_A_NUMBER),
        (good | {"ltd": math.inf}, reason.NOT_A_NUMBER),
    ]
    value, key = encoder.value(good), item_key(good)
    mangled: list[tuple[bytes | None, RejectReason | None]] = [
        (b'{"sku": "BAD"}', reason.NOT_FRAMED),
        (b"", reason.NOT_FRAMED),
        (value[:-4], reason.CORRUPT),
        (value + b"\x00", reason.TRAILING_BYTES),
        (None, None),
    ]
    return [(encoder.event(change), why) for change, why in breaking] + [(Event(key, raw), why) for raw, why in mangled]
