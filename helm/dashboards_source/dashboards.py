"""The two dashboards: their rows, the variables that every query uses, and the links between them."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from helm.dashboards_source import flow, health, kafka, oms, one_location, process, windows
from helm.dashboards_source.parts import DATASOURCE, LOCATION, MAIN, RELEASE, RUNBOOK, AnyPanel

TAG: Final = "inventory-refresh"


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and its panels. A closed row opens with a click and sends no queries before that."""

    title: str
    panels: Callable[[], Sequence[AnyPanel]]
    closed: bool = False


def inventory_refresh() -> models.Dashboard:
    """The dashboard of a whole release."""
    description = "The inventory refresh consumer, from Kafka to the OMS. If the first row is green, it is healthy."
    rows = [
        *(Row(part.TITLE, part.panels) for part in (health, flow, windows, oms)),
        *(Row(part.TITLE, part.panels, closed=True) for part in (kafka, process)),
    ]
    return _dashboard("Inventory refresh", MAIN, description, rows, [])


def one_location_dashboard() -> models.Dashboard:
    """The dashboard of a single location."""
    description = "Why is this store's count stale? Needs metrics.locations_max, which is 0 by default."
    rows = [
        Row(one_location.CURRENT, one_location.current),
        Row(one_location.HISTORY, one_location.history),
        Row(one_location.OTHERS, one_location.others),
    ]
    location = _query_variable(
        "location",
        "Location",
        f'label_values({{__name__=~"inventory_refresh_location_.+", {RELEASE}}}, location)',
        "Location (locationName of the OMS). Empty if metrics.locations_max is 0.",
    )
    return _dashboard("Inventory refresh: one location", LOCATION, description, rows, [location])


FILES: Final[Mapping[str, Callable[[], models.Dashboard]]] = {
    "inventory-refresh.json": inventory_refresh,
    "one-location.json": one_location_dashboard,
}


def as_text(dashboard: models.Dashboard) -> str:
    """The JSON that Grafana imports; deterministic."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def panels_of(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard's JSON, including those of closed rows, without the rows themselves."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or ()
        else:
            yield panel


def _dashboard(
    title: str, uid: str, description: str, rows: Sequence[Row], more: Sequence[builders.QueryVariable]
) -> models.Dashboard:
    built = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for variable in (_datasource(), *_selection(), *more):
        built.with_variable(variable)
    for link in _links():
        built.link(link)
    for row in rows:
        heading = builders.Row(row.title).collapsed(row.closed)
        if row.closed:
            for panel in row.panels():
                heading.with_panel(panel)
        built.with_row(heading)
        if not row.closed:
            for panel in row.panels():
                built.with_panel(panel)
    return _numbered(built.build())


def _numbered(dashboard: models.Dashboard) -> models.Dashboard:
    """Give every panel an id of its own; links to single panels need it."""
    ids = itertools.count(1)
    for panel in dashboard.panels or ():
        for numbered in (panel, *(panel.panels if isinstance(panel, models.RowPanel) else ())):
            numbered.id_val = next(ids)
    return dashboard


def _datasource() -> builders.DatasourceVariable:
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _selection() -> Iterator[builders.QueryVariable]:
    series = "inventory_refresh_build_info"
    yield _query_variable(
        "cluster", "Cluster", f"label_values({series}, cluster)", "Label cluster; empty if the series do not have it."
    )
    yield _query_variable(
        "namespace",
        "Namespace",
        f'label_values({series}{{cluster="$cluster"}}, namespace)',
        "Kubernetes namespace of the release.",
    )
    yield _query_variable(
        "release",
        "Release",
        f'label_values({series}{{cluster="$cluster", namespace="$namespace"}}, job)',
        "Name of the Helm release, which is the label job.",
    )
    yield (
        _query_variable(
            "pod",
            "Member",
            f"label_values({series}{{{RELEASE}}}, pod)",
            "Pods of the release. All includes pods that have ended since.",
        )
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _query_variable(name: str, label: str, query: str, description: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _links() -> list[builders.DashboardLink]:
    return [
        builders.DashboardLink("Dashboards of the consumer")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True),
        builders.DashboardLink("Runbook")
        .type(models.DashboardLinkType.LINK)
        .url(RUNBOOK)
        .icon("doc")
        .tooltip("What every alert means, and what to do")
        .target_blank(True),
    ]
