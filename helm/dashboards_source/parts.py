"""The vocabulary of the dashboards: queries of one release, and panels that say what to do when they look bad."""

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
"""The chart puts the runbook's own address in place of this, as it does in the alerts."""
MAIN: Final = "inventory-refresh"
LOCATION: Final = "inventory-refresh-location"
"""The dashboards' fixed ids, by which they link to each other."""

SELECTED: Final = 'namespace="$namespace", job="$release", pod=~"$pod"'
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
    """The series of this metric that the dashboard's variables select."""
    return f"{metric}{{{', '.join((SELECTED, *matchers))}}}"


def rate(metric: str, *matchers: str) -> str:
    """The rate of a counter, of each series alone: to be summed afterwards, never before."""
    return f"rate({of(metric, *matchers)}[$__rate_interval])"


def increase(metric: str, *matchers: str, over: str = "$__range") -> str:
    """By how much a counter grew, by default in all of the time that the dashboard shows."""
    return f"increase({of(metric, *matchers)}[{over}])"


def quantile(share: float, histogram: str, *matchers: str) -> str:
    """A quantile of a histogram, over all members together."""
    return f"histogram_quantile({share}, sum by (le) ({rate(f'{histogram}_bucket', *matchers)}))"


def by_partition(gauge: str, *matchers: str) -> str:
    """A partition's value: while it moves, two members may tell of it, and it must not count twice."""
    return f"max by (topic, partition) ({of(gauge, *matchers)})"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel, and how its series are named and drawn.

    ``color`` is for all its series, or None for the palette's. A ``limit`` is drawn as a dashed line.
    """

    expr: str
    legend: str = ""
    color: str | None = None
    limit: bool = False


def limit(expr: str, legend: str) -> Query:
    """A line that the others should stay below."""
    return Query(expr, legend, RED, limit=True)


# Panels


@dataclass(frozen=True, slots=True)
class Told:
    """What a panel shows, and what to do when it looks bad: its description.

    ``alerts`` are those that tell of the same: the panel links to their sections of the runbook.
    """

    shows: str
    when_bad: str
    alerts: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.shows}\n\n**When it looks bad:** {self.when_bad}"

    def links(self) -> list[Builder[models.DashboardLink]]:
        """Links to the runbook; its headings are the alerts' names, as kebab-case in addresses."""
        return [
            dashboard_builders.DashboardLink(f"Runbook: {alert}")
            .type(models.DashboardLinkType.LINK)
            .url(f"{RUNBOOK}#{_kebab_case(alert)}")
            .target_blank(True)
            for alert in self.alerts
        ]


def graph(
    title: str,
    told: Told,
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
    """Lines over time, or with ``stacked`` bars on each other; ``colors`` by the series' name.

    ``share`` draws from 0 to 100 %.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(str(told))
        .links(told.links())
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
    told: Told,
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
    """One number, coloured by ``steps`` (from which value on which colour; the first has None).

    ``names`` are texts and colours in place of single values. Unless it is asked for ``now`` only, its way is drawn
    behind it.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(str(told))
        .links(told.links())
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
    told: Told,
    columns: Mapping[str, str],
    *,
    labels: Mapping[str, str],
    width: int = 24,
    height: int = 8,
    overrides: Mapping[str, Sequence[models.DynamicConfigValue]] | None = None,
    sort_by: str = "",
    no_value: str = "",
) -> table.Panel:
    """A table: ``columns`` are headings and the queries whose values stand there, joined by their labels.

    ``labels`` are the label columns before them, by their headings. What else Prometheus tells is left out.
    """
    panel = (
        table.Panel()
        .title(title)
        .description(str(told))
        .links(told.links())
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
    if len(columns) == 1:  # Grafana numbers the values only where there are several
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
    """Markdown, for what a reader must know before the numbers."""
    return (
        text.Panel().title(title).description(title).span(width).height(height).mode(TextMode.MARKDOWN).content(content)
    )


def thresholds(steps: Sequence[tuple[float | None, str]]) -> dashboard_builders.ThresholdsConfig:
    """Colours from values on."""
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
