"""The columns of a frame of changes, the id of a change, and the reasons for which a change can never be sent.

Item columns have the OMS's JSON names, so that encoding renames nothing; the names of our own columns start with an
underscore.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import polars as pl

from consumer.core.changes import columns
from consumer.core.changes.columns import ColumnType

LOCATION: Final = columns.LOCATION
IDENTIFIERS: Final = columns.IDENTIFIERS
ITEM_KEY: Final = columns.ITEM_KEY

_POLARS_TYPES: Final[Mapping[ColumnType, pl.DataType]] = {
    ColumnType.TEXT: pl.String(),
    ColumnType.INTEGER: pl.Int64(),
    ColumnType.NUMBER: pl.Float64(),
    ColumnType.TEXT_LIST: pl.List(pl.String()),
    # A JSON object as text (``map_text``): equal maps are equal texts, and so can be part of the item key.
    ColumnType.TEXT_MAP: pl.String(),
}

PLAIN_COLUMNS: Final[Mapping[str, pl.DataType]] = {
    name: _POLARS_TYPES[kind] for name, kind in columns.PLAIN_COLUMN_TYPES.items()
}
GRANULAR_COLUMNS: Final[Mapping[str, pl.DataType]] = {
    name: _POLARS_TYPES[kind] for name, kind in columns.GRANULAR_COLUMN_TYPES.items()
}
ITEM_COLUMNS: Final[Mapping[str, pl.DataType]] = {**PLAIN_COLUMNS, **GRANULAR_COLUMNS}
"""The columns of an item. Any value except ``quantity`` may be null, which means absent."""
MAP_COLUMNS: Final = tuple(
    name
    for name, kind in {**columns.PLAIN_COLUMN_TYPES, **columns.GRANULAR_COLUMN_TYPES}.items()
    if kind is ColumnType.TEXT_MAP
)
"""Their values are maps from text to text, written by ``map_text``."""

ASSIGNMENT: Final = "_assignment"
"""Id of the assignment through which the row was read (``ports.Assignment``)."""
OFFSET: Final = "_offset"
"""Kafka's offset of the record."""
LINE: Final = "_line"
"""Index of the change in its event; 0 in an event with a single change."""
CHANGE_ID: Final = (ASSIGNMENT, OFFSET, LINE)
"""The columns that identify a change. As a value, they are a ``ChangeId``."""
TIMESTAMP: Final = "_timestamp"
"""Kafka's timestamp of the record, milliseconds since 1970; null if the record has none."""
OCCURRED_AT: Final = "_occurredAt"
"""When the change occurred upstream, milliseconds since 1970: the event's ``occurredAt``, otherwise Kafka's timestamp,
otherwise 0."""
ARRIVED: Final = "_arrived"
"""When the poll that brought the row returned, monotonic seconds; set by the engine."""
SUPERSEDED: Final = "_superseded"
"""Positions (see ``LINES_MAX``) of the older changes of the row's assignment that were coalesced into it while they
waited, ascending; null without any. The lowest of them stays open and so holds back the committable offset."""
SUPERSEDED_TYPE: Final = pl.List(pl.Int64())
LINES_MAX: Final = columns.EVENT_LINES_MAX
"""An event has at most this many lines. A change's *position* in its partition is therefore one integer, offset *
``LINES_MAX`` + line. It fits into 64 bits up to offset 2**49: 17 years at a million records per second."""

CHANGE_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    LOCATION: pl.String(),
    **ITEM_COLUMNS,
    ASSIGNMENT: pl.Int32(),
    OFFSET: pl.Int64(),
    LINE: pl.Int32(),
    TIMESTAMP: pl.Int64(),
    OCCURRED_AT: pl.Int64(),
}
"""A decoded frame of changes: one row per change."""


class ChangeId(NamedTuple):
    """Identifies a change within this process: the columns ``CHANGE_ID`` of its row.

    ``assignment_id`` is the id of the assignment through which it was read, ``offset`` the offset of its record, and
    ``line`` its index in an event with several changes (0 in an event with a single change).
    """

    assignment_id: int
    offset: int
    line: int = 0


def map_text(entries: Mapping[str, str]) -> str | None:
    """A map as the value of one of ``MAP_COLUMNS``: a JSON object, sorted by name; null for an empty map."""
    return json.dumps(entries, ensure_ascii=False, sort_keys=True, separators=(",", ":")) if entries else None


def json_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row as in JSON: without absent ones, and with maps as objects."""
    return {
        name: json.loads(value) if name in MAP_COLUMNS else value for name, value in row.items() if value is not None
    }


def distinct_ids(ids: pl.Series) -> frozenset[int]:
    """The distinct values of a column of ids. Mostly there is one, as the smallest and the largest show cheaply."""
    lowest, highest = ids.min(), ids.max()
    return frozenset(ids.head(1).to_list() if lowest == highest else ids.unique().to_list())


class RejectReason(StrEnum):
    """Why a change can never be sent. Dead letters, metrics and documentation use these codes."""

    NOT_FRAMED = "not_framed"
    """The message is not framed as configured, or its value is compressed in a way that cannot be read."""
    UNKNOWN_SCHEMA = "unknown_schema"
    """The schema registry, or the schema files, have no schema with this id, and it was waited for long enough."""
    UNUSABLE_SCHEMA = "unusable_schema"
    """The writer's schema lacks a required field, or a field has a type that cannot be converted."""
    CORRUPT = "corrupt"
    """Truncated, or not a value of the writer's schema."""
    TRAILING_BYTES = "trailing_bytes"
    """A complete value is followed by more bytes."""
    TOO_MANY_LINES = "too_many_lines"
    """The event has more lines than ``events.lines_max``."""
    NOT_A_WHOLE_NUMBER = "not_a_whole_number"
    """A quantity, or another whole number of the OMS, has a fraction."""
    NOT_ONE_ROW = "not_one_row"
    """A container file with several rows, where each must be an event of its own: with ``events.items``, as a Debezium
    envelope, or as a key."""
    INTEGER_OUT_OF_RANGE = "integer_out_of_range"
    """An Avro int beyond 32 bits, an integer that JSON readers cannot represent exactly (beyond 2**53 - 1), or a number
    that is no date of the years 1 to 9999."""
    NO_LOCATION = "no_location"
    NO_IDENTIFIER = "no_identifier"
    NO_QUANTITY = "no_quantity"
    NEGATIVE_QUANTITY = "negative_quantity"
    BIN_ID_TOO_SMALL = "bin_id_too_small"
    LOCATOR_TOO_LONG = "locator_too_long"
    TEXT_TOO_LONG = "text_too_long"
    """``lotCode``, ``condition`` or ``serialNumber`` is longer than the OMS allows."""
    TOO_MANY_ATTRIBUTES = "too_many_attributes"
    NULL_ATTRIBUTE = "null_attribute"
    NOT_A_NUMBER = "not_a_number"
    """A number is NaN or infinite, which JSON cannot express, or a text that is no number."""
    DELETED = "deleted"
    """The event deletes its row, and ``events.deletes`` or ``events.tombstones`` says dead-letter."""
    REFUSED_BY_OMS = "refused_by_oms"
    """The OMS refused a request with this change alone, or bisecting its request took too many requests."""
    JOB_FAILED = "job_failed"
    """The OMS accepted its request, but the job ended as FAILED: nothing of it was applied."""
    SUPERSEDED_BY_REJECT = "superseded_by_reject"
    """A newer change of its item has a count that cannot be sent, so this older count would be wrong (rule 27)."""


class SkipReason(StrEnum):
    """Why a message, or a line of it, is skipped. Metrics use these codes; skipped messages are never dead-lettered."""

    NOT_TAKEN = "not_taken"
    """``events.take`` or ``events.skip`` chooses others."""
    DELETE = "delete"
    """It deletes its row, and ``events.deletes`` says skip."""
    TRUNCATE = "truncate"
    """A Debezium envelope for a table that was emptied: no row says which items were in it."""
    MESSAGE = "message"
    """A Debezium envelope with a message that was written into the database's log; it has no row."""
    NO_LINES = "no_lines"
    """An event without any change at ``events.items``, or a container file without rows."""
    NULL_VALUE = "null_value"
    """The null branch of a union."""
