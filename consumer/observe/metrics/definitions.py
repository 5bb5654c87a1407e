"""How a metric is described, and metrics whose values are collected at each scrape."""

from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

PREFIX: Final = "inventory_refresh"


@dataclass(frozen=True, slots=True)
class MetricDescription:
    """One metric, for the documentation: full name, type (counter, gauge or histogram), labels and help text."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help_text: str


@dataclass(frozen=True, slots=True)
class GaugeDefinition:
    """A gauge that is collected at each scrape. ``name`` is without the prefix."""

    name: str
    help_text: str
    labels: tuple[str, ...] = ()

    def family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{PREFIX}_{self.name}", self.help_text, labels=self.labels)

    def description(self) -> MetricDescription:
        return MetricDescription(f"{PREFIX}_{self.name}", "gauge", self.labels, self.help_text)


@dataclass(frozen=True, slots=True)
class CounterDefinition:
    """A counter that is collected at each scrape. ``name`` is without the prefix and without ``_total``."""

    name: str
    help_text: str
    labels: tuple[str, ...] = ()

    def family(self) -> CounterMetricFamily:
        return CounterMetricFamily(f"{PREFIX}_{self.name}", self.help_text, labels=self.labels)

    def description(self) -> MetricDescription:
        return MetricDescription(f"{PREFIX}_{self.name}_total", "counter", self.labels, self.help_text)
