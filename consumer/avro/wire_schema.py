"""The writer's schema said anew: the same bytes on the wire, in types that the decoders read fast and alike.

``int`` is read as ``long`` (polars wraps what overflows; ranges are checked after), an enum as its number, logical
types are dropped, a map is an array of ``{key, value}``, ``null`` fields (no byte) are left out, and named types stand
where they are used. Fields that no column needs are passed over, so their texts are read as bytes.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from consumer.avro.fields import Plan
from consumer.avro.writer_schema import Type

JsonType = str | list[Any] | dict[str, Any]


def columnar_possible(root: Type) -> bool:
    """False when a union is anything but ``[null, T]`` or ``[T, null]``: polars cannot read it."""
    return all(_is_nullable(each) for each in root.everywhere() if each.kind == "union")


def _is_nullable(union: Type) -> bool:
    return len(union.children) == 2 and len(union.branches) == 1


def wire_schema(plan: Plan, *, decimals: bool) -> dict[str, Any]:
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
        if child.kind != "null"
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
        fields = [{"name": name, "type": self.say(each)} for name, each in pairs if each.kind != "null"]
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
