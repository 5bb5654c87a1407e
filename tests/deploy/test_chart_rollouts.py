"""Pods are replaced only if something that they read changes, and releases do not interfere."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chart import of_kind, one, pod_template, rendered, template, workload
from tests.support.release import CHART

pytestmark = pytest.mark.usefixtures("helm")


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"window": {"max_age": "4m"}}},
        {"config": {"kafka": {"properties": {"client.rack": "a"}}}},
        {"avroSchema": '{"type": "long"}'},
        {"secrets": {"revision": "after-the-new-password"}},
        {"secrets": {"externalSecret": {"secretStoreRef": {"name": "another"}}}},
        {"image": {"tag": "9.9"}},
        {"caBundle": {"key": "other.pem"}},
    ],
    ids=[
        "setting",
        "property of Kafka",
        "Avro schema",
        "revision of secrets",
        "store of secrets",
        "image",
        "authorities",
    ],
)
def test_pods_are_replaced_if_something_that_they_read_changes(changes: Mapping[str, Any]) -> None:
    assert pod_template(template("everything", changes)) != pod_template(rendered("everything"))


@pytest.mark.parametrize(
    "changes",
    [
        {"replicaCount": 5},
        {"commonAnnotations": {"a": "b"}},
        {"dashboards": {"enabled": False}, "prometheusRule": {"enabled": False}},
        {"podMonitor": {"interval": "1m"}},
        {"networkPolicy": {"enabled": False}},
        {"keda": {"maxReplicaCount": 20}},
        {"podDisruptionBudget": {"maxUnavailable": 2}},
        {"secrets": {"externalSecret": {"refreshInterval": "5m"}}},
        {"config": {"oms": {"ca_file": ""}, "avro": {"registry_url": ""}}},
        {"minReadySeconds": 60, "rollingUpdate": {"maxSurge": 2}},
    ],
    ids="+".join,
)
def test_pods_stay_if_nothing_that_they_read_changes(changes: Mapping[str, Any]) -> None:
    changed = template("everything", changes)
    assert pod_template(changed) == pod_template(rendered("everything"))


@pytest.fixture
def newer_chart(tmp_path: Path) -> Path:
    """A newer version of the chart: different dashboards, alerts and notes, but the same service."""
    chart = tmp_path / "inventory-refresh"
    shutil.copytree(CHART, chart)
    description = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    (chart / "Chart.yaml").write_text(yaml.safe_dump(description | {"version": "9.9.9"}), encoding="utf-8")
    (chart / "dashboards").mkdir(exist_ok=True)
    (chart / "dashboards" / "another.json").write_text('{"title": "Another"}', encoding="utf-8")
    rules = chart / "alerts" / "inventory-refresh.rules.yaml"
    rules.write_text(rules.read_text(encoding="utf-8").replace("for: ", "for: 1"), encoding="utf-8")
    return chart


@pytest.mark.parametrize("values", ["production", "static-membership"])
def test_a_newer_chart_with_the_same_service_replaces_no_pod(values: str, newer_chart: Path) -> None:
    newer = template(values, chart=newer_chart)
    assert pod_template(newer) == pod_template(rendered(values))
    assert workload(newer)["metadata"]["labels"]["helm.sh/chart"] == "inventory-refresh-9.9.9"


def test_the_newer_chart_did_change_dashboards_and_alerts(newer_chart: Path) -> None:
    newer, older = template("production", chart=newer_chart), rendered("production")
    assert len(of_kind(newer, "ConfigMap")) == len(of_kind(older, "ConfigMap")) + 1
    assert one(newer, "PrometheusRule")["spec"] != one(older, "PrometheusRule")["spec"]


@pytest.mark.parametrize("values", ["production", "static-membership", "keda", "hpa", "minimal"])
def test_two_releases_in_one_namespace_share_no_object_and_no_pod(values: str) -> None:
    first, second = template(values, release="inventory-refresh"), template(values, release="returns")
    names = [{(found["kind"], found["metadata"]["name"]) for found in objects} for objects in (first, second)]
    assert not names[0] & names[1]
    for one_release, other in ((first, second), (second, first)):
        pods = [pod_template(other), *of_kind(other, "Pod")]
        policies = of_kind(one_release, "NetworkPolicy")
        selectors = [
            workload(one_release)["spec"]["selector"]["matchLabels"],
            one(one_release, "Service")["spec"]["selector"],
            one(one_release, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
            *[policy["spec"]["podSelector"]["matchLabels"] for policy in policies],
        ]
        for selector in selectors:
            assert not any(selector.items() <= pod["metadata"]["labels"].items() for pod in pods)


def test_a_release_refers_only_to_its_own_objects() -> None:
    objects = template("production", release="returns")
    name = workload(objects)["metadata"]["name"]
    (config,) = [volume for volume in pod_template(objects)["spec"]["volumes"] if volume["name"] == "config"]
    assert config["configMap"]["name"] == name
    assert pod_template(objects)["spec"]["serviceAccountName"] == one(objects, "ServiceAccount")["metadata"]["name"]
    assert 'job="returns"' in yaml.safe_dump(one(objects, "PrometheusRule"), width=1_000)


@pytest.mark.parametrize(
    ("release", "override"), [("r" * 53, ""), ("inventory-refresh-" + "r" * 35, ""), ("demo", "o" * 60)]
)
def test_names_are_short_enough_for_the_labels_that_kubernetes_derives(release: str, override: str) -> None:
    objects = template("static-membership", {"fullnameOverride": override}, release=release)
    hash_and_dash = 11
    assert len(workload(objects)["metadata"]["name"]) + hash_and_dash == 63
    assert len({(found["kind"], found["metadata"]["name"]) for found in objects}) == len(objects)


def test_a_rollout_removes_no_member_before_its_successor_has_joined() -> None:
    spec = workload(rendered("minimal"))["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["minReadySeconds"] == 15


def test_pods_that_are_not_ready_do_not_block_a_node_drain() -> None:
    spec = one(rendered("minimal"), "PodDisruptionBudget")["spec"]
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert spec["maxUnavailable"] == 1
