"""The OMS's rules for an item, as column expressions: which changes can never be sent, and why.

The rules are those in the parameter tables of the OMS's documentation of Inventory Refresh. A frame without a broken
rule costs one pass; only otherwise is the first broken rule of each row determined.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import polars as pl

from consumer.core.changes.items import IDENTIFIERS, ITEM_KEY, LOCATION, RejectReason

REASON: Final = "_reason"
"""The column with the reason code of a rejected row."""

EXACT_INTEGER_MAX: Final = 2**53 - 1
"""The largest integer that every JSON reader represents exactly."""

LOCATOR_CHARACTERS_MAX: Final = 50
TEXT_CHARACTERS_MAX: Final[Mapping[str, int]] = {"lotCode": 50, "condition": 50, "serialNumber": 30}
"""By granular column. The OMS's documentation names no limit for ``date`` and ``externalID``."""
ATTRIBUTES_MAX: Final = 63
"""Of one item in a request, so of one change and also of the changes coalesced into that item."""
BIN_ID_MIN: Final = 1

_NO_REASONS: Final = pl.Series(REASON, [], dtype=pl.String)
_INTEGERS: Final = ("quantity", "binID", "floor", "safetyStock", "currencyID")
_NUMBERS: Final = ("retailPrice", "ltd")


IsKept = Callable[[pl.DataFrame], bool]
"""Whether a look at a frame's columns, without a query, shows that every row keeps a rule. A query costs a hundred
microseconds, which is much for a frame of a few rows."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """``broken`` is true for a row that breaks the rule, otherwise false or null.

    If ``column`` is set, a row with null in that column cannot break the rule.
    """

    reason: RejectReason
    broken: pl.Expr
    column: str | None = None
    is_kept: IsKept = lambda _frame: False

    def may_be_broken(self, frame: pl.DataFrame) -> bool:
        """False if a cheap look at the frame shows that no row of it breaks the rule."""
        if self.is_kept(frame):
            return False
        if self.column is None:
            return True
        column = frame[self.column]
        if self.reason is RejectReason.NULL_ATTRIBUTE:
            column = column.explode(empty_as_null=False, keep_nulls=False)
            return column.null_count() > 0
        return column.null_count() < len(column)


def _rules() -> tuple[_Rule, ...]:
    """All rules. A row that breaks several is rejected for the first of them."""
    reason, col = RejectReason, pl.col
    attributes = col("attributes").list
    return (
        _Rule(reason.NO_LOCATION, col(LOCATION).is_null(), is_kept=_one_is_full(LOCATION)),
        _Rule(
            reason.NO_IDENTIFIER,
            pl.all_horizontal(col(name).is_null() for name in IDENTIFIERS),
            is_kept=_one_is_full(*IDENTIFIERS),
        ),
        _Rule(reason.NO_QUANTITY, col("quantity").is_null(), is_kept=_one_is_full("quantity")),
        _Rule(reason.NEGATIVE_QUANTITY, col("quantity") < 0, is_kept=_within("quantity", 0, EXACT_INTEGER_MAX)),
        _Rule(reason.BIN_ID_TOO_SMALL, col("binID") < BIN_ID_MIN, "binID"),
        _Rule(
            reason.LOCATOR_TOO_LONG,
            col("inventoryLocatorName").str.len_chars() > LOCATOR_CHARACTERS_MAX,
            "inventoryLocatorName",
        ),
        *(
            _Rule(reason.TEXT_TOO_LONG, col(name).str.len_chars() > characters, name)
            for name, characters in TEXT_CHARACTERS_MAX.items()
        ),
        _Rule(reason.TOO_MANY_ATTRIBUTES, attributes.len() > ATTRIBUTES_MAX, "attributes"),
        _Rule(reason.NULL_ATTRIBUTE, attributes.drop_nulls().list.len() < attributes.len(), "attributes"),
        *(_Rule(reason.NOT_A_NUMBER, ~col(name).is_finite(), name, _has_finite_sum(name)) for name in _NUMBERS),
        *(
            _Rule(
                reason.INTEGER_OUT_OF_RANGE,
                ~col(name).is_between(-EXACT_INTEGER_MAX, EXACT_INTEGER_MAX),
                name,
                _within(name, -EXACT_INTEGER_MAX, EXACT_INTEGER_MAX),
            )
            for name in _INTEGERS
        ),
    )


def _one_is_full(*names: str) -> IsKept:
    """One of these columns has no null."""
    return lambda frame: any(frame[name].null_count() == 0 for name in names)


def _within(name: str, low: int, high: int) -> IsKept:
    """The column's values, if it has any, are from ``low`` to ``high``."""

    def is_within(frame: pl.DataFrame) -> bool:
        lowest: Any = frame[name].min()
        highest: Any = frame[name].max()
        return lowest is None or (low <= lowest and highest <= high)

    return is_within


def _has_finite_sum(name: str) -> IsKept:
    """The column's sum is a number, so each of its values is one."""
    return lambda frame: isfinite(frame[name].sum())


_RULES: Final = _rules()


def check(frame: pl.DataFrame, item_key: Sequence[str] = ITEM_KEY) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split a frame into the valid rows and the rejected rows.

    ``frame`` must have the columns ``LOCATION`` and ``ITEM_COLUMNS``; an absent text must be null, not empty. Both
    parts keep all columns and the order of rows. The rejected part has one more column, ``REASON``, with the code of
    the first broken rule. A row must have an identifier that is in ``item_key``; otherwise all rows without one would
    count as the same item.
    """
    rules = [rule for rule in (*_RULES, *_key_rule(item_key)) if rule.may_be_broken(frame)]
    if not rules or not frame.select(pl.any_horizontal(rule.broken for rule in rules).any()).item():
        return frame, frame.clear().hstack([_NO_REASONS])
    first = pl.coalesce(pl.when(rule.broken).then(pl.lit(rule.reason.value)) for rule in rules)
    marked = frame.with_columns(first.alias(REASON))
    return marked.filter(pl.col(REASON).is_null()).drop(REASON), marked.filter(pl.col(REASON).is_not_null())


def with_zero_for_negative(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with quantity 0 for quantities below 0 (``events.negative_quantity: zero``)."""
    if _within("quantity", 0, EXACT_INTEGER_MAX)(frame):
        return frame
    return frame.with_columns(pl.col("quantity").clip(lower_bound=0))


def _key_rule(item_key: Sequence[str]) -> tuple[_Rule, ...]:
    """If the item key lacks some identifiers: one of those in it must be present."""
    identifiers = [name for name in IDENTIFIERS if name in item_key]
    if len(identifiers) == len(IDENTIFIERS):
        return ()
    no_identifier = pl.all_horizontal(pl.col(name).is_null() for name in identifiers)
    return (_Rule(RejectReason.NO_IDENTIFIER, no_identifier, is_kept=_one_is_full(*identifiers)),)


def describe(reason: RejectReason, row: Mapping[str, Any]) -> str:
    """Say in a few words why a row was rejected. ``row`` has its columns by name."""
    return _DETAILS[reason](row)


def _describe_not_numbers(row: Mapping[str, Any]) -> str:
    names = [name for name in _NUMBERS if row[name] is not None and not isfinite(row[name])]
    return ", ".join(f"{name} is {row[name]}" for name in names)


def _describe_too_long(row: Mapping[str, Any]) -> str:
    lengths = {name: len(row[name] or "") for name in TEXT_CHARACTERS_MAX}
    return ", ".join(
        f"{name} has {characters} characters, over {TEXT_CHARACTERS_MAX[name]}"
        for name, characters in lengths.items()
        if characters > TEXT_CHARACTERS_MAX[name]
    )


def _describe_out_of_range(row: Mapping[str, Any]) -> str:
    names = [name for name in _INTEGERS if row[name] is not None and abs(row[name]) > EXACT_INTEGER_MAX]
    return ", ".join(f"{name} is {row[name]}, beyond 2**53 - 1" for name in names)


_DETAILS: Final[Mapping[RejectReason, Callable[[Mapping[str, Any]], str]]] = {
    RejectReason.NO_LOCATION: lambda _: f"{LOCATION} is absent or empty",
    RejectReason.NO_IDENTIFIER: lambda row: (
        f"{', '.join(name for name in IDENTIFIERS if row[name] is None)} absent or empty: nothing names the item"
    ),
    RejectReason.NO_QUANTITY: lambda _: "quantity is null",
    RejectReason.NEGATIVE_QUANTITY: lambda row: f"quantity is {row['quantity']}, below 0",
    RejectReason.BIN_ID_TOO_SMALL: lambda row: f"binID is {row['binID']}, below {BIN_ID_MIN}",
    RejectReason.LOCATOR_TOO_LONG: lambda row: (
        f"inventoryLocatorName has {len(row['inventoryLocatorName'])} characters, over {LOCATOR_CHARACTERS_MAX}"
    ),
    RejectReason.TEXT_TOO_LONG: _describe_too_long,
    RejectReason.TOO_MANY_ATTRIBUTES: lambda row: f"{len(row['attributes'])} attributes, over {ATTRIBUTES_MAX}",
    RejectReason.NULL_ATTRIBUTE: lambda _: "attributes contains a null",
    RejectReason.NOT_A_NUMBER: _describe_not_numbers,
    RejectReason.DELETED: lambda _: "the event deletes its row, and the settings say that deletes are dead-lettered",
    RejectReason.INTEGER_OUT_OF_RANGE: _describe_out_of_range,
}
