"""What holds for all tests: how they are shared out among processes, and that real time decides none of them."""

import os
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

settings.register_profile("unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

TESTS: Final = Path(__file__).parent

INTEGRATION_SECONDS_MAX: Final = 900.0

OF_REAL_PARTS: Final = ("contract", "deploy", "integration")
"""Folders whose tests start servers and processes: with ``CI=true``, one that failed is tried once more.

The first failure is shown under its name as RERUN: it is a bug to look into, but of a moment. Everything that decides
by itself alone (unit, property, simulation, fuzz, architecture) has one try.
"""

ONE_PROCESS: Final = ("tests/integration/test_broker_faults.py",)
"""Files whose tests run in one process, one after the other: they share what is dear to start, and break it."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Each test goes where there is room, but for those of ``ONE_PROCESS``."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in ONE_PROCESS else nodeid


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever comes first has servers fetched and started, within limits of their own (see ``support.keeper``)."""
    for item in items:
        if item.get_closest_marker("integration") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(INTEGRATION_SECONDS_MAX))
        if os.environ.get("CI") == "true" and item.path.relative_to(TESTS).parts[0] in OF_REAL_PARTS:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Takes the place of the option ``--dist``."""
    return Scheduling(config, log)
