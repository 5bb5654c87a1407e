"""The JSON of the dashboards is generated from their source, and consistent."""

import json
import math
import re
from itertools import combinations
from typing import Any

import pytest
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from helm.dashboards_source.dashboards import FILES, as_text, panels_of
from helm.dashboards_source.parts import LOCATION, MAIN, RUNBOOK
from tests.support.dashboards import FOLDER, PROCESS, dashboards, targets
from tests.support.metrics_list import described
from tests.support.prometheus import with_values
from tests.support.promql import Selection, family, selections

DASHBOARDS = dashboards()
TARGETS = targets()
COLUMNS = 24
ALERTS = FOLDER.parent / "alerts" / "inventory-refresh.rules.yaml"

SELECTED = {"cluster": "=$cluster", "namespace": "=$namespace", "job": "=$release", "pod": "=~$pod"}
"""Matchers of every selector, so that releases and namespaces never mix."""

NOT_DRAWN = {
    "inventory_refresh_changes_decoded_total": "read minus rejected and tombstones, which are drawn",
    "inventory_refresh_memory_budget_bytes": "its part for pending changes is drawn, which decides",
    "inventory_refresh_memory_pressure": "only an alert uses it; the memory and its limit are drawn",
    "inventory_refresh_oms_clock_skew_seconds": "looked at when times are in doubt; the log says when it is large",
    "inventory_refresh_unfinished_job_items": "the jobs are drawn, which show the same",
    "inventory_refresh_values_ignored_total": "the log names each field once; changes are sent all the same",
    "inventory_refresh_unknown_hold_seconds": "only an alert uses it",
}

KINDS = {name: metric.kind for name, metric in described().items()} | PROCESS
HISTOGRAMS = {name for name, kind in KINDS.items() if kind == "histogram"}

every_dashboard = pytest.mark.parametrize("name", DASHBOARDS)


def selections_of(expr: str) -> list[Selection]:
    """The selectors of a query. Grafana's own variables are replaced, because PromQL does not know them; ours stay."""
    kept = {name: f"${name}" for name in ("cluster", "namespace", "release", "pod", "location")}
    return selections(with_values(expr, range_seconds=3_600, **kept))


READ = {target: selections_of(target.expr) for target in TARGETS}
SELECTIONS = [(target, selection) for target, selected in READ.items() for selection in selected]


def kind(selection: Selection) -> str:
    name = family(selection.metric, HISTOGRAMS)
    ending = "counter" if name.endswith("_total") or name in HISTOGRAMS else "gauge"
    return KINDS.get(name, ending).replace("histogram", "counter")


def panels(name: str) -> list[dict[str, Any]]:
    return list(panels_of(DASHBOARDS[name]))


@pytest.mark.parametrize("file", FILES)
def test_the_json_is_generated_from_the_source(file: str) -> None:
    assert (FOLDER / file).read_text(encoding="utf-8") == as_text(FILES[file]()), "run make dashboards"


def test_every_dashboard_has_a_source() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(FILES)


# Metrics


def drawn() -> set[str]:
    return {family(selection.metric, HISTOGRAMS) for _, selection in SELECTIONS}


def test_every_metric_on_a_dashboard_exists_in_the_code() -> None:
    assert drawn() - set(KINDS) == set()


def test_every_metric_of_the_code_is_on_a_dashboard_or_has_a_reason_not_to_be() -> None:
    assert set(described()) - drawn() == set(NOT_DRAWN)


def test_a_query_selects_one_release_by_its_variables() -> None:
    for target, selected in READ.items():
        assert selected or "vector(" in target.expr, target
        assert all(SELECTED.items() <= selection.matchers.items() for selection in selected), target


def test_labels_in_a_query_are_labels_of_its_metric() -> None:
    for target, selection in SELECTIONS:
        metric = described().get(family(selection.metric, HISTOGRAMS))
        if metric is None:
            continue
        own = {*metric.labels, *SELECTED, *(("le",) if metric.kind == "histogram" else ())}
        asked = {label for around in selection.around for label in re.findall(r"\w+", around.partition("(")[2])}
        assert asked | set(selection.matchers) <= own, target


def test_a_counter_is_only_used_as_rate_or_increase_before_any_aggregation() -> None:
    for target, selection in SELECTIONS:
        innermost = selection.around[0] if selection.around else ""
        assert (kind(selection) == "counter") == (innermost in {"rate", "increase"}), target


def test_rates_use_grafanas_rate_interval_and_only_instant_queries_the_whole_range() -> None:
    for target in TARGETS:
        over = set(re.findall(r"(?:rate|increase)\([^[]*\[([^]]*)\]", target.expr))
        assert over <= ({"$__range"} if target.instant else {"$__rate_interval"}), target


def test_a_quantile_covers_the_buckets_of_all_members() -> None:
    quantiles = [selection for _, selection in SELECTIONS if "histogram_quantile" in selection.around]
    assert quantiles
    for selection in quantiles:
        assert selection.metric.endswith("_bucket")
        assert selection.around == ("rate", "sum by (le)", "histogram_quantile")


def test_ages_and_limits_of_members_are_never_summed() -> None:
    for target, selection in SELECTIONS:
        if kind(selection) == "gauge" and re.search(r"_seconds$|_max_(?!per)|_flush_", selection.metric):
            assert not [name for name in selection.around if name.startswith(("sum", "avg"))], target


def test_a_partition_that_two_members_report_counts_once() -> None:
    for target, selection in SELECTIONS:
        if selection.metric.startswith("inventory_refresh_partition_"):
            assert selection.around[0] == "max by (topic, partition)", target


# Panels


@every_dashboard
def test_ids_differ_and_panels_do_not_overlap(name: str) -> None:
    rows = [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] == "row"]
    every = rows + panels(name)
    ids = [panel["id"] for panel in every]
    assert len(set(ids)) == len(ids)
    for panel in every:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["w"] > 0
        assert place["x"] + place["w"] <= COLUMNS
    for one, other in combinations(every, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


@every_dashboard
def test_every_row_is_filled_to_its_right_edge(name: str) -> None:
    """A gap in the grid is a missing panel or a wrong width."""
    covered: dict[int, int] = {}
    for panel in panels(name):
        place = panel["gridPos"]
        for line in range(place["y"], place["y"] + place["h"]):
            covered[line] = covered.get(line, 0) + place["w"]
    assert set(covered.values()) == {COLUMNS}


@every_dashboard
def test_every_panel_says_what_it_shows_and_what_to_do_when_it_looks_bad(name: str) -> None:
    for panel in panels(name):
        if panel["type"] != "text":
            shows, _, when_bad = panel["description"].partition("\n\n**When it looks bad:** ")
            assert len(shows.split()) >= 5, panel["title"]
            assert len(when_bad.split()) >= 5, panel["title"]


@every_dashboard
def test_titles_of_rows_and_of_panels_of_one_kind_are_unique(name: str) -> None:
    titles = [(panel["type"], panel["title"]) for panel in panels(name)]
    assert len(set(titles)) == len(titles)


@every_dashboard
def test_units_and_colours_are_ones_that_grafana_knows(name: str) -> None:
    known = {value for value in vars(units).values() if isinstance(value, str)}
    for panel in panels(name):
        if panel["type"] != "text":
            assert panel["fieldConfig"]["defaults"]["unit"] in known, panel["title"]
    named = set(re.findall(r"'(?:color|fixedColor)': '([^']*)'", str(DASHBOARDS[name]["panels"])))
    assert not [
        color
        for color in named
        if not re.fullmatch(r"(dark-|semi-dark-|light-)?(green|yellow|orange|red|blue|purple)|#[0-9a-f]{6}", color)
    ]


@every_dashboard
def test_all_data_comes_from_the_selected_source(name: str) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    variables = {variable["name"]: variable for variable in DASHBOARDS[name]["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for variable in variables.values():
        assert variable["type"] == "datasource" or variable["datasource"] == chosen
    for panel in panels(name):
        if panel["type"] != "text":
            assert panel["datasource"] == chosen
            assert all(target["datasource"] == chosen for target in panel["targets"])


@every_dashboard
def test_every_variable_is_defined_and_used(name: str) -> None:
    defined = {variable["name"] for variable in DASHBOARDS[name]["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", str(DASHBOARDS[name])))
    assert {variable for variable in used if not variable.startswith("__")} == defined


@every_dashboard
def test_legends_distinguish_the_series_of_a_panel(name: str) -> None:
    for panel in panels(name):
        if panel["type"] != "timeseries":
            continue
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert all(legends), panel["title"]
        assert len(set(legends)) == len(legends), panel["title"]
        for target in panel["targets"]:
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = {label for selection in selections_of(target["expr"]) for label in outermost(selection)}
            assert named == kept, (panel["title"], target["refId"])


def outermost(selection: Selection) -> set[str]:
    """Labels that remain after all aggregations."""
    aggregations = [function for function in selection.around if function.startswith(("sum", "max", "count"))]
    left = set(re.findall(r"\w+", aggregations[-1].partition("(")[2])) if aggregations else set()
    return left - {"le"} if "histogram_quantile" in selection.around else left


@every_dashboard
def test_thresholds_increase_and_start_without_a_bound(name: str) -> None:
    for panel in panels(name):
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps") if "fieldConfig" in panel else None
        if steps:
            assert steps[0]["value"] is None
            values = [-math.inf, *(step["value"] for step in steps[1:])]
            assert values == sorted(set(values)), panel["title"]


@every_dashboard
def test_the_dashboards_link_to_each_other_and_to_the_runbook(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["uid"] == {"inventory-refresh": MAIN, "one-location": LOCATION}[name]
    by_tag, runbook = dashboard["links"]
    assert by_tag["type"] == "dashboards"
    assert all(set(by_tag["tags"]) <= set(dashboard["tags"]) for dashboard in DASHBOARDS.values())
    assert by_tag["includeVars"]
    assert by_tag["keepTime"]
    assert runbook["url"] == RUNBOOK
    inside = re.findall(r"\bd/([\w-]+)\?", str(dashboard))
    assert set(inside) <= {MAIN, LOCATION}
    assert bool(inside) == (name == "one-location")


def test_every_alert_is_linked_from_a_panel_to_its_section_of_the_runbook() -> None:
    linked = {
        link["url"]: link["title"].removeprefix("Runbook: ")
        for name in DASHBOARDS
        for panel in panels(name)
        for link in panel.get("links", ())
    }
    for url, alert in linked.items():
        assert url == f"{RUNBOOK}#" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", alert).lower()
    if ALERTS.exists():
        assert set(linked.values()) == set(re.findall(r"alert: (\w+)", ALERTS.read_text(encoding="utf-8")))


@every_dashboard
def test_grafanas_own_model_round_trips_a_dashboard(name: str) -> None:
    assert json.loads(as_text(models.Dashboard.from_json(DASHBOARDS[name]))) == DASHBOARDS[name]
