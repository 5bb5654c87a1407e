"""Building blocks of the dashboards: queries on a release, and panels that say what to do when they look bad."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

AnyPanel = timeseries.Panel | stat.Panel | table.Panel | text.Panel

DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOK: Final = "docs/operations.md"
"""Path of the runbook; the chart replaces it with ``prometheusRule.runbookUrl``, as in the alerts."""
MAIN: Final = "inventory-refresh"
LOCATION: Final = "inventory-refresh-location"
"""Fixed ids of the dashboards, used in the links between them."""

RELEASE: Final = 'cluster="$cluster", namespace="$namespace", job="$release"'
"""Matchers of one release. Where series have no label ``cluster``, its variable is empty, which matches them."""
SELECTED: Final = f'{RELEASE}, pod=~"$pod"'
GREEN: Final = "green"
YELLOW: Final = "yellow"
ORANGE: Final = "orange"
RED: Final = "red"
BLUE: Final = "blue"
PURPLE: Final = "purple"
GREY: Final = "#8e8e8e"

CHANGES_PER_SECOND: Final = units.CountsPerSecond
REQUESTS_PER_SECOND: Final = units.RequestsPerSecond


# Queries


def of(metric: str, *matchers: str) -> str:
    """The series of a metric selected by the variables of the dashboard."""
    return f"{metric}{{{', '.join((SELECTED, *matchers))}}}"


def rate(metric: str, *matchers: str) -> str:
    """Rate of a counter, by series; aggregate it afterwards, never before."""
    return f"rate({of(metric, *matchers)}[$__rate_interval])"


def increase(metric: str, *matchers: str, over: str = "$__range") -> str:
    """Increase of a counter, by default over the time range of the dashboard."""
    return f"increase({of(metric, *matchers)}[{over}])"


def quantile(share: float, histogram: str, *matchers: str) -> str:
    """Quantile of a histogram over all members."""
    return f"histogram_quantile({share}, sum by (le) ({rate(f'{histogram}_bucket', *matchers)}))"


def by_partition(gauge: str, *matchers: str) -> str:
    """Value by partition. While a partition moves, two members may report it, and it must not count twice."""
    return f"max by (topic, partition) ({of(gauge, *matchers)})"


@dataclass(frozen=True, slots=True)
class Query:
    """A query of a panel, and how its series are named and drawn.

    ``color`` applies to all its series; None uses the palette. A ``limit`` is drawn as a dashed line.
    """

    expr: str
    legend: str = ""
    color: str | None = None
    limit: bool = False


def limit(expr: str, legend: str) -> Query:
    """A dashed line that the other series should stay below."""
    return Query(expr, legend, RED, limit=True)


# Panels


@dataclass(frozen=True, slots=True)
class Description:
    """The description of a panel: what it shows, and what to do when it looks bad.

    ``alerts`` are the names of related alerts; the panel links to their sections of the runbook.
    """

    shows: str
    when_bad: str
    alerts: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.shows}\n\n**When it looks bad:** {self.when_bad}"

    def links(self) -> list[Builder[models.DashboardLink]]:
        """Links to the runbook, whose headings are the names of the alerts; anchors are in kebab case."""
        return [
            dashboard_builders.DashboardLink(f"Runbook: {alert}")
            .type(models.DashboardLinkType.LINK)
            .url(f"{RUNBOOK}#{_kebab_case(alert)}")
            .target_blank(True)
            for alert in self.alerts
        ]


def graph(
    title: str,
    description: Description,
    *queries: Query,
    unit: str,
    width: int = 8,
    height: int = 8,
    stacked: bool = False,
    colors: Mapping[str, str] | None = None,
    decimals: int | None = None,
    share: bool = False,
    logarithmic: bool = False,
) -> timeseries.Panel:
    """Lines over time, or stacked bars with ``stacked``. ``colors`` maps names of series to colours.

    ``share`` draws from 0 to 100 %.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(str(description))
        .links(description.links())
        .datasource(DATASOURCE)
        .span(width)
        .height(height)
        .unit(unit)
        .min(0)
        .color_scheme(dashboard_builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .legend(
            common_builders.VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
        .show_points(common.VisibilityMode.NEVER)
        .line_width(1.5)
        .fill_opacity(10)
    )
    if stacked:
        panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(80).line_width(0)
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if decimals is not None:
        panel.decimals(decimals)
    if share:
        panel.max(1)
    if logarithmic:
        scale = common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        panel.scale_distribution(scale).min(0.1).fill_opacity(0)
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(_target(query, letter).range())
        if query.color or query.limit:
            panel.override_by_query(letter, _drawn(query))
    for name, color in (colors or {}).items():
        panel.override_by_name(name, [_fixed(color)])
    return panel


def number(
    title: str,
    description: Description,
    query: Query,
    *,
    unit: str,
    steps: Sequence[tuple[float | None, str]],
    names: Mapping[int, tuple[str, str]] | None = None,
    width: int = 3,
    decimals: int | None = None,
    now: bool = False,
    no_value: str = "No data",
) -> stat.Panel:
    """A single number, coloured by ``steps`` (lower bound and colour; the first bound is None).

    ``names`` maps values to a text and a colour. The history is drawn behind the number, unless there are ``names`` or
    ``now`` asks only for the latest value.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(str(description))
        .links(description.links())
        .datasource(DATASOURCE)
        .span(width)
        .height(4)
        .unit(unit)
        .no_value(no_value)
        .color_scheme(dashboard_builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds(steps))
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE if now or names else common.BigValueGraphMode.AREA)
        .text_mode(common.BigValueTextMode.VALUE)
    )
    if decimals is not None:
        panel.decimals(decimals)
    if names:
        results = {
            str(value): models.ValueMappingResult(text=words, color=color, index=index)
            for index, (value, (words, color)) in enumerate(names.items())
        }
        panel.mappings([models.ValueMap(options=results)])
    target = _target(query, "A")
    return panel.with_target(target.instant() if now else target.range())


def listing(
    title: str,
    description: Description,
    columns: Mapping[str, str],
    *,
    labels: Mapping[str, str],
    width: int = 24,
    height: int = 8,
    overrides: Mapping[str, Sequence[models.DynamicConfigValue]] | None = None,
    sort_by: str = "",
    no_value: str = "",
) -> table.Panel:
    """A table. ``columns`` maps headings to queries, whose results are joined by their labels.

    ``labels`` maps labels to the headings of the columns before them; other labels are left out. An empty ``sort_by``
    keeps the order of Prometheus.
    """
    panel = (
        table.Panel()
        .title(title)
        .description(str(description))
        .links(description.links())
        .datasource(DATASOURCE)
        .span(width)
        .height(height)
        .unit(units.LocaleFormat)
        .decimals(0)
        .no_value(no_value)
        .show_header(True)
        .cell_height(common.TableCellHeight.SM)
    )
    for letter, expr in zip("ABCDEFGHIJ", columns.values(), strict=False):
        panel.with_target(_target(Query(expr), letter).instant().format(PromQueryFormat.TABLE))
    names = dict(labels) | {f"Value #{letter}": name for letter, name in zip("ABCDEFGHIJ", columns, strict=False)}
    if len(columns) == 1:  # Grafana numbers the values only if there are several
        names = dict(labels) | dict.fromkeys(("Value", "Value #A"), next(iter(columns)))
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {name: index for index, name in enumerate(names)},
                "renameByName": names,
            },
        )
    )
    for name, properties in (overrides or {}).items():
        panel.override_by_name(name, list(properties))
    if sort_by:
        panel.sort_by([common_builders.TableSortByFieldState().display_name(sort_by).desc(True)])
    return panel


def note(title: str, content: str, *, width: int, height: int) -> text.Panel:
    """A text panel in Markdown, for what a reader must know first."""
    return (
        text.Panel().title(title).description(title).span(width).height(height).mode(TextMode.MARKDOWN).content(content)
    )


def thresholds(steps: Sequence[tuple[float | None, str]]) -> dashboard_builders.ThresholdsConfig:
    """Colours by lower bound."""
    return (
        dashboard_builders.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )


def _target(query: Query, letter: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).datasource(DATASOURCE)


def _kebab_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def _fixed(color: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": color})


def _drawn(query: Query) -> list[models.DynamicConfigValue]:
    drawn = [_fixed(query.color)] if query.color else []
    if query.limit:
        drawn += [
            models.DynamicConfigValue(id_val="custom.drawStyle", value="line"),
            models.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 8]}),
            models.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
            models.DynamicConfigValue(id_val="custom.stacking", value={"mode": "none", "group": "A"}),
        ]
    return drawn
