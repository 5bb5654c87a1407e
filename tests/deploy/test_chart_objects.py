"""The objects of the chart are valid for Kubernetes and the operators, and hardened."""

import copy
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chart import (
    KUBERNETES_NEWEST,
    KUBERNETES_OLDEST,
    VALUES_FILES,
    container,
    of_kind,
    one,
    pod_template,
    problem,
    rendered,
    run_helm,
    settings,
    template,
    workload,
)
from tests.support.keeper import ROOT
from tests.support.release import CHART, HELM_SECONDS_MAX

pytestmark = pytest.mark.usefixtures("helm")

SECRETS = "/etc/inventory-refresh/secrets"
SCRIPT_MANIFEST = "templates/tests/status.yaml"

every_values_file = pytest.mark.parametrize("values", VALUES_FILES)


def pod_specs(values: str) -> list[dict[str, Any]]:
    """The pods of the service and of helm test."""
    objects = rendered(values)
    return [pod_template(objects)["spec"], *[pod["spec"] for pod in of_kind(objects, "Pod")]]


@every_values_file
def test_helm_lint_finds_nothing(values: str) -> None:
    said = run_helm("lint", values)
    assert "0 chart(s) failed" in said
    assert "Fail:" not in said


@every_values_file
@pytest.mark.parametrize("kubernetes", [KUBERNETES_OLDEST, KUBERNETES_NEWEST])
def test_every_object_is_valid_for_its_api(values: str, kubernetes: str) -> None:
    refused = {
        f"{found['kind']} {found['metadata']['name']}": said
        for found in template(values, kubernetes=kubernetes)
        if (said := problem(found, kubernetes))
    }
    assert not refused


@every_values_file
def test_no_line_of_a_manifest_ends_in_blanks(values: str) -> None:
    manifests = run_helm("template", values).split("\n---\n")
    # The script of the status test is a text in which blank lines are indented.
    lines = [line for manifest in manifests if SCRIPT_MANIFEST not in manifest for line in manifest.splitlines()]
    assert [line for line in lines if line != line.rstrip()] == []


def test_a_packaged_chart_renders_the_same_objects(helm: Path, tmp_path: Path) -> None:
    command = [str(helm), "package", str(CHART), "--destination", str(tmp_path)]
    subprocess.run(command, check=True, timeout=HELM_SECONDS_MAX)  # noqa: S603 - a binary of ours
    (package,) = tmp_path.glob("inventory-refresh-*.tgz")
    assert template("production", chart=package) == rendered("production")


def test_the_packaged_chart_has_no_dead_links(helm: Path, tmp_path: Path) -> None:
    command = [str(helm), "package", str(CHART), "--destination", str(tmp_path)]
    subprocess.run(command, check=True, timeout=HELM_SECONDS_MAX)  # noqa: S603 - a binary of ours
    (package,) = tmp_path.glob("inventory-refresh-*.tgz")
    with tarfile.open(package) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        page = archive.extractfile("inventory-refresh/README.md")
        assert page is not None
        text = page.read().decode()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith(("#", "https://"))]
    assert links
    assert not [link for link in links if link not in names]


def examples_of_the_page() -> list[dict[str, Any]]:
    """The values under "Identities and secrets" of the chart's page."""
    text = (CHART / "README.md").read_text(encoding="utf-8").partition("## Identities and secrets")[2]
    return [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text.partition("## Notes")[0], re.DOTALL)
    ]


@pytest.mark.parametrize("example", examples_of_the_page(), ids=",".join)
def test_every_example_of_the_page_can_be_installed(example: dict[str, Any]) -> None:
    objects = template("minimal", example)
    assert not [said for found in objects if (said := problem(found))]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ("production", "Deployment"),
        ("production", "PrometheusRule"),
        ("production", "ServiceMonitor"),
        ("everything", "ExternalSecret"),
        ("everything", "PodMonitor"),
        ("everything", "ScaledObject"),
        ("hpa", "HorizontalPodAutoscaler"),
    ],
)
def test_the_validators_reject_an_unknown_field(values: str, kind: str) -> None:
    wrong = copy.deepcopy(one(rendered(values), kind))
    wrong["spec"]["misspelt"] = True
    assert "misspelt" in str(problem(wrong))


def test_the_values_files_cover_every_kind_of_the_templates() -> None:
    files = [file.read_text(encoding="utf-8") for file in CHART.glob("templates/**/*.yaml")]
    kinds = {kind for text in files for kind in re.findall(r"^kind: (\w+)$", text, re.MULTILINE)}
    assert kinds == {found["kind"] for values in VALUES_FILES for found in rendered(values)}


def test_every_template_renders_one_kind_of_object() -> None:
    for file in CHART.glob("templates/*.yaml"):
        kinds = re.findall(r"^kind: (\w+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(kinds) == (0 if file.name in {"validate.yaml", "extraobjects.yaml"} else 1), file.name


@every_values_file
def test_every_object_has_its_namespace_release_and_chart(values: str) -> None:
    for found in rendered(values):
        assert found["metadata"]["namespace"] == "shop"
        assert found["metadata"]["labels"]["app.kubernetes.io/instance"] == "demo"
        assert found["metadata"]["labels"]["helm.sh/chart"].startswith("inventory-refresh-")


@every_values_file
def test_every_pod_meets_the_restricted_pod_security_standard_and_is_read_only(values: str) -> None:
    for spec in pod_specs(values):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container_spec in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container_spec["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container_spec["resources"]["limits"]
        assert all(mount["readOnly"] for mount in spec["containers"][0]["volumeMounts"])
        own = [volume for volume in spec["volumes"] if volume["name"] in {"config", "secrets", "ca"}]
        assert own
        assert not {"hostPath", "emptyDir"} & {kind for volume in own for kind in volume}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


@every_values_file
def test_no_pod_has_service_variables_and_only_those_that_ask_for_it_a_kubernetes_token(values: str) -> None:
    for spec in pod_specs(values):
        assert spec["automountServiceAccountToken"] is (values == "everything")
        assert spec["enableServiceLinks"] is False
    for account in of_kind(rendered(values), "ServiceAccount"):
        assert account["automountServiceAccountToken"] is (values == "everything")


def test_pods_run_as_the_image_user_and_only_its_group_can_read_the_secret_files() -> None:
    (user, group) = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)[
        0
    ]
    for spec in pod_specs("production"):
        context = spec["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))
        (secrets,) = [volume for volume in spec["volumes"] if volume["name"] == "secrets"]
        assert secrets["projected"]["defaultMode"] == 0o440


@every_values_file
def test_secrets_are_files_and_never_environment_variables(values: str) -> None:
    objects = rendered(values)
    directories = {"everything": f"{SECRETS}:/vault/secrets", "no-secret": "/mnt/secrets-store"}.get(values, SECRETS)
    assert {"name": "INVENTORY_REFRESH_SECRETS_DIR", "value": directories} in container(objects)["env"]
    mounts = {mount["mountPath"] for mount in container(objects)["volumeMounts"]}
    assert set(directories.split(":")) <= mounts | {"/vault/secrets"}, "which an agent mounts"
    assert not [mount for mount in container(objects)["volumeMounts"] if "subPath" in mount], "it would never change"
    for spec in pod_specs(values):
        for container_spec in spec["containers"]:
            assert "secretRef" not in yaml.safe_dump(container_spec.get("envFrom", []))
            assert "secretKeyRef" not in yaml.safe_dump(container_spec.get("env", []))


def test_secrets_from_several_sources_are_mounted_into_one_directory() -> None:
    volumes = {volume["name"]: volume for volume in pod_template(rendered("everything"))["spec"]["volumes"]}
    by_hand, by_operator = volumes["secrets"]["projected"]["sources"]
    assert by_hand["secret"]["items"] == [{"key": "key-password", "path": "kafka__properties__ssl.key.password"}]
    assert by_operator["secret"] == {"name": one(rendered("everything"), "ExternalSecret")["spec"]["target"]["name"]}


@every_values_file
def test_selectors_match_the_pods_of_the_service_but_not_those_of_helm_test(values: str) -> None:
    objects = rendered(values)
    labels = pod_template(objects)["metadata"]["labels"]
    selectors = [workload(objects)["spec"]["selector"]["matchLabels"], one(objects, "Service")["spec"]["selector"]]
    selectors += [found["spec"]["selector"]["matchLabels"] for found in of_kind(objects, "PodDisruptionBudget")]
    selectors += [found["spec"]["selector"]["matchLabels"] for found in of_kind(objects, "PodMonitor")]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not any(selector.items() <= pod["metadata"]["labels"].items() for pod in of_kind(objects, "Pod"))


@every_values_file
def test_probes_use_the_port_of_the_settings(values: str) -> None:
    objects = rendered(values)
    given = settings(objects)
    container_spec = container(objects)
    assert container_spec["ports"] == [{"name": "http", "containerPort": given["http"]["port"], "protocol": "TCP"}]
    probes = {name: container_spec[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert probes == {
        "startup": {"path": "/healthz", "port": "http"},
        "liveness": {"path": "/healthz", "port": "http"},
        "readiness": {"path": "/readyz", "port": "http"},
    }
    assert one(objects, "Service")["spec"]["ports"][0]["port"] == given["http"]["port"]


def test_a_network_policy_allows_dns_the_given_egress_and_ingress_to_metrics_only() -> None:
    policy = one(rendered("production"), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"][0]["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}} in policy["ingress"][
        0
    ]["from"]
    members = {"to": [{"podSelector": policy["podSelector"]}], "ports": [{"port": 8080, "protocol": "TCP"}]}
    assert members in policy["egress"]
    assert members["to"][0] in policy["ingress"][0]["from"]
    assert {port["port"] for port in policy["egress"][0]["ports"]} == {53, 5353}
    assert policy["egress"][-1]["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}]
    for pod in [pod_template(rendered("production")), *of_kind(rendered("production"), "Pod")]:
        assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_without_egress_rules_a_network_policy_does_not_restrict_egress() -> None:
    policy = one(template("minimal", {"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert "from" not in policy["ingress"][0]


def test_a_ca_bundle_reaches_the_clients_that_should_trust_it() -> None:
    objects = rendered("production")
    given = settings(objects)
    (mount,) = [mount for mount in container(objects)["volumeMounts"] if mount["name"] == "ca"]
    file = f"{mount['mountPath']}/ca.crt"
    assert given["kafka"]["properties"]["ssl.ca.location"] == file
    assert given["avro"]["registry"]["ssl.ca.location"] == file
    assert "ca_file" not in given["oms"], "caBundle.usedBy leaves the OMS out"


def test_ca_files_in_the_settings_take_precedence() -> None:
    properties = {"ssl.ca.location": "/etc/other.crt"}
    objects = template("production", {"config": {"kafka": {"properties": properties}}})
    given = settings(objects)
    assert given["kafka"]["properties"]["ssl.ca.location"] == "/etc/other.crt"


def test_the_image_has_the_version_of_the_chart_unless_a_tag_or_digest_is_set() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    assert container(rendered("minimal"))["image"] == f"inventory-refresh:{version}"
    assert container(template("minimal", {"image": {"tag": "9.9"}}))["image"] == "inventory-refresh:9.9"
    assert "inventory-refresh@sha256:2c26" in container(rendered("production"))["image"]


@pytest.mark.parametrize(
    ("changes", "image"),
    [
        ({"image": {"registry": "registry.example"}}, "registry.example/inventory-refresh"),
        ({"image": {"registry": "registry.example/shop/", "repository": "a/b"}}, "registry.example/shop/a/b"),
        (
            {"image": {"registry": "registry.example"}, "global": {"imageRegistry": "mirror.example:5000"}},
            "mirror.example:5000/inventory-refresh",
        ),
        ({"global": {"imageRegistry": "mirror.example", "storageClass": "of another chart"}}, "mirror.example/"),
    ],
)
def test_the_registry_of_all_charts_precedes_that_of_the_image(changes: dict[str, Any], image: str) -> None:
    for pod in (pod_template(template("minimal", changes)), *of_kind(template("minimal", changes), "Pod")):
        assert pod["spec"]["containers"][0]["image"].startswith(image)


def test_extra_volumes_variables_labels_and_annotations_are_added() -> None:
    objects = rendered("everything")
    pods = pod_template(objects)
    assert "oms-client" in {volume["name"] for volume in pods["spec"]["volumes"]}
    assert "/etc/oms-client" in {mount["mountPath"] for mount in container(objects)["volumeMounts"]}
    assert "INVENTORY_REFRESH_KAFKA__PROPERTIES__CLIENT_RACK" in {
        variable["name"] for variable in container(objects)["env"]
    }
    assert {"team": "inventory", "cost-centre": "4711"}.items() <= pods["metadata"]["labels"].items()
    assert pods["metadata"]["annotations"]["example.com/contact"] == "inventory"
    assert workload(objects)["metadata"]["annotations"]["reloader.stakater.com/auto"] == "true"
    assert all(found["metadata"]["labels"]["team"] == "inventory" for found in objects)


def test_user_labels_never_replace_the_labels_of_selectors() -> None:
    changes = {"app.kubernetes.io/instance": "other", "app.kubernetes.io/component": "other"}
    objects = template("minimal", {"commonLabels": changes, "podLabels": changes})
    labels = pod_template(objects)["metadata"]["labels"]
    assert workload(objects)["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_pods_of_a_revision_are_spread_over_zones_and_nodes() -> None:
    for values, revision in (("minimal", "pod-template-hash"), ("static-membership", "controller-revision-hash")):
        objects = rendered(values)
        spread = pod_template(objects)["spec"]["topologySpreadConstraints"]
        assert [constraint["topologyKey"] for constraint in spread] == [
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        ]
        for constraint in spread:
            assert constraint["labelSelector"] == workload(objects)["spec"]["selector"]
            assert constraint["matchLabelKeys"] == [revision]
