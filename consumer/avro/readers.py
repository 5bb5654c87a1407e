"""The reader of one schema, and which of the two ways it takes: found once, when the schema is first seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from consumer.avro.bundled import schema_text
from consumer.avro.columnar import ColumnarReader
from consumer.avro.fields import FieldPlan, plan_fields
from consumer.avro.rows import DETAIL_CHARACTERS_MAX, ReadResult, RowReader
from consumer.avro.samples import sample_values
from consumer.avro.wire_schema import columnar_possible, wire_schema
from consumer.avro.writer_schema import UnusableSchemaError, parse
from consumer.core.changes.items import RejectReason

DecodePath = Literal["columnar", "fastavro"]


class Reader(Protocol):
    """Reads messages of one schema."""

    def read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        """Read messages (one or more) at once; None where that does not do: each prefix's messages go to ``read``."""

    def read(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages (one or more) that begin with the same prefix; each stands or falls alone."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No message of this prefix can be read, and why."""

    reason: RejectReason
    detail: str


def refused_schema(detail: str) -> Refused:
    """That a schema is unusable, in one printable line of bounded length: its names may be long, and hold anything."""
    line = "".join(each if each.isprintable() else " " for each in detail[:DETAIL_CHARACTERS_MAX])
    return Refused(RejectReason.UNUSABLE_SCHEMA, line)


@dataclass(frozen=True, slots=True)
class ReaderFactory:
    """Makes readers. ``paths``: target (``fields.TARGETS``) to path in the event; ``way``: columnar where that does."""

    paths: Mapping[str, str]
    prefix_length: int
    way: DecodePath

    def reader(self, text: str, references: Sequence[str] = ()) -> Reader | Refused:
        """The reader of a schema, given as text with the schemas that it refers to."""
        try:
            plan = plan_fields(parse(text, references), self.paths)
        except UnusableSchemaError as error:
            return refused_schema(str(error))
        if self.way == "columnar" and columnar_agrees(plan):
            return ColumnarReader(plan, self.prefix_length)
        return RowReader(plan, self.prefix_length)


def columnar_agrees(plan: FieldPlan) -> bool:
    """Write samples of the schema and read them both ways: True when the columnar way reads them, and sees the same."""
    if not columnar_possible(plan):
        return False
    values = sample_values(wire_schema(plan, decimals=False))
    columnar = ColumnarReader(plan, 0).read_together(values)
    rows = RowReader(plan, 0).read(values)
    return columnar is not None and columnar.frame.equals(rows.frame) and list(columnar.bad) == list(rows.bad)


def self_test() -> bool:
    """Whether both ways read samples of the bundled schema alike, on this machine and with the installed libraries."""
    return columnar_agrees(plan_fields(parse(schema_text()), {}))
