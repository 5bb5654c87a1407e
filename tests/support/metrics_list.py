"""The one list of metrics, as docs/metrics.md is made of it, for tests of what looks at metrics from outside."""

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from consumer.observe.metrics import Described

ROOT = Path(__file__).parents[2]


@cache
def described() -> Mapping[str, Described]:
    """By name. The page is made anew, from the code."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", generator.PAGES["metrics.md"](), re.MULTILINE)
    return {
        name: Described(name, kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows
    }
