"""The mapping of an event's fields to columns, and the conversion of values from the wire to item columns.

A plan is made once per schema. Both decoders read the same *wire columns*, with values as they are encoded (an enum's
number, a timestamp in the writer's unit). ``finish`` converts them to item columns, so that this step cannot differ.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import polars as pl

from consumer.avro.lines import Lines, line_type
from consumer.avro.writer_schema import Type, UnusableSchemaError
from consumer.core.changes.items import GRANULAR_COLUMNS, IDENTIFIERS, ITEM_COLUMNS, LINE, LOCATION, RejectReason

OCCURRED_AT_FIELD: Final = "occurredAt"
"""The event's own time; ``core.changes.items.OCCURRED_AT`` is derived from it."""

POSITION: Final = "_position"
"""Column: the message's index among those that the reader was given."""

Kind = Literal["integer", "number", "decimal", "text", "enum", "texts", "time"]

TARGETS: Final[Mapping[str, pl.DataType]] = {LOCATION: pl.String(), **ITEM_COLUMNS, OCCURRED_AT_FIELD: pl.Int64()}
"""The columns that a reader returns after ``POSITION``, in this order; ``occurredAt`` in milliseconds since 1970."""

_ABSENT: Final = {name: pl.Series(name, [None], dtype=dtype) for name, dtype in TARGETS.items()}

_EMPTY_MEANS_ABSENT: Final = (LOCATION, *IDENTIFIERS, "inventoryLocatorName", *GRANULAR_COLUMNS)
"""Text columns in which "" means no value: some producers write it, and the OMS rejects empty strings."""

_ROW: Final = "_row"

_INT_MIN: Final = -(2**31)
_INT_MAX: Final = 2**31 - 1

_TIME_UNITS: Final = {None: 1, "timestamp-millis": 1, "timestamp-micros": 1_000, "timestamp-nanos": 1_000_000}
"""Ticks per millisecond by logical type of a long; a plain long counts milliseconds."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The source of a column: the field at ``path``, with values of ``kind``.

    ``int32``: the field is an Avro int, so its range is 32 bits although it is read as a long. ``per_milli``: ticks
    per millisecond of a time. ``symbols``: those of an enum. ``scale``: decimal places of a decimal.
    """

    target: str
    path: tuple[str, ...]
    kind: Kind
    int32: bool = False
    per_milli: int = 1
    symbols: tuple[str, ...] = ()
    scale: int = 0

    @property
    def wire_dtype(self) -> pl.DataType:
        """The type of the wire column."""
        return pl.Int64() if self.kind == "enum" else TARGETS[self.target]


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message that cannot become a change: its position among those that the reader was given, and the reason.

    ``line`` is that of the change in an event with several; None: the whole message.
    """

    position: int
    reason: RejectReason
    detail: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """How a schema's events become columns: a leaf for each target that the schema has. The other targets are null.

    ``lines`` says where the changes of an event are, and then the paths of leaves are those in an event with one line;
    None: an event is one change.
    """

    root: Type
    leaves: tuple[Leaf, ...]
    lines: Lines | None = None

    @property
    def read_fields(self) -> frozenset[str]:
        """The event's top-level fields that are read; the others are skipped."""
        repeated = () if self.lines is None else self.lines.paths
        return frozenset(path[0] for path in (*(leaf.path for leaf in self.leaves), *repeated))


@dataclass(frozen=True, slots=True)
class LinesSetting:
    """``events.items`` as a path, and ``events.lines_max``."""

    path: tuple[str, ...]
    lines_max: int


def plan_fields(root: Type, paths: Mapping[str, str], items: LinesSetting | None = None) -> FieldPlan:
    """Find the field of each target in a schema. ``paths`` maps a target to a dotted path; default: its own name.

    Of several paths, separated by commas, the first with a suitable field is used, so that one setting reads events
    from before and after a field was moved. An alias in the schema also leads to the field.

    Granular columns are only looked for if ``paths`` has them: with the OMS's older APIs a field of that name may mean
    something else.

    Raises UnusableSchemaError, naming field and type, if ``locationName``, ``quantity`` or all identifiers are missing,
    or if a field has a type that cannot be converted.
    """
    wanted = [target for target in TARGETS if target in paths or target not in GRANULAR_COLUMNS]
    event, repeated = (root, ()) if items is None else line_type(root, items.path)
    found = {target: _first_leaf(event, target, split_paths(paths.get(target, target))) for target in wanted}
    for required in (LOCATION, "quantity"):
        if found[required] is None:
            raise UnusableSchemaError(f"the schema has no field {paths.get(required, required)} ({required} is needed)")
    if all(found[name] is None for name in IDENTIFIERS):
        missing = ", ".join(paths.get(name, name) for name in IDENTIFIERS)
        raise UnusableSchemaError(f"the schema has none of the fields {missing} (one is needed)")
    lines = None if items is None else Lines(repeated, items.lines_max)
    return FieldPlan(root, tuple(leaf for leaf in found.values() if leaf is not None), lines)


def split_paths(text: str) -> list[tuple[str, ...]]:
    """The paths in an entry of ``avro.fields``, each as field names from the outermost to the innermost."""
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
    """The leaf of a target; None if there is no field at its path, or if it can only be null."""
    types = [root]
    names: list[str] = []
    for depth, name in enumerate(path):
        branches = [branch for schema in types for branch in schema.branches]
        records = [branch for branch in branches if branch.kind == "record"]
        if branches and not records:
            outer = ".".join(path[:depth])
            raise UnusableSchemaError(
                f"the field {outer} is {_list(branches)}, not a record with the field {name} ({target})"
            )
        found = [(record, index) for record in records if (index := record.index_of(name)) is not None]
        if len({record.names[index] for record, index in found}) > 1:
            raise UnusableSchemaError(f"the field {'.'.join(path)} has several names, as {target} ({name})")
        names += [record.names[index] for record, index in found[:1]]
        types = [record.children[index] for record, index in found]
    branches = [branch for schema in types for branch in schema.branches]
    if not branches:
        return None
    leaf = _FITTING[target](target, tuple(names), branches)
    if leaf is None:
        raise UnusableSchemaError(f"the field {'.'.join(path)} is {_list(branches)}, which cannot become {target}")
    return leaf


def _list(types: Sequence[Type]) -> str:
    return " or ".join(dict.fromkeys(map(str, types)))


def _integer(target: str, path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    kinds = {schema.kind for schema in types}
    return Leaf(target, path, "integer", int32=kinds == {"int"}) if kinds <= {"int", "long"} else None


def _number(target: str, path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    kinds = {schema.kind for schema in types}
    if kinds <= {"int", "long", "float", "double"}:
        return Leaf(target, path, "number", int32=kinds == {"int"})
    if len(types) == 1 and types[0].logical == "decimal":
        return Leaf(target, path, "decimal", scale=types[0].scale)
    return None


def _text(target: str, path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    if {schema.kind for schema in types} == {"string"}:
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
    """A decimal's big-endian bytes as the nearest float; infinity if it is too large, which the rules reject."""
    try:
        return int.from_bytes(unscaled, "big", signed=True) / int(10**scale)
    except OverflowError:
        return float("inf")


def finish(plan: FieldPlan, wire: pl.DataFrame) -> tuple[pl.DataFrame, list[BadMessage]]:
    """Convert wire columns to ``POSITION`` and ``TARGETS``. Returns the frame, and the messages with invalid values.

    A number without a symbol in its enum is CORRUPT, an Avro int beyond 32 bits is INTEGER_OUT_OF_RANGE.
    """
    wire, bad = _within_range(plan, wire)
    leaves = {leaf.target: leaf for leaf in plan.leaves}
    place = [wire[POSITION], wire[LINE]] if LINE in wire.columns else [wire[POSITION]]
    frame = pl.DataFrame([*place, *(_column(wire, name, leaves.get(name)) for name in TARGETS)])
    texts = [name for name in _EMPTY_MEANS_ABSENT if name in leaves]
    if any((frame[name] == "").any() for name in texts):
        frame = frame.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in texts)
    return frame, bad


def _column(wire: pl.DataFrame, name: str, leaf: Leaf | None) -> pl.Series:
    # Series by series, without a query: a query costs tens of microseconds, which is much for a few messages.
    if leaf is None:
        return _ABSENT[name].new_from_index(0, wire.height)
    if leaf.kind == "enum":
        symbols = list(leaf.symbols)
        return wire[name].replace_strict(list(range(len(symbols))), symbols, return_dtype=pl.String())
    if leaf.per_milli > 1:
        return wire[name] // leaf.per_milli
    return wire[name]


def _within_range(plan: FieldPlan, wire: pl.DataFrame) -> tuple[pl.DataFrame, list[BadMessage]]:
    """Remove the rows with a number outside the range of its declared type; usually there are none."""
    limits = [(leaf, 0, len(leaf.symbols) - 1, RejectReason.CORRUPT) for leaf in plan.leaves if leaf.kind == "enum"]
    limits += [(leaf, _INT_MIN, _INT_MAX, RejectReason.INTEGER_OUT_OF_RANGE) for leaf in plan.leaves if leaf.int32]
    if not limits:
        return wire, []
    if all(_is_between(wire[leaf.target], low, high) for leaf, low, high, _ in limits):
        return wire, []
    out_of_range = [~pl.col(leaf.target).is_between(low, high) for leaf, low, high, _ in limits]
    numbered = wire.with_row_index(_ROW)
    line = LINE if LINE in wire.columns else pl.lit(None).alias(LINE)
    bad: dict[int, BadMessage] = {}
    for (leaf, low, high, reason), condition in zip(limits, out_of_range, strict=True):
        for row, position, number, value in (
            numbered.filter(condition).select(_ROW, POSITION, line, leaf.target).iter_rows()
        ):
            detail = f"{leaf.target} is {int(value)}, not from {low} to {high}"
            bad.setdefault(row, BadMessage(position, reason, detail, number))
    return numbered.filter(~pl.col(_ROW).is_in(list(bad))).drop(_ROW), [bad[row] for row in sorted(bad)]


def _is_between(column: pl.Series, low: int, high: int) -> bool:
    """Whether all values are from ``low`` to ``high``; nulls do not count."""
    lowest: Any = column.min()
    highest: Any = column.max()
    return lowest is None or (low <= lowest and highest <= high)


def value_at(record: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The value at a path of nested records; None if one of the records is null."""
    value: Any = record
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
