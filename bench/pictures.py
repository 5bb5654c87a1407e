"""The two pictures of docs/performance.md, as SVG text from the results."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from bench.results import MemoryPoint, Results

MIB: Final = 2**20
MEMORY_CASE: Final = "backlog"
_WIDTH: Final = 860
_FONT: Final = 'font-family="Inter, Helvetica, Arial, sans-serif" font-size="13"'
_TEXT: Final = "#24292f"
_MUTED: Final = "#6e7781"
_GRID: Final = "#d8dee4"
_BARE: Final = "#c3cad1"
_SERVICE: Final = "#1f6feb"
_ITEMS: Final = "#2da44e"
_LIMIT: Final = "#cf222e"

_LEFT: Final = 110
_RIGHT: Final = 70
_TOP: Final = 70
_BAR: Final = 15
_ROW: Final = 48
_PLOT_HEIGHT: Final = 260


def rates(results: Results) -> str:
    """Of each case that has a bare loop, two bars: the rate of the loop and that of the service."""
    cases = [case for case in results.cases.values() if case.bare_per_second]
    height = _TOP + _ROW * len(cases) + 30
    top = max((case.bare_per_second or 0.0 for case in cases), default=1.0) / 1e6
    ticks = _ticks(top)
    scale = (_WIDTH - _LEFT - _RIGHT) / ticks[-1]
    parts = [_text(_LEFT - 90, 26, "Million changes per second, by case", size=16)]
    parts += _legend(((_BARE, "bare consume(10000) loop"), (_SERVICE, "the service: read, decode, send, commit")))
    for tick in ticks:
        x = _LEFT + tick * scale
        parts += [
            _line(x, _TOP - 6, x, height - 30),
            _text(x, height - 12, f"{tick:g}", anchor="middle", color=_MUTED),
        ]
    for number, case in enumerate(cases):
        y = _TOP + number * _ROW
        rate = case.completed.median("changes_per_second")
        parts.append(_text(_LEFT - 10, y + _BAR + 5, case.name, anchor="end"))
        parts += _bar(y, case.bare_per_second, scale, _BARE)
        parts += _bar(y + _BAR + 2, rate, scale, _SERVICE)
    return _svg(height, parts, "Rate of the service and of a bare loop, by case")


def _bar(y: float, rate: float | None, scale: float, color: str) -> list[str]:
    """A bar with its rate in millions; a note in its place if the case has no complete round."""
    length = (rate or 0.0) / 1e6 * scale
    note = "not complete" if rate is None else f"{rate / 1e6:.2f}"
    return [
        f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{color}"/>',
        _text(_LEFT + length + 6, y + 12, note, size=11, color=_MUTED),
    ]


def memory(results: Results) -> str:
    """Resident memory over the case ``backlog``, its limit, and the items at the sink."""
    case = results.cases.get(MEMORY_CASE)
    points = case.rounds[-1].memory if case is not None and case.rounds else ()
    height = _TOP + _PLOT_HEIGHT + 50
    if case is None or not points:
        return _svg(height, [_text(20, 40, "No memory limit could be set where this was measured.")], "Not measured")
    limit = case.plan["memory_bytes"] / MIB
    seconds = _ticks(points[-1].seconds)
    mebibytes = _ticks(max(limit, max(point.resident_bytes for point in points) / MIB))
    millions = _ticks(case.plan["changes"] / 1e6)
    area = _Area(seconds[-1], mebibytes[-1], millions[-1])
    parts = [_text(20, 26, f"A backlog of {case.plan['changes']:,} changes against a memory limit", size=16)]
    parts += _legend(((_SERVICE, "resident memory, MiB"), (_LIMIT, "limit"), (_ITEMS, "items at the sink, millions")))
    parts += _axes(area, seconds, mebibytes, millions)
    parts.append(_line(_LEFT, area.y(limit), _WIDTH - _RIGHT, area.y(limit), color=_LIMIT, dashed=True, width=1.5))
    parts.append(area.curve(((point.seconds, area.items_y(point.items / 1e6)) for point in points), _ITEMS))
    parts.append(area.curve(((point.seconds, area.y(point.resident_bytes / MIB)) for point in points), _SERVICE))
    return _svg(height, parts, f"Memory of the service over a backlog, highest {_highest(points):,.0f} MiB")


def _highest(points: Sequence[MemoryPoint]) -> float:
    return max(point.resident_bytes for point in points) / MIB


class _Area:
    """Where values lie in the picture of the memory."""

    def __init__(self, seconds_max: float, mebibytes_max: float, millions_max: float) -> None:
        self._seconds_max = seconds_max
        self._mebibytes_max = mebibytes_max
        self._millions_max = millions_max

    def x(self, seconds: float) -> float:
        return _LEFT + seconds / self._seconds_max * (_WIDTH - _LEFT - _RIGHT)

    def y(self, mebibytes: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - mebibytes / self._mebibytes_max)

    def items_y(self, millions: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - millions / self._millions_max)

    def curve(self, points: Iterable[tuple[float, float]], color: str) -> str:
        """A line through points of seconds and a height in the picture."""
        path = " ".join(f"{self.x(seconds):.1f},{y:.1f}" for seconds, y in points)
        return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'


def _axes(area: _Area, seconds: Sequence[float], mebibytes: Sequence[float], millions: Sequence[float]) -> list[str]:
    bottom, right = _TOP + _PLOT_HEIGHT, _WIDTH - _RIGHT
    parts = [_text(right, bottom + 40, "seconds", anchor="end", color=_MUTED)]
    for tick in mebibytes:
        y = area.y(tick)
        parts += [
            _line(_LEFT, y, right, y),
            _text(_LEFT - 8, y + 4, f"{tick:,.0f}", anchor="end", color=_SERVICE),
        ]
    parts += [_text(right + 8, area.items_y(tick) + 4, f"{tick:g}", color=_ITEMS) for tick in millions]
    parts += [_text(area.x(tick), bottom + 20, f"{tick:g}", anchor="middle", color=_MUTED) for tick in seconds]
    return parts


def _legend(entries: Sequence[tuple[str, str]]) -> list[str]:
    parts, x = [], 20
    for color, text in entries:
        parts.append(f'<rect x="{x}" y="40" width="12" height="12" fill="{color}"/>')
        parts.append(_text(x + 18, 51, text, color=_MUTED))
        x += 40 + 7 * len(text)
    return parts


def _ticks(top: float) -> list[float]:
    """Round values from 0 to ``top`` or above, in about five steps."""
    rough = max(top, 1e-9) / 5
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    return [round(number * step, 10) for number in range(math.ceil(top / step * 0.999) + 1)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", color: str = _TEXT, size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}">{escape(text)}</text>'
    )


def _line(
    x1: float, y1: float, x2: float, y2: float, *, color: str = _GRID, dashed: bool = False, width: float = 1
) -> str:
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{color}" stroke-width="{width}"{dash}/>'


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {_FONT} role="img">'
    background = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", background, *parts, "</svg>", ""])
