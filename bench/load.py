"""The events of a case, and what the OMS has to hold in the end. The same case makes the same events.

Names and quantities of constant length are written into an already encoded change, which is ten times as fast as
encoding each change.
"""

import json
import random
import time
import uuid
from array import array
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from bench.cases import Case
from consumer.avro.bundled import schema_text
from consumer.avro.encode import EventEncoder
from consumer.sandbox.publisher import Change, Event

SCHEMA_ID: Final = 1
SECOND_SCHEMA_ID: Final = 2
"""Only known to the registry of the case ``mixed``."""
STARTED_MS: Final = 1_767_225_600_000
QUANTITY_MIN: Final = 64
QUANTITIES: Final = 8_000
"""Number of quantities from ``QUANTITY_MIN`` on that Avro writes in two bytes."""
DECIMAL_QUANTITY: Final = 1_000
"""A quantity that a decimal has in two bytes, as all of the case are written."""
DEBEZIUM_SCHEMA: Final = Path(__file__).parent / "debezium-envelope.avsc"
WIDE_TAILS: Final = 997
"""Different values of the fields after the quantity."""
WIDE_ATTRIBUTES: Final = 12
ATTRIBUTES: Final = tuple(f"ATTRIBUTE{number}" for number in range(1, 41))
PACE_SECONDS: Final = 0.005
"""Events that are due within this time are published together."""


def second_schema_text() -> str:
    """The bundled schema with one more field, as its next version may be."""
    schema = json.loads(schema_text())
    schema["fields"].append({"name": "source", "type": ["null", "string"], "default": None})
    return json.dumps(schema)


def location_name(number: int) -> str:
    return f"store-{number:05}"


def part_number(item: int) -> str:
    return f"P{item:08}"


class Template:
    """An encoded change into which names and quantity are written."""

    def __init__(self, encoder: EventEncoder, change: Change) -> None:
        """``change`` has the fields after the quantity, which stay the same."""
        location, part, sku = location_name(0), part_number(0), "S00000000"
        names = {"locationName": location, "partNumber": part, "sku": sku, "quantity": QUANTITY_MIN}
        self._head, _, rest = encoder.encode(names | change).partition(location.encode())
        self._middle, _, rest = rest.partition(part.encode())
        self._before_sku, _, rest = rest.partition(sku.encode())
        self._tail = rest[2:]  # in the schema, the quantity comes after the sku

    def value(self, location: bytes, part: bytes, quantity: int) -> bytes:
        """The message; the item's sku has the same digits as its part number."""
        zigzag = 2 * quantity
        count = bytes((zigzag & 0x7F | 0x80, zigzag >> 7))
        sku = b"S" + part[1:]
        return b"".join((self._head, location, self._middle, part, self._before_sku, sku, count, self._tail))


class EnvelopeTemplate:
    """An encoded update in a Debezium envelope: the row is written twice, before it with another quantity."""

    def __init__(self, encoder: EventEncoder) -> None:
        row: dict[str, Any] = {
            "locationName": location_name(0),
            "partNumber": part_number(0),
            "sku": "S00000000",
            "quantity": Decimal(DECIMAL_QUANTITY),
            "retailPrice": Decimal("19.99"),
            "occurredAt": 1_000 * STARTED_MS,
        }
        source = {"connector": "postgresql", "db": "shop", "table": "stock", "ts_ms": STARTED_MS}
        text = encoder.encode({"before": row, "after": row, "source": source, "op": "u", "ts_ms": STARTED_MS})
        self._head, between, rest = text.split(row["locationName"].encode())
        self._middle, _, between = between.partition(row["partNumber"].encode())
        self._before_sku, _, between = between.partition(row["sku"].encode())
        self._between = between[3:]  # after the quantity's length and its two bytes
        row_bytes = len(self._middle) + len(row["partNumber"]) + len(self._before_sku) + len(row["sku"]) + 3
        self._tail = rest[row_bytes:]

    def value(self, location: bytes, part: bytes, quantity: int) -> bytes:
        """The message; the item's sku has the same digits as its part number."""
        named = b"".join((location, self._middle, part, self._before_sku, b"S", part[1:], b"\x04"))
        count, other = quantity.to_bytes(2, "big"), (quantity + 1).to_bytes(2, "big")
        return b"".join((self._head, named, other, self._between, named, count, self._tail))


class Load:
    """The events of a case. While they are taken, ``quantities`` and ``published_at`` are filled in."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.quantities: array[int] = array("H", bytes(2 * case.items))
        """By item: the quantity of its newest change."""
        self.published_at: array[float] = array("d", bytes(8 * case.items) if case.is_paced else b"")
        """By item: when its change was published, in seconds since 1970; only if the case is paced."""

    def events(
        self, clock: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[Event]:
        """All events in order, each when it is due if the case is paced."""
        case, templates = self._case, _templates(self._case)
        locations = [location_name(number).encode() for number in range(case.locations)]
        bad_every = 1_000 // case.bad_per_thousand if case.bad_per_thousand else 0
        by_item = case.keyed_by == "item"
        started = clock()
        for number, item in enumerate(_items(case)):
            if case.changes_per_second is not None:
                due = started + number / case.changes_per_second
                if due - clock() > PACE_SECONDS:
                    sleep(due - clock())
                self.published_at[item] = clock()
            quantity = QUANTITY_MIN + number * 31 % QUANTITIES
            self.quantities[item] = quantity
            location, part = locations[item % case.locations], b"P%08d" % item
            value = templates[number % len(templates)].value(location, part, quantity)
            yield Event(part if by_item else location, value)
            if bad_every and number % bad_every == bad_every - 1:
                yield Event(location, _bad(number // bad_every, value))


def _items(case: Case) -> Iterator[int]:
    """The items in the order of their changes: first each once, location by location in turn, then at random."""
    yield from range(case.items)
    rng = random.Random(1)  # noqa: S311 - not for secrets: the same seed makes the same load
    for _ in range(case.changes - case.items):
        yield rng.randrange(case.items)


def _bad(number: int, value: bytes) -> bytes:
    """An event that is corrupt, has bytes too many, or is not framed."""
    return (value[:-4], value + b"\x00", b"not framed")[number % 3]


def _templates(case: Case) -> Sequence[Template | EnvelopeTemplate]:
    if case.shape == "debezium":
        return [EnvelopeTemplate(EventEncoder.confluent(DEBEZIUM_SCHEMA.read_text(encoding="utf-8"), SCHEMA_ID))]
    first = EventEncoder.confluent(schema_text(), SCHEMA_ID)
    if case.shape == "wide":
        rng = random.Random(2)  # noqa: S311 - as above
        return [Template(first, _wide(rng)) for _ in range(WIDE_TAILS)]
    usual = {"floor": 2, "safetyStock": 5, "occurredAt": STARTED_MS}
    fields: list[Change] = [usual | {"retailPrice": 19.99}, usual, usual]
    if case.shape == "mixed":
        second = EventEncoder.confluent(second_schema_text(), SECOND_SCHEMA_ID)
        return [
            template
            for change in fields
            for template in (Template(first, change), Template(second, change | {"source": "till"}))
        ]
    return [Template(first, change) for change in fields]


def _wide(rng: random.Random) -> dict[str, Any]:
    return {
        "binID": rng.randrange(1, 1_000),
        "ltd": rng.randrange(1_000) / 8,
        "floor": rng.randrange(5),
        "safetyStock": rng.randrange(20),
        "currencyID": rng.randrange(1, 4),
        "retailPrice": rng.randrange(100, 100_000) / 100,
        "inventoryLocatorName": f"Aisle {rng.randrange(1, 30)}",
        "attributes": rng.sample(ATTRIBUTES, WIDE_ATTRIBUTES),
        "eventId": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "occurredAt": STARTED_MS,
    }
