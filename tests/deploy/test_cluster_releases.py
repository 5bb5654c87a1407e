"""The chart on a real API server: installed, upgraded, rolled back and uninstalled by helm."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.release import CHART, HelmError, Identity, Object, Release, identity
from tests.support.service_process import wait_until

VALUES = sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*-values.yaml"))

MakeRelease = Callable[..., Release]


def lost(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Parts of a sent object that the API server dropped or changed. It may add to an object."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        # An empty text counts as missing.
        given = {key: value for key, value in wanted.items() if value not in (None, "")}
        return [more for key, value in given.items() for more in lost(value, found.get(key), f"{path}.{key}")]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [more for place, (one, other) in pairs for more in lost(one, other, f"{path}[{place}]")]
    return [] if amount(wanted) == amount(found) else [f"{path}: {wanted!r} became {found!r}"]


def amount(value: Any) -> Any:
    """The API server returns quantities in their shortest form: 500000 as 500k."""
    thousands = isinstance(value, str) and re.fullmatch(r"(\d+)k", value)
    return f"{thousands[1]}000" if thousands else value


def versions(objects: dict[Identity, Object]) -> dict[Identity, str]:
    """Resource versions, which change with every change of an object."""
    return {who: found["metadata"]["resourceVersion"] for who, found in objects.items()}


def names_in(server: ApiServer, namespace: str) -> set[Identity]:
    return {identity(found) for found in server.objects(namespace) if found["metadata"].get("namespace") == namespace}


@pytest.fixture
def chart_copy(tmp_path: Path) -> Path:
    """A copy of the chart that a test may modify."""
    return Path(shutil.copytree(CHART, tmp_path / "chart"))


@pytest.mark.parametrize("values", VALUES)
def test_every_values_file_installs_upgrades_to_itself_and_uninstalls_completely(
    values: str, release: MakeRelease, api_server: ApiServer, namespace: str
) -> None:
    before = names_in(api_server, namespace)
    here = release()

    here.install(values)
    installed = here.objects()
    sent = {identity(manifest): manifest for manifest in here.manifests()}
    assert installed.keys() == sent.keys()
    assert [more for who, wanted in sent.items() for more in lost(wanted, installed[who], str(who))] == []

    here.upgrade(values)
    assert versions(here.objects()) == versions(installed), "an upgrade to the same values changes nothing"

    here.uninstall()
    assert here.objects() == {}
    assert names_in(api_server, namespace) == before


def test_two_releases_can_share_a_namespace(release: MakeRelease) -> None:
    east, west = release("east"), release("west")
    on = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}, "networkPolicy": {"enabled": True}}
    east.install("minimal", on)
    west.install("minimal", on)

    theirs = west.objects()
    assert east.objects().keys().isdisjoint(theirs)
    labels = east.pod_template()["metadata"]["labels"]
    kinds = {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"}
    assert selecting(labels, east.objects()) - {"ServiceMonitor"} == kinds
    assert selecting(labels, theirs) == set(), "no object may select pods of the other release"

    east.uninstall()
    assert versions(west.objects()) == versions(theirs)


def test_two_releases_of_one_name_in_two_namespaces_do_not_touch_each_other(
    release: MakeRelease, api_server: ApiServer, namespace: str
) -> None:
    elsewhere = f"{namespace}-2"
    api_server.make_namespace(elsewhere, {"pod-security.kubernetes.io/enforce": "restricted"})
    here, there = release(), replace(release(), namespace=elsewhere)
    on = {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "networkPolicy", "dashboards")}
    here.install("minimal", on)
    there.install("minimal", on)

    theirs = there.objects()
    assert here.objects().keys() == theirs.keys(), "nothing is cluster-scoped"
    (mine,) = [found for found in here.objects().values() if found["kind"] == "PrometheusRule"]
    expressions = [rule["expr"] for group in mine["spec"]["groups"] for rule in group["rules"]]
    assert all(f'namespace="{namespace}",job="{here.name}"' in expr for expr in expressions)

    here.uninstall()
    assert versions(there.objects()) == versions(theirs)


def selecting(labels: dict[str, str], objects: dict[Identity, Object]) -> set[str]:
    """Kinds of the objects that select a pod with these labels."""
    return {kind for (kind, _), found in objects.items() if selects(found.get("spec", {}), labels)}


def selects(spec: Object, labels: dict[str, str]) -> bool:
    selector: dict[str, Any] = spec.get("podSelector") or spec.get("selector") or {}
    wanted: dict[str, str] = selector.get("matchLabels", selector)
    return bool(wanted) and wanted.items() <= labels.items()


def test_an_upgrade_that_changes_the_pod_template_replaces_pods_and_a_rollback_restores_it(
    release: MakeRelease,
) -> None:
    here = release()
    here.install("minimal")
    for changes in (
        {"config": {"window": {"max_age": "1m"}}},
        {"config": {"kafka": {"revoke_timeout": "40s"}}},
        {"secrets": {"revision": "2"}},
        {"image": {"tag": "0.2.0"}},
    ):
        before = here.pod_template()
        here.upgrade("minimal", changes)
        assert here.pod_template() != before, changes

    here.rollback()
    assert here.pod_template() == before


def test_an_upgrade_of_what_pods_do_not_read_leaves_them_running(release: MakeRelease, chart_copy: Path) -> None:
    here = release()
    values: dict[str, Any] = {
        name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboards", "networkPolicy")
    }
    add_dashboard(chart_copy, "one")
    here.install("minimal", values, chart_copy)
    pods = here.pod_template()

    for kind, name, changed in (
        ("Deployment", "replicaCount", 5),
        ("Service", "service", {"annotations": {"example.com/why": "asked"}}),
        ("PodDisruptionBudget", "podDisruptionBudget", {"maxUnavailable": 2}),
        ("ServiceMonitor", "serviceMonitor", {"enabled": True, "interval": "15s"}),
        ("PrometheusRule", "prometheusRule", {"enabled": True, "labels": {"release": "prometheus"}}),
        ("NetworkPolicy", "networkPolicy", {"enabled": True, "egress": [{"ports": [{"port": 9092}]}]}),
        ("ConfigMap", "dashboards", {"enabled": True, "annotations": {"grafana_folder": "Elsewhere"}}),
    ):
        before = versions(here.objects())
        values[name] = changed
        here.upgrade("minimal", values, chart_copy)
        after = versions(here.objects())
        assert {who[0] for who in after if after[who] != before[who]} == {kind}, name
        assert here.pod_template() == pods, name


def test_an_upgrade_to_a_chart_with_other_dashboards_and_alerts_leaves_pods_running(
    release: MakeRelease, chart_copy: Path
) -> None:
    here = release()
    on = {"prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}}
    here.install("minimal", on, chart_copy)
    before, pods = here.objects(), here.pod_template()

    add_dashboard(chart_copy, "more")
    described = (chart_copy / "Chart.yaml").read_text()
    (chart_copy / "Chart.yaml").write_text(described.replace("\nversion: ", "\nversion: 9"))
    (rules,) = (chart_copy / "alerts").glob("*.yaml")
    rules.write_text("groups: [{name: other, rules: [{record: 'some:thing', expr: '1'}]}]\n")
    here.upgrade("minimal", on, chart_copy)

    after = here.objects()
    assert after.keys() - before.keys() == {("ConfigMap", "refresh-inventory-refresh-dashboard-more")}
    (alerts,) = [found for found in after.values() if found["kind"] == "PrometheusRule"]
    assert [group["name"] for group in alerts["spec"]["groups"]] == ["other"]
    assert here.pod_template() == pods


def add_dashboard(chart: Path, name: str) -> None:
    (chart / "dashboards").mkdir(exist_ok=True)
    (chart / "dashboards" / f"{name}.json").write_text('{"title": "Made up"}\n')


@pytest.mark.parametrize(
    "scaler",
    [
        {"partitions": 12, "hpa": {"enabled": True, "maxReplicas": 12}},
        {"keda": {"enabled": True, "maxReplicaCount": 12}},
    ],
    ids=["hpa", "keda"],
)
def test_an_upgrade_leaves_the_replicas_to_the_autoscaler(
    scaler: dict[str, Any], release: MakeRelease, api_server: ApiServer
) -> None:
    here = release()
    here.install("minimal", scaler)
    workload = here.workload()
    path = f"/apis/apps/v1/namespaces/{here.namespace}/deployments/{workload['metadata']['name']}"
    scale = api_server.call("GET", f"{path}/scale")
    api_server.call("PUT", f"{path}/scale", scale | {"spec": {"replicas": 7}})

    here.upgrade("minimal", scaler | {"secrets": {"revision": "2"}})

    after = here.workload()
    assert after["metadata"]["generation"] > workload["metadata"]["generation"]
    assert after["spec"]["replicas"] == 7


def test_static_membership_replaces_the_deployment_with_a_statefulset(release: MakeRelease) -> None:
    here = release()
    here.install("minimal")
    assert here.workload()["kind"] == "Deployment"

    here.upgrade("minimal", {"staticMembership": {"enabled": True}})

    assert here.workload()["kind"] == "StatefulSet"


def test_an_upgrade_that_the_api_server_refuses_says_why_and_can_be_rolled_back(release: MakeRelease) -> None:
    here = release()
    here.install("minimal")
    before = here.pod_template()

    with pytest.raises(HelmError, match=r"Deployment\.apps .* is invalid: .*env\[\d\]\.name"):
        here.upgrade("minimal", {"extraEnv": [{"name": "A=B", "value": "1"}], "secrets": {"revision": "2"}})

    assert here.pod_template() == before
    here.rollback()
    assert here.pod_template() == before


def test_permissions_in_the_namespace_are_enough_to_install_and_uninstall(
    release: MakeRelease, api_server: ApiServer, namespace: str
) -> None:
    # A controller would aggregate these two into the ClusterRole "edit", but none is running.
    for role in ("system:aggregate-to-edit", "system:aggregate-to-view"):
        binding = {
            "metadata": {"name": role},
            "subjects": [{"kind": "User", "name": "installer"}],
            "roleRef": {"kind": "ClusterRole", "name": role},
        }
        api_server.call("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", binding)
    for verb in ("create", "list"):  # one from each role; the API server applies them after a while
        wait_until(lambda verb=verb: api_server.may("installer", verb, "deployments", namespace), f"may {verb}")  # type: ignore[misc]
    with pytest.raises(HelmError, match="forbidden"):
        replace(release(), user="stranger").install("production")

    here = replace(release(), user="installer")
    plain = {
        "serviceMonitor": {"enabled": False},
        "prometheusRule": {"enabled": False},
    }  # the operators install roles for these
    here.install("production", plain)
    assert here.workload()["kind"] == "Deployment"
    here.uninstall()
    assert here.objects() == {}
