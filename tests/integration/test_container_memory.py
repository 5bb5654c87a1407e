"""The container's limit as the kernel enforces it: in a memory cgroup of our own, where one can be made."""

import subprocess
import sys

import pytest

from consumer.settings.memory import MIB
from tests.support.cgroup import limited

pytestmark = pytest.mark.integration

LIMIT_BYTES = 300 * MIB
KEPT_BYTES = 100 * MIB
SHOW = f"""
from consumer.container import ContainerMemory
from consumer.settings.memory import budget_bytes
memory = ContainerMemory()
before = memory.used_bytes()
kept = b"x" * {KEPT_BYTES}
print(memory.limit_bytes, before, memory.used_bytes(), budget_bytes("auto", memory.limit_bytes))
"""


def test_the_limit_and_the_use_of_a_real_cgroup_are_seen() -> None:
    with limited(LIMIT_BYTES) as within:
        shown = subprocess.run(  # noqa: S603 - our own interpreter
            [*within, sys.executable, "-c", SHOW], capture_output=True, text=True, check=True, timeout=60
        )
    limit, before, after, budget = map(int, shown.stdout.split())
    assert limit == pytest.approx(LIMIT_BYTES, abs=64 * 1024)  # the kernel rounds to pages
    assert after - before == pytest.approx(KEPT_BYTES, rel=0.1)
    assert budget == pytest.approx(86 * MIB, abs=MIB)
