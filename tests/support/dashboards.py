"""The chart's dashboards, as their JSON says them."""

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
"""What prometheus-client's ProcessCollector adds; not of our list."""


@dataclass(frozen=True, slots=True)
class Target:
    """One query of one panel."""

    dashboard: str
    panel: str
    letter: str
    expr: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.letter}"


def dashboards() -> dict[str, dict[str, Any]]:
    """By the name of their file, without its ending."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def targets() -> list[Target]:
    """Every query of every panel."""
    return [target for name, dashboard in dashboards().items() for target in _targets(name, dashboard)]


def target(dashboard: str, panel: str, letter: str = "A") -> Target:
    """One query; the first, where several panels have this title."""
    return next(each for each in targets() if (each.dashboard, each.panel, each.letter) == (dashboard, panel, letter))


def _targets(name: str, dashboard: Mapping[str, Any]) -> Iterator[Target]:
    for panel in panels_of(dashboard):
        for each in panel.get("targets", ()):
            yield Target(name, panel["title"], each["refId"], each["expr"], bool(each.get("instant")))
