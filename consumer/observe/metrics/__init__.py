"""Prometheus metrics: each is defined and described once here, and docs/metrics.md is generated from it.

Belongs here: metrics, their names and help texts.
Does not: dashboards and alerts (``helm``).

Names follow Prometheus: the prefix ``inventory_refresh_``, base units, ``_total`` for counters. Labels have few values:
items are never a label, and locations only if that is switched on. The loop's facts are counted as they happen. State
is collected from the latest snapshot at each scrape, so that a revoked partition leaves no stale series behind.
"""

from consumer.observe.metrics.definitions import MetricDescription
from consumer.observe.metrics.metrics import Metrics

__all__ = ["MetricDescription", "Metrics"]
