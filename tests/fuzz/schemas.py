"""Random schemas of inventory events, as JSON. Named types are defined where they are used.

The types that a target may have are listed here independently of ``consumer.avro``, to find errors there.
"""

from itertools import count
from random import Random
from typing import Any

SYMBOLS = ("ROME", "PARIS", "", "größe")
TEXTS = ("locationName", "partNumber", "upc", "sku", "inventoryLocatorName")
INTEGERS = ("quantity", "binID", "floor", "safetyStock", "currencyID")
NUMBERS = ("ltd", "retailPrice")
OPTIONAL = ("partNumber", "upc", "binID", *INTEGERS[2:], *NUMBERS, "inventoryLocatorName", "attributes", "occurredAt")


class Schemas:
    """Draws schemas from one source of randomness."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._numbers = count()

    def event(self) -> dict[str, Any]:
        """A record with the required fields, some optional ones, and some that no column needs."""
        pick = self._random
        names = ["locationName", "quantity", "sku", *pick.sample(OPTIONAL, pick.randint(0, 5))]
        fields = [(name, self._target(name)) for name in names]
        fields += [(f"other{index}", self._any(pick.randint(0, 4))) for index in range(pick.randint(0, 4))]
        pick.shuffle(fields)
        return self._record(fields)

    def _target(self, name: str) -> Any:
        drawn = self._random.choice(self._fitting(name))
        return self._random.choice((drawn, ["null", drawn], [drawn, "null"]))

    def _fitting(self, name: str) -> list[Any]:
        if name == "occurredAt":
            kinds = ("timestamp-millis", "timestamp-micros", "timestamp-nanos")
            micros = {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}
            return ["long", micros, *({"type": "long", "logicalType": kind} for kind in kinds)]
        if name == "attributes":
            return [{"type": "array", "items": items} for items in ("string", ["null", "string"], ["string", "null"])]
        if name in INTEGERS:
            return ["int", "long", "int", "long", "double", "string", self._decimal()]
        if name in NUMBERS:
            decimal = {"logicalType": "decimal", "precision": 12, "scale": self._random.randint(0, 5)}
            fixed = {"type": "fixed", "name": self._name(), "size": self._random.randint(6, 9), **decimal}
            return ["int", "long", "float", "double", {"type": "bytes", **decimal}, fixed]
        return ["string", "string", self._enum(), "int", "long"]

    def _decimal(self) -> dict[str, Any]:
        return {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": self._random.randint(0, 3)}

    def _any(self, depth: int) -> Any:  # noqa: PLR0911 - one for each kind of type
        """Any type, at most ``depth`` levels deep."""
        simple = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
        kind = self._random.choice((*simple, "fixed", "enum", "array", "map", "record", "nullable", "union"))
        if kind == "fixed":
            return {"type": "fixed", "name": self._name(), "size": self._random.randint(0, 6)}
        if kind == "enum":
            return self._enum()
        if kind == "union":
            return self._random.choice((["null", "long", "string"], ["long"], ["boolean", "string"], ["null"]))
        if depth == 0 or kind in simple:
            return kind if kind in simple else "long"
        inner = self._any(depth - 1)
        if kind == "record":
            more = [self._any(depth - 1) for _ in range(self._random.randint(0, 2))]
            return self._record([(f"x{index}", schema) for index, schema in enumerate((inner, *more))])
        if kind == "map":
            return {"type": "map", "values": inner}
        if kind == "nullable":
            is_nullable = isinstance(inner, list) or inner == "null"
            return inner if is_nullable else self._random.choice((["null", inner], [inner, "null"]))
        return {"type": "array", "items": "string" if is_zero_width(inner) else inner}

    def _record(self, fields: list[tuple[str, Any]]) -> dict[str, Any]:
        written = [{"name": name, "type": schema} for name, schema in fields]
        return {"type": "record", "name": self._name(), "fields": written}

    def _enum(self) -> dict[str, Any]:
        symbols = list(SYMBOLS[: self._random.randint(1, len(SYMBOLS))])
        return {"type": "enum", "name": self._name(), "symbols": symbols}

    def _name(self) -> str:
        return f"N{next(self._numbers)}"


def is_zero_width(schema: Any) -> bool:
    """Whether a value takes no bytes."""
    match schema:
        case {"type": "record", "fields": fields}:
            return all(is_zero_width(field["type"]) for field in fields)
        case {"type": "fixed", "size": size}:
            return bool(size == 0)
    return bool(schema == "null")
