"""Generates inventory changes from a seed: the demo's events, the expected result in the OMS, and load for benchmarks.

The expected result is computed in plain Python, one change at a time and without any code of the service, so that it is
an independent check of the service.
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
"""By location and item key, the fields of the item in the OMS; attributes oldest first."""

LOCATIONS_SMALL: Final = 40
ITEMS_SMALL_MAX: Final = 150
"""The most items that a small location has."""
BURST_LOCATION: Final = "Central Warehouse"
BURST_ITEMS: Final = 21_000
CHANGES_OF_ITEM_MAX: Final = 5
ATTRIBUTES: Final = tuple(f"ATTRIBUTE{number}" for number in range(1, 41))
STARTED_MS: Final = 1_767_225_600_000
"""``occurredAt`` of the first generated change: the beginning of 2026."""
SCHEMA_ID: Final = 1


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """The events in publishing order, and their expected result."""

    events: Sequence[Event]
    held: Held
    rejects: Mapping[RejectReason, int]
    tombstones: int
    changes: Sequence[Change] = ()
    """The valid changes in order; ``eventId`` identifies each."""


def plan_demo(seed: int, *, schema_id: int = SCHEMA_ID, burst_items: int = BURST_ITEMS) -> DemoPlan:
    """40 small locations with repeated changes, one large location with a burst, and some bad events."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets: the same seed makes the same plan
    encoder = Encoder(schema_id)
    histories = [history for number in range(1, LOCATIONS_SMALL + 1) for history in _small_location(number, rng)]
    histories += [[_burst_change(number, rng)] for number in range(1, burst_items + 1)]
    changes = _interleaved(histories, rng)
    for at, change in enumerate(changes):
        change["occurredAt"] = STARTED_MS + at
        change["eventId"] = f"demo-{seed}-{at}"
    events = [encoder.event(change) for change in changes]
    bad = _bad_events(encoder)
    for event, _ in bad:
        events.insert(rng.randrange(len(events)), event)
    reasons = Counter(reason for _, reason in bad if reason is not None)
    return DemoPlan(events, held_after(changes), dict(reasons), sum(event.value is None for event, _ in bad), changes)


def distinct_changes(count: int, *, locations: int, seed: int, schema_id: int = SCHEMA_ID) -> Iterator[Event]:
    """One change each of ``count`` distinct items, spread over the locations in turn; each value has 56 bytes.

    Names and quantities of constant length are written into an already encoded change, which is ten times as fast as
    encoding each change. Raises ValueError if there are more locations or items than names of that length.
    """
    if locations > 10**_LOCATION_DIGITS or count > 10**_ITEM_DIGITS:
        raise ValueError(f"at most {10**_LOCATION_DIGITS} locations and {10**_ITEM_DIGITS} items")
    rng = random.Random(seed)  # noqa: S311 - not for secrets: the same seed makes the same load
    location, sku = _location_name(0), _item_name(0)
    change = {"locationName": location, "sku": sku, "quantity": _TWO_BYTES_MIN, "occurredAt": STARTED_MS}
    head, _, rest = Encoder(schema_id).value(change).partition(location.encode())
    middle, _, rest = rest.partition(sku.encode())
    tail = rest[2:]  # in the schema, the quantity comes next
    for number in range(count):
        location, sku = _location_name(number % locations), _item_name(number)
        zigzag = 2 * rng.randrange(_TWO_BYTES_MIN, _TWO_BYTES_MAX + 1)
        quantity = bytes((zigzag & 0x7F | 0x80, zigzag >> 7))
        value = b"".join((head, location.encode(), middle, sku.encode(), quantity, tail))
        yield Event(f"{location}|||{sku}|".encode(), value)


_LOCATION_DIGITS: Final = 5
_ITEM_DIGITS: Final = 10
_TWO_BYTES_MIN: Final = 64
_TWO_BYTES_MAX: Final = 8_191
"""The smallest and largest quantity that Avro writes in two bytes."""


def _location_name(number: int) -> str:
    return f"location-{number:0{_LOCATION_DIGITS}}"


def _item_name(number: int) -> str:
    return f"sku-{number:0{_ITEM_DIGITS}}"


def held_after(changes: Iterable[Change]) -> Held:
    """The items in the OMS after every change was applied in this order.

    The last quantity wins; fields that a change does not have stay; attributes are added to the existing ones.
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
    """One line for each item that is missing, unexpected or different; the order of attributes does not matter."""
    found: list[str] = []
    for location in sorted(expected.keys() | actual.keys()):
        expected_items, actual_items = expected.get(location, {}), actual.get(location, {})
        for key in sorted(expected_items.keys() | actual_items.keys(), key=repr):
            want, have = expected_items.get(key), actual_items.get(key)
            if want is None or have is None or _comparable(want) != _comparable(have):
                found.append(f"{location} {key}: expected {want}, but the OMS holds {have}")
    return found


def _comparable(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: sorted(value) if name == "attributes" else value for name, value in item.items()}


def _item_key(change: Mapping[str, Any]) -> ItemKey:
    return change.get("partNumber"), change.get("upc"), change.get("sku"), change.get("binID")


def _small_location(number: int, rng: random.Random) -> list[list[Change]]:
    """For each of its items, the item's changes, oldest first."""
    location = f"Store {number:02}"
    return [_history(location, item, rng) for item in range(1, rng.randrange(5, ITEMS_SMALL_MAX + 1))]


def _history(location: str, number: int, rng: random.Random) -> list[Change]:
    """One item's changes; all of them identify it the same way."""
    names: Change = {"locationName": location, "sku": f"SKU{number:05}"}
    if rng.random() < 0.3:
        names |= {"partNumber": f"PART{number:05}", "upc": f"{number:012}"}
    if rng.random() < 0.1:
        names["binID"] = rng.randrange(1, 10)
    times = rng.choice((1, 1, 1, 2, 3, CHANGES_OF_ITEM_MAX))
    return [names | {"quantity": rng.randrange(500)} | _optional_fields(rng) for _ in range(times)]


_OPTIONAL: Final[Mapping[str, Callable[[random.Random], Any]]] = {
    "ltd": lambda rng: rng.randrange(1_000) / 8,
    "floor": lambda rng: rng.randrange(5),
    "safetyStock": lambda rng: rng.randrange(20),
    "currencyID": lambda rng: rng.randrange(1, 4),
    "retailPrice": lambda rng: rng.randrange(100, 100_000) / 100,
    "inventoryLocatorName": lambda rng: f"Aisle {rng.randrange(1, 30)}",
    "attributes": lambda rng: rng.sample(ATTRIBUTES, rng.randrange(1, 6)),
}


def _optional_fields(rng: random.Random) -> Change:
    return {name: make(rng) for name, make in _OPTIONAL.items() if rng.random() < 0.25}


def _burst_change(number: int, rng: random.Random) -> Change:
    return {"locationName": BURST_LOCATION, "sku": f"SKU{number:05}", "quantity": rng.randrange(1_000)}


def _interleaved(histories: Sequence[list[Change]], rng: random.Random) -> list[Change]:
    """All changes in a random order that keeps the order within each history."""
    turns = [number for number, history in enumerate(histories) for _ in history]
    rng.shuffle(turns)
    rest = [iter(history) for history in histories]
    return [next(rest[number]) for number in turns]


def _bad_events(encoder: Encoder) -> list[tuple[Event, RejectReason | None]]:
    """One event of each kind that is never sent, with its reject reason; None for a tombstone, which is skipped."""
    valid: Change = {"locationName": "Store 01", "sku": "BAD", "quantity": 1}
    invalid: list[tuple[Change, RejectReason]] = [
        (valid | {"quantity": -1}, RejectReason.NEGATIVE_QUANTITY),
        (valid | {"quantity": 2**60}, RejectReason.INTEGER_OUT_OF_RANGE),
        (valid | {"locationName": ""}, RejectReason.NO_LOCATION),
        (valid | {"sku": ""}, RejectReason.NO_IDENTIFIER),
        (valid | {"binID": 0}, RejectReason.BIN_ID_TOO_SMALL),
        (valid | {"inventoryLocatorName": "x" * 51}, RejectReason.LOCATOR_TOO_LONG),
        (valid | {"attributes": [f"A{number}" for number in range(64)]}, RejectReason.TOO_MANY_ATTRIBUTES),
        (valid | {"retailPrice": math.nan}, RejectReason.NOT_A_NUMBER),
        (valid | {"ltd": math.inf}, RejectReason.NOT_A_NUMBER),
    ]
    value, key = encoder.value(valid), item_key(valid)
    malformed: list[tuple[bytes | None, RejectReason | None]] = [
        (b'{"sku": "BAD"}', RejectReason.NOT_FRAMED),
        (b"", RejectReason.NOT_FRAMED),
        (value[:-4], RejectReason.CORRUPT),
        (value + b"\x00", RejectReason.TRAILING_BYTES),
        (None, None),
    ]
    return [
        *((encoder.event(change), reason) for change, reason in invalid),
        *((Event(key, raw), reason) for raw, reason in malformed),
    ]
