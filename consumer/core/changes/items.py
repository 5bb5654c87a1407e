"""The columns of a frame of changes, the rules of the OMS for an item, and what makes two changes the same item.

Columns carry the OMS's own JSON names, so that encoding renames nothing; columns of ours start with an underscore.
The facts are from the OMS's documentation of Inventory Refresh.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

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
}

PLAIN_COLUMNS: Final[Mapping[str, pl.DataType]] = {
    name: _POLARS_TYPES[kind] for name, kind in columns.PLAIN_COLUMN_TYPES.items()
}
GRANULAR_COLUMNS: Final[Mapping[str, pl.DataType]] = {
    name: _POLARS_TYPES[kind] for name, kind in columns.GRANULAR_COLUMN_TYPES.items()
}
ITEM_COLUMNS: Final[Mapping[str, pl.DataType]] = {**PLAIN_COLUMNS, **GRANULAR_COLUMNS}
"""The columns of an item; every value but ``quantity`` may be null, which means absent."""

ASSIGNMENT: Final = "_assignment"
"""Id of the assignment by which this process read the row's partition (see ``ports.Assignment``)."""
OFFSET: Final = "_offset"
LINE: Final = "_line"
"""Position of the change in its event; 0 in an event that is one change."""
CHANGE_ID: Final = (ASSIGNMENT, OFFSET, LINE)
"""The columns that identify a change; ``ChangeId`` is the same as a value."""
TIMESTAMP: Final = "_timestamp"
"""Kafka's timestamp of the record, milliseconds since 1970; null if the record has none."""
OCCURRED_AT: Final = "_occurredAt"
"""When the change occurred upstream, milliseconds since 1970: ``occurredAt`` of the event, else Kafka's timestamp, else
0."""
ARRIVED: Final = "_arrived"
"""When the poll that brought the row returned, monotonic seconds; set by the engine."""
SUPERSEDED: Final = "_superseded"
"""Positions of the older changes of the row's assignment that were coalesced into the row while it waited, ascending;
null if there are none. The lowest of them holds the committable offset back."""
SUPERSEDED_TYPE: Final = pl.List(pl.Int64())
LINES_MAX: Final = 2**14
"""An event has fewer lines than this. A change's *position* in its partition is one number, offset * ``LINES_MAX`` +
line; it fits 64 bits up to offset 2**49, which takes 17 years at a million records per second."""

CHANGE_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    LOCATION: pl.String(),
    **ITEM_COLUMNS,
    ASSIGNMENT: pl.Int32(),
    OFFSET: pl.Int64(),
    LINE: pl.Int32(),
    TIMESTAMP: pl.Int64(),
    OCCURRED_AT: pl.Int64(),
}
"""A frame of changes, one row a change, as a decoder gives it."""


class ChangeId(NamedTuple):
    """What identifies a change in this process: the columns ``CHANGE_ID`` of its row.

    ``assignment`` is the id of the assignment by which its partition was read, ``offset`` its record's offset, and
    ``line`` its position in an event that has several changes (0 in an event that is one change).
    """

    assignment: int
    offset: int
    line: int = 0


class RejectReason(StrEnum):
    """Why a change can never be sent: the one list of reason codes, in dead letters, metrics and documentation."""

    NOT_FRAMED = "not_framed"
    """The bytes do not begin as the configured framing says."""
    UNKNOWN_SCHEMA = "unknown_schema"
    """The schema registry answered that it has no schema of this id."""
    UNUSABLE_SCHEMA = "unusable_schema"
    """The writer's schema lacks a field that is needed, or has it with a type that cannot become the item's."""
    CORRUPT = "corrupt"
    """Truncated, or bytes that are no value of the writer's schema."""
    TRAILING_BYTES = "trailing_bytes"
    """A whole value, and then more bytes."""
    INTEGER_OUT_OF_RANGE = "integer_out_of_range"
    """An Avro int beyond 32 bits, or a number that JSON readers cannot hold exactly (beyond 2**53 - 1)."""
    NO_LOCATION = "no_location"
    NO_IDENTIFIER = "no_identifier"
    NO_QUANTITY = "no_quantity"
    NEGATIVE_QUANTITY = "negative_quantity"
    BIN_ID_TOO_SMALL = "bin_id_too_small"
    LOCATOR_TOO_LONG = "locator_too_long"
    TEXT_TOO_LONG = "text_too_long"
    """``lotCode``, ``condition`` or ``serialNumber`` over the OMS's limit."""
    TOO_MANY_ATTRIBUTES = "too_many_attributes"
    NULL_ATTRIBUTE = "null_attribute"
    NOT_A_NUMBER = "not_a_number"
    """NaN or an infinity in ``retailPrice`` or ``ltd``: JSON has no such numbers."""
    REFUSED_BY_OMS = "refused_by_oms"
    """The OMS answered 400 to a request of this change alone, or narrowing its request down took too many requests."""
    JOB_FAILED = "job_failed"
    """A jobID came, but the job ended as FAILED: nothing of it was applied."""
