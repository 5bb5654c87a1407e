"""The wire schema: reads the same bytes as the writer's schema, in types that both decoders read fast and alike.

``int`` is read as ``long`` (polars wraps on overflow; ranges are checked later), an enum as its number, a map as an
array of ``{key, value}``. Logical types are dropped, except decimals on request. Fields that take no bytes are left
out: a schema could have any number of them for each byte of a message. Named types are written out where they are
used. Fields that no column needs are only skipped, so their strings are read as bytes.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Final

from consumer.avro.fields import FieldPlan
from consumer.avro.writer_schema import Type

JsonType = str | list[Any] | dict[str, Any]

READ_TYPES_MAX: Final = 1_000
"""Types in all fields that are read: polars creates a column for each, and fills it for every message."""

REPEATED_TYPES_MAX: Final = 16
"""Types in a nullable type inside an array that is read: each null, a single byte, fills this many columns."""


def columnar_possible(plan: FieldPlan) -> bool:
    """Whether polars can read the schema, with memory in proportion to the length of the messages.

    The only unions that it can read are ``[null, T]`` and ``[T, null]``.
    """
    if not all(_is_nullable(union) for union in plan.root.walk() if union.kind == "union"):
        return False
    read = [child for name, child in zip(plan.root.names, plan.root.children, strict=True) if name in plan.read_fields]
    arrays = [found for child in read for found in child.walk() if found.kind in {"array", "map"}]
    repeated = [found for array in arrays for found in array.walk() if found.kind == "union"]
    return sum(child.count for child in read) <= READ_TYPES_MAX and all(
        union.count <= REPEATED_TYPES_MAX for union in repeated
    )


def _is_nullable(union: Type) -> bool:
    return len(union.children) == 2 and len(union.branches) == 1


def wire_schema(plan: FieldPlan, *, decimals: bool) -> dict[str, Any]:
    """The schema of a record with which the plan's events are read; fields keep their names.

    With ``decimals``, decimals in the fields that are read keep their logical type, which polars reads as a number;
    otherwise they are bytes.
    """
    numbers = count()
    fields = [
        {
            "name": name,
            "type": _SchemaWriter(numbers, text="string", decimals=decimals).write(child)
            if name in plan.read_fields
            else _SchemaWriter(numbers, text="bytes", decimals=False).write(child),
        }
        for name, child in zip(plan.root.names, plan.root.children, strict=True)
        if not child.zero_width
    ]
    return {"type": "record", "name": "event", "fields": fields}


class _SchemaWriter:
    """Writes types as JSON. ``numbers`` makes names unique; ``text`` is the type to read strings with."""

    def __init__(self, numbers: Iterator[int], *, text: str, decimals: bool) -> None:
        self._numbers = numbers
        self._text = text
        self._decimals = decimals

    def write(self, schema: Type) -> JsonType:
        match schema.kind:
            case "union":
                written: JsonType = [self.write(branch) for branch in schema.children]
            case "array":
                written = {"type": "array", "items": self.write(schema.children[0])}
            case "map":
                written = {"type": "array", "items": self._record(("key", "value"), (Type("string"), *schema.children))}
            case "record":
                written = self._record(schema.names, schema.children)
            case "bytes" | "fixed":
                written = self._bytes(schema)
            case kind:
                written = {"int": "long", "enum": "long", "string": self._text}.get(kind, kind)
        return written

    def _record(self, names: Sequence[str], types: Sequence[Type]) -> JsonType:
        pairs = zip(names, types, strict=True)
        fields = [{"name": name, "type": self.write(field)} for name, field in pairs if not field.zero_width]
        return {"type": "record", "name": self._name(), "fields": fields}

    def _bytes(self, schema: Type) -> JsonType:
        written: dict[str, Any] = {"type": schema.kind}
        if schema.kind == "fixed":
            written |= {"name": self._name(), "size": schema.size}
        if self._decimals and schema.logical == "decimal":
            written |= {"logicalType": "decimal", "precision": schema.precision, "scale": schema.scale}
        return written if len(written) > 1 else schema.kind

    def _name(self) -> str:
        return f"n{next(self._numbers)}"
