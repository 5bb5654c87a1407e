"""A writer's schema as a tree: parsed and checked once, with named types written out where they are used.

Defaults and documentation are ignored: messages are read with the schema that wrote them, so every field has its value.
Fields are found by name, or by an alias in their schema.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

TYPES_MAX: Final = 10_000
"""Types in one schema, with named types written out where they are used. More are only meant to exhaust memory."""

DEPTH_MAX: Final = 64
"""Nesting of types: the decoders recurse as deep as the schema."""

FIXED_BYTES_MAX: Final = 1_048_576
"""Bytes of all fixed types of one schema together: a broker does not accept a larger message by default."""

DECIMAL_DIGITS_MAX: Final = 1_000
"""Digits of a decimal. The largest float has 309; without a limit, 10**scale could take any amount of memory."""

CONNECT_DIGITS: Final = 38
"""Digits of a decimal for which Kafka Connect names none."""

_TYPE_ATTRIBUTES: Final = ("logicalType", "precision", "scale", "connect.name", "connect.parameters")
_MISPLACED: Final = " misplaced"
"""Marks a type whose attributes come from its field. No key of a schema begins with a space."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""Lone surrogates, which JSON escapes can produce and UTF-8 cannot encode."""

_PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


class UnusableSchemaError(Exception):
    """No change can be read with this schema. The message names the field and its type, or what else is wrong."""


@dataclass(frozen=True, slots=True)
class Type:
    """One type of a schema.

    ``kind`` is Avro's name of the type, "union", or "recursive" for a type that is used inside itself: its name is the
    only one of ``names``, and ``definitions`` has what it stands for. ``children`` are the field types of a record, the
    branches of a union, or the item type of an array or map; ``names`` the field names of a record or the symbols of an
    enum; ``aliases`` the earlier names of each field of a record; ``size`` the bytes of a fixed; ``logical`` the
    logical type; ``name`` the full name of a record, enum or fixed; ``connect_name`` Kafka Connect's name of the type,
    such as ``io.debezium.time.MicroTimestamp``. ``misplaced``: one of these two is an attribute of the field that has
    the type, where Avro ignores it; a common slip, and what its author meant is clear. ``count`` is the number of types
    in this tree, ``depth`` its height, ``fixed_bytes`` the sum of its sizes.
    """

    kind: str
    children: tuple["Type", ...] = ()
    names: tuple[str, ...] = ()
    aliases: tuple[tuple[str, ...], ...] = ()
    size: int = 0
    logical: str | None = None
    precision: int = 0
    scale: int = 0
    name: str = ""
    connect_name: str | None = None
    misplaced: bool = False
    count: int = 1
    depth: int = 1
    fixed_bytes: int = 0
    definitions: Mapping[str, "Type"] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """The type in a few words, for messages."""
        if self.kind == "union":
            return "[" + ", ".join(str(branch) for branch in self.children) + "]"
        if self.kind == "recursive":
            return f"{self.names[0]}, which contains itself"
        more = self.logical or self.connect_name
        return f"{self.kind} ({more})" if more else self.kind

    @property
    def branches(self) -> tuple["Type", ...]:
        """The types that a value may have, without null: the branches of a union, or the type itself."""
        types = self.children if self.kind == "union" else (self,)
        return tuple(branch for branch in types if branch.kind != "null")

    @property
    def zero_width(self) -> bool:
        """Whether a value takes no bytes."""
        if self.kind == "record":
            return all(child.zero_width for child in self.children)
        return self.kind == "null" or (self.kind == "fixed" and self.size == 0)

    def index_of(self, name: str) -> int | None:
        """Index of a record's field with this name, otherwise of the first field with this alias."""
        if name in self.names:
            return self.names.index(name)
        return next((index for index, aliases in enumerate(self.aliases) if name in aliases), None)

    @property
    def is_recursive(self) -> bool:
        """Whether a type is used inside itself somewhere in this tree."""
        return any(found.kind == "recursive" for found in self.walk())

    def walk(self) -> Iterator["Type"]:
        """Yield this type and all types inside it."""
        yield self
        for child in self.children:
            yield from child.walk()


def parse(text: str, references: Sequence[str] = ()) -> Type:
    """Parse a schema. ``references`` are the schemas that it refers to, each after those that it refers to itself.

    Raises UnusableSchemaError if the text is not an Avro schema, or if its values could not be read within bounds: too
    many types, arrays of items that take no bytes.
    """
    parser = _Parser()
    for reference in references:
        parser.parse(reference)
    return parser.parse(text)


class _Parser:
    def __init__(self) -> None:
        self._named: dict[str, Type] = {}
        """By full name."""
        self._open: set[str] = set()
        """Full names of the types that are being parsed."""

    def parse(self, text: str) -> Type:
        try:
            schema = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UnusableSchemaError(f"the schema is not JSON: {error}") from error
        return self._type(schema, namespace="", nesting=0)

    def _type(self, schema: Any, *, namespace: str, nesting: int) -> Type:
        if nesting > DEPTH_MAX:
            raise UnusableSchemaError(f"the schema nests deeper than {DEPTH_MAX} types")
        match schema:
            case str():
                found = Type(schema) if schema in _PRIMITIVES else self._reference(schema, namespace)
            case list():
                branches = [self._type(branch, namespace=namespace, nesting=nesting + 1) for branch in schema]
                if any(branch.kind == "union" for branch in branches):
                    raise UnusableSchemaError("the schema has a union directly in a union")
                found = composed("union", branches)
            case {"type": str() as kind}:
                found = self._complex(kind, schema, namespace=namespace, nesting=nesting)
            case {"type": inner}:
                found = self._type(inner, namespace=namespace, nesting=nesting + 1)
            case _:
                raise UnusableSchemaError(f"the schema has {_short(schema)} in place of a type")
        return found

    def _reference(self, name: str, namespace: str) -> Type:
        for full in (_full_name(name, namespace), name):
            if full in self._open:
                return Type("recursive", names=(full,), definitions=self._named)
            if full in self._named:
                return self._named[full]
        raise UnusableSchemaError(f"the schema refers to the type {name}, which it does not define")

    def _complex(self, kind: str, schema: Mapping[str, Any], *, namespace: str, nesting: int) -> Type:
        if kind in _PRIMITIVES:
            return _primitive(kind, schema)
        if kind in {"array", "map"}:
            key = "items" if kind == "array" else "values"
            item = self._type(_required(schema, key), namespace=namespace, nesting=nesting + 1)
            if kind == "array" and item.zero_width:
                raise UnusableSchemaError("the schema has an array whose items take no bytes: its length has no bound")
            return composed(kind, [item])
        if kind in {"record", "error", "enum", "fixed"}:
            return self._define(kind, schema, namespace=namespace, nesting=nesting)
        return self._reference(kind, namespace)

    def _define(self, kind: str, schema: Mapping[str, Any], *, namespace: str, nesting: int) -> Type:
        name = _text(_required(schema, "name"), "name")
        own = schema.get("namespace")  # an empty one is none at all, and is not inherited
        full = _full_name(name, namespace if own is None else _text(own, "namespace"))
        if full in self._open:
            raise UnusableSchemaError(f"the schema defines the type {full} inside itself")
        self._open.add(full)
        if kind == "enum":
            defined = Type(kind, names=_names(_required(schema, "symbols"), f"symbol of {full}"), name=full)
            if not defined.names:
                raise UnusableSchemaError(f"the enum {full} has no symbols")
        elif kind == "fixed":
            defined = _fixed(schema, full)
        else:
            defined = self._record(schema, full, nesting=nesting)
        self._open.discard(full)
        if self._named.setdefault(full, defined) != defined:
            raise UnusableSchemaError(f"the schema defines the type {full} twice, and not alike")
        return defined

    def _record(self, schema: Mapping[str, Any], full: str, *, nesting: int) -> Type:
        fields = _required(schema, "fields")
        if not isinstance(fields, list) or not all(isinstance(field, dict) for field in fields):
            raise UnusableSchemaError(f"the fields of {full} are {_short(fields)}, not a list of fields")
        names = _names([_required(field, "name") for field in fields], f"field of {full}")
        inside = full.rpartition(".")[0]
        return composed(
            "record",
            [self._type(_field_type(field), namespace=inside, nesting=nesting + 1) for field in fields],
            names=names,
            aliases=tuple(_aliases(field.get("aliases")) for field in fields),
            name=full,
            connect_name=_connect_name(schema),
        )


def _field_type(field: Mapping[str, Any]) -> Any:
    """The type of a field, with the attributes of a type that were written into the field itself."""
    kind = _required(field, "type")
    said = {key: field[key] for key in _TYPE_ATTRIBUTES if key in field}
    if not {"logicalType", "connect.name"} & said.keys():
        return kind
    branches = kind if isinstance(kind, list) else [kind]
    values = [branch for branch in branches if branch != "null"]
    if len(values) != 1 or not isinstance(values[0], str) or values[0] not in _PRIMITIVES:
        return kind
    meant = {"type": values[0], **said, _MISPLACED: True}
    return [meant if branch != "null" else branch for branch in branches] if isinstance(kind, list) else meant


def _connect_name(schema: Mapping[str, Any]) -> str | None:
    name = schema.get("connect.name")
    return name if isinstance(name, str) and not _SURROGATE.search(name) else None


def _aliases(value: Any) -> tuple[str, ...]:
    """The aliases of a field. Anything but a list of names is ignored: it does not change how values are read."""
    return tuple(alias for alias in value if isinstance(alias, str)) if isinstance(value, list) else ()


def _primitive(kind: str, schema: Mapping[str, Any]) -> Type:
    logical, precision, scale = _logical(schema)
    return Type(
        kind,
        logical=logical,
        precision=precision,
        scale=scale,
        connect_name=_connect_name(schema),
        misplaced=schema.get(_MISPLACED) is True,
    )


def _fixed(schema: Mapping[str, Any], full: str) -> Type:
    size = _required(schema, "size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**31:
        raise UnusableSchemaError(f"the size of {full} is {_short(size)}, not a number of bytes")
    if size > FIXED_BYTES_MAX:
        raise UnusableSchemaError(f"the type {full} is a fixed of {size} bytes, more than {FIXED_BYTES_MAX}")
    logical, precision, scale = _logical(schema)
    if size == 0:
        logical, precision, scale = None, 0, 0  # no decimal fits into zero bytes
    return Type(
        "fixed",
        size=size,
        logical=logical,
        precision=precision,
        scale=scale,
        name=full,
        connect_name=_connect_name(schema),
        fixed_bytes=size,
    )


def _logical(schema: Mapping[str, Any]) -> tuple[str | None, int, int]:
    """Logical type, precision and scale. An invalid logical type is ignored, as Avro's specification says."""
    logical = schema.get("logicalType")
    if not isinstance(logical, str):
        return _connect_decimal(schema)
    if logical != "decimal":
        return logical, 0, 0
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if not isinstance(precision, int) or not isinstance(scale, int) or precision == 0:
        return None, 0, 0
    if not 0 <= scale <= precision <= DECIMAL_DIGITS_MAX:
        return None, 0, 0
    return logical, precision, scale


def _connect_decimal(schema: Mapping[str, Any]) -> tuple[str | None, int, int]:
    """Old versions of Kafka Connect's converter wrote no logical type, only the name of Connect's and its scale."""
    if schema.get("connect.name") != "org.apache.kafka.connect.data.Decimal":
        return None, 0, 0
    parameters = schema.get("connect.parameters")
    scale = parameters.get("scale") if isinstance(parameters, dict) else None
    if not isinstance(scale, str) or not re.fullmatch("[0-9]{1,2}", scale) or int(scale) > CONNECT_DIGITS:
        return None, 0, 0
    return "decimal", CONNECT_DIGITS, int(scale)


def composed(
    kind: str,
    children: Sequence[Type],
    *,
    names: tuple[str, ...] = (),
    aliases: tuple[tuple[str, ...], ...] = (),
    name: str = "",
    connect_name: str | None = None,
) -> Type:
    """A type of other types. Raises UnusableSchemaError if that is too much."""
    count = 1 + sum(child.count for child in children)
    depth = 1 + max((child.depth for child in children), default=0)
    if count > TYPES_MAX or depth > DEPTH_MAX:
        raise UnusableSchemaError(f"the schema has more than {TYPES_MAX} types, or nests deeper than {DEPTH_MAX} types")
    fixed_bytes = sum(child.fixed_bytes for child in children)
    if fixed_bytes > FIXED_BYTES_MAX:
        raise UnusableSchemaError(f"the schema has fixed types of more than {FIXED_BYTES_MAX} bytes together")
    return Type(
        kind,
        tuple(children),
        names,
        aliases,
        name=name,
        connect_name=connect_name,
        count=count,
        depth=depth,
        fixed_bytes=fixed_bytes,
    )


def _full_name(name: str, namespace: str) -> str:
    if name.startswith("."):  # explicitly without a namespace
        return name.removeprefix(".")
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _required(schema: Mapping[str, Any], key: str) -> Any:
    if key not in schema:
        raise UnusableSchemaError(f"the schema has {_short(schema)} without {key!r}")
    return schema[key]


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UnusableSchemaError(f"the schema has {_short(value)} as {what}")
    if _SURROGATE.search(value):
        raise UnusableSchemaError(f"the schema has {_short(value)} as {what}, which is not valid Unicode")
    return value


def _names(values: Any, what: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise UnusableSchemaError(f"the schema has {_short(values)} as {what}, not a list")
    names = tuple(_text(value, what) for value in values)
    if len(set(names)) < len(names):
        raise UnusableSchemaError(f"the schema has a {what} twice")
    return names


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
