"""Every metric, each defined and described once; docs/metrics.md is made of this.

Names follow Prometheus: prefix ``inventory_refresh_``, base units, ``_total`` for counters. Labels have few values: an
item is never one, a location only where that is switched on. What the loop counts is counted as it happens; what is a
state is read where it is kept when Prometheus asks, so that a partition that went leaves no series behind.
"""

from consumer.observe.metrics.described import Described
from consumer.observe.metrics.metrics import Metrics

__all__ = ["Described", "Metrics"]
