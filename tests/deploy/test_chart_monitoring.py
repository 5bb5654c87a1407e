"""Scraping, alerts and dashboards of the chart cover only its own release."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chart import RefusedError, of_kind, one, pod_template, rendered, template
from tests.support.release import CHART

pytestmark = pytest.mark.usefixtures("helm")

RULES = CHART / "alerts" / "inventory-refresh.rules.yaml"


def rules(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for group in one(objects, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    ("values", "kind", "endpoints"),
    [("production", "ServiceMonitor", "endpoints"), ("everything", "PodMonitor", "podMetricsEndpoints")],
)
def test_the_label_job_is_the_name_of_the_release(values: str, kind: str, endpoints: str) -> None:
    objects = rendered(values)
    spec = one(objects, kind)["spec"]
    labelled = one(objects, "Service") if kind == "ServiceMonitor" else pod_template(objects)
    assert labelled["metadata"]["labels"][spec["jobLabel"]] == "demo"
    assert spec["selector"]["matchLabels"].items() <= labelled["metadata"]["labels"].items()
    (endpoint,) = spec[endpoints]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    assert one(objects, kind)["metadata"]["labels"]["release"] == "prometheus"


def test_empty_values_of_a_monitor_are_left_to_prometheus() -> None:
    changes = {"serviceMonitor": {"interval": "", "scrapeTimeout": ""}}
    (endpoint,) = one(template("production", changes), "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint == {"port": "http", "path": "/metrics"}


def test_every_alert_is_installed_and_selects_only_its_own_release() -> None:
    plain = [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    made = rules(rendered("production"))
    assert [rule.get("alert") for rule in made] == [rule.get("alert") for rule in plain]
    for rule, before in zip(made, plain, strict=True):
        assert 'job="inventory-refresh"' not in rule["expr"]
        assert rule["expr"].count('namespace="shop",job="demo"') == before["expr"].count('job="inventory-refresh"') > 0


def test_templates_in_the_texts_of_alerts_are_left_to_prometheus() -> None:
    assert "$labels" in RULES.read_text(encoding="utf-8")
    assert re.findall(r"{{.*?}}", RULES.read_text(encoding="utf-8")) == re.findall(
        r"{{.*?}}", "\n".join(run for run in _texts(rules(rendered("production"))))
    )


def _texts(found: list[dict[str, Any]]) -> list[str]:
    return [text for rule in found for text in rule.get("annotations", {}).values()]


def test_the_runbook_url_replaces_the_path_of_the_page() -> None:
    addresses = [rule["annotations"]["runbook_url"] for rule in rules(rendered("production"))]
    assert all(address.startswith("https://wiki.example/inventory-refresh/operations#") for address in addresses)
    paths = [rule["annotations"]["runbook_url"] for rule in rules(rendered("everything"))]
    assert all(path.startswith("docs/operations.md#") for path in paths)


@pytest.fixture
def chart_with_dashboards(tmp_path: Path) -> Path:
    chart = tmp_path / "inventory-refresh"
    shutil.copytree(CHART, chart)
    shutil.rmtree(chart / "dashboards", ignore_errors=True)
    (chart / "dashboards").mkdir()
    for name in ("one", "two"):
        text = f'{{"title": "{name}", "legend": "{{{{pod}}}} {{{{ .Values.x }}}}"}}\n'
        (chart / "dashboards" / f"{name}.json").write_text(text, encoding="utf-8")
    return chart


def dashboards(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = [config_map for config_map in of_kind(objects, "ConfigMap") if "config.yaml" not in config_map["data"]]
    return {config_map["metadata"]["name"]: config_map for config_map in found}


def test_every_dashboard_is_a_config_map_for_the_sidecar(chart_with_dashboards: Path) -> None:
    made = dashboards(template("production", chart=chart_with_dashboards))
    assert list(made) == ["demo-inventory-refresh-dashboard-one", "demo-inventory-refresh-dashboard-two"]
    for name, found in made.items():
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert found["metadata"]["annotations"] == {"grafana_folder": "Inventory"}
        (file, text) = next(iter(found["data"].items()))
        assert file == f"{name}.json"
        source = chart_with_dashboards / "dashboards" / f"{name.removeprefix('demo-inventory-refresh-dashboard-')}.json"
        assert json.loads(text) == json.loads(source.read_text(encoding="utf-8"))


def test_all_dashboards_are_installed_and_small_enough_for_kubectl_apply() -> None:
    texts = [next(iter(found["data"].values())) for found in dashboards(rendered("everything")).values()]
    assert [json.loads(text) for text in texts] == [
        json.loads(file.read_text(encoding="utf-8")) for file in sorted(CHART.glob("dashboards/*.json"))
    ]
    assert all(len(json.dumps(text)) < 250_000 for text in texts)


def test_the_dashboards_link_to_the_runbook_url() -> None:
    for found in dashboards(rendered("production")).values():
        (text,) = found["data"].values()
        assert "https://wiki.example/inventory-refresh/operations" in text
        assert "docs/operations.md" not in text


def test_a_dashboard_that_is_not_json_is_refused(chart_with_dashboards: Path) -> None:
    (chart_with_dashboards / "dashboards" / "one.json").write_text("{", encoding="utf-8")
    with pytest.raises(RefusedError, match="mustFromJson"):
        template("production", chart=chart_with_dashboards)


def test_no_monitoring_objects_are_created_by_default() -> None:
    kinds = {found["kind"] for found in rendered("minimal")}
    assert not kinds & {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert not dashboards(rendered("minimal"))
