"""The writer's schema said anew: the same bytes on the wire, in types that the decoders read fast and alike.

``int`` is read as ``long`` (polars wraps what overflows; ranges are checked after), an enum as its number, logical
types are dropped, a map is an array of ``{key, value}``, fields of no byte are left out (a schema could have any number
of them for each byte of a message), and named types stand where they are used. Fields that no column needs are passed
over, so their texts are read as bytes.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Final

from consumer.avro.fields import FieldPlan
from consumer.avro.writer_schema import Type

JsonType = str | list[Any] | dict[str, Any]

READ_TYPES_MAX: Final = 1_000
"""Types in the fields that are looked into: polars makes a column of each, and fills it for every message."""

REPEATED_TYPES_MAX: Final = 16
"""Types in what an array there holds, if that may be null: then one byte fills so many columns, any number of times."""


def columnar_possible(plan: FieldPlan) -> bool:
    """False when polars cannot read the schema, or not within bounds that messages set by their length.

    It cannot read a union that is anything but ``[null, T]`` or ``[T, null]``.
    """
    if not all(_is_nullable(each) for each in plan.root.everywhere() if each.kind == "union"):
        return False
    read = [child for name, child in zip(plan.root.names, plan.root.children, strict=True) if name in plan.read_fields]
    arrays = [each for child in read for each in child.everywhere() if each.kind in {"array", "map"}]
    repeated = [each for array in arrays for each in array.everywhere() if each.kind == "union"]
    return sum(child.count for child in read) <= READ_TYPES_MAX and all(
        each.count <= REPEATED_TYPES_MAX for each in repeated
    )


def _is_nullable(union: Type) -> bool:
    return len(union.children) == 2 and len(union.branches) == 1


def wire_schema(plan: FieldPlan, *, decimals: bool) -> dict[str, Any]:
    """The record to read the plan's events with; its fields keep their names.

    ``decimals``: in the fields that are read a decimal keeps its logical type, which polars reads as a number; else it
    is its bytes.
    """
    numbers = count()
    fields = [
        {
            "name": name,
            "type": _Writer(numbers, text="string", decimals=decimals).say(child)
            if name in plan.read_fields
            else _Writer(numbers, text="bytes", decimals=False).say(child),
        }
        for name, child in zip(plan.root.names, plan.root.children, strict=True)
        if not child.zero_width
    ]
    return {"type": "record", "name": "event", "fields": fields}


class _Writer:
    """Writes types as JSON; each record and fixed gets a name of its own from ``numbers``."""

    def __init__(self, numbers: Iterator[int], *, text: str, decimals: bool) -> None:
        self._numbers = numbers
        self._text = text
        self._decimals = decimals

    def say(self, schema: Type) -> JsonType:
        match schema.kind:
            case "union":
                said: JsonType = [self.say(branch) for branch in schema.children]
            case "array":
                said = {"type": "array", "items": self.say(schema.children[0])}
            case "map":
                said = {"type": "array", "items": self._record(("key", "value"), (Type("string"), *schema.children))}
            case "record":
                said = self._record(schema.names, schema.children)
            case "bytes" | "fixed":
                said = self._bytes(schema)
            case kind:
                said = {"int": "long", "enum": "long", "string": self._text}.get(kind, kind)
        return said

    def _record(self, names: Sequence[str], types: Sequence[Type]) -> JsonType:
        pairs = zip(names, types, strict=True)
        fields = [{"name": name, "type": self.say(each)} for name, each in pairs if not each.zero_width]
        return {"type": "record", "name": self._name(), "fields": fields}

    def _bytes(self, schema: Type) -> JsonType:
        said: dict[str, Any] = {"type": schema.kind}
        if schema.kind == "fixed":
            said |= {"name": self._name(), "size": schema.size}
        if self._decimals and schema.logical == "decimal":
            said |= {"logicalType": "decimal", "precision": schema.precision, "scale": schema.scale}
        return said if len(said) > 1 else schema.kind

    def _name(self) -> str:
        return f"n{next(self._numbers)}"
