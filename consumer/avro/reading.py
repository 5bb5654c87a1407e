"""What reading messages results in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import polars as pl

from consumer.avro.leaves import TARGETS
from consumer.core.changes.items import LINE, RejectReason, SkipReason

POSITION: Final = "_position"
"""Column: the message's index among those that the reader was given."""

DELETED: Final = "_deleted"
"""Column: whether the row is the delete of its item."""

READ_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    POSITION: pl.Int64(),
    LINE: pl.Int32(),
    DELETED: pl.Boolean(),
    **TARGETS,
}


Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message, or one line of it, that cannot become a change: its position among those read, and the reason.

    ``line`` is None for a message that cannot be read at all.
    """

    position: int
    reason: RejectReason
    detail: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class ReadResult:
    """Messages that were read (rows of ``READ_SCHEMA``) and bad messages, both by position.

    ``skipped`` counts the messages, or lines, that are no changes of interest, by reason; ``ignored`` the values that
    could not be used and that their row does without, by target.
    """

    frame: pl.DataFrame
    bad: Sequence[BadMessage] = ()
    skipped: Mapping[SkipReason, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)

    def at(self, positions: Sequence[int]) -> "ReadResult":
        """The result of reading some messages, with their positions among all messages."""
        column = pl.Series(POSITION, positions, dtype=pl.Int64)[self.frame[POSITION]]
        return replace(self, frame=self.frame.with_columns(column), bad=moved(self.bad, positions))


def in_order(bad: Sequence[BadMessage]) -> tuple[BadMessage, ...]:
    """The bad messages, sorted by position."""
    return tuple(sorted(bad, key=lambda message: (message.position, message.line or 0)))


def concat(results: Sequence[ReadResult]) -> ReadResult:
    """Results as one, sorted by position."""
    if len(results) == 1:
        return results[0]
    skipped: dict[SkipReason, int] = {}
    ignored: dict[str, int] = {}
    for result in results:
        add_counts(skipped, result.skipped)
        add_counts(ignored, result.ignored)
    frame = pl.concat([result.frame for result in results] or [pl.DataFrame(schema=READ_SCHEMA)])
    bad = in_order([bad for result in results for bad in result.bad])
    return ReadResult(frame.sort(POSITION, maintain_order=True), bad, skipped, ignored)


def add_counts(totals: dict[Key, int], counts: Mapping[Key, int]) -> None:
    """Add counts to totals."""
    for name, count in counts.items():
        totals[name] = totals.get(name, 0) + count


def moved(bad: Sequence[BadMessage], positions: Sequence[int]) -> list[BadMessage]:
    """The bad messages among some, with their positions among all messages."""
    return [replace(message, position=positions[message.position]) for message in bad]


def with_lines_outcome(result: ReadResult, bad: Sequence[BadMessage], empty: int) -> ReadResult:
    """The result with further bad messages, and with the number of events that have no lines."""
    skipped = dict(result.skipped)
    add_counts(skipped, {SkipReason.NO_LINES: empty} if empty else {})
    return replace(result, bad=in_order([*bad, *result.bad]), skipped=skipped)


NOTHING: Final = ReadResult(pl.DataFrame(schema=READ_SCHEMA))
