"""The reader of one schema, and its choice of decode path: made once, when the schema is first seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from consumer.avro.bundled import schema_text
from consumer.avro.columnar import ColumnarReader
from consumer.avro.fields import FieldPlan, is_record_taken, plan_fields, plan_key
from consumer.avro.mapping import EventMapping
from consumer.avro.recursion import CuttingReader, without_recursion
from consumer.avro.rows import RowReader
from consumer.avro.samples import sample_values
from consumer.avro.union_reader import Reader, Refused, SkippingReader, UnionReader, branch_prefix
from consumer.avro.wire_schema import columnar_possible, wire_schema
from consumer.avro.writer_schema import Type, UnusableSchemaError, parse
from consumer.core.changes.items import RejectReason, SkipReason
from consumer.settings import EventsSettings
from consumer.text import DETAIL_CHARACTERS_MAX, one_line

DecodePath = Literal["columnar", "fastavro"]
"""How messages are decoded: many at a time by polars, or one by one by fastavro."""


_log = structlog.get_logger("inventory_refresh.avro")


def refused_schema(detail: str) -> Refused:
    """Refuse an unusable schema. The detail becomes one short line: names in the schema may be long and unprintable."""
    return Refused(RejectReason.UNUSABLE_SCHEMA, one_line(detail, DETAIL_CHARACTERS_MAX))


@dataclass(frozen=True, slots=True)
class ReaderFactory:
    """Makes readers.

    ``mapping`` says where each column comes from. With "columnar" as ``decode_path``, schemas for
    which columnar decoding is not possible are still decoded with fastavro.
    """

    mapping: EventMapping
    prefix_length: int
    decode_path: DecodePath

    def reader(self, text: str, references: Sequence[str] = ()) -> Reader | Refused:
        """The reader of a schema, given as text, with the schemas that it refers to."""
        try:
            root = parse(text, references)
        except UnusableSchemaError as error:
            return refused_schema(str(error))
        if root.kind == "union":
            return UnionReader(
                self.prefix_length, [self._branch_reader(index, branch) for index, branch in enumerate(root.children)]
            )
        return self._record_reader(root, self.prefix_length)

    def _branch_reader(self, index: int, branch: Type) -> Reader | Refused:
        prefix_length = self.prefix_length + len(branch_prefix(index))
        if branch.kind == "null":
            return SkippingReader(prefix_length, SkipReason.NULL_VALUE)
        return self._record_reader(branch, prefix_length)

    def _record_reader(self, root: Type, prefix_length: int) -> Reader | Refused:
        if not is_record_taken(root, self.mapping):
            _log.info("record_type_skipped", record=one_line(root.name, DETAIL_CHARACTERS_MAX))
            return SkippingReader(prefix_length, SkipReason.NOT_TAKEN)
        try:
            plan = plan_fields(root, self.mapping)
            reader = reader_of(plan, prefix_length, self.decode_path)
        except UnusableSchemaError as error:
            return refused_schema(str(error))
        for target, detail in plan.left_out.items():
            _log.warning(
                "field_left_out",
                field=target,
                detail=one_line(detail, DETAIL_CHARACTERS_MAX),
                consequence="changes are sent without it",
                next_step=f"map another field in events.fields.{target}, or set it to none",
            )
        return reader


@dataclass(frozen=True, slots=True)
class KeyReaderFactory:
    """Makes readers of Avro keys, into the columns of the targets that come from them; see ``ReaderFactory``."""

    mapping: EventMapping
    prefix_length: int
    decode_path: DecodePath

    def reader(self, text: str, references: Sequence[str] = ()) -> Reader | Refused:
        """The reader of a key's schema."""
        try:
            plan = plan_key(parse(text, references), self.mapping)
            return reader_of(plan, self.prefix_length, self.decode_path)
        except UnusableSchemaError as error:
            return refused_schema(f"in the schema of the key, {error}")


def reader_of(plan: FieldPlan, prefix_length: int, decode_path: DecodePath) -> Reader:
    """The reader of a plan, on the fastest decode path that is possible and allowed.

    Raises UnusableSchemaError if a field that is read needs a type that contains itself.
    """
    if plan.root.is_recursive:
        plan, cutter = without_recursion(plan)
        return CuttingReader(reader_of(plan, prefix_length, decode_path), cutter, prefix_length)
    if decode_path == "columnar" and columnar_agrees(plan):
        return ColumnarReader(plan, prefix_length)
    return RowReader(plan, prefix_length)


def columnar_agrees(plan: FieldPlan) -> bool:
    """Whether columnar decoding reads samples of the schema, and both decode paths return the same."""
    if not columnar_possible(plan):
        return False
    values = sample_values(wire_schema(plan, decimals=False))
    columnar = ColumnarReader(plan, 0).read_together(values)
    rows = RowReader(plan, 0).read(values)
    return (
        columnar is not None
        and columnar.frame.equals(rows.frame)
        and list(columnar.bad) == list(rows.bad)
        and (columnar.skipped, columnar.ignored) == (rows.skipped, rows.ignored)
    )


def self_test() -> bool:
    """Whether both decode paths agree on the bundled schema, on this machine and with the installed libraries."""
    return columnar_agrees(plan_fields(parse(schema_text()), EventMapping.of(EventsSettings())))


__all__ = [
    "DecodePath",
    "KeyReaderFactory",
    "Reader",
    "ReaderFactory",
    "Refused",
    "columnar_agrees",
    "reader_of",
    "refused_schema",
    "self_test",
]
