"""Settings for all tests: how they are distributed to worker processes, reruns in CI, and no Hypothesis deadlines."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

settings.register_profile("unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

TESTS: Final = Path(__file__).parent

INTEGRATION_SECONDS_MAX: Final = 900.0

REAL_SERVERS: Final = ("contract", "deploy", "integration")
"""Folders whose tests start servers and processes: with ``CI=true`` a failed test is run once more.

The first failure is still shown, as RERUN; it may be a real but rare bug. Tests that depend on nothing outside the
process (unit, property, simulation, fuzz, architecture) run once.
"""

ONE_PROCESS: Final = ("tests/integration/test_broker_faults.py",)
"""Files whose tests run one after another in one process: they share servers that are slow to start, and break them."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Any test may run on any worker, except those in ``ONE_PROCESS``."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in ONE_PROCESS else nodeid


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A test that configures the log, as each command does, leaves nothing of that to the next one."""
    yield
    structlog.reset_defaults()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Integration tests get a long timeout: the first one fetches and starts the servers (see ``support.keeper``)."""
    for item in items:
        if item.get_closest_marker("integration") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(INTEGRATION_SECONDS_MAX))
        if os.environ.get("CI") == "true" and item.path.relative_to(TESTS).parts[0] in REAL_SERVERS:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Replaces the option ``--dist``."""
    return Scheduling(config, log)
