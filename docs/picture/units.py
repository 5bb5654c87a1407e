"""Values as Grafana writes them: the units that our dashboards use."""

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
    """The value with its unit, in the largest one in which it is at least 1; three digits unless told otherwise.

    Raises KeyError for a unit that no dashboard of ours has.
    """
    scale, per = _SCALES[unit]
    factor, name = next((each for each in reversed(scale) if abs(value) >= each[0]), scale[0] if value else _one(scale))
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


def _one(scale: _Scale) -> tuple[float, str]:
    """The unit of 0: the one whose factor is 1, if there is one."""
    return next((each for each in scale if each[0] == 1), scale[0])


_TIMES: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)
"""Seconds between the lines of an axis of time."""
_DECADES: Final = (0.1, 1, 10, 60, 600, 3_600, 36_000, 86_400, 864_000)


def ticks(top: float, unit: str, *, count: int = 4) -> list[float]:
    """Round values from 0 to ``top`` or a little above, about ``count`` steps apart."""
    rough = top / count
    magnitude = 10 ** math.floor(math.log10(rough))
    nice = _TIMES if unit == "s" and 1 <= rough <= _TIMES[-1] else [each * magnitude for each in (1, 2, 2.5, 5, 10)]
    step = next(each for each in nice if each >= rough * 0.999)
    return [number * step for number in range(math.ceil(top / step * 0.999) + 1)]


def logarithmic_ticks(bottom: float, top: float, unit: str) -> list[float]:
    """Values about ten times apart that lie around these."""
    powers = [10.0**power for power in range(math.floor(math.log10(bottom)), math.ceil(math.log10(top)) + 2)]
    every = list(_DECADES) if unit == "s" else powers
    first = max((index for index, each in enumerate(every) if each <= bottom), default=0)
    last = next((index for index, each in enumerate(every) if each >= top), len(every) - 1)
    return every[first : max(last, first + 1) + 1]
