"""Scraping, alerts and dashboards of the chart cover only its own release."""

import json
import re
import shutil
import subprocess
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
    own = "{{ $labels.namespace }}/{{ $labels.job }}"
    made = "\n".join(_texts(rules(rendered("production"))))
    plain = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    written = "\n".join(_texts([rule for group in plain for rule in group["rules"]]))
    assert made.count(own) == written.count("{{ $labels.job }}") > 0
    shortened = made.replace(own, "{{ $labels.job }}")
    assert re.findall(r"{{.*?}}", shortened) == re.findall(r"{{.*?}}", written)


def _texts(found: list[dict[str, Any]]) -> list[str]:
    return [text for rule in found for _, text in sorted(rule.get("annotations", {}).items())]


def test_the_runbook_url_replaces_the_path_of_the_page() -> None:
    addresses = [rule["annotations"]["runbook_url"] for rule in rules(rendered("production"))]
    assert all(address.startswith("https://wiki.example/inventory-refresh/operations#") for address in addresses)
    paths = [rule["annotations"]["runbook_url"] for rule in rules(rendered("everything")) if "alert" in rule]
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
        assert file == f"shop-{name}.json"
        source = chart_with_dashboards / "dashboards" / f"{name.removeprefix('demo-inventory-refresh-dashboard-')}.json"
        assert json.loads(text) == json.loads(source.read_text(encoding="utf-8"))


def test_all_dashboards_are_installed_and_small_enough_for_kubectl_apply() -> None:
    config_maps = dashboards(template("minimal", {"dashboards": {"enabled": True}}))
    texts = [next(iter(found["data"].values())) for found in config_maps.values()]
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


# What a cluster changes


def test_labels_for_all_alerts_are_added() -> None:
    for rule in rules(rendered("everything")):
        if "alert" in rule:
            assert rule["labels"]["team"] == "inventory"
            assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def test_a_single_alert_can_be_changed_and_the_others_stay() -> None:
    changed = {rule["alert"]: rule for rule in rules(rendered("everything")) if "alert" in rule}
    plain = {rule["alert"]: rule for rule in rules(template("minimal", {"prometheusRule": {"enabled": True}}))}
    assert plain.keys() - changed.keys() == {"InventoryRefreshDeadLetters"}

    late, before = changed["InventoryRefreshJobsLate"], plain["InventoryRefreshJobsLate"]
    assert "> 3600 # threshold" in before["expr"]
    assert late["expr"] == before["expr"].replace("> 3600 # threshold", "> 7200 # threshold")
    assert (late["for"], late["labels"]["severity"], late["labels"]["queue"]) == ("30m", "info", "oms")
    assert late["annotations"].items() > before["annotations"].items()

    for name in changed.keys() - {"InventoryRefreshJobsLate"}:
        expected = plain[name] | {"labels": plain[name]["labels"] | {"team": "inventory"}}
        assert changed[name] == expected


@pytest.mark.parametrize(("threshold", "written"), [(0.05, "0.05"), (7200, "7200"), (0, "0"), (2_000_000, "2000000")])
def test_a_threshold_is_written_as_a_number(threshold: float, written: str) -> None:
    changes = {"enabled": True, "alerts": {"InventoryRefreshChangesRejected": {"threshold": threshold}}}
    made = {rule["alert"]: rule for rule in rules(template("minimal", {"prometheusRule": changes}))}
    assert f"> {written} # threshold" in made["InventoryRefreshChangesRejected"]["expr"]
    assert ">= 10" in made["InventoryRefreshChangesRejected"]["expr"], "the least number stays"


def test_extra_groups_are_limited_to_the_release_too() -> None:
    group = one(rendered("everything"), "PrometheusRule")["spec"]["groups"][-1]
    assert group["name"] == "shop.inventory"
    assert '{namespace="shop",job="demo"}' in group["rules"][0]["expr"]


def test_prometheus_accepts_the_rules_as_changed(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(one(rendered("everything"), "PrometheusRule")["spec"]), encoding="utf-8")
    checked = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False)  # noqa: S603
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_releases_of_one_name_in_two_namespaces_are_told_apart_by_rules_dashboards_and_scrapes() -> None:
    on = {"prometheusRule": {"enabled": True}, "serviceMonitor": {"enabled": True}, "dashboards": {"enabled": True}}
    shop, outlet = (template("minimal", on, namespace=namespace) for namespace in ("shop", "outlet"))
    for here, other in ((shop, "outlet"), (outlet, "shop")):
        assert all(f'namespace="{other}"' not in rule["expr"] for rule in rules(here))
        assert "namespaceSelector" not in one(here, "ServiceMonitor")["spec"], "it selects only its own namespace"
    files = [{file for found in dashboards(here).values() for file in found["data"]} for here in (shop, outlet)]
    assert files[0].isdisjoint(files[1]), "the sidecar writes all files into one directory"


def test_dashboards_can_be_in_the_namespace_of_grafana() -> None:
    changes = {"dashboards": {"enabled": True, "namespace": "monitoring", "grafanaOperator": {"enabled": True}}}
    objects = template("minimal", changes)
    assert {found["metadata"]["namespace"] for found in dashboards(objects).values()} == {"monitoring"}
    assert {found["metadata"]["namespace"] for found in of_kind(objects, "GrafanaDashboard")} == {"monitoring"}
    assert {found["metadata"]["namespace"] for found in objects if found["kind"] == "Deployment"} == {"shop"}


def test_every_dashboard_is_an_object_for_grafanas_operator() -> None:
    made = of_kind(rendered("everything"), "GrafanaDashboard")
    assert [json.loads(found["spec"]["json"]) for found in made] == [
        json.loads(file.read_text(encoding="utf-8")) for file in sorted(CHART.glob("dashboards/*.json"))
    ]
    for found in made:
        assert found["spec"]["instanceSelector"] == {"matchLabels": {"team": "inventory"}}
        assert found["spec"]["folder"] == "Inventory"
        assert found["spec"]["allowCrossNamespaceImport"] is False


@pytest.mark.parametrize(
    ("values", "kind", "labels", "endpoints"),
    [
        ("no-secret", "ServiceMonitor", "targetLabels", "endpoints"),
        ("everything", "PodMonitor", "podTargetLabels", "podMetricsEndpoints"),
    ],
)
def test_a_monitor_can_keep_labels_and_limit_samples(values: str, kind: str, labels: str, endpoints: str) -> None:
    spec = one(rendered(values), kind)["spec"]
    assert spec[endpoints][0]["honorLabels"] is True
    assert spec[labels]
    assert spec["sampleLimit"] > 0
    monitor = f"{kind[0].lower()}{kind[1:]}"
    plain = one(template("minimal", {monitor: {"enabled": True}}), kind)["spec"]
    assert not {labels, "sampleLimit"} & plain.keys()
    assert "honorLabels" not in plain[endpoints][0]
