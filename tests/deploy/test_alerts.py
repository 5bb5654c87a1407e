"""Every alert fires when an operator must act, stays quiet otherwise, and says what to do.

Single alerts are tested by promtool with the files in ``alerts/``. The stories in which none may fire are generated in
``tests/support/alert_scenarios.py``, because they need series for every metric that an alert uses.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from consumer.core.changes.items import RejectReason
from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.breaker import BreakerState
from consumer.core.oms.job_schedule import JobOutcome
from tests.support.alert_scenarios import Story, quiet_night, rolling_restart
from tests.support.metrics_list import described

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm" / "inventory-refresh" / "alerts" / "inventory-refresh.rules.yaml"
TESTS = sorted((ROOT / "tests" / "deploy" / "alerts").glob("*.yaml"))
STORIES = (quiet_night(), rolling_restart())

OF_THE_SCRAPE: Final = {"cluster", "namespace", "job", "pod", "instance"}
"""Labels that Prometheus adds to every series when it scrapes."""
NOT_OURS: Final = {"process_start_time_seconds"}
"""Metrics that the Prometheus client exports itself."""
LABEL_VALUES: Final[Mapping[str, set[str]]] = {
    "fenced": {"yes", "no"},
    "kind": {"assigned", "revoked", "lost"},
    "outcome": {*AnswerKind, *JobOutcome},
    "reason": {*RejectReason},
    "state": {*BreakerState},
}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules()}


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        missing = "promtool is missing: install Prometheus (on Debian and Ubuntu: apt-get install prometheus)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true, and a part is missing: {missing}")
        pytest.skip(missing)
    return found


def run(promtool: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - found on the path
        [promtool, *arguments], capture_output=True, text=True, check=False, timeout=100
    )


def check(promtool: str, story: Story, rules_file: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    file = folder / "story.yaml"
    file.write_text(yaml.safe_dump(story.as_test(str(rules_file)), width=1_000_000), encoding="utf-8")
    return run(promtool, "test", "rules", str(file))


def selectors(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Metric and equality matchers by label of every selector, in PromQL or in promtool's notation for series."""
    for metric, matchers in re.findall(r"([a-z_:]+)\{([^}]*)\}", text):
        yield metric, dict(re.findall(r'([a-z]+)="([^"]*)"', matchers))


def series_of(file: Path) -> Iterator[str]:
    for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
        yield from (series["series"] for series in test["input_series"])


def slugs(page: Path) -> list[str]:
    """The anchors of the headings of a page, as code hosts generate them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


# With promtool


def test_the_rules_are_valid(promtool: str) -> None:
    checked = run(promtool, "check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_every_alert_fires_exactly_when_it_should(promtool: str, file: Path) -> None:
    tested = run(promtool, "test", "rules", str(file))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_no_alert_fires_in_a_quiet_night_or_a_rolling_restart(promtool: str, story: Story, tmp_path: Path) -> None:
    done = check(promtool, story, RULES, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_their_wait_some_alerts_would_fire_in_a_rolling_restart(promtool: str, tmp_path: Path) -> None:
    hasty = tmp_path / "hasty.yaml"
    hasty.write_text(
        re.sub(r"^ +for: \w+\n", "", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8"
    )
    done = check(promtool, rolling_restart(), hasty, tmp_path)
    fired = set(re.findall(r'alertname="(\w+)"', done.stdout + done.stderr))
    assert fired >= {"InventoryRefreshNotReady", "InventoryRefreshKafkaUnreachable", "InventoryRefreshCommitsRefused"}


# Content of the files


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    fired = {
        expectation["alertname"]
        for file in TESTS
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
        for expectation in test["alert_rule_test"]
        if expectation["exp_alerts"]
    }
    assert fired == set(ALERTS)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_the_stories_contain_all_series_that_alerts_select(story: Story) -> None:
    (test,) = story.as_test("")["tests"]
    given = [selector for series in test["input_series"] for selector in selectors(series["series"])]
    for name, rule in ALERTS.items():
        for metric, labels in selectors(rule["expr"]):
            assert any(found == metric and labels.items() <= known.items() for found, known in given), (
                f"{name}: {metric}"
            )


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_severity_a_summary_a_description_and_a_runbook(name: str) -> None:
    rule = ALERTS[name]
    assert re.fullmatch(r"InventoryRefresh([A-Z][a-z]+)+", name)
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["summary"].endswith(".")
    assert "$labels.job" in rule["annotations"]["description"]
    assert "$value" in rule["annotations"]["description"] or name == "InventoryRefreshNoMembers"
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{kebab(name)}"


def test_every_alert_has_its_section_in_the_runbook() -> None:
    anchors = slugs(ROOT / "docs" / "operations.md")
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [anchors.count(kebab(name)) for name in ALERTS] == [1] * len(ALERTS)
    assert set(re.findall(r"\bInventoryRefresh[A-Z]\w+", page)) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_every_selector_contains_the_job_that_the_chart_replaces(name: str) -> None:
    expression = ALERTS[name]["expr"]
    metrics = re.findall(r"\b(?:inventory_refresh|process)_[a-z_]+", expression)
    assert len(metrics) == expression.count('{job="inventory-refresh"') > 0
    assert "by (cluster, namespace, job)" in expression


def test_alerts_use_only_metrics_and_labels_that_exist() -> None:
    used = [selector for rule in ALERTS.values() for selector in selectors(rule["expr"])]
    used += [selector for file in TESTS for series in series_of(file) for selector in selectors(series)]
    unknown = {metric for metric, _ in used} - described().keys() - NOT_OURS
    assert not unknown
    for metric, labels in used:
        own = {name: value for name, value in labels.items() if name not in OF_THE_SCRAPE}
        if metric in described():
            assert own.keys() <= set(described()[metric].labels), metric
        assert not [value for name, value in own.items() if value not in LABEL_VALUES.get(name, {value})], metric
