"""The dashboards' JSON is what their source makes, and is right in itself."""

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

SELECTED = {"namespace": "=$namespace", "job": "=$release", "pod": "=~$pod"}
"""What each selector must have, so that two releases, or two namespaces, never mix."""

NOT_DRAWN = {
    "inventory_refresh_changes_decoded_total": "read less rejected and tombstones, which are drawn",
    "inventory_refresh_unfinished_job_items": "the jobs themselves are drawn; items tell the same",
    "inventory_refresh_unknown_hold_seconds": "only an alert reckons with it",
}

KINDS = {name: each.kind for name, each in described().items()} | PROCESS
HISTOGRAMS = {name for name, kind in KINDS.items() if kind == "histogram"}

every_dashboard = pytest.mark.parametrize("name", DASHBOARDS)


def selections_of(expr: str) -> list[Selection]:
    """Its selectors. Grafana's own variables get values, as PromQL does not know them; ours stay."""
    kept = {name: f"${name}" for name in ("namespace", "release", "pod", "location")}
    return selections(with_values(expr, range_seconds=3_600, **kept))


READ = {target: selections_of(target.expr) for target in TARGETS}
SELECTIONS = [(target, each) for target, selected in READ.items() for each in selected]


def kind(selection: Selection) -> str:
    name = family(selection.metric, HISTOGRAMS)
    ending = "counter" if name.endswith("_total") or name in HISTOGRAMS else "gauge"
    return KINDS.get(name, ending).replace("histogram", "counter")


def panels(name: str) -> list[dict[str, Any]]:
    return list(panels_of(DASHBOARDS[name]))


@pytest.mark.parametrize("file", FILES)
def test_the_json_is_what_the_source_makes(file: str) -> None:
    assert (FOLDER / file).read_text(encoding="utf-8") == as_text(FILES[file]()), "run make dashboards"


def test_there_is_no_dashboard_without_a_source() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(FILES)


# Metrics


def drawn() -> set[str]:
    return {family(each.metric, HISTOGRAMS) for _, each in SELECTIONS}


def test_every_metric_that_is_drawn_exists_in_the_code() -> None:
    assert drawn() - set(KINDS) == set()


def test_every_metric_of_the_code_is_drawn_or_there_is_a_reason_why_not() -> None:
    assert set(described()) - drawn() == set(NOT_DRAWN)


def test_a_query_selects_one_release_by_its_variables() -> None:
    for target, selected in READ.items():
        assert selected or "vector(" in target.expr, target
        assert all(SELECTED.items() <= each.matchers.items() for each in selected), target


def test_labels_that_a_query_names_are_labels_of_the_metric() -> None:
    for target, each in SELECTIONS:
        metric = described().get(family(each.metric, HISTOGRAMS))
        if metric is None:
            continue
        own = {*metric.labels, *SELECTED, *(("le",) if metric.kind == "histogram" else ())}
        asked = {label for around in each.around for label in re.findall(r"\w+", around.partition("(")[2])}
        assert asked | set(each.matchers) <= own, target


def test_a_counter_is_only_read_as_rate_or_increase_and_these_come_before_any_sum() -> None:
    for target, each in SELECTIONS:
        innermost = each.around[0] if each.around else ""
        assert (kind(each) == "counter") == (innermost in {"rate", "increase"}), target


def test_a_rate_is_over_grafanas_rate_interval_and_only_what_is_asked_for_once_over_the_whole_range() -> None:
    for target in TARGETS:
        over = set(re.findall(r"(?:rate|increase)\([^[]*\[([^]]*)\]", target.expr))
        assert over <= ({"$__range"} if target.instant else {"$__rate_interval"}), target


def test_a_quantile_is_of_all_members_buckets_together() -> None:
    quantiles = [each for _, each in SELECTIONS if "histogram_quantile" in each.around]
    assert quantiles
    for each in quantiles:
        assert each.metric.endswith("_bucket")
        assert each.around == ("rate", "sum by (le)", "histogram_quantile")


def test_ages_and_limits_of_members_are_never_added_up() -> None:
    for target, each in SELECTIONS:
        if kind(each) == "gauge" and re.search(r"_seconds$|_max_(?!per)|_flush_", each.metric):
            assert not [name for name in each.around if name.startswith(("sum", "avg"))], target


def test_a_partition_of_which_two_members_tell_counts_once() -> None:
    for target, each in SELECTIONS:
        if each.metric.startswith("inventory_refresh_partition_"):
            assert each.around[0] == "max by (topic, partition)", target


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
    """A gap in the grid is a panel that was forgotten, or a width that does not add up."""
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
def test_titles_of_a_dashboards_rows_and_panels_of_one_kind_differ(name: str) -> None:
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
        each
        for each in named
        if not re.fullmatch(r"(dark-|semi-dark-|light-)?(green|yellow|orange|red|blue|purple)|#[0-9a-f]{6}", each)
    ]


@every_dashboard
def test_all_data_come_from_the_chosen_source(name: str) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    variables = {each["name"]: each for each in DASHBOARDS[name]["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for each in variables.values():
        assert each["type"] == "datasource" or each["datasource"] == chosen
    for panel in panels(name):
        if panel["type"] != "text":
            assert panel["datasource"] == chosen
            assert all(target["datasource"] == chosen for target in panel["targets"])


@every_dashboard
def test_every_variable_that_is_used_is_defined_and_the_other_way_round(name: str) -> None:
    defined = {each["name"] for each in DASHBOARDS[name]["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", str(DASHBOARDS[name])))
    assert {each for each in used if not each.startswith("__")} == defined


@every_dashboard
def test_series_of_a_panel_can_be_told_apart(name: str) -> None:
    for panel in panels(name):
        if panel["type"] != "timeseries":
            continue
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert all(legends), panel["title"]
        assert len(set(legends)) == len(legends), panel["title"]
        for target in panel["targets"]:
            told = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = {label for each in selections_of(target["expr"]) for label in outermost(each)}
            assert told == kept, (panel["title"], target["refId"])


def outermost(selection: Selection) -> set[str]:
    """Labels that are left after all aggregations."""
    aggregations = [each for each in selection.around if each.startswith(("sum", "max", "count"))]
    left = set(re.findall(r"\w+", aggregations[-1].partition("(")[2])) if aggregations else set()
    return left - {"le"} if "histogram_quantile" in selection.around else left


@every_dashboard
def test_thresholds_rise_and_begin_at_the_bottom(name: str) -> None:
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
    assert all(set(by_tag["tags"]) <= set(each["tags"]) for each in DASHBOARDS.values())
    assert by_tag["includeVars"]
    assert by_tag["keepTime"]
    assert runbook["url"] == RUNBOOK
    inside = re.findall(r"\bd/([\w-]+)\?", str(dashboard))
    assert set(inside) <= {MAIN, LOCATION}
    assert bool(inside) == (name == "one-location")


def test_every_alert_has_a_panel_that_leads_from_it_to_its_section_of_the_runbook() -> None:
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
def test_grafanas_own_model_of_a_dashboard_reads_it_and_loses_nothing_of_it(name: str) -> None:
    assert json.loads(as_text(models.Dashboard.from_json(DASHBOARDS[name]))) == DASHBOARDS[name]
