"""The two dashboards: rows in their order, the variables that every query uses, and the links between them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from helm.dashboards_source import flow, kafka, oms, one_location, process, well, windows
from helm.dashboards_source.parts import DATASOURCE, LOCATION, MAIN, RUNBOOK, AnyPanel

TAG: Final = "inventory-refresh"


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and its panels; a closed one is opened by a click, and asks Prometheus nothing before."""

    title: str
    panels: Callable[[], Sequence[AnyPanel]]
    closed: bool = False


def inventory_refresh() -> models.Dashboard:
    """The whole release."""
    described = (
        "What the inventory refresh consumer does, from Kafka to the OMS. If the first row is green, it is well."
    )
    rows = [
        *(Row(part.TITLE, part.panels) for part in (well, flow, windows, oms)),
        *(Row(part.TITLE, part.panels, closed=True) for part in (kafka, process)),
    ]
    return _dashboard("Inventory refresh", MAIN, described, rows, [])


def one_location_dashboard() -> models.Dashboard:
    """A single location of it."""
    described = "Why is this store's count stale? Needs metrics.locations_max, which is 0 by default."
    rows = [
        Row(one_location.CURRENT, one_location.current),
        Row(one_location.WAY, one_location.way),
        Row(one_location.OTHERS, one_location.others),
    ]
    location = _query_variable(
        "location",
        "Location",
        'label_values({__name__=~"inventory_refresh_location_.+", namespace="$namespace", job="$release"}, location)',
        "A location (locationName of the OMS). Empty: metrics.locations_max is 0.",
    )
    return _dashboard("Inventory refresh: one location", LOCATION, described, rows, [location])


FILES: Final[Mapping[str, Callable[[], models.Dashboard]]] = {
    "inventory-refresh.json": inventory_refresh,
    "one-location.json": one_location_dashboard,
}


def as_text(dashboard: models.Dashboard) -> str:
    """The JSON that Grafana imports; the same for the same source."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def panels_of(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard's JSON, those of closed rows too, without the rows themselves."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or ()
        else:
            yield panel


def _dashboard(
    title: str, uid: str, described: str, rows: Sequence[Row], more: Sequence[builders.QueryVariable]
) -> models.Dashboard:
    built = (
        builders.Dashboard(title)
        .uid(uid)
        .description(described)
        .tags([TAG])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .editable()
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
    """Panels need ids that differ, for links to single ones."""
    number = 0
    for panel in dashboard.panels or ():
        for each in (panel, *(panel.panels if isinstance(panel, models.RowPanel) else ())):
            number += 1
            each.id_val = number
    return dashboard


def _datasource() -> builders.DatasourceVariable:
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _selection() -> Iterator[builders.QueryVariable]:
    series = "inventory_refresh_build_info"
    yield _query_variable(
        "namespace", "Namespace", f"label_values({series}, namespace)", "Kubernetes namespace of the release."
    )
    yield _query_variable(
        "release",
        "Release",
        f'label_values({series}{{namespace="$namespace"}}, job)',
        "Name of the Helm release: the label job.",
    )
    yield (
        _query_variable(
            "pod",
            "Member",
            f'label_values({series}{{namespace="$namespace", job="$release"}}, pod)',
            "Processes (pods) of the release. All includes those that have ended meanwhile.",
        )
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _query_variable(name: str, label: str, query: str, described: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(label)
        .description(described)
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
        .tooltip("What each alert means, and what to do")
        .target_blank(True),
    ]
