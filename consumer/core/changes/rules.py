"""The OMS's rules for an item, on columns: which changes can never be sent, and why.

The rules are those of the parameter tables of Inventory Refresh. The good path is one pass over the frame; only when a
row breaks a rule is it asked which.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import polars as pl

from consumer.core.changes.items import IDENTIFIERS, ITEM_KEY, LOCATION, RejectReason

REASON: Final = "_reason"
"""The column of a rejected row that has its reason code."""

EXACT_INTEGER_MAX: Final = 2**53 - 1
"""Largest integer that every JSON reader holds exactly."""

LOCATOR_CHARACTERS_MAX: Final = 50
TEXT_CHARACTERS_MAX: Final[Mapping[str, int]] = {"lotCode": 50, "condition": 50, "serialNumber": 30}
"""Of the granular texts; for ``date`` and ``externalID`` the OMS's documentation names no limit."""
ATTRIBUTES_MAX: Final = 63
"""Attributes of one item in a request: of one change, and of those that are sent as one."""
BIN_ID_MIN: Final = 1

_NO_REASONS: Final = pl.Series(REASON, [], dtype=pl.String)
_INTEGERS: Final = ("quantity", "binID", "floor", "safetyStock", "currencyID")
_NUMBERS: Final = ("retailPrice", "ltd")


IsKept = Callable[[pl.DataFrame], bool]
"""Whether a look at a frame's columns, without a query, shows that every row keeps a rule. A query costs a hundred
microseconds, which is much for a frame of a few rows."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """``broken`` is true where a row breaks the rule, false or null where not; with ``column`` all null none does."""

    reason: RejectReason
    broken: pl.Expr
    column: str | None = None
    is_kept: IsKept = lambda _frame: False

    def possible(self, frame: pl.DataFrame) -> bool:
        """False when it is plain from little work that no row of the frame breaks the rule."""
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
    """Every rule, in the order in which a row's first broken one is its reason."""
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
    """Part a frame into the rows that the OMS's rules allow and the rows that they do not.

    ``frame`` has at least ``locationName`` and ``core.items.ITEM_COLUMNS``; an absent text is null, never empty. Both
    parts keep all columns and the order of rows; the rejected part has one more column, ``REASON``, with the first
    broken rule. A row needs an identifier of ``item_key``: rows without one would all count as one item.
    """
    rules = [rule for rule in (*_RULES, *_key_rule(item_key)) if rule.possible(frame)]
    if not rules or not frame.select(pl.any_horizontal(rule.broken for rule in rules).any()).item():
        return frame, frame.clear().hstack([_NO_REASONS])
    first = pl.coalesce(pl.when(rule.broken).then(pl.lit(rule.reason.value)) for rule in rules)
    marked = frame.with_columns(first.alias(REASON))
    return marked.filter(pl.col(REASON).is_null()).drop(REASON), marked.filter(pl.col(REASON).is_not_null())


def _key_rule(item_key: Sequence[str]) -> tuple[_Rule, ...]:
    """The rule for an item key that has not all identifiers: those that it has must not all be absent."""
    telling = [name for name in IDENTIFIERS if name in item_key]
    if len(telling) == len(IDENTIFIERS):
        return ()
    no_identifier = pl.all_horizontal(pl.col(name).is_null() for name in telling)
    return (_Rule(RejectReason.NO_IDENTIFIER, no_identifier, is_kept=_one_is_full(*telling)),)


def describe(reason: RejectReason, row: Mapping[str, Any]) -> str:
    """What is wrong with a rejected row, in a few words, for people; ``row`` is its columns by name."""
    return _DETAILS[reason](row)


def _not_numbers(row: Mapping[str, Any]) -> str:
    strange = [name for name in _NUMBERS if row[name] is not None and not isfinite(row[name])]
    return ", ".join(f"{name} is {row[name]}" for name in strange)


def _too_long(row: Mapping[str, Any]) -> str:
    lengths = {name: len(row[name] or "") for name in TEXT_CHARACTERS_MAX}
    return ", ".join(
        f"{name} has {characters} characters, over {TEXT_CHARACTERS_MAX[name]}"
        for name, characters in lengths.items()
        if characters > TEXT_CHARACTERS_MAX[name]
    )


def _beyond_exact(row: Mapping[str, Any]) -> str:
    beyond = [name for name in _INTEGERS if row[name] is not None and abs(row[name]) > EXACT_INTEGER_MAX]
    return ", ".join(f"{name} is {row[name]}, beyond 2**53 - 1" for name in beyond)


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
    RejectReason.TEXT_TOO_LONG: _too_long,
    RejectReason.TOO_MANY_ATTRIBUTES: lambda row: f"{len(row['attributes'])} attributes, over {ATTRIBUTES_MAX}",
    RejectReason.NULL_ATTRIBUTE: lambda _: "attributes has a null in it",
    RejectReason.NOT_A_NUMBER: _not_numbers,
    RejectReason.INTEGER_OUT_OF_RANGE: _beyond_exact,
}
