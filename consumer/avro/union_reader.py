"""Readers that choose another reader by the beginning of a message, or read nothing of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from consumer.avro.fields import FieldPlan
from consumer.avro.reading import READ_SCHEMA, BadMessage, ReadResult, concat
from consumer.core.changes.items import RejectReason, SkipReason


class Reader(Protocol):
    """Reads messages of one schema."""

    def read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        """Read messages (one or more) in one go; None if that fails: then call ``read`` with those of each prefix."""

    def read(self, values: Sequence[bytes]) -> ReadResult:
        """Read messages (one or more) that all have the same prefix; a bad message does not affect the others."""

    def plan_of(self, value: bytes) -> FieldPlan | None:
        """The plan with which this message is read; None if it is skipped or refused."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No message of this schema can be read, for this reason.

    ``may_appear``: the schema is unknown, but may be registered any moment, so the messages must wait.
    """

    reason: RejectReason
    detail: str
    may_appear: bool = False


class SkippingReader:
    """Reads nothing: all messages of the schema are skipped, whatever is in them."""

    def __init__(self, prefix_length: int, reason: SkipReason) -> None:
        self._prefix_length = prefix_length
        self._reason = reason

    def read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        prefix = values[0][: self._prefix_length]
        return self.read(values) if all(value.startswith(prefix) for value in values) else None

    def read(self, values: Sequence[bytes]) -> ReadResult:
        return ReadResult(pl.DataFrame(schema=READ_SCHEMA), skipped={self._reason: len(values)})

    def plan_of(self, _value: bytes) -> None:
        """Nothing is read."""


class UnionReader:
    """Reads messages of a schema that is a union: those of each branch together, with the reader of the branch.

    A message begins with a prefix of ``prefix_length`` bytes and the branch's number. For the reader of a branch both
    together are the prefix, so it reads a record as if there were no union.
    """

    def __init__(self, prefix_length: int, branches: Sequence[Reader | Refused]) -> None:
        self._prefix_length = prefix_length
        self._branches = [(branch_prefix(index), branch) for index, branch in enumerate(branches)]

    def read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        """Read messages of one branch; None if there are others."""
        number, reader = self._branch_of(values[0]) or (b"", None)
        if reader is None or isinstance(reader, Refused):
            return None
        beginning = values[0][: self._prefix_length] + number
        return reader.read_together(values) if all(value.startswith(beginning) for value in values) else None

    def read(self, values: Sequence[bytes]) -> ReadResult:
        bad: list[BadMessage] = []
        groups: dict[bytes, tuple[Reader, list[int]]] = {}
        for position, value in enumerate(values):
            match self._branch_of(value):
                case None:
                    begins = value[self._prefix_length :][:2].hex() or "nothing"
                    detail = f"the value begins with {begins}, the number of no branch of the schema's union"
                    bad.append(BadMessage(position, RejectReason.CORRUPT, detail))
                case (_, Refused(reason=reason, detail=detail)):
                    bad.append(BadMessage(position, reason, detail))
                case (number, reader):
                    groups.setdefault(number, (reader, []))[1].append(position)
        results = [ReadResult(pl.DataFrame(schema=READ_SCHEMA), bad)]
        for reader, positions in groups.values():
            results.append(reader.read([values[position] for position in positions]).at(positions))
        return concat(results)

    def plan_of(self, value: bytes) -> FieldPlan | None:
        branch = self._branch_of(value)
        return None if branch is None or isinstance(branch[1], Refused) else branch[1].plan_of(value)

    def _branch_of(self, value: bytes) -> tuple[bytes, Reader | Refused] | None:
        return next((branch for branch in self._branches if value.startswith(branch[0], self._prefix_length)), None)


def branch_prefix(index: int) -> bytes:
    """The number of a union's branch, as Avro encodes it."""
    rest, written = index << 1, bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*written, rest])
