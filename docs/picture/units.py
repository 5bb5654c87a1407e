"""Formats values as Grafana does, for the units that our dashboards use."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

_Scale = Sequence[tuple[float, str]]

_COUNTS: Final[_Scale] = ((1, ""), (1e3, " K"), (1e6, " Mil"), (1e9, " Bil"))
_SECONDS: Final[_Scale] = (
    (1e-6, " µs"),
    (1e-3, " ms"),
    (1, " s"),
    (60, " min"),
    (3_600, " hours"),
    (86_400, " days"),
)
_BYTES: Final[_Scale] = ((1, " B"), (2**10, " KiB"), (2**20, " MiB"), (2**30, " GiB"))

_SCALES: Final[Mapping[str, tuple[_Scale, str]]] = {
    "none": (((1, ""),), ""),
    "locale": (((1, ""),), ""),
    "short": (_COUNTS, ""),
    "percentunit": (((0.01, "%"),), ""),
    "s": (_SECONDS, ""),
    "bytes": (_BYTES, ""),
    "binBps": (_BYTES, "/s"),
    "cps": (_COUNTS, " c/s"),
    "reqps": (_COUNTS, " req/s"),
    "ops": (_COUNTS, " ops/s"),
}


def as_text(value: float, unit: str, decimals: int | None = None) -> str:
    """The value in the largest unit in which it is at least 1; three digits unless ``decimals`` is given.

    Raises KeyError for a unit that none of our dashboards uses.
    """
    scale, per = _SCALES[unit]
    smallest = scale[0] if value else _base(scale)
    factor, name = next(((factor, name) for factor, name in reversed(scale) if abs(value) >= factor), smallest)
    scaled = value / factor
    if unit == "locale":
        return f"{value:,.{decimals or 0}f}"
    if decimals is None:
        decimals = max(0, 2 - (math.floor(math.log10(abs(scaled))) if abs(scaled) >= 1 else 0))
    digits = f"{scaled:.{decimals}f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    if digits == "1" and name in {" hours", " days"}:
        name = name.removesuffix("s")
    return f"{digits}{name}{per}"


def _base(scale: _Scale) -> tuple[float, str]:
    """The unit for 0: the one with the factor 1, if there is one."""
    return next((unit for unit in scale if unit[0] == 1), scale[0])


_TIMES: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)
"""Possible steps in seconds between the ticks of an axis of durations."""
_DECADES: Final = (0.1, 1, 10, 60, 600, 3_600, 36_000, 86_400, 864_000)


def ticks(top: float, unit: str, *, count: int = 4) -> list[float]:
    """Round values from 0 to ``top`` or slightly above, in about ``count`` steps."""
    rough = top / count
    magnitude = 10 ** math.floor(math.log10(rough))
    nice = _TIMES if unit == "s" and 1 <= rough <= _TIMES[-1] else [factor * magnitude for factor in (1, 2, 2.5, 5, 10)]
    step = next(value for value in nice if value >= rough * 0.999)
    return [number * step for number in range(math.ceil(top / step * 0.999) + 1)]


def logarithmic_ticks(bottom: float, top: float, unit: str) -> list[float]:
    """Values about ten times apart that enclose ``bottom`` and ``top``."""
    powers = [10.0**power for power in range(math.floor(math.log10(bottom)), math.ceil(math.log10(top)) + 2)]
    values = list(_DECADES) if unit == "s" else powers
    first = max((index for index, value in enumerate(values) if value <= bottom), default=0)
    last = next((index for index, value in enumerate(values) if value >= top), len(values) - 1)
    return values[first : max(last, first + 1) + 1]
