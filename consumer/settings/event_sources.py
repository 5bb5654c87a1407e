"""Where the value of a field of the OMS comes from: the entries of ``events.fields``, ``events.take`` and the like.

An entry names *sources*, separated by commas; for each event, the first one that has a value counts. A name that begins
with ``$`` is not a field of the event, so no field's name can be mistaken for one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from consumer.core.changes.columns import GRANULAR_COLUMN_TYPES, ITEM_KEY, LOCATION, PLAIN_COLUMN_TYPES, ColumnType

OCCURRED_AT_FIELD: Final = "occurredAt"

FIELD_TARGETS: Final = (LOCATION, *PLAIN_COLUMN_TYPES, *GRANULAR_COLUMN_TYPES, OCCURRED_AT_FIELD)
"""The names that ``events.fields`` can map."""

REQUIRED_TARGETS: Final = frozenset({LOCATION, "quantity", *ITEM_KEY})
"""Targets whose field must fit if it is there. Without one of the columns of the item key, different items would become
the same item. Any other field that does not fit is left out."""
OPTIONAL_TARGETS: Final = tuple(target for target in FIELD_TARGETS if target not in REQUIRED_TARGETS)

_COLUMN_TYPES: Final[Mapping[str, ColumnType]] = {
    LOCATION: ColumnType.TEXT,
    **PLAIN_COLUMN_TYPES,
    **GRANULAR_COLUMN_TYPES,
}

_COMPOUND: Final[Mapping[ColumnType, str]] = {ColumnType.TEXT_LIST: "a list", ColumnType.TEXT_MAP: "a map"}
"""Types whose values are no text."""

NONE: Final = "none"
"""Leaves a field out, although the event has one of its name."""
RECORD_NAME: Final = "$record"
"""As the last part of a path in ``events.take``: the name of the record there."""

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,100}(\.[0-9]{1,100})?")


@dataclass(frozen=True, slots=True)
class FieldPath:
    """A field of the event: field names from the outermost to the innermost."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(frozen=True, slots=True)
class Constant:
    """The same value for each event; as text."""

    text: str

    def __str__(self) -> str:
        return f"={self.text}"


@dataclass(frozen=True, slots=True)
class Topic:
    """The name of the record's topic."""

    def __str__(self) -> str:
        return "$topic"


@dataclass(frozen=True, slots=True)
class RecordTime:
    """Kafka's timestamp of the record."""

    def __str__(self) -> str:
        return "$timestamp"


@dataclass(frozen=True, slots=True)
class Header:
    """The last header of this name, as UTF-8 text."""

    name: str

    def __str__(self) -> str:
        return f"$header.{self.name}"


@dataclass(frozen=True, slots=True)
class Key:
    """The record's key, or what is at a path in it."""

    path: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(("$key", *self.path))


RecordSource: TypeAlias = Constant | Topic | RecordTime | Header | Key
"""A source outside the event's value: it is there for a tombstone, too."""
Source: TypeAlias = FieldPath | RecordSource


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one field of an event: whether its value, as text, is one of these."""

    path: tuple[str, ...]
    values: frozenset[str]

    def __str__(self) -> str:
        return ".".join(self.path)


def parse_sources(target: str, text: str) -> tuple[Source, ...]:
    """The sources in an entry of ``events.fields``; none for "none". Raises ValueError with what is allowed."""
    rest = text.strip()
    if rest == NONE:
        return ()
    sources: list[Source] = []
    while rest:
        # A constant may contain commas, so it is always the last source.
        part, _, rest = (rest, "", "") if rest.startswith("=") else rest.partition(",")
        sources.append(_source(target, part.strip()))
        rest = rest.strip()
    if not sources or (text.rstrip().endswith(",") and not isinstance(sources[-1], Constant)):
        raise ValueError(f"must map {target} to a path such as a.b, not {text!r}")
    return tuple(sources)


def parse_conditions(entries: Mapping[str, str]) -> tuple[Condition, ...]:
    """The conditions in ``events.take`` and the like: a path, and the values that match, separated by commas."""
    return tuple(
        Condition(_path(path.strip(), f"must test a path such as a.b or {RECORD_NAME}, not {path!r}"), _values(text))
        for path, text in entries.items()
    )


def _values(text: str) -> frozenset[str]:
    values = frozenset(value.strip() for value in text.split(","))
    if "" in values:
        raise ValueError(f"must have values separated by commas, not {text!r}")
    return values


def _source(target: str, text: str) -> Source:
    if text.startswith("="):
        return _constant(target, text[1:].strip())
    name, _, rest = text.partition(".")
    match name:
        case "$topic" if not rest:
            if _COLUMN_TYPES.get(target) is not ColumnType.TEXT:
                raise ValueError(f"cannot map {target} to the topic's name: it is not text")
            return Topic()
        case "$timestamp" if not rest:
            if target != OCCURRED_AT_FIELD:
                raise ValueError(f"cannot map {target} to the record's timestamp, only {OCCURRED_AT_FIELD}")
            return RecordTime()
        case "$key" | "$header" if _COLUMN_TYPES.get(target) in _COMPOUND:
            raise ValueError(f"cannot map {target} to {name}: it is {_COMPOUND[_COLUMN_TYPES[target]]}")
        case "$key":
            return Key(_path(rest, f"must map {target} to a path such as $key.a.b, not {text!r}") if rest else ())
        case "$header" if rest:
            return Header(rest)
    if text.startswith("$"):
        raise ValueError(f"cannot map {target} to {text!r}: use $topic, $key, $key.a.b, $header.name or $timestamp")
    return FieldPath(_path(text, f"must map {target} to a path such as a.b, not {text!r}"))


def _constant(target: str, text: str) -> Constant:
    kind = _COLUMN_TYPES.get(target)
    if kind is None or kind in _COMPOUND:
        raise ValueError(f"cannot map {target} to a constant")
    if not text:
        raise ValueError(f"must map {target} to a constant such as =Berlin; use {NONE} to leave it out")
    if (kind is ColumnType.INTEGER and not _WHOLE.fullmatch(text)) or (
        kind is ColumnType.NUMBER and not _NUMBER.fullmatch(text)
    ):
        raise ValueError(f"cannot map {target} to the constant {text!r}, which is not a number of its kind")
    return Constant(text)


def _path(text: str, problem: str) -> tuple[str, ...]:
    names = tuple(text.split("."))
    if not all(name and name == name.strip() for name in names):
        raise ValueError(problem)
    return names
