"""The one list of metrics, as docs/metrics.md shows it, for tests of dashboards, alerts and docs."""

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from consumer.observe.metrics import MetricDescription

ROOT = Path(__file__).parents[2]


@cache
def described() -> Mapping[str, MetricDescription]:
    """By name. The page is generated from the code, not read from disk."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", generator.PAGES["metrics.md"](), re.MULTILINE)
    return {
        name: MetricDescription(name, kind, tuple(re.findall(r"`(\w+)`", labels)), text)
        for name, kind, labels, text in rows
    }
