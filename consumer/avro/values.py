"""Columns of values, from the form in which they were decoded to that of the OMS: numbers, texts and times.

Numbers come in many forms: an integer, a float that is a whole number, a decimal, a text. The usual values are
converted as a column; only unusual ones, such as ``6E+1``, are looked at one by one.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import isfinite
from typing import Any, Final, Literal

import polars as pl

from consumer.avro.leaves import DATE_FORMATS, Leaf, TimeUnit
from consumer.core.changes.items import RejectReason, map_text
from consumer.core.changes.rules import EXACT_INTEGER_MAX
from consumer.text import DETAIL_CHARACTERS_MAX, one_line

FEW_ROWS: Final = 200
"""Up to this many values, a look at each is cheaper than a query."""

_SECONDS_2000: Final = 946_684_800
_SECONDS_2101: Final = 4_133_980_800
"""Times whose unit nobody declared are only believed from the year 2000 to 2100: in another unit they lie elsewhere."""

_PER_SECOND: Final[Mapping[TimeUnit, int]] = {
    "seconds": 1,
    "milliseconds": 1_000,
    "microseconds": 1_000_000,
    "nanoseconds": 1_000_000_000,
}
_DAY_MILLIS: Final = 86_400_000
_DATE_MILLIS: Final = (-62_135_596_800_000, 253_402_300_799_999)
"""The years 1 to 9999."""
_NO_TEXT: Final = pl.Series([None], dtype=pl.String)
_DAYS_MAX: Final = 10**8
"""Far beyond any date, and small enough for milliseconds in 64 bits."""

Trim = Literal["trailing", "both", "none"]

_WHOLE: Final = r"^([+-]?[0-9]{1,18})(?:\.0*)?$"
_DECIMAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?")
_DIGITS_MAX: Final = 40
"""Digits before the point of a number that is looked at one by one; no exact integer has as many."""


@dataclass(slots=True)
class Problems:
    """Values that cannot be used: reason and detail by row, and how many were ignored by target."""

    bad: dict[int, tuple[RejectReason, str]] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)

    def reject(self, row: int, reason: RejectReason, detail: str) -> None:
        self.bad.setdefault(row, (reason, one_line(detail, DETAIL_CHARACTERS_MAX)))

    def ignore(self, target: str, count: int) -> None:
        self.ignored[target] = self.ignored.get(target, 0) + count


def nulls(column: pl.Series) -> pl.Series:
    """As many nulls, of the same type."""
    return pl.Series(column.name, [None], dtype=column.dtype).new_from_index(0, len(column))


def is_between(column: pl.Series, low: int, high: int) -> bool:
    """Whether all values are from ``low`` to ``high``; nulls do not count."""
    lowest: Any = column.min()
    highest: Any = column.max()
    return lowest is None or (low <= lowest and highest <= high)


def absent_removed(column: pl.Series, absent: Sequence[str]) -> pl.Series:
    """A column of texts, with null for the empty text and for those of ``absent``."""
    if column.null_count() == len(column):
        return column
    for text in ("", *absent):
        found = column == text
        if found.any():
            column = column.zip_with(~found, nulls(column))
    return column


def trimmed(columns: Sequence[pl.Series], mode: Trim) -> list[pl.Series]:
    """Columns of texts of one length without their trailing spaces, or without spaces around them.

    A text of spaces alone becomes null.
    """
    texts = [column for column in columns if column.null_count() < len(column)]
    if mode == "none" or not texts or not _have_padding(texts, both=mode == "both"):
        return list(columns)
    strip = "strip_chars" if mode == "both" else "strip_chars_end"
    return [absent_removed(getattr(column.str, strip)(" "), ()) for column in columns]


def _have_padding(columns: Sequence[pl.Series], *, both: bool) -> bool:
    if len(columns[0]) <= FEW_ROWS:
        texts = [text for column in columns for text in column.to_list() if text]
        return any(text[-1] == " " for text in texts) or (both and any(text[0] == " " for text in texts))
    ends = [pl.col(column.name).str.ends_with(" ").any() for column in columns]
    begins = [pl.col(column.name).str.starts_with(" ").any() for column in columns] if both else []
    return bool(pl.DataFrame(columns).select(pl.any_horizontal(*ends, *begins)).item())


# Numbers


def whole_numbers_of(leaf: Leaf, column: pl.Series, target: str, problems: Problems) -> pl.Series:
    """Whole numbers (Int64). A fraction is NOT_A_WHOLE_NUMBER, other text NOT_A_NUMBER."""
    if leaf.kind == "integer":
        return column
    if leaf.kind in {"double", "float"}:
        return _whole_floats(column, target, problems)
    texts = absent_removed(column.str.strip_chars(" "), ())
    numbers = texts.str.extract(_WHOLE, 1).str.to_integer(strict=False)

    def parse(row: int, text: str) -> int | None:
        return _whole_number(text, row, target, problems)

    return _with_unusual(texts, numbers, parse)


def _whole_floats(column: pl.Series, target: str, problems: Problems) -> pl.Series:
    numbers = column.cast(pl.Int64, strict=False)
    is_whole = (numbers.cast(column.dtype) == column) & is_exact(numbers)
    if numbers.null_count() == column.null_count() and is_whole.all():  # nulls do not count
        return numbers
    wrong = (column.is_not_null() & ~is_whole.fill_null(value=False)).arg_true().to_list()
    for row in wrong:
        value = column[row]
        reason = RejectReason.NOT_A_WHOLE_NUMBER
        if not isfinite(value):
            reason = RejectReason.NOT_A_NUMBER
        elif abs(value) > EXACT_INTEGER_MAX:
            reason = RejectReason.INTEGER_OUT_OF_RANGE
        problems.reject(row, reason, f"{target} is {value}, {_NOT[reason]}")
    return numbers


def is_exact(numbers: pl.Series) -> pl.Series:
    """Whether integers are exact as floats."""
    return numbers.is_between(-EXACT_INTEGER_MAX, EXACT_INTEGER_MAX)


def _whole_number(text: str, row: int, target: str, problems: Problems) -> int | None:
    """A text in a form that the column's conversion does not know, such as ``6E+1``; None if it is no whole number."""
    reason = RejectReason.NOT_A_NUMBER
    if _DECIMAL.fullmatch(text):
        number = Decimal(text)
        reason = RejectReason.INTEGER_OUT_OF_RANGE
        if number == 0:
            return 0
        if number.adjusted() < _DIGITS_MAX:
            # With more decimal places than digits it has a fraction, and to compute it could take any memory.
            is_whole = number.adjusted() >= 0 and number == number.to_integral_value()
            if abs(number) <= EXACT_INTEGER_MAX:
                if is_whole:
                    return int(number)
                reason = RejectReason.NOT_A_WHOLE_NUMBER
    problems.reject(row, reason, f"{target} is {_shown(text)}, {_NOT[reason]}")
    return None


_NOT: Final[Mapping[RejectReason, str]] = {
    RejectReason.NOT_A_NUMBER: "not a number",
    RejectReason.NOT_A_WHOLE_NUMBER: "not a whole number",
    RejectReason.INTEGER_OUT_OF_RANGE: "beyond 2**53 - 1",
}


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def numbers_of(leaf: Leaf, column: pl.Series, target: str, problems: Problems) -> pl.Series:
    """Numbers (Float64): for a float the shortest decimal that is that float, for a decimal the nearest number."""
    if leaf.kind == "double":
        return column
    if leaf.kind == "integer":
        return column.cast(pl.Float64)
    if leaf.kind == "float":
        return shortest(column)
    texts = absent_removed(column.str.strip_chars(" "), ())
    numbers = texts.cast(pl.Float64, strict=False)

    def refuse(row: int, text: str) -> None:
        problems.reject(row, RejectReason.NOT_A_NUMBER, f"{target} is {_shown(text)}, not a number")

    return _with_unusual(texts, numbers, refuse)


def shortest(floats: pl.Series) -> pl.Series:
    """Float32 as the shortest decimals that are these floats: 19.99, not 19.989999771118164.

    A whole number stays as it is: 77914368, although 77914370 is the same float with fewer digits.
    """
    numbers = floats.cast(pl.Float64)
    return numbers.zip_with(numbers == numbers.floor(), floats.cast(pl.String).cast(pl.Float64))


def _with_unusual(texts: pl.Series, numbers: pl.Series, parse: Callable[[int, str], Any]) -> pl.Series:
    """The numbers; where there is none although there is a text, what ``parse`` makes of it."""
    if numbers.null_count() == texts.null_count():
        return numbers
    rows = (numbers.is_null() & texts.is_not_null()).arg_true().to_list()
    return numbers.scatter(rows, [parse(row, texts[row]) for row in rows])


# Texts


def texts_of(leaf: Leaf, column: pl.Series, target: str, problems: Problems) -> pl.Series:
    """Texts: an enum's symbols, the digits of whole numbers. A fraction is NOT_A_WHOLE_NUMBER.

    For a target in ``DATE_FORMATS``, times of a declared unit are written as the OMS does, in UTC. One that is not in
    the years 1 to 9999 is INTEGER_OUT_OF_RANGE.
    """
    if target in DATE_FORMATS and leaf.unit not in {None, "text"}:
        return _dates(leaf, column, target, problems)
    match leaf.kind:
        case "enum":
            symbols = list(leaf.symbols)
            return absent_removed(
                column.replace_strict(list(range(len(symbols))), symbols, return_dtype=pl.String()), ()
            )
        case "integer":
            return column.cast(pl.String)
        case "decimal" | "scaled_decimal":
            digits = column.str.extract(r"^(-?[0-9]+)(?:\.0*)?$", 1)
            return _with_unusual(column, digits, lambda row, text: _digits(text, row, target, problems))
        case _:
            return column


def _digits(text: str, row: int, target: str, problems: Problems) -> str | None:
    number = _whole_number(text, row, target, problems)
    return None if number is None else str(number)


# Maps


def maps_of(column: pl.Series, absent: Sequence[str]) -> pl.Series:
    """Maps, read as lists of entries, as ``map_text``. An entry with an absent text is left out.

    Python sees each different map once: of many items, most have the same few.
    """
    if column.null_count() == len(column):
        return _NO_TEXT.new_from_index(0, len(column))
    written = column.alias("map").to_frame().select(pl.struct("map").struct.json_encode()).to_series()
    left_out = {"", None, *absent}
    found = written.unique().to_list()
    texts = [map_text(_entries(json.loads(text)["map"] or (), left_out)) for text in found]
    return written.replace_strict(found, texts, return_dtype=pl.String())


def _entries(entries: Sequence[Mapping[str, str | None]], left_out: Collection[str | None]) -> dict[str, str]:
    return {str(entry["key"]): str(entry["value"]) for entry in entries if entry["value"] not in left_out}


# Times


def _dates(leaf: Leaf, column: pl.Series, target: str, problems: Problems) -> pl.Series:
    # What ``times_of`` ignores is rejected here: without its date the item would be another one.
    times = _within(times_of(leaf, column, Problems()), *_DATE_MILLIS)
    for row in (times.is_null() & column.is_not_null()).arg_true():
        detail = f"{target} is {column[row]}, which is no date of the years 1 to 9999"
        problems.reject(row, RejectReason.INTEGER_OUT_OF_RANGE, detail)
    return times.cast(pl.Datetime("ms")).dt.strftime(DATE_FORMATS[target])


def times_of(leaf: Leaf, column: pl.Series, problems: Problems) -> pl.Series:
    """Milliseconds since 1970. A time that cannot be right, or cannot be read, is null and counted as ignored."""
    given = len(column) - column.null_count()
    if leaf.unit is None or leaf.unit == "text":
        times = _iso_times(column)
    elif leaf.unit == "days":
        times = _within(column, -_DAYS_MAX, _DAYS_MAX) * _DAY_MILLIS
    else:
        per_second = _PER_SECOND[leaf.unit]
        if not leaf.declared:
            column = _within(column, _SECONDS_2000 * per_second, _SECONDS_2101 * per_second - 1)
        times = _milliseconds(column, per_second)
    ignored = given - (len(times) - times.null_count())
    if ignored:
        problems.ignore("occurredAt", ignored)
    return times


def _milliseconds(column: pl.Series, per_second: int) -> pl.Series:
    if column.dtype == pl.Float64():
        return (column * 1_000).round().cast(pl.Int64)
    if per_second > 1_000:
        return column // (per_second // 1_000)
    return column if per_second == 1_000 else column * 1_000


def _within(column: pl.Series, low: int, high: int) -> pl.Series:
    """The column, with null for values outside the range."""
    if column.dtype != pl.Float64() and is_between(column, low, high):
        return column
    return column.zip_with(column.is_between(low, high).fill_null(value=False), nulls(column))


_ISO_STEPS: Final = (
    (r"\[.*\]$", ""),  # a zone's name after its offset, as Java writes it
    (r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]", "${1} "),
    (r"\s*(?:[zZ]|UTC)$", "+0000"),
    (r"(:[0-9]{2}(?:\.[0-9]+)?)\s*([+-][0-9]{2})$", "${1}${2}00"),
    (r"\s*([+-][0-9]{2}):?([0-9]{2})$", "${1}${2}"),
    (r"^(\S+ [0-9]{2}:[0-9]{2})([+-][0-9]{4})?$", "${1}:00${2}"),
    (r"^([0-9]{4}-[0-9]{2}-[0-9]{2})$", "${1} 00:00:00"),
    (r"(:[0-9]{2}(?:\.[0-9]+)?)$", "${1}+0000"),
)
"""From any usual form of an ISO 8601 time to one. A time without a zone is taken for UTC."""


def _iso_times(column: pl.Series) -> pl.Series:
    texts = pl.col("")
    steps = texts.str.strip_chars()
    for pattern, replacement in _ISO_STEPS:
        steps = steps.str.replace(pattern, replacement)
    times = steps.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", strict=False, time_unit="ms")
    return column.alias("").to_frame().select(times.dt.epoch("ms"))[""]
