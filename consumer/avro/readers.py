"""The reader of one schema, and its choice of decode path: made once, when the schema is first seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from consumer.avro.bundled import schema_text
from consumer.avro.columnar import ColumnarReader
from consumer.avro.fields import FieldPlan, LinesSetting, plan_fields
from consumer.avro.rows import ReadResult, RowReader
from consumer.avro.samples import sample_values
from consumer.avro.wire_schema import columnar_possible, wire_schema
from consumer.avro.writer_schema import UnusableSchemaError, parse
from consumer.core.changes.items import RejectReason
from consumer.text import DETAIL_CHARACTERS_MAX, one_line

DecodePath = Literal["columnar", "fastavro"]
"""How messages are decoded: many at a time by polars, or one by one by fastavro."""


class Reader(Protocol):
    """Reads messages of one schema."""

    def read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        """Read messages (one or more) in one go; None if that fails: then call ``read`` with those of each prefix."""

    def read(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages (one or more) that all have the same prefix; a bad message does not affect the others."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No message with this prefix can be read, for this reason."""

    reason: RejectReason
    detail: str


def refused_schema(detail: str) -> Refused:
    """Refuse an unusable schema. The detail becomes one short line: names in the schema may be long and unprintable."""
    return Refused(RejectReason.UNUSABLE_SCHEMA, one_line(detail, DETAIL_CHARACTERS_MAX))


@dataclass(frozen=True, slots=True)
class ReaderFactory:
    """Makes readers.

    ``paths`` maps targets (``fields.TARGETS``) to paths in the event. With "columnar" as ``decode_path``, schemas for
    which columnar decoding is not possible are still decoded with fastavro. ``items``: an event has several changes.
    """

    paths: Mapping[str, str]
    prefix_length: int
    decode_path: DecodePath
    items: LinesSetting | None = None

    def reader(self, text: str, references: Sequence[str] = ()) -> Reader | Refused:
        """The reader of a schema, given as text, with the schemas that it refers to."""
        try:
            plan = plan_fields(parse(text, references), self.paths, self.items)
        except UnusableSchemaError as error:
            return refused_schema(str(error))
        if self.decode_path == "columnar" and columnar_agrees(plan):
            return ColumnarReader(plan, self.prefix_length)
        return RowReader(plan, self.prefix_length)


def columnar_agrees(plan: FieldPlan) -> bool:
    """Whether columnar decoding reads samples of the schema, and both decode paths return the same."""
    if not columnar_possible(plan):
        return False
    values = sample_values(wire_schema(plan, decimals=False))
    columnar = ColumnarReader(plan, 0).read_together(values)
    rows = RowReader(plan, 0).read(values)
    return columnar is not None and columnar.frame.equals(rows.frame) and list(columnar.bad) == list(rows.bad)


def self_test() -> bool:
    """Whether both decode paths agree on the bundled schema, on this machine and with the installed libraries."""
    return columnar_agrees(plan_fields(parse(schema_text()), {}))
