"""The picture of the dashboard shows Prometheus's answers as Grafana would format and draw them."""

from typing import Any

import pytest

from docs.picture.panels import COLORS, Grid, drawn
from docs.picture.units import as_text, logarithmic_ticks, ticks
from tests.support.dashboards import dashboards
from tests.support.prometheus import Series

GRID = Grid(start=1_000.0, step=2.0, count=5)


def answer(*values: float, **labels: str) -> Series:
    return Series(labels, [(1_000.0 + 2 * number, value) for number, value in enumerate(values)])


def panel_of(title: str, kind: str, *answers: Series) -> dict[str, Any]:
    panels = drawn(dashboards()["inventory-refresh"], lambda _expr, _instant: list(answers), GRID)
    return next(panel for panel in panels if (panel["title"], panel["type"]) == (title, kind))


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (0.0, "s", None, "0 s"),
        (0.0421, "s", None, "42.1 ms"),
        (300.0, "s", None, "5 min"),
        (3_600.0, "s", None, "1 hour"),
        (7_200.0, "s", None, "2 hours"),
        (12_900.0, "short", None, "12.9 K"),
        (0.76, "percentunit", 0, "76%"),
        (2_601.4, "locale", 0, "2,601"),
        (1_536.0, "bytes", None, "1.5 KiB"),
        (2.5, "reqps", None, "2.5 req/s"),
    ],
)
def test_a_value_is_formatted_with_its_unit(value: float, unit: str, decimals: int | None, text: str) -> None:
    assert as_text(value, unit, decimals) == text


def test_an_axis_has_round_values_up_to_its_top() -> None:
    assert ticks(9.3, "short") == [0, 2.5, 5, 7.5, 10]
    assert ticks(300, "s") == [0, 120, 240, 360]
    assert logarithmic_ticks(11, 86_000, "s") == [10, 60, 600, 3_600, 36_000, 86_400]


def test_every_panel_is_drawn_in_its_place_and_collapsed_rows_as_headings() -> None:
    dashboard = dashboards()["inventory-refresh"]
    panels = drawn(dashboard, lambda _expr, _instant: [], GRID)
    assert [panel["title"] for panel in panels] == [panel["title"] for panel in dashboard["panels"]]
    closed = [panel for panel in panels if panel.get("closed")]
    assert [panel["hidden"] for panel in closed] == [10, 9]
    assert closed[1]["place"]["y"] == closed[0]["place"]["y"] + 1


def test_a_stat_has_the_colour_of_its_threshold_and_the_text_of_its_mapping() -> None:
    in_time = panel_of("Oldest unsent change", "stat", answer(3.0, 0.5))
    assert (in_time["text"], in_time["color"]) == ("50%", COLORS["green"])
    late = panel_of("Oldest unsent change", "stat", answer(0.5, 3.0))
    assert (late["text"], late["color"]) == ("300%", COLORS["red"])
    assert late["spark"]["y"] == [0.5, 3.0, None, None, None]
    assert panel_of("Breaker", "stat", answer(0.0, 2.0))["text"] == "open"
    assert panel_of("Lag", "stat")["text"] == "No data"


def test_lines_have_the_names_colours_and_dashes_of_the_dashboard() -> None:
    panel = panel_of("Oldest unsent change", "timeseries", answer(1.0, float("nan"), 3.0, pod="inventory-refresh-0"))
    line, limit = panel["lines"]
    assert line["name"] == "inventory-refresh-0"
    assert line["y"] == [1.0, None, 3.0, None, None]
    assert not line["dashed"]
    assert (limit["name"], limit["color"], limit["dashed"], limit["fill"]) == ("max_age", COLORS["red"], True, 0)
    assert panel["axis"]["texts"][0] == "0 s"


def test_stacked_bars_fit_below_the_top_of_the_axis() -> None:
    accepted, unknown = answer(4.0, 4.0, outcome="accepted"), answer(2.0, 3.0, outcome="unknown")
    panel = panel_of("Answers by outcome", "timeseries", accepted, unknown)
    assert [(line["name"], line["color"]) for line in panel["lines"]] == [
        ("accepted", COLORS["green"]),
        ("unknown", COLORS["purple"]),
    ]
    assert all(line["bars"] for line in panel["lines"])
    assert panel["axis"]["range"][1] >= 7.0
