"""The leaves of an event: which fields are read, in which form, and which types fit which column.

Both decoders return a *wire column* for each leaf, in the same form: a number as it is encoded, an enum as its number,
a decimal as text with all its decimal places. ``conversion`` makes the columns of an item from these.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import polars as pl

from consumer.avro.writer_schema import Type
from consumer.core.changes.items import GRANULAR_COLUMNS, IDENTIFIERS, ITEM_COLUMNS, LOCATION, MAP_COLUMNS
from consumer.settings.event_sources import OCCURRED_AT_FIELD, RECORD_NAME

TARGETS: Final[Mapping[str, pl.DataType]] = {LOCATION: pl.String(), **ITEM_COLUMNS, OCCURRED_AT_FIELD: pl.Int64()}
"""The columns that events are read into, in this order; ``occurredAt`` in milliseconds since 1970."""

DATE_FORMATS: Final[Mapping[str, str]] = {"date": "%m/%d/%Y", "deliveryDate": "%Y-%m-%dT%H:%M:%S+0000"}
"""By target, how the OMS writes a date, in which times of a declared unit are sent. Text is sent as it is."""
TEXT_TARGETS: Final = (
    LOCATION,
    *IDENTIFIERS,
    "inventoryLocatorName",
    *(name for name in GRANULAR_COLUMNS if name not in MAP_COLUMNS),
)

LeafKind = Literal[
    "integer", "double", "float", "boolean", "text", "enum", "decimal", "scaled_decimal", "mixed", "texts", "text_map"
]
"""``scaled_decimal``: a record with a scale and the bytes of a number, as Debezium writes decimals of no fixed scale.
``mixed``: a union of several numbers, or of numbers and text; its wire column is text. ``text_map``: a map of texts;
its wire column has its entries."""

WIRE_TYPES: Final[Mapping[LeafKind, pl.DataType]] = {
    "integer": pl.Int64(),
    "double": pl.Float64(),
    "float": pl.Float32(),
    "boolean": pl.Boolean(),
    "text": pl.String(),
    "enum": pl.Int64(),
    "decimal": pl.String(),
    "scaled_decimal": pl.String(),
    "mixed": pl.String(),
    "texts": pl.List(pl.String()),
    "text_map": pl.List(pl.Struct({"key": pl.String(), "value": pl.String()})),
}

BRANCH: Final = "branch "
"""In the wire schema, a branch of a union of several types is a record with one field, whose name is this and the name
of the branch's type: the bytes are the same, and the value then says which branch it is. As part of a path, only values
of that branch count."""
RECORD_NAME_STEP: Final = RECORD_NAME
"""As the last part of a path: the name of the record there instead of its value."""

TimeUnit = Literal["days", "seconds", "milliseconds", "microseconds", "nanoseconds", "text"]

DECIMAL_DIGITS_MAX: Final = 38
"""Digits and decimal places that polars has. fastavro reads the decimals with more decimal places."""

_LOGICAL_UNITS: Final[Mapping[str, TimeUnit]] = {
    "date": "days",
    "timestamp-millis": "milliseconds",
    "timestamp-micros": "microseconds",
    "timestamp-nanos": "nanoseconds",
    "local-timestamp-millis": "milliseconds",
    "local-timestamp-micros": "microseconds",
    "local-timestamp-nanos": "nanoseconds",
}
"""Local timestamps have no time zone; they are taken for UTC."""
_CONNECT_UNITS: Final[Mapping[str, TimeUnit]] = {
    "org.apache.kafka.connect.data.Date": "days",
    "org.apache.kafka.connect.data.Timestamp": "milliseconds",
    "io.debezium.time.Date": "days",
    "io.debezium.time.Timestamp": "milliseconds",
    "io.debezium.time.MicroTimestamp": "microseconds",
    "io.debezium.time.NanoTimestamp": "nanoseconds",
    "io.debezium.time.ZonedTimestamp": "text",
    "io.debezium.time.IsoTimestamp": "text",
    "io.debezium.time.IsoDate": "text",
}
_UNIT_KINDS: Final[Mapping[TimeUnit, frozenset[str]]] = {
    "days": frozenset({"int", "long"}),
    "text": frozenset({"string"}),
    "seconds": frozenset({"int", "long", "double"}),
    "milliseconds": frozenset({"long"}),
    "microseconds": frozenset({"long"}),
    "nanoseconds": frozenset({"long"}),
}
"""The Avro types that a time of each unit may have."""

_CONNECT_TYPES: Final = ("io.debezium.time.", "org.apache.kafka.connect.data.")
"""Beginnings of the names of types that Kafka Connect and Debezium define."""
_SCALED_DECIMAL: Final = "VariableScaleDecimal"
_NUMBERS: Final = frozenset({"int", "long", "float", "double"})


@dataclass(frozen=True)
class Leaf:
    """The field at ``path``, read in the form ``kind``.

    ``int32``: the field is an Avro int, so its range is 32 bits although it is read as a long. ``symbols``: those of an
    enum. ``scale``: decimal places of a decimal. ``unit`` and ``declared``: of a time, and whether the schema says so.
    """

    path: tuple[str, ...]
    kind: LeafKind
    int32: bool = False
    symbols: tuple[str, ...] = ()
    scale: int = 0
    unit: TimeUnit | None = None
    declared: bool = False
    described: str = ""

    @cached_property
    def column(self) -> str:
        """The name of the wire column. Names in a schema may contain dots, although Avro does not allow it."""
        return repr(self.path)

    @property
    def wire_type(self) -> pl.DataType:
        return WIRE_TYPES[self.kind]

    def __str__(self) -> str:
        return f"{shown_path(self.path)} ({self.described})"


def shown_path(path: Sequence[str]) -> str:
    """A path as it is written in the settings."""
    return ".".join(name.removeprefix(BRANCH).rpartition(".")[2] for name in path)


Fitting = Callable[[tuple[str, ...], Sequence[Type]], Leaf | None]
"""The leaf that reads a field of these types (the branches of its type, without null); None if they do not fit."""


def list_types(types: Sequence[Type]) -> str:
    """The types in a few words."""
    return " or ".join(dict.fromkeys(map(str, types)))


def _number(path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    kinds = {schema.kind for schema in types}
    described = list_types(types)
    if kinds <= {"int", "long"}:
        return Leaf(path, "integer", int32=kinds == {"int"}, described=described)
    if kinds in ({"double"}, {"float"}, {"string"}):
        (kind,) = kinds
        forms: Mapping[str, LeafKind] = {"double": "double", "float": "float", "string": "text"}
        return Leaf(path, forms[kind], described=described)
    if kinds <= _NUMBERS | {"string"}:
        return Leaf(path, "mixed", described=described)
    return _decimal(path, types)


def _decimal(path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    if len(types) != 1:
        return None
    (only,) = types
    if only.kind in {"bytes", "fixed"} and only.logical == "decimal":
        return Leaf(path, "decimal", scale=only.scale, described=str(only))
    if is_scaled_decimal(only):
        return Leaf(path, "scaled_decimal", described=_SCALED_DECIMAL)
    return None


def is_scaled_decimal(schema: Type) -> bool:
    """Whether a type is Debezium's record for a decimal whose scale is part of each value."""
    if schema.kind != "record" or schema.names != ("scale", "value"):
        return False
    names = (schema.name, schema.connect_name or "")
    return any(name.rpartition(".")[2] == _SCALED_DECIMAL for name in names) and [
        child.kind for child in schema.children
    ] == ["int", "bytes"]


def _text(path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    kinds = {schema.kind for schema in types}
    if kinds == {"string"}:
        return Leaf(path, "text", described=list_types(types))
    if len(types) == 1 and types[0].kind == "enum":
        return Leaf(path, "enum", symbols=types[0].names, described="enum")
    if kinds <= {"int", "long"}:
        return _number(path, types)
    if kinds <= {"int", "long", "string"}:
        return Leaf(path, "mixed", described=list_types(types))
    return _decimal(path, types)


def _texts(path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    if len(types) == 1 and types[0].kind == "array":
        items = types[0].children[0]
        if [branch.kind for branch in items.branches] == ["string"]:
            return Leaf(path, "texts", described="array of string")
    return None


def _text_map(path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    if len(types) == 1 and types[0].kind == "map":
        values = types[0].children[0]
        if [branch.kind for branch in values.branches] == ["string"]:
            return Leaf(path, "text_map", described="map of string")
    return None


def _date(path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    if len(types) == 1 and types[0].kind != "string" and _declared_units(types[0]):
        return fitting_time("milliseconds")(path, types)
    return _text(path, types)


def fitting_time(undeclared: TimeUnit) -> Fitting:
    """What fits ``occurredAt``; ``undeclared`` is the unit of numbers whose schema does not declare one."""

    def fit(path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
        if len(types) != 1 or _is_no_instant(types[0]):
            return None
        (only,) = types
        said = _declared_units(only)
        unit = next(iter(said), "text" if only.kind == "string" else undeclared)
        if only.kind not in _UNIT_KINDS[unit]:
            return None
        forms: Mapping[str, LeafKind] = {"string": "text", "double": "double"}
        return Leaf(
            path,
            forms.get(only.kind, "integer"),
            int32=only.kind == "int",
            unit=unit,
            declared=unit == "text" or (bool(said) and not only.misplaced),
            described=str(only),
        )

    return fit


def _declared_units(schema: Type) -> set[TimeUnit]:
    """The units that the logical type and Kafka Connect's name of a type declare."""
    units = (_LOGICAL_UNITS.get(schema.logical or ""), _CONNECT_UNITS.get(schema.connect_name or ""))
    return {unit for unit in units if unit is not None}


def _is_no_instant(schema: Type) -> bool:
    """Whether a type declares two units, or something other than a point in time, such as a time of day."""
    declared = _declared_units(schema)
    is_connect_type = (schema.connect_name or "").startswith(_CONNECT_TYPES)
    return len(declared) > 1 or (not declared and (schema.logical is not None or is_connect_type))


def fit_condition(path: tuple[str, ...], types: Sequence[Type]) -> Leaf | None:
    """What can be compared with the values of a condition."""
    kinds = {schema.kind for schema in types}
    if kinds == {"boolean"}:
        return Leaf(path, "boolean", described="boolean")
    if kinds <= {"int", "long", "string", "boolean"} and len(kinds) > 1:
        return Leaf(path, "mixed", described=list_types(types))
    return _text(path, types)


def _fitting(dtype: pl.DataType) -> Fitting:
    return {pl.Int64(): _number, pl.Float64(): _number, pl.String(): _text}.get(dtype, _texts)


FITTING: Final[Mapping[str, Fitting]] = {
    **{target: _fitting(dtype) for target, dtype in TARGETS.items() if target != OCCURRED_AT_FIELD},
    **dict.fromkeys(MAP_COLUMNS, _text_map),
    **dict.fromkeys(DATE_FORMATS, _date),
}
"""By target, without ``occurredAt``."""
