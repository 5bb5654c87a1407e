"""The dashboards of the chart, read from their JSON."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helm.dashboards_source.dashboards import panels_of

FOLDER = Path(__file__).resolve().parents[2] / "helm" / "inventory-refresh" / "dashboards"

PROCESS = {
    "process_cpu_seconds_total": "counter",
    "process_max_fds": "gauge",
    "process_open_fds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_virtual_memory_bytes": "gauge",
}
"""Metrics of prometheus-client's ProcessCollector, which are not in our list."""


@dataclass(frozen=True, slots=True)
class Target:
    """A query of a panel."""

    dashboard: str
    panel: str
    letter: str
    expr: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.letter}"


def dashboards() -> dict[str, dict[str, Any]]:
    """Dashboards by file name without suffix."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def targets() -> list[Target]:
    """All queries of all panels."""
    return [target for name, dashboard in dashboards().items() for target in _targets(name, dashboard)]


def target(dashboard: str, panel: str, letter: str = "A") -> Target:
    """A query, of the first panel with this title."""
    wanted = (dashboard, panel, letter)
    return next(found for found in targets() if (found.dashboard, found.panel, found.letter) == wanted)


def _targets(name: str, dashboard: Mapping[str, Any]) -> Iterator[Target]:
    for panel in panels_of(dashboard):
        for query in panel.get("targets", ()):
            yield Target(name, panel["title"], query["refId"], query["expr"], bool(query.get("instant")))
