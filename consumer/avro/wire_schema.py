"""The wire schema: reads the same bytes as the writer's schema, in types that both decoders read fast and alike.

``int`` is read as ``long`` (polars wraps on overflow; ranges are checked later), an enum as its number, a map as an
array of ``{key, value}``. Logical types are dropped, except decimals on request. Fields that take no bytes are left
out: a schema could have any number of them for each byte of a message. Named types are written out where they are
used. Fields that no column needs are only skipped, so their strings are read as bytes. In a union of several types,
which only fastavro reads, each record is put into another record that names it.
"""

from collections.abc import Sequence
from itertools import count
from typing import Any, Final

from consumer.avro.fields import FieldPlan
from consumer.avro.leaves import BRANCH, DECIMAL_DIGITS_MAX, RECORD_NAME_STEP, LeafKind
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

    With ``decimals``, decimals that are read keep their logical type, which polars reads as a number; otherwise they
    are bytes.
    """
    wanted: Wanted = {}
    for leaf in plan.leaves:
        _want(wanted, leaf.path, leaf.kind)
    return {"type": "record", "name": "event", "fields": _SchemaWriter(decimals=decimals).fields(plan.root, wanted)}


Wanted = dict[str, Any]
"""What is read of a record: by field, the kind of a leaf, or what is read of the record there."""


def _want(wanted: Wanted, path: Sequence[str], kind: LeafKind) -> None:
    name, rest = path[0], path[1:]
    if name == RECORD_NAME_STEP:
        return
    if not rest:
        wanted[name] = kind
        return
    inner = wanted.setdefault(name, {})
    if isinstance(inner, dict):
        _want(inner, rest, kind)


_ENTRIES: Final[Wanted] = {"key": "text", "value": "text"}
"""What is read of a map as a whole."""


class _SchemaWriter:
    """Writes types as JSON. Of what is not read, strings are read as bytes: they are not checked."""

    def __init__(self, *, decimals: bool) -> None:
        self._decimals = decimals
        self._numbers = count()

    def fields(self, record: Type, wanted: Wanted) -> list[JsonType]:
        pairs = zip(record.names, record.children, strict=True)
        return [
            {"name": name, "type": self._write(child, wanted.get(name))}
            for name, child in pairs
            if not child.zero_width
        ]

    def _write(self, schema: Type, wanted: Any) -> JsonType:
        """``wanted``: the kind of the leaf here, a ``Wanted`` of the record here, or None."""
        match schema.kind:
            case "union":
                is_wide = wanted is not None and len(schema.branches) > 1
                written: JsonType = [
                    self._branch(branch, wanted) if is_wide else self._write(branch, wanted)
                    for branch in schema.children
                ]
            case "array":
                written = {"type": "array", "items": self._write(schema.children[0], wanted)}
            case "map":
                entry = Type("record", (Type("string"), *schema.children), ("key", "value"))
                inside = _ENTRIES if wanted == "text_map" else wanted if isinstance(wanted, dict) else {}
                written = {"type": "array", "items": self._record(self.fields(entry, inside))}
            case "record" if wanted == "scaled_decimal":
                value = self._bytes(
                    schema.children[1], is_decimal=self._decimals, precision=DECIMAL_DIGITS_MAX, scale=0
                )
                written = self._record([{"name": "scale", "type": "long"}, {"name": "value", "type": value}])
            case "record":
                written = self._record(self.fields(schema, wanted if isinstance(wanted, dict) else {}))
            case "bytes" | "fixed":
                is_decimal = wanted == "decimal" and self._decimals and schema.logical == "decimal"
                written = self._bytes(schema, is_decimal=is_decimal, precision=_precision(schema), scale=schema.scale)
            case "string":
                written = "string" if wanted is not None else "bytes"
            case kind:
                written = {"int": "long", "enum": "long"}.get(kind, kind)
        return written

    def _branch(self, branch: Type, wanted: Any) -> JsonType:
        """A branch of a union of several types, so that its values say which branch they are of; see ``BRANCH``."""
        if branch.kind == "record":
            inside = (wanted.get(BRANCH + branch.name, {}) | wanted) if isinstance(wanted, dict) else wanted
            return self._record([{"name": BRANCH + branch.name, "type": self._write(branch, inside)}])
        if branch.kind == "float":
            return self._record([{"name": BRANCH + branch.kind, "type": "float"}])
        return self._write(branch, wanted)

    def _record(self, fields: Sequence[JsonType]) -> JsonType:
        return {"type": "record", "name": self._name(), "fields": list(fields)}

    def _bytes(self, schema: Type, *, is_decimal: bool, precision: int, scale: int) -> JsonType:
        written: dict[str, Any] = {"type": schema.kind}
        if schema.kind == "fixed":
            written |= {"name": self._name(), "size": schema.size}
        if is_decimal:
            written |= {"logicalType": "decimal", "precision": precision, "scale": scale}
        return written if len(written) > 1 else schema.kind

    def _name(self) -> str:
        return f"n{next(self._numbers)}"


def _precision(decimal: Type) -> int:
    """The precision to read a decimal with. polars does not check it, but has no more digits than this."""
    return min(decimal.precision, DECIMAL_DIGITS_MAX)
