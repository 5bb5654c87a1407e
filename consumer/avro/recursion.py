"""Recursive types in fields that no column needs: they are cut out of each message before it is decoded.

Neither decoder may read them: polars cannot, and fastavro recurses as deep as the bytes say, until the process crashes.
So the messages of such a schema are walked in Python, one by one and with a limit of depth, which is slow.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

from consumer.avro.fields import FieldPlan
from consumer.avro.leaves import BRANCH, RECORD_NAME_STEP
from consumer.avro.reading import NOTHING, BadMessage, ReadResult, in_order
from consumer.avro.union_reader import Reader
from consumer.avro.writer_schema import Type, UnusableSchemaError, composed
from consumer.core.changes.items import RejectReason
from consumer.errors import InvariantError

LEVELS_MAX: Final = 150
"""Nesting of recursive types in a message. Each level takes a few frames of Python, which has a limit of 1,000."""

VARINT_BITS_MAX: Final = 63

Path = tuple[str, ...]
Edit = tuple[int, int, bytes]
"""From where to where a message is replaced, and by what."""
Walk = Callable[[bytes, int, int, list[Edit]], int]
"""Walks over a value: the message, where the value begins, the levels left, the edits so far. Returns its end."""


class NoValueError(Exception):
    """The bytes are not a value of the schema."""


def without_recursion(plan: FieldPlan) -> tuple[FieldPlan, "Cutter"]:
    """A plan of the same columns for a schema without recursive types, and what makes its messages of the others.

    Raises UnusableSchemaError if a field that is read needs a type that contains itself.
    """
    root, walk = _Compiler().cut(plan.root, {_fields_of(leaf.path) for leaf in plan.leaves})
    return replace(plan, root=root), Cutter(walk)


def _fields_of(path: Path) -> Path:
    """A leaf's path without its steps into branches of unions."""
    return tuple(step for step in path if not step.startswith(BRANCH) and step != RECORD_NAME_STEP)


class Cutter:
    """Cuts recursive fields out of values."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    def cut(self, message: bytes, begin: int) -> bytes:
        """The message without the fields that are cut; its value begins at ``begin``. Raises NoValueError."""
        edits: list[Edit] = []
        _end_of(self._walk, message, begin, edits)
        parts, at = [], 0
        for start, stop, replacement in edits:
            parts += [message[at:start], replacement]
            at = stop
        return b"".join((*parts, message[at:]))


class Walker:
    """Finds where values of a type end."""

    def __init__(self, schema: Type) -> None:
        self._walk = _Compiler().skip(schema)

    def end_of(self, data: bytes, begin: int) -> int:
        """Where the value that begins here ends. Raises NoValueError."""
        return _end_of(self._walk, data, begin, [])


def _end_of(walk: Walk, data: bytes, begin: int, edits: list[Edit]) -> int:
    try:
        end = walk(data, begin, LEVELS_MAX, edits)
    except IndexError:
        raise NoValueError("the value is cut off") from None
    except RecursionError:
        raise NoValueError("the value nests too deep") from None
    if end > len(data):
        raise NoValueError("the value is cut off")
    return end


class CuttingReader:
    """A ``Reader`` of messages with recursive fields, which another reader reads without them."""

    def __init__(self, reader: Reader, cutter: Cutter, prefix_length: int) -> None:
        self._reader = reader
        self._cutter = cutter
        self._prefix_length = prefix_length

    def read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        """Read messages (one or more) in one go; None if that fails: then call ``read`` with those of each prefix."""
        try:
            return self._reader.read_together([self._cutter.cut(value, self._prefix_length) for value in values])
        except NoValueError:
            return None

    def read(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages (one or more) that all have the same prefix; a bad message does not affect the others."""
        bad: list[BadMessage] = []
        good: list[tuple[int, bytes]] = []
        for position, value in enumerate(values):
            try:
                good.append((position, self._cutter.cut(value, self._prefix_length)))
            except NoValueError as error:
                bad.append(BadMessage(position, RejectReason.CORRUPT, str(error)))
        if not good:
            return ReadResult(NOTHING.frame, bad)
        result = self._reader.read([value for _, value in good]).at([position for position, _ in good])
        return replace(result, bad=in_order([*bad, *result.bad]))

    def plan_of(self, value: bytes) -> FieldPlan | None:
        return self._reader.plan_of(value)


class _Compiler:
    """Makes walks of types, once per schema."""

    def __init__(self) -> None:
        self._by_name: dict[str, Walk] = {}

    def cut(self, schema: Type, paths: Collection[Path]) -> tuple[Type, Walk]:
        """The type without the fields that contain recursive types, and a walk that cuts them; ``paths`` are read."""
        if not schema.is_recursive:
            return schema, self.skip(schema)
        if schema.kind == "record":
            return self._cut_record(schema, paths)
        if schema.kind in {"union", "array", "map"}:
            made = [self.cut(child, paths) for child in schema.children]
            kept, walks = composed(schema.kind, [child for child, _ in made]), [walk for _, walk in made]
            return kept, _union(walks) if schema.kind == "union" else _blocks(_item(schema, walks[0]))
        raise UnusableSchemaError(f"a field that is read has the type {schema}")

    def _cut_record(self, schema: Type, paths: Collection[Path]) -> tuple[Type, Walk]:
        kept: list[tuple[str, Type, tuple[str, ...]]] = []
        walks: list[Walk] = []
        for name, child, aliases in zip(schema.names, schema.children, schema.aliases, strict=True):
            inner = {path[1:] for path in paths if path and path[0] == name}
            if child.is_recursive and not inner:
                walks.append(_cutting(self.skip(child)))
                continue
            left, walk = self.cut(child, inner)
            kept.append((name, left, aliases))
            walks.append(walk)
        record = composed(
            "record",
            [child for _, child, _ in kept],
            names=tuple(name for name, _, _ in kept),
            aliases=tuple(aliases for _, _, aliases in kept),
            name=schema.name,
            connect_name=schema.connect_name,
        )
        return record, _sequence(walks)

    def skip(self, schema: Type) -> Walk:
        """A walk over a value that is kept or cut as a whole."""
        match schema.kind:
            case "record":
                walk = _sequence([self.skip(child) for child in schema.children if not child.zero_width])
            case "union":
                walk = _union([self.skip(child) for child in schema.children])
            case "array" | "map":
                walk = _blocks(_item(schema, self.skip(schema.children[0])))
            case "fixed":
                walk = _fixed(schema.size)
            case "recursive":
                walk = self._recursive(schema)
            case kind:
                walk = _PRIMITIVES[kind]
        return walk

    def _recursive(self, schema: Type) -> Walk:
        name, definitions = schema.names[0], schema.definitions
        if definitions is None:
            raise InvariantError(f"the type {name} is recursive and not defined")

        def walk(data: bytes, at: int, levels: int, edits: list[Edit]) -> int:
            if levels == 0:
                raise NoValueError(f"the type {name} nests deeper than {LEVELS_MAX} levels")
            if name not in self._by_name:
                self._by_name[name] = self.skip(definitions[name])
            return self._by_name[name](data, at, levels - 1, edits)

        return walk


def _long(data: bytes, at: int) -> tuple[int, int]:
    """A long, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
        shift += 7
        if shift > VARINT_BITS_MAX:
            raise NoValueError("a number of more than 64 bits")


def _skip_long(data: bytes, at: int, _levels: int, _edits: list[Edit]) -> int:
    return _long(data, at)[1]


def _skip_bytes(data: bytes, at: int, _levels: int, _edits: list[Edit]) -> int:
    size, at = _long(data, at)
    if size < 0 or at + size > len(data):
        raise NoValueError("the value is cut off")
    return at + size


def _fixed(size: int) -> Walk:
    return lambda _data, at, _levels, _edits: at + size


def _sequence(walks: Sequence[Walk]) -> Walk:
    def walk(data: bytes, at: int, levels: int, edits: list[Edit]) -> int:
        for inner in walks:
            at = inner(data, at, levels, edits)
        return at

    return walk


def _union(walks: Sequence[Walk]) -> Walk:
    def walk(data: bytes, at: int, levels: int, edits: list[Edit]) -> int:
        branch, at = _long(data, at)
        if not 0 <= branch < len(walks):
            raise NoValueError(f"a union has no branch {branch}")
        return walks[branch](data, at, levels, edits)

    return walk


def _item(schema: Type, walk: Walk) -> Walk:
    return _sequence([_skip_bytes, walk]) if schema.kind == "map" else walk


def _blocks(item: Walk) -> Walk:
    def walk(data: bytes, at: int, levels: int, edits: list[Edit]) -> int:
        while True:
            begin = at
            count, at = _long(data, at)
            if count < 0:
                _size, at = _long(data, at)
                # The size would be wrong once something is cut, so the block is written without it.
                edits.append((begin, at, _encoded(-count)))
            if count == 0:
                return at
            if abs(count) > len(data):
                raise NoValueError("the value is cut off")
            for _ in range(abs(count)):
                at = item(data, at, levels, edits)

    return walk


def _cutting(skip: Walk) -> Walk:
    def walk(data: bytes, at: int, levels: int, edits: list[Edit]) -> int:
        end = skip(data, at, levels, [])
        edits.append((at, end, b""))
        return end

    return walk


def _encoded(number: int) -> bytes:
    """A positive number as a long."""
    rest, written = number << 1, bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)


_PRIMITIVES: Final[dict[str, Walk]] = {
    "null": _fixed(0),
    "boolean": _fixed(1),
    "int": _skip_long,
    "long": _skip_long,
    "enum": _skip_long,
    "float": _fixed(4),
    "double": _fixed(8),
    "bytes": _skip_bytes,
    "string": _skip_bytes,
}
