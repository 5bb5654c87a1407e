"""Which field of an event becomes which column, and how a value of the wire becomes the item's.

A plan is made once per schema. Both decoders read the same *wire columns* (what stands in the bytes: an enum's number,
a timestamp in the writer's unit); ``finish`` makes the item's columns of them, so that the two cannot differ there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import polars as pl

from consumer.avro.writer_schema import Type, UnusableSchemaError
from consumer.core.changes.items import GRANULAR_COLUMNS, IDENTIFIERS, ITEM_COLUMNS, LOCATION, RejectReason

OCCURRED_AT_FIELD: Final = "occurredAt"
"""The event's own time; ``core.items.OCCURRED_AT`` is made of it."""

POSITION: Final = "_position"
"""The column that tells which of the messages given to a reader the row was."""

Kind = Literal["integer", "number", "decimal", "text", "enum", "texts", "time"]

TARGETS: Final[Mapping[str, pl.DataType]] = {LOCATION: pl.String(), **ITEM_COLUMNS, OCCURRED_AT_FIELD: pl.Int64()}
"""The columns that a reader gives (with ``POSITION``), in this order; ``occurredAt`` in milliseconds since 1970."""

_EMPTY_MEANS_ABSENT: Final = (LOCATION, *IDENTIFIERS, "inventoryLocatorName", *GRANULAR_COLUMNS)
"""Texts for which upstreams write "" when they have none; the OMS takes no empty ones."""

_INT_MIN: Final = -(2**31)
_INT_MAX: Final = 2**31 - 1

_TIME_UNITS: Final = {"": 1, "timestamp-millis": 1, "timestamp-micros": 1_000, "timestamp-nanos": 1_000_000}
"""A long's logical type to its ticks a millisecond; a plain long counts milliseconds."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One column's source: the field at ``path``, whose values are of ``kind``.

    ``narrow``: Avro's int, so its range is 32 bits though it is read as a long. ``per_milli``: a time's ticks a
    millisecond. ``symbols``: an enum's. ``scale``: a decimal's digits behind the point.
    """

    target: str
    path: tuple[str, ...]
    kind: Kind
    narrow: bool = False
    per_milli: int = 1
    symbols: tuple[str, ...] = ()
    scale: int = 0

    @property
    def wire_dtype(self) -> pl.DataType:
        """The column's type as both decoders give it."""
        return pl.Int64() if self.kind == "enum" else TARGETS[self.target]


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message that is no change: its position among those given to the reader, and why."""

    position: int
    reason: RejectReason
    detail: str


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """How a schema's events become columns: a leaf for every target the schema has; the other targets are null."""

    root: Type
    leaves: tuple[Leaf, ...]

    @property
    def read_fields(self) -> frozenset[str]:
        """The event's own fields that are looked into; the others are only passed over."""
        return frozenset(leaf.path[0] for leaf in self.leaves)


def plan_fields(root: Type, paths: Mapping[str, str]) -> FieldPlan:
    """Find each target's field in a schema; ``paths`` maps a target to a dotted path, by default its own name.

    Of several paths, with commas between, the first one counts under which the schema has a field that fits: so one
    setting reads events from before and after a field was moved. A name that a field had before (an alias) leads to it.

    Granular columns are looked for only where ``paths`` has them: with the OMS's older APIs a field of that name in the
    event means something else.

    Raises UnusableSchemaError naming field and type when ``locationName``, ``quantity`` or all identifiers are missing,
    or when a field is there with a type that cannot become the item's.
    """
    wanted = [target for target in TARGETS if target in paths or target not in GRANULAR_COLUMNS]
    found = {target: _first_leaf(root, target, split_paths(paths.get(target, target))) for target in wanted}
    for needed in (LOCATION, "quantity"):
        if found[needed] is None:
            raise UnusableSchemaError(f"the schema has no field {paths.get(needed, needed)} ({needed} is needed)")
    if all(found[name] is None for name in IDENTIFIERS):
        missing = ", ".join(paths.get(name, name) for name in IDENTIFIERS)
        raise UnusableSchemaError(f"the schema has none of the fields {missing} (one is needed)")
    return FieldPlan(root, tuple(leaf for leaf in found.values() if leaf is not None))


def split_paths(text: str) -> list[tuple[str, ...]]:
    """The paths in an entry of ``avro.fields``, each as its names from the outermost on."""
    return [tuple(path.strip().split(".")) for path in text.split(",")]


def _first_leaf(root: Type, target: str, paths: Sequence[tuple[str, ...]]) -> Leaf | None:
    problem: UnusableSchemaError | None = None
    for path in paths:
        try:
            leaf = _leaf(root, target, path)
        except UnusableSchemaError as error:
            problem = problem or error
        else:
            if leaf is not None:
                return leaf
    if problem is not None:
        raise problem
    return None


def _leaf(root: Type, target: str, path: tuple[str, ...]) -> Leaf | None:
    """The leaf of a target; None when no field stands at its path, or one that can only be null."""
    types = [root]
    names: list[str] = []
    for depth, name in enumerate(path):
        branches = [branch for each in types for branch in each.branches]
        records = [branch for branch in branches if branch.kind == "record"]
        if branches and not records:
            at = ".".join(path[:depth])
            raise UnusableSchemaError(f"the field {at} is {_list(branches)}, not a record with {name} in it ({target})")
        found = [(record, place) for record in records if (place := record.place_of(name)) is not None]
        if len({record.names[place] for record, place in found}) > 1:
            raise UnusableSchemaError(f"the field {'.'.join(path)} has several names, as {target} ({name})")
        names += [record.names[place] for record, place in found[:1]]
        types = [record.children[place] for record, place in found]
    branches = [branch for each in types for branch in each.branches]
    if not branches:
        return None
    leaf = _FITTING[target](target, tuple(names), branches)
    if leaf is None:
        raise UnusableSchemaError(f"the field {'.'.join(path)} is {_list(branches)}, which cannot become {target}")
    return leaf


def _list(types: Sequence[Type]) -> str:
    return " or ".join(dict.fromkeys(str(each) for each in types))


def _integer(target: str, path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    kinds = {each.kind for each in types}
    return Leaf(target, path, "integer", narrow=kinds == {"int"}) if kinds <= {"int", "long"} else None


def _number(target: str, path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    kinds = {each.kind for each in types}
    if kinds <= {"int", "long", "float", "double"}:
        return Leaf(target, path, "number", narrow=kinds == {"int"})
    if len(types) == 1 and types[0].logical == "decimal":
        return Leaf(target, path, "decimal", scale=types[0].scale)
    return None


def _text(target: str, path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    if {each.kind for each in types} == {"string"}:
        return Leaf(target, path, "text")
    if len(types) == 1 and types[0].kind == "enum":
        return Leaf(target, path, "enum", symbols=types[0].names)
    return None


def _texts(target: str, path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    if len(types) == 1 and types[0].kind == "array":
        items = types[0].children[0]
        if [branch.kind for branch in items.branches] == ["string"]:
            return Leaf(target, path, "texts")
    return None


def _time(target: str, path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    if len(types) == 1 and types[0].kind == "long" and types[0].logical in _TIME_UNITS:
        return Leaf(target, path, "time", per_milli=_TIME_UNITS[types[0].logical])
    return None


def _fitting(target: str, dtype: pl.DataType) -> Callable[[str, tuple[str, ...], Sequence[Type]], Leaf | None]:
    if target == OCCURRED_AT_FIELD:
        return _time
    return {pl.Int64(): _integer, pl.Float64(): _number, pl.String(): _text}.get(dtype, _texts)


_FITTING: Final = {target: _fitting(target, dtype) for target, dtype in TARGETS.items()}


def decimal_value(unscaled: bytes, scale: int) -> float:
    """A decimal's big-endian bytes as the nearest float, an infinity beyond floats (the rules reject it)."""
    try:
        return int.from_bytes(unscaled, "big", signed=True) / int(10**scale)
    except OverflowError:
        return float("inf")


def finish(plan: FieldPlan, wire: pl.DataFrame) -> tuple[pl.DataFrame, list[BadMessage]]:
    """Make the item's columns of wire columns: ``TARGETS`` and ``POSITION``, and the rows that cannot be.

    A number outside its enum is CORRUPT; an Avro int beyond 32 bits is INTEGER_OUT_OF_RANGE.
    """
    wire, bad = _within_range(plan, wire)
    leaves = {leaf.target: leaf for leaf in plan.leaves}
    frame = wire.select(pl.col(POSITION), *(_column(name, dtype, leaves.get(name)) for name, dtype in TARGETS.items()))
    texts = [name for name in _EMPTY_MEANS_ABSENT if name in leaves]
    if frame.select(pl.any_horizontal(pl.col(name) == "" for name in texts).any()).item():
        frame = frame.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in texts)
    return frame, bad


def _column(name: str, dtype: pl.DataType, leaf: Leaf | None) -> pl.Expr:
    if leaf is None:
        return pl.lit(None, dtype).alias(name)
    if leaf.kind == "enum":
        return pl.col(name).replace_strict(list(range(len(leaf.symbols))), list(leaf.symbols), return_dtype=pl.String())
    if leaf.per_milli > 1:
        return pl.col(name) // leaf.per_milli
    return pl.col(name)


def _within_range(plan: FieldPlan, wire: pl.DataFrame) -> tuple[pl.DataFrame, list[BadMessage]]:
    """Take out the rows with a number beyond what its declared type can hold; usually there are none."""
    limits = [(leaf, 0, len(leaf.symbols) - 1, RejectReason.CORRUPT) for leaf in plan.leaves if leaf.kind == "enum"]
    limits += [(leaf, _INT_MIN, _INT_MAX, RejectReason.INTEGER_OUT_OF_RANGE) for leaf in plan.leaves if leaf.narrow]
    if not limits:
        return wire, []
    beyond = [~pl.col(leaf.target).is_between(low, high) for leaf, low, high, _ in limits]
    if not wire.select(pl.any_horizontal(beyond).any()).item():
        return wire, []
    bad: dict[int, BadMessage] = {}
    for (leaf, low, high, reason), outside in zip(limits, beyond, strict=True):
        for position, value in wire.filter(outside).select(POSITION, leaf.target).iter_rows():
            detail = f"{leaf.target} is {int(value)}, not from {low} to {high}"
            bad.setdefault(position, BadMessage(position, reason, detail))
    return wire.filter(~pl.col(POSITION).is_in(list(bad))), [bad[position] for position in sorted(bad)]


def value_at(record: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The value at a path of nested records, None where a record on the way is absent."""
    value: Any = record
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
