"""What the documentation says of a metric, and families that are made when Prometheus asks."""

from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

PREFIX: Final = "inventory_refresh"


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: full name, type (counter, gauge, histogram), labels, and what it tells."""

    name: str
    kind: str
    labels: tuple[str, ...]
    description: str


@dataclass(frozen=True, slots=True)
class Gauges:
    """A gauge whose values are read where they are kept, when Prometheus asks."""

    name: str
    description: str
    labels: tuple[str, ...] = ()

    def family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{PREFIX}_{self.name}", self.description, labels=self.labels)

    def described(self) -> Described:
        return Described(f"{PREFIX}_{self.name}", "gauge", self.labels, self.description)


@dataclass(frozen=True, slots=True)
class Counters:
    """A counter whose values are read where they are kept, when Prometheus asks; the name is without ``_total``."""

    name: str
    description: str
    labels: tuple[str, ...] = ()

    def family(self) -> CounterMetricFamily:
        return CounterMetricFamily(f"{PREFIX}_{self.name}", self.description, labels=self.labels)

    def described(self) -> Described:
        return Described(f"{PREFIX}_{self.name}_total", "counter", self.labels, self.description)
