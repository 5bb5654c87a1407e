"""From wire columns to the columns of items: choosing events, converting values, and what a delete names.

A value that cannot be converted makes its message bad, with the reason; only a time that cannot be used is ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from consumer.avro.fields import FieldPlan, FieldTest
from consumer.avro.leaves import TARGETS, TEXT_TARGETS, Leaf
from consumer.avro.mapping import EventMapping
from consumer.avro.reading import DELETED, POSITION, READ_SCHEMA, BadMessage, ReadResult, in_order
from consumer.avro.values import (
    Problems,
    absent_removed,
    is_between,
    maps_of,
    nulls,
    numbers_of,
    texts_of,
    times_of,
    trimmed,
    whole_numbers_of,
)
from consumer.core.changes.items import IDENTIFIERS, LINE, LOCATION, MAP_COLUMNS, RejectReason, SkipReason
from consumer.settings.event_sources import OCCURRED_AT_FIELD

INT_MIN: Final = -(2**31)
INT_MAX: Final = 2**31 - 1

_ROW: Final = "_row"

_ABSENT: Final = {name: pl.Series(name, [None], dtype=dtype) for name, dtype in TARGETS.items()}
_FIRST_LINE: Final = pl.Series(LINE, [0], dtype=pl.Int32)
_NOT_DELETED: Final = pl.Series(DELETED, [False])
_DELETED: Final = pl.Series(DELETED, [True])
TRIMMED: Final = (LOCATION, *IDENTIFIERS)
_TRUNCATED: Final = "the table was truncated, and the event names no item: check the OMS's counts of this table's items"


@dataclass(slots=True)
class _Outcome:
    """What has been found out about a batch so far. ``bad`` is by position and line."""

    bad: dict[tuple[int, int], BadMessage] = field(default_factory=dict)
    skipped: dict[SkipReason, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: SkipReason, count: int) -> None:
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def reject(self, position: int, line: int, reason: RejectReason, detail: str) -> None:
        self.bad.setdefault((position, line), BadMessage(position, reason, detail, line))

    def result(self, frames: Sequence[pl.DataFrame]) -> ReadResult:
        frame = frames[0]
        if len(frames) > 1:
            frame = pl.concat(frames).sort(POSITION, LINE)
        return ReadResult(frame, in_order(list(self.bad.values())), self.skipped, self.ignored)


def finish(plan: FieldPlan, wire: pl.DataFrame) -> ReadResult:
    """Convert wire columns to rows of ``READ_SCHEMA``.

    A number without a symbol in its enum is CORRUPT, an Avro int beyond 32 bits is INTEGER_OUT_OF_RANGE.
    """
    outcome = _Outcome()
    wire = _within_range(plan, wire, outcome)
    wire = _chosen(plan, wire, outcome)
    if plan.operation is None:
        line = _FIRST_LINE if plan.lines is None else wire[LINE]
        return outcome.result([_rows(plan, plan.columns, wire, line, _deleted(plan, wire), outcome)])
    return outcome.result(_unwrapped(plan, plan.previous or {}, wire, wire[plan.operation.column], outcome))


# Choosing events


def _chosen(plan: FieldPlan, wire: pl.DataFrame, outcome: _Outcome) -> pl.DataFrame:
    """The events that ``events.take`` and ``events.skip`` choose; the others are counted."""
    if not plan.take and not plan.skip:
        return wire
    chosen = _all(True, wire)
    for test in plan.take:
        chosen &= _holds(plan, test, wire)
    for test in plan.skip:
        chosen &= ~_holds(plan, test, wire)
    outcome.skip(SkipReason.NOT_TAKEN, int((~chosen).sum()))
    return wire.filter(chosen)


def _holds(plan: FieldPlan, test: FieldTest, wire: pl.DataFrame) -> pl.Series:
    """Whether each event passes a test; an absent value passes none."""
    if test.leaf is None:
        return _all(bool(test.always), wire)
    holds = _is_one_of(test.leaf, wire[test.leaf.column], test.values)
    if test.previous is not None and plan.operation is not None:
        before = _is_one_of(test.previous, wire[test.previous.column], test.values)
        holds = before.zip_with((wire[plan.operation.column] == "d").fill_null(value=False), holds)
    return holds


def _is_one_of(leaf: Leaf, column: pl.Series, values: frozenset[str]) -> pl.Series:
    wanted: list[Any] = sorted(values)
    if leaf.kind == "enum":
        wanted = [index for index, symbol in enumerate(leaf.symbols) if symbol in values]
    elif leaf.kind == "boolean":
        wanted = [text == "true" for text in wanted if text in {"true", "false"}]
    elif leaf.kind != "text":
        column = texts_of(leaf, column, "", Problems())
    holds = pl.Series([False]).new_from_index(0, len(column))
    for value in wanted:
        holds |= (column == value).fill_null(value=False)
    return holds


def _deleted(plan: FieldPlan, wire: pl.DataFrame) -> pl.Series:
    """Whether ``events.deleted_when`` says that each row is a delete."""
    deleted = _NOT_DELETED.new_from_index(0, wire.height)
    for test in plan.deleted_when:
        if test.leaf is not None or test.always:
            deleted |= _holds(plan, test, wire)
    return deleted.alias(DELETED)


def _all(value: bool, wire: pl.DataFrame) -> pl.Series:  # noqa: FBT001 - a value, not a switch
    return pl.Series([value]).new_from_index(0, wire.height)


# Debezium envelopes


def _unwrapped(
    plan: FieldPlan,
    previous: Mapping[str, tuple[Leaf, ...]],
    wire: pl.DataFrame,
    operation: pl.Series,
    outcome: _Outcome,
) -> list[pl.DataFrame]:
    """The rows of envelopes: that after a change, and as a delete the one before it, if it named another item."""
    if operation.is_null().any():
        operation = operation.fill_null("")
    rows, deletes = wire, wire.clear()
    without_row = (operation == "d") | (operation == "t") | (operation == "m")
    if without_row.any():
        rows, deletes = wire.filter(~without_row), wire.filter(operation == "d")
        outcome.skip(SkipReason.MESSAGE, int((operation == "m").sum()))
        _truncate(plan.mapping, wire.filter(operation == "t"), outcome)
    moved = _moved(plan, previous, rows)
    previous = {target: leaves for target, leaves in previous.items() if target != "quantity"}
    line = _FIRST_LINE
    if moved is not None:
        before = _rows(plan, previous, rows.filter(moved), _FIRST_LINE, _DELETED, _Outcome())
        after = _rows(plan, plan.columns, rows.filter(moved), _FIRST_LINE, _NOT_DELETED, _Outcome())
        really = _really_moved(rows.filter(moved)[POSITION], before, after, list(previous))
        moved = rows[POSITION].is_in(really.implode())
        deletes = pl.concat([deletes, rows.filter(moved)])
        line = moved.cast(pl.Int32).alias(LINE)
    frames = [_rows(plan, plan.columns, rows, line, _deleted(plan, rows), outcome)]
    if deletes.height:
        frames.append(_rows(plan, previous, deletes, _FIRST_LINE, _DELETED, outcome))
    return frames


def _truncate(mapping: EventMapping, wire: pl.DataFrame, outcome: _Outcome) -> None:
    if mapping.deletes == "skip":
        outcome.skip(SkipReason.TRUNCATE, wire.height)
        return
    for position in wire[POSITION]:
        outcome.reject(position, 0, RejectReason.DELETED, _TRUNCATED)


def _moved(plan: FieldPlan, previous: Mapping[str, tuple[Leaf, ...]], wire: pl.DataFrame) -> pl.Series | None:
    """Where the row before the change may name another item or location; None if it does so nowhere.

    A database may log only some columns of the row before. A column without a value is only compared if the row has a
    location and a quantity, so is complete.
    """
    pairs = [
        (wire[leaf.column], wire[before.column])
        for target, befores in previous.items()
        if target not in {"quantity", OCCURRED_AT_FIELD}
        for leaf, before in zip(plan.columns[target], befores, strict=True)
        if leaf != before
    ]
    if all(before.null_count() == len(before) for _, before in pairs):
        return None
    is_complete = _all(True, wire)
    for target in (LOCATION, "quantity"):
        for before in previous.get(target, ()):
            is_complete &= wire[before.column].is_not_null()
    moved = _all(False, wire)
    for now, then in pairs:
        moved |= (now != then).fill_null(value=False) | (is_complete & (now.is_null() != then.is_null()))
    return moved if moved.any() else None


def _really_moved(positions: pl.Series, before: pl.DataFrame, after: pl.DataFrame, targets: Sequence[str]) -> pl.Series:
    """The positions at which the rows still differ once their values are converted, padding removed and so on."""
    names = [name for name in targets if name not in {"quantity", OCCURRED_AT_FIELD}]
    both = (
        positions.to_frame()
        .join(before.select(POSITION, *names), on=POSITION, how="left")
        .join(after.select(POSITION, *names), on=POSITION, how="left")
    )
    is_invalid = ~positions.is_in(before[POSITION].implode())
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_right")) for name in names)
    return both.filter(differs | is_invalid)[POSITION]


# Values


def _rows(
    plan: FieldPlan,
    columns: Mapping[str, tuple[Leaf, ...]],
    wire: pl.DataFrame,
    line: pl.Series,
    deleted: pl.Series,
    outcome: _Outcome,
) -> pl.DataFrame:
    """Rows of ``READ_SCHEMA``, without invalid ones. ``line`` and ``deleted`` have one value, or one for each row."""
    # Series by series, without a query: a query costs tens of microseconds, which is much for a few messages.
    height = wire.height
    line = line if len(line) == height else line.new_from_index(0, height)
    deleted = deleted if len(deleted) == height else deleted.new_from_index(0, height)
    problems = Problems()
    frame = pl.DataFrame(
        [
            wire[POSITION],
            line,
            deleted,
            *(_column(plan.mapping, name, columns.get(name, ()), wire, problems).alias(name) for name in TARGETS),
        ]
    )
    for column in trimmed([frame[name] for name in TRIMMED if name in columns], plan.mapping.settings.trim):
        frame.replace_column(frame.get_column_index(column.name), column)
    for name in plan.left_out:
        problems.ignored[name] = height
    for name, count in problems.ignored.items():
        if count:
            outcome.ignored[name] = outcome.ignored.get(name, 0) + count
    if not problems.bad:
        return frame
    for index, (reason, detail) in sorted(problems.bad.items()):
        outcome.reject(frame[POSITION][index], frame[LINE][index], reason, detail)
    keep = _all(True, frame).scatter(list(problems.bad), False)
    return frame.filter(keep)


def _column(
    mapping: EventMapping, target: str, leaves: tuple[Leaf, ...], wire: pl.DataFrame, problems: Problems
) -> pl.Series:
    """The column of a target: for each row the value of the first leaf that has one."""
    if not leaves:
        return _ABSENT[target].new_from_index(0, wire.height)
    column = convert(mapping, target, leaves[0], wire[leaves[0].column], problems)
    if target in TRIMMED and len(leaves) > 1:
        (column,) = trimmed([column], mapping.settings.trim)  # only spaces: the next leaf counts
    for leaf in leaves[1:]:
        missing = column.is_null()
        if not missing.any():
            break
        rest = wire[leaf.column]
        rest = rest.zip_with(missing, nulls(rest))
        column = column.zip_with(~missing, convert(mapping, target, leaf, rest, problems))
    return column


def convert(mapping: EventMapping, target: str, leaf: Leaf, column: pl.Series, problems: Problems) -> pl.Series:
    """The values of a leaf as those of a target; null for an absent value, and for one that is in ``problems``."""
    absent = mapping.settings.absent_values
    if leaf.kind in {"text", "mixed"}:
        column = absent_removed(column, absent)
    if target == OCCURRED_AT_FIELD:
        return times_of(leaf, column, problems)
    if target in TEXT_TARGETS:
        return texts_of(leaf, column, target, problems)
    if target in MAP_COLUMNS:
        return maps_of(column, absent)
    dtype = TARGETS[target]
    if dtype == pl.Int64():
        return whole_numbers_of(leaf, column, target, problems)
    if dtype == pl.Float64():
        return numbers_of(leaf, column, target, problems)
    return _lists(column, absent)


def _lists(column: pl.Series, absent: Sequence[str]) -> pl.Series:
    """Lists of texts. A list with a placeholder is absent as a whole: it stands for a list that is not known."""
    if column.null_count() == len(column):
        return column
    for text in absent:
        found = column.list.contains(text).fill_null(value=False)
        if found.any():
            column = column.zip_with(~found, nulls(column))
    return column


def _within_range(plan: FieldPlan, wire: pl.DataFrame, outcome: _Outcome) -> pl.DataFrame:
    """Remove the rows with a number outside the range of its declared type; usually there are none."""
    limits = [(leaf, 0, len(leaf.symbols) - 1, RejectReason.CORRUPT) for leaf in plan.leaves if leaf.kind == "enum"]
    limits += [(leaf, INT_MIN, INT_MAX, RejectReason.INTEGER_OUT_OF_RANGE) for leaf in plan.leaves if leaf.int32]
    outside = [limit for limit in limits if not is_between(wire[limit[0].column], limit[1], limit[2])]
    if not outside:
        return wire
    names = {leaf.column: target for target, leaves in plan.columns.items() for leaf in leaves}
    numbered = wire.with_row_index(_ROW)
    line = pl.lit(0) if plan.lines is None else pl.col(LINE)
    bad: set[int] = set()
    for leaf, low, high, reason in outside:
        out = numbered.filter(~pl.col(leaf.column).is_between(low, high))
        for row, position, number, value in out.select(_ROW, POSITION, line.alias(LINE), leaf.column).iter_rows():
            name = names.get(leaf.column, leaf.path[-1])
            outcome.reject(position, number, reason, f"{name} is {int(value)}, not from {low} to {high}")
            bad.add(row)
    return numbered.filter(~pl.col(_ROW).is_in(list(bad))).drop(_ROW)


__all__ = ["READ_SCHEMA", "convert", "finish"]
