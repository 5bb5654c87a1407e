"""The one list of metrics, as docs/metrics.md is made of it, for tests of what looks at metrics from outside."""

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[2]

ANNOUNCED: Final = {
    "inventory_refresh_kafka_brokers_up",
    "inventory_refresh_max_age_seconds",
    "inventory_refresh_max_distance_offsets",
    "inventory_refresh_max_pending_changes",
    "inventory_refresh_partition_end_offset",
    "inventory_refresh_partition_lag_offsets",
    "inventory_refresh_unknown_hold_seconds",
}
"""Metrics that alerts need and that the code is about to have."""


@cache
def described() -> Mapping[str, tuple[str, ...]]:
    """Labels by name. The page is made anew, from the code."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| ([^|]*) \|", generator.PAGES["metrics.md"](), re.MULTILINE)
    return {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
