"""Every expression of the dashboards and alerts, run by a real Prometheus that scrapes the demo with faults.

All tests and all workers share one run: the first one that needs the results collects them.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
import yaml

from consumer.sandbox.generator import BURST_LOCATION
from tests.support.dashboards import PROCESS, targets
from tests.support.keeper import PartMissingError
from tests.support.metrics_list import described
from tests.support.prometheus import (
    Prometheus,
    RefusedQueryError,
    running_demo,
    running_prometheus,
    with_values,
)
from tests.support.service_process import ROOT, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ALERTS = ROOT / "helm" / "inventory-refresh" / "alerts" / "inventory-refresh.rules.yaml"
SEED = 3
"""With any seed, every kind of fault occurs at least once."""
FAULTS_OVER = "The OMS has the first changes."
"""What the demo says when every change is committed and every job has ended."""
FAULTS_SECONDS_MAX = 400.0
LOCATION = BURST_LOCATION
"""A location with many changes, so that it has several requests during the demo."""


@dataclass
class Evidence:
    """The results from Prometheus."""

    names: list[str] = field(default_factory=list)
    """Names of all scraped series."""
    refused: dict[str, str] = field(default_factory=dict)
    """Expressions that it rejected, and why."""
    with_data: list[str] = field(default_factory=list)
    """Expressions that returned at least one number."""
    without_data: list[str] = field(default_factory=list)
    rules: dict[str, str] = field(default_factory=dict)
    """Alert rules by name, with their health."""


@pytest.fixture(scope="session")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    shared = tmp_path_factory.getbasetemp().parent if run else tmp_path_factory.getbasetemp()
    kept = shared / f"evidence-{run or 'alone'}.json"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(json.dumps(asdict(collected(tmp_path_factory.mktemp("prometheus")))))
    return Evidence(**json.loads(kept.read_text()))


def collected(folder: Path) -> Evidence:
    rule_files = [ALERTS] if ALERTS.exists() else []
    try:
        with (
            running_demo(folder / "demo", seed=SEED) as address,
            running_prometheus(folder, address, rule_files=rule_files) as prometheus,
        ):
            started = time.time()
            log = folder / "demo" / "demo.log"
            wait_until(
                lambda: FAULTS_OVER in log.read_text(errors="replace"), "the faults are over", FAULTS_SECONDS_MAX
            )
            over = time.time()
            wait_until(
                lambda: any(
                    series.samples[0][1] > over for series in prometheus.now("timestamp(inventory_refresh_ready)")
                ),
                "Prometheus has scraped the final state",
            )
            return asked(prometheus, started, time.time())
    except PartMissingError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true, and a part is missing: {missing}")
        pytest.skip(str(missing))


def asked(prometheus: Prometheus, start: float, end: float) -> Evidence:
    found = Evidence(names=sorted(prometheus.metric_names()))
    for target in targets():
        expr = with_values(target.expr, range_seconds=round(end - start), location=LOCATION)
        _ask(prometheus, str(target), expr, (start, end), found, instant=target.instant)
    for name, expr in alert_expressions().items():
        _ask(prometheus, name, expr, (start, end), found, instant=False)
    found.rules = {rule["name"]: f"{rule['health']} {rule.get('lastError', '')}" for rule in prometheus.rules()}
    return found


def _ask(
    prometheus: Prometheus, name: str, expr: str, over: tuple[float, float], found: Evidence, *, instant: bool
) -> None:
    try:
        series = prometheus.now(expr, over[1]) if instant else prometheus.over(expr, *over, step=1.0)
    except RefusedQueryError as refused:
        found.refused[name] = str(refused)
        return
    (found.with_data if any(one.has_data for one in series) else found.without_data).append(name)


def alert_expressions() -> dict[str, str]:
    """Expressions by ``alert: NAME (number)`` or ``record: NAME (number)``; names need not be unique."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"] if ALERTS.exists() else []
    rules = [rule for group in groups for rule in group["rules"]]
    kinds = [(rule, "alert" if "alert" in rule else "record") for rule in rules]
    return {f"{kind}: {rule[kind]} ({number})": rule["expr"] for number, (rule, kind) in enumerate(kinds, 1)}


def test_prometheus_accepts_every_expression_of_the_dashboards_and_alerts(
    evidence: Evidence, record_testsuite_property: Callable[[str, object], None]
) -> None:
    ran = len(evidence.with_data) + len(evidence.without_data)
    record_testsuite_property("expressions that ran", ran)
    record_testsuite_property("expressions that answered data", len(evidence.with_data))
    assert evidence.refused == {}
    assert ran == len(targets()) + len(alert_expressions())


def test_every_panel_has_data_in_the_demo(evidence: Evidence) -> None:
    expected = {str(target) for target in targets()}
    assert expected - set(evidence.with_data) == set()


def test_every_metric_of_the_code_is_scraped_and_so_are_those_of_the_process(evidence: Evidence) -> None:
    scraped = set(evidence.names)
    missing = {
        metric.name
        for metric in described().values()
        if (f"{metric.name}_count" if metric.kind == "histogram" else metric.name) not in scraped
    }
    assert missing == set()
    assert set(PROCESS) <= scraped


def test_prometheus_reads_and_evaluates_every_alert(evidence: Evidence) -> None:
    names = {name.split(": ")[1].split(" ")[0] for name in alert_expressions()}
    assert set(evidence.rules) == names
    assert not {name: health for name, health in evidence.rules.items() if not health.startswith("ok")}
