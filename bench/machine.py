"""On what and with which versions it is measured."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import confluent_kafka

ROOT: Final = Path(__file__).resolve().parents[1]


def machine() -> dict[str, Any]:
    """Cores that this process may use, memory in bytes, kernel and processor."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "processor": _processor(),
    }


def versions(kafka: str) -> dict[str, str]:
    """``kafka`` is the broker's version, as text."""
    return {
        "service": version("inventory-refresh"),
        "python": platform.python_version(),
        "polars": version("polars"),
        "librdkafka": confluent_kafka.libversion()[0],
        "kafka": kafka,
    }


def commit() -> str:
    """The short id of the checkout's commit, with ``+`` if files differ from it; "unknown" outside a checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--dirty=+"],  # noqa: S607 - git is on the path
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30.0,
    )
    return described.stdout.strip() or "unknown"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
