"""A writer's schema as a tree: parsed and checked once, named types put where they are used.

The tree knows nothing of defaults and documentation: messages are read with the schema that wrote them, where every
field has its value. Fields are found by name, or by the aliases that their schema gives them.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

TYPES_MAX: Final = 10_000
"""Types in one schema once named ones stand where they are used: more is no event, but made to exhaust memory."""

DEPTH_MAX: Final = 64
"""Types inside one another; the decoders recurse as deep as the schema does."""

FIXED_BYTES_MAX: Final = 1_048_576
"""Bytes of all fixed types of one schema together: a message of more is beyond what a broker takes by default."""

DECIMAL_DIGITS_MAX: Final = 1_000
"""Digits of a decimal: a float's largest number has 309; ten to the power of any number would have no bound."""

_NO_CHARACTER: Final = re.compile("[\ud800-\udfff]")
"""Halves of a character, which JSON can spell and UTF-8 can not."""

_PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


class UnusableSchemaError(Exception):
    """No change can be read with this schema. The message names the field and the type that stand in the way."""


@dataclass(frozen=True, slots=True)
class Type:
    """One type of a schema.

    ``kind`` is Avro's name of the type ("union" for a union). ``children`` are a record's field types, a union's
    branches, or the one type that an array or map holds; ``names`` a record's field names or an enum's symbols;
    ``aliases`` what each of a record's fields was called before; ``size`` a fixed's bytes. ``count`` is the number of
    types in this tree, ``depth`` its height, ``fixed_bytes`` the sum of the sizes in it.
    """

    kind: str
    children: tuple["Type", ...] = ()
    names: tuple[str, ...] = ()
    aliases: tuple[tuple[str, ...], ...] = ()
    size: int = 0
    logical: str = ""
    precision: int = 0
    scale: int = 0
    count: int = 1
    depth: int = 1
    fixed_bytes: int = 0

    def __str__(self) -> str:
        """The type in a few words, for people."""
        if self.kind == "union":
            return "[" + ", ".join(str(branch) for branch in self.children) + "]"
        return f"{self.kind} ({self.logical})" if self.logical else self.kind

    @property
    def branches(self) -> tuple["Type", ...]:
        """The types a value may have, null left out: a union's, or the type itself."""
        types = self.children if self.kind == "union" else (self,)
        return tuple(each for each in types if each.kind != "null")

    @property
    def zero_width(self) -> bool:
        """True when a value may take no byte at all."""
        if self.kind == "record":
            return all(child.zero_width for child in self.children)
        return self.kind == "null" or (self.kind == "fixed" and self.size == 0)

    def place_of(self, name: str) -> int | None:
        """The place of a record's field of this name, else of the first that was called so before."""
        if name in self.names:
            return self.names.index(name)
        return next((place for place, before in enumerate(self.aliases) if name in before), None)

    def everywhere(self) -> Iterator["Type"]:
        """Itself, and all the types in it."""
        yield self
        for child in self.children:
            yield from child.everywhere()


def parse(text: str, references: Sequence[str] = ()) -> Type:
    """Parse a schema, and before it the ones that it refers to, each after those it refers to itself.

    Raises UnusableSchemaError when the text is no Avro schema, when its root is no record, or when values of it could
    not be read within bounds: types that contain themselves, and arrays of items that take no byte.
    """
    parser = _Parser()
    for reference in references:
        parser.parse(reference)
    root = parser.parse(text)
    if root.kind != "record":
        raise UnusableSchemaError(f"the schema is a {root.kind}, not a record")
    return root


class _Parser:
    def __init__(self) -> None:
        self._named: dict[str, Type | None] = {}
        """By full name; None while the type is being read, so that a type within itself is seen."""

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
                found = _composed("union", branches)
            case {"type": str() as kind}:
                found = self._complex(kind, schema, namespace=namespace, nesting=nesting)
            case {"type": inner}:
                found = self._type(inner, namespace=namespace, nesting=nesting + 1)
            case _:
                raise UnusableSchemaError(f"the schema has {_short(schema)} where a type should stand")
        return found

    def _reference(self, name: str, namespace: str) -> Type:
        for full in (_full_name(name, namespace), name):
            if full in self._named:
                found = self._named[full]
                if found is None:
                    # fastavro follows such a value to any depth that the bytes ask for, and the process crashes.
                    raise UnusableSchemaError(f"the type {full} contains itself")
                return found
        raise UnusableSchemaError(f"the schema refers to the type {name}, which it does not define")

    def _complex(self, kind: str, schema: Mapping[str, Any], *, namespace: str, nesting: int) -> Type:
        if kind in _PRIMITIVES:
            return _primitive(kind, schema)
        if kind in {"array", "map"}:
            key = "items" if kind == "array" else "values"
            held = self._type(_of(schema, key), namespace=namespace, nesting=nesting + 1)
            if kind == "array" and held.zero_width:
                raise UnusableSchemaError(
                    "the schema has an array whose items take no byte: its length would have no bound"
                )
            return _composed(kind, [held])
        if kind in {"record", "error", "enum", "fixed"}:
            return self._define(kind, schema, namespace=namespace, nesting=nesting)
        return self._reference(kind, namespace)

    def _define(self, kind: str, schema: Mapping[str, Any], *, namespace: str, nesting: int) -> Type:
        name = _text(_of(schema, "name"), "name")
        full = _full_name(name, _text(schema.get("namespace") or namespace, "namespace"))
        if full in self._named:
            raise UnusableSchemaError(f"the schema defines the type {full} twice")
        self._named[full] = None
        if kind == "enum":
            defined = Type(kind, names=_names(_of(schema, "symbols"), f"symbol of {full}"))
            if not defined.names:
                raise UnusableSchemaError(f"the enum {full} has no symbols")
        elif kind == "fixed":
            defined = _fixed(schema, full)
        else:
            defined = self._record(schema, full, nesting=nesting)
        self._named[full] = defined
        return defined

    def _record(self, schema: Mapping[str, Any], full: str, *, nesting: int) -> Type:
        fields = _of(schema, "fields")
        if not isinstance(fields, list) or not all(isinstance(field, dict) for field in fields):
            raise UnusableSchemaError(f"the fields of {full} are {_short(fields)}, not a list of fields")
        names = _names([_of(field, "name") for field in fields], f"field of {full}")
        inside = full.rpartition(".")[0]
        return _composed(
            "record",
            [self._type(_of(field, "type"), namespace=inside, nesting=nesting + 1) for field in fields],
            names=names,
            aliases=tuple(_aliases(field.get("aliases")) for field in fields),
        )


def _aliases(value: Any) -> tuple[str, ...]:
    """The aliases of a field. What is no list of names is as if it were not there: the values are read all the same."""
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _primitive(kind: str, schema: Mapping[str, Any]) -> Type:
    logical, precision, scale = _logical(schema)
    return Type(kind, logical=logical, precision=precision, scale=scale)


def _fixed(schema: Mapping[str, Any], full: str) -> Type:
    size = _of(schema, "size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**31:
        raise UnusableSchemaError(f"the size of {full} is {_short(size)}, not a number of bytes")
    if size > FIXED_BYTES_MAX:
        raise UnusableSchemaError(f"the type {full} is a fixed of {size} bytes, more than {FIXED_BYTES_MAX}")
    logical, precision, scale = _logical(schema)
    if size == 0:
        logical, precision, scale = "", 0, 0  # no decimal fits into no byte
    return Type("fixed", size=size, logical=logical, precision=precision, scale=scale, fixed_bytes=size)


def _logical(schema: Mapping[str, Any]) -> tuple[str, int, int]:
    """Logical type, precision and scale. One that is not valid is as if it were not there: so Avro says."""
    logical = schema.get("logicalType")
    if not isinstance(logical, str):
        return "", 0, 0
    if logical != "decimal":
        return logical, 0, 0
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if not isinstance(precision, int) or not isinstance(scale, int) or precision == 0:
        return "", 0, 0
    if not 0 <= scale <= precision <= DECIMAL_DIGITS_MAX:
        return "", 0, 0
    return logical, precision, scale


def _composed(
    kind: str,
    children: Sequence[Type],
    *,
    names: tuple[str, ...] = (),
    aliases: tuple[tuple[str, ...], ...] = (),
) -> Type:
    count = 1 + sum(child.count for child in children)
    depth = 1 + max((child.depth for child in children), default=0)
    if count > TYPES_MAX or depth > DEPTH_MAX:
        raise UnusableSchemaError(
            f"the schema has more than {TYPES_MAX} types, or more than {DEPTH_MAX} inside one another"
        )
    fixed_bytes = sum(child.fixed_bytes for child in children)
    if fixed_bytes > FIXED_BYTES_MAX:
        raise UnusableSchemaError(f"the schema has fixed types of more than {FIXED_BYTES_MAX} bytes together")
    return Type(kind, tuple(children), names, aliases, count=count, depth=depth, fixed_bytes=fixed_bytes)


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _of(schema: Mapping[str, Any], key: str) -> Any:
    if key not in schema:
        raise UnusableSchemaError(f"the schema has {_short(schema)} without {key!r}")
    return schema[key]


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UnusableSchemaError(f"the schema has {_short(value)} as {what}")
    if _NO_CHARACTER.search(value):
        raise UnusableSchemaError(f"the schema has {_short(value)} as {what}, which is no valid text")
    return value


def _names(values: Any, what: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise UnusableSchemaError(f"the schema has {_short(values)} where each {what} should stand")
    names = tuple(_text(value, what) for value in values)
    if len(set(names)) < len(names):
        raise UnusableSchemaError(f"the schema has a {what} twice")
    return names


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
