"""Events with several changes: an array or a map in the event, each of whose elements is a *line* (``events.items``).

An event becomes one event per line, in which the element stands in place of the array or map. So whatever reads a field
of an event reads a field of a line: ``lines.sku`` is the sku of the line, ``store`` the store of the event around it. A
map is an array of records with a ``key`` and a ``value``. If the path leads through several arrays or maps, each of
them is replaced, from the outermost on.

Schema, frames and records are changed in the same way here, so that both decoders agree.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from consumer.avro.writer_schema import Type, UnusableSchemaError
from consumer.core.changes.items import LINE

ROWS_MAX: Final = 30_000
"""Lines of several events that are read together. A single event may have more; its lines are never separated."""

_ELEMENTS: Final = "_elements"
_COUNT: Final = "_count"
_REPEATED: Final = frozenset({"array", "map"})

Path = tuple[str, ...]


class TooManyRowsError(Exception):
    """These events have more than ``ROWS_MAX`` lines together: the caller must read fewer at a time."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Where the lines of an event are: the ``paths`` of the arrays and maps, the outermost first."""

    paths: tuple[Path, ...]
    lines_max: int
    """Lines that an event may have."""

    def too_many(self) -> str:
        """Why an event with more lines is rejected."""
        return too_many_lines(self.lines_max)


def too_many_lines(lines_max: int) -> str:
    """Why an event with more than ``lines_max`` lines is rejected."""
    return f"more than {lines_max:,} lines (events.lines_max)"


def line_type(root: Type, path: Path) -> tuple[Type, tuple[Path, ...]]:
    """The schema of an event with one line, and the paths of the arrays and maps to replace: see ``Lines``.

    Raises UnusableSchemaError if the path does not lead to an array or a map.
    """
    found: list[Path] = []
    replaced = _replaced(root, path, (), found)
    return replaced, tuple(found)


def _replaced(schema: Type, rest: Path, before: Path, found: list[Path]) -> Type:
    """The type with the arrays and maps at ``rest`` replaced; ``before`` leads to the type itself."""
    shown = ".".join(before)
    branches = schema.branches
    if len(branches) == 1 and branches[0].kind in _REPEATED:
        found.append(before)
        element = _element(branches[0])
        return _replaced(element, rest, before, found) if rest else element
    if not rest:
        raise UnusableSchemaError(f"the field {shown} is {schema}, not an array or a map (events.items)")
    if len(branches) != 1 or branches[0].kind != "record":
        what = f"the field {shown} is {schema}" if before else f"the schema is {schema}"
        raise UnusableSchemaError(f"{what}, not a record with the field {rest[0]} (events.items)")
    (record,) = branches
    index = record.index_of(rest[0])
    if index is None:
        raise UnusableSchemaError(f"the schema has no field {'.'.join((*before, rest[0]))} (events.items)")
    child = _replaced(record.children[index], rest[1:], (*before, record.names[index]), found)
    children = (*record.children[:index], child, *record.children[index + 1 :])
    inner = replace(record, children=children)
    if schema is record:
        return inner
    return replace(schema, children=tuple(inner if branch is record else branch for branch in schema.children))


def _element(repeated: Type) -> Type:
    if repeated.kind == "array":
        return repeated.children[0]
    return Type("record", (Type("string"), *repeated.children), ("key", "value"), ((), ()))


# Frames


def exploded(frame: pl.DataFrame, lines: Lines, position: str) -> tuple[pl.DataFrame, list[int]]:
    """One row per line of the events in a frame with their fields, with ``LINE``. Nested fields are structs.

    ``position`` is the column that identifies an event. Returns also the positions of events with more than
    ``lines.lines_max`` lines, which have no rows. An event without lines has none either.

    Raises TooManyRowsError unless there is only one event, or they have at most ``ROWS_MAX`` lines.
    """
    too_long: list[int] = []
    for path in lines.paths:
        counted = frame.select(position, _column(path).list.len().fill_null(0).cast(pl.Int64).alias(_COUNT))
        counts = counted.group_by(position, maintain_order=True).agg(pl.col(_COUNT).sum())
        over = counts.filter(pl.col(_COUNT) > lines.lines_max)[position].to_list()
        if over:
            too_long += over
            frame = frame.filter(~pl.col(position).is_in(over))
            counts = counts.filter(~pl.col(position).is_in(over))
        if counts.height > 1 and counts[_COUNT].sum() > ROWS_MAX:
            raise TooManyRowsError
        # Without its place in the event, the array is not copied for each of its elements.
        frame = frame.with_columns(_column(path).alias(_ELEMENTS), _replacing(path, pl.lit(None)))
        frame = frame.explode(_ELEMENTS, empty_as_null=False, keep_nulls=False)
        frame = frame.with_columns(_replacing(path, pl.col(_ELEMENTS))).drop(_ELEMENTS)
    line = pl.int_range(pl.len(), dtype=pl.Int32).over(position).alias(LINE)
    return frame.with_columns(line), sorted(too_long)


def _column(path: Path) -> pl.Expr:
    column = pl.col(path[0])
    for name in path[1:]:
        column = column.struct.field(name)
    return column


def _replacing(path: Path, value: pl.Expr) -> pl.Expr:
    """The path's outermost column with this value at the path."""
    for depth in range(len(path) - 1, 0, -1):
        value = _column(path[:depth]).struct.with_fields(value.alias(path[depth]))
    return value.alias(path[0])


# Records


def lines_of(record: Mapping[str, Any], paths: Sequence[Path]) -> Iterator[Mapping[str, Any]]:
    """The event once per line, with the element in place of each array or map; maps are read as arrays of records."""
    if not paths:
        yield record
        return
    for element in _value_at(record, paths[0]) or ():
        yield from lines_of(_with_value(record, paths[0], element), paths[1:])


def _value_at(record: Any, path: Path) -> Any:
    """The value at a path of nested records; None if one of the records is null."""
    for name in path:
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record


def _with_value(record: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    inner = value if len(path) == 1 else _with_value(record[path[0]], path[1:], value)
    return {**record, path[0]: inner}
