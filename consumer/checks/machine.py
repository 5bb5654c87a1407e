"""What the process itself has: memory and disk."""

import shutil
from pathlib import Path
from typing import Final

from consumer.checks.findings import Finding, ok, warning
from consumer.container import PRESSURE_SHARE
from consumer.settings.memory import (
    BUDGET_SHARE,
    FIXED_BYTES,
    GIB,
    MIB,
    Budget,
    assumed_limit_bytes,
    budget_bytes,
    size,
)

FREE_BYTES_MIN: Final = 100 * MIB
"""The service writes no files, but its log does, and a node evicts pods when its disk is full."""


def judge_memory(setting: Budget, limit_bytes: int | None, used_bytes: int | None) -> Finding:
    """``memory.budget`` against the container's limit and use; None: no limit, and use that cannot be read.

    Raises SettingsError if the container cannot hold the budget.
    """
    budget = budget_bytes(setting, limit_bytes)
    if limit_bytes is None:
        assumed = size(assumed_limit_bytes(budget, None))
        return ok("memory", f"no container limit; memory.budget is {size(budget)}, as if the limit were {assumed}")
    line = f"memory.budget is {size(budget)} of the container's limit of {size(limit_bytes)}"
    if budget > max(limit_bytes - FIXED_BYTES, 0) * BUDGET_SHARE:
        return warning(
            "memory",
            f"{line}: more than half of what {size(FIXED_BYTES)} for the process itself leave",
            "set memory.budget: auto, or raise the limit",
        )
    if used_bytes is not None and used_bytes > PRESSURE_SHARE * limit_bytes:
        return warning(
            "memory",
            f"{line}, and {size(used_bytes)} are in use: the service reads less until memory is free",
            "raise the limit, or move what else runs in this container",
        )
    return ok("memory", line)


def check_disk(folder: Path) -> Finding:
    """The free space where the process runs."""
    return judge_disk(shutil.disk_usage(folder).free)


def judge_disk(free_bytes: int) -> Finding:
    free = f"{free_bytes / GIB:.1f} GiB"
    if free_bytes < FREE_BYTES_MIN:
        return warning("disk", f"only {free} are free", "free some: the log needs room")
    return ok("disk", f"{free} are free; the service itself writes no files")
