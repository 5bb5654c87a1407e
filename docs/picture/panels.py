"""Turns a dashboard's JSON and Prometheus's answers into what the page draws: texts, colours, lines and axes."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from docs.picture.units import as_text, logarithmic_ticks, ticks
from tests.support.prometheus import Series

Panel = Mapping[str, Any]
Ask = Callable[[str, bool], list[Series]]
"""Queries an expression with Grafana's variables: an instant query if the flag is true, else a range query."""

COLORS: Final[Mapping[str, str]] = {
    "green": "#73BF69",
    "yellow": "#FADE2A",
    "orange": "#FF9830",
    "red": "#F2495C",
    "dark-red": "#C4162A",
    "blue": "#5794F2",
    "purple": "#B877D9",
    "dark-purple": "#8F3BB8",
}
PALETTE: Final = ("#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#705DA0")
HEADROOM: Final = 1.08


@dataclass(frozen=True, slots=True)
class Grid:
    """The evenly spaced times for which samples are drawn, in seconds since 1970."""

    start: float
    step: float
    count: int

    def values(self, series: Series) -> list[float | None]:
        """The series' values at these times; None where there is no finite value."""
        values: list[float | None] = [None] * self.count
        for at, value in series.samples:
            index = round((at - self.start) / self.step)
            if 0 <= index < self.count and math.isfinite(value):
                values[index] = value
        return values

    def milliseconds(self) -> list[float]:
        """These times in milliseconds, as the page's axis expects them."""
        return [(self.start + number * self.step) * 1_000 for number in range(self.count)]


def drawn(dashboard: Mapping[str, Any], ask: Ask, grid: Grid) -> list[dict[str, Any]]:
    """The panels of the dashboard when it is opened, collapsed rows as headings. Raises KeyError for unknown types."""
    shown = []
    closed = 0
    for panel in dashboard["panels"]:
        place = panel["gridPos"] | {"y": panel["gridPos"]["y"] - closed}
        shown.append(
            {"title": panel["title"], "type": panel["type"], "place": place} | _DRAWN[panel["type"]](panel, ask, grid)
        )
        closed += _height(panel.get("panels") or ())
    return shown


def _height(panels: Sequence[Panel]) -> int:
    """The height of a collapsed row's panels, by which the following rows move up."""
    positions = [panel["gridPos"] for panel in panels]
    bottom = max((position["y"] + position["h"] for position in positions), default=0)
    return bottom - min((position["y"] for position in positions), default=0)


def _row(panel: Panel, ask: Ask, grid: Grid) -> dict[str, Any]:
    del ask, grid
    return {"closed": panel["collapsed"], "hidden": len(panel["panels"])}


def _stat(panel: Panel, ask: Ask, grid: Grid) -> dict[str, Any]:
    (target,) = panel["targets"]
    defaults = panel["fieldConfig"]["defaults"]
    answers = ask(target["expr"], bool(target.get("instant")))
    samples = [value for series in answers for _, value in series.samples if not math.isnan(value)]
    if not samples:
        return {"text": defaults.get("noValue", "No data"), "color": "#8e8e8e"}
    value = samples[-1]
    options = (mapping["options"].get(f"{value:g}") for mapping in defaults.get("mappings", ()))
    mapped = next(options, None) or {}
    color = mapped.get("color") or _threshold(defaults["thresholds"]["steps"], value)
    shown: dict[str, Any] = {
        "text": mapped.get("text") or as_text(value, defaults["unit"], defaults.get("decimals")),
        "color": COLORS.get(color, color),
    }
    if panel["options"]["graphMode"] == "area":
        shown["spark"] = {"x": grid.milliseconds(), "y": grid.values(answers[0])}
    return shown


def _threshold(steps: Sequence[Mapping[str, Any]], value: float) -> str:
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return str(reached[-1])


def _timeseries(panel: Panel, ask: Ask, grid: Grid) -> dict[str, Any]:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    lines = list(_lines(panel, ask, grid))
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    return {
        "x": grid.milliseconds(),
        "lines": lines,
        "bars": custom.get("drawStyle") == "bars",
        "axis": _axis(defaults, lines, stacked=stacked),
    }


def _lines(panel: Panel, ask: Ask, grid: Grid) -> Iterator[dict[str, Any]]:
    custom = panel["fieldConfig"]["defaults"]["custom"]
    number = 0
    for target in panel["targets"]:
        for series in ask(target["expr"], False):
            name = _name(target["legendFormat"], series.labels)
            own = dict(_overrides(panel, target["refId"], name))
            color = own.get("color", {}).get("fixedColor") or PALETTE[number % len(PALETTE)]
            number += 1
            yield {
                "name": name,
                "y": grid.values(series),
                "color": COLORS.get(color, color),
                "dashed": own.get("custom.lineStyle", {}).get("fill") == "dash",
                "fill": own.get("custom.fillOpacity", custom["fillOpacity"]) / 100,
                "bars": own.get("custom.drawStyle", custom.get("drawStyle")) == "bars",
                "width": custom["lineWidth"],
            }


def _name(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend)


def _overrides(panel: Panel, letter: str, name: str) -> Iterator[tuple[str, Any]]:
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]
        if matcher in ({"id": "byFrameRefID", "options": letter}, {"id": "byName", "options": name}):
            yield from ((setting["id"], setting["value"]) for setting in override["properties"])


def _axis(defaults: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], *, stacked: bool) -> dict[str, Any]:
    unit = defaults["unit"]
    values = [value for line in lines for value in line["y"] if value is not None]
    top = max(values, default=0.0)
    if stacked:
        columns = zip(*(line["y"] for line in lines), strict=True)
        top = max((sum(value or 0 for value in column) for column in columns), default=0.0)
    if defaults["custom"].get("scaleDistribution", {}).get("type") == "log":
        at = logarithmic_ticks(min((value for value in values if value > 0), default=1.0), top or 1.0, unit)
        return {"log": True, "at": at, "texts": [as_text(tick, unit) for tick in at], "range": [at[0], at[-1]]}
    top = min(top * HEADROOM, defaults.get("max", math.inf)) or 1.0
    if defaults.get("decimals") == 0:
        top = max(top, 1.0)
    at = ticks(defaults.get("max", top), unit)
    if defaults.get("decimals") == 0:
        at = [tick for tick in at if tick == int(tick)]
    return {"log": False, "at": at, "texts": [as_text(tick, unit) for tick in at], "range": [0, max(at[-1], top)]}


_DRAWN: Final = {"row": _row, "stat": _stat, "timeseries": _timeseries}
