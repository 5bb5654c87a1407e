"""Values that pods need in some clusters: identities, secrets of others, containers beside the service, DNS, access."""

from typing import Any

import pytest

from consumer.settings.memory import MIB, SIDE_COMMAND_BYTES
from tests.support.chart import container, of_kind, one, pod_template, rendered, settings, template
from tests.support.release import Object

pytestmark = pytest.mark.usefixtures("helm")


def all_pods(objects: list[Object]) -> list[Object]:
    """The pods of the service and of helm test."""
    return [pod_template(objects), *of_kind(objects, "Pod")]


PLACEMENT: dict[str, Any] = {
    "hostAliases": [{"ip": "192.0.2.10", "hostnames": ["oms.example"]}],
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["192.0.2.53"], "options": [{"name": "ndots", "value": "1"}]},
    "runtimeClassName": "gvisor",
    "schedulerName": "bin-packing",
    "priorityClassName": "business",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "initContainers": [{"name": "keystore", "image": "x"}, {"name": "proxy", "image": "x", "restartPolicy": "Always"}],
}


@pytest.mark.parametrize("name", PLACEMENT)
def test_a_field_of_the_pod_is_the_same_for_the_pods_of_helm_test(name: str) -> None:
    pods = all_pods(template("minimal", {name: PLACEMENT[name]}))
    assert len(pods) == 3
    assert [pod["spec"][name] for pod in pods] == [PLACEMENT[name]] * 3
    assert not [pod for pod in all_pods(rendered("minimal")) if name in pod["spec"]]


def test_extra_containers_run_beside_the_service_but_not_beside_tests_which_would_never_end() -> None:
    service, *tests = all_pods(template("minimal", {"extraContainers": [{"name": "proxy", "image": "x"}]}))
    assert [found["name"] for found in service["spec"]["containers"]] == ["inventory-refresh", "proxy"]
    assert [len(pod["spec"]["containers"]) for pod in tests] == [1, 1]


def test_hooks_and_variables_from_config_maps_belong_to_the_service_container() -> None:
    hook = {"preStop": {"exec": {"command": ["sleep", "5"]}}}
    source = [{"prefix": "A_", "configMapRef": {"name": "proxy"}}, {"secretRef": {"name": "b", "optional": True}}]
    objects = template("minimal", {"lifecycle": hook, "extraEnvFrom": source})
    assert container(objects)["lifecycle"] == hook
    assert container(objects)["envFrom"] == source
    (check,) = [pod for pod in of_kind(objects, "Pod") if pod["metadata"]["name"].endswith("check")]
    assert check["spec"]["containers"][0]["envFrom"] == source
    assert "lifecycle" not in check["spec"]["containers"][0]


def test_any_other_field_of_the_pod_can_be_set() -> None:
    pods = all_pods(template("minimal", {"extraPodSpec": {"hostNetwork": True, "os": {"name": "linux"}}}))
    assert all(pod["spec"]["hostNetwork"] is True and pod["spec"]["os"] == {"name": "linux"} for pod in pods)


def test_pull_secrets_of_all_charts_are_added() -> None:
    changes = {"global": {"imagePullSecrets": [{"name": "a"}]}, "imagePullSecrets": [{"name": "b"}]}
    for pod in all_pods(template("minimal", changes)):
        assert pod["spec"]["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]


def test_extra_objects_are_maps_or_text_and_their_templates_are_rendered() -> None:
    text = 'apiVersion: v1\nkind: Secret\nmetadata: {name: {{ include "inventory-refresh.fullname" . }}-b}\n'
    one_map = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "{{ .Release.Name }}-a"}}
    made = of_kind(template("minimal", {"extraObjects": [one_map, text]}), "Secret")
    assert [found["metadata"]["name"] for found in made] == ["demo-a", "demo-inventory-refresh-b"]


# Secrets and identities


def test_secret_files_of_others_need_no_secret() -> None:
    objects = rendered("no-secret")
    spec = pod_template(objects)["spec"]
    assert not [volume for volume in spec["volumes"] if "projected" in volume or "secret" in volume]
    assert not of_kind(objects, "Secret")
    (driver,) = [volume for volume in spec["volumes"] if "csi" in volume]
    (mount,) = [mount for mount in container(objects)["volumeMounts"] if mount["name"] == driver["name"]]
    assert {"name": "INVENTORY_REFRESH_SECRETS_DIR", "value": mount["mountPath"]} in container(objects)["env"]


def test_secret_files_of_others_are_added_to_those_of_secrets() -> None:
    changes = {"secrets": {"directories": ["/vault/secrets", "/mnt/more"]}}
    (variable,) = [
        found
        for found in container(template("minimal", changes))["env"]
        if found["name"] == "INVENTORY_REFRESH_SECRETS_DIR"
    ]
    assert variable["value"] == "/etc/inventory-refresh/secrets:/vault/secrets:/mnt/more"


@pytest.mark.parametrize("automount", [False, True])
def test_the_token_of_the_service_account_is_mounted_where_asked(automount: bool) -> None:  # noqa: FBT001
    objects = template("minimal", {"serviceAccount": {"automount": automount}})
    assert one(objects, "ServiceAccount")["automountServiceAccountToken"] is automount
    assert all(pod["spec"]["automountServiceAccountToken"] is automount for pod in all_pods(objects))


# Pods of helm test


def test_the_pods_of_helm_test_can_be_off() -> None:
    assert not of_kind(template("minimal", {"tests": {"enabled": False}}), "Pod")


def test_the_pods_of_helm_test_have_the_labels_of_pods_and_their_own() -> None:
    changes = {
        "podLabels": {"azure.workload.identity/use": "true", "mesh": "on", "app.kubernetes.io/component": "other"},
        "podAnnotations": {"vault.hashicorp.com/agent-inject": "true", "helm.sh/hook": "other"},
        "tests": {
            "podLabels": {"mesh": "off"},
            "podAnnotations": {"vault.hashicorp.com/agent-pre-populate-only": "true"},
        },
    }
    for pod in of_kind(template("minimal", changes), "Pod"):
        labels, annotations = pod["metadata"]["labels"], pod["metadata"]["annotations"]
        assert (labels["azure.workload.identity/use"], labels["mesh"]) == ("true", "off")
        assert labels["app.kubernetes.io/component"] == "test", "a selector must not match it"
        assert annotations["helm.sh/hook"] == "test"
        assert annotations["vault.hashicorp.com/agent-inject"] == "true"
        assert annotations["vault.hashicorp.com/agent-pre-populate-only"] == "true"


def test_the_pods_of_helm_test_have_their_own_resources() -> None:
    changes = {"tests": {"resources": {"limits": {"memory": "1Gi"}}}}
    for pod in of_kind(template("minimal", changes), "Pod"):
        assert pod["spec"]["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}


def test_a_command_runs_as_a_job_with_all_that_the_service_has() -> None:
    job = one(rendered("everything"), "Job")
    pod, service = job["spec"]["template"], pod_template(rendered("everything"))
    (command,), (running, *_) = pod["spec"]["containers"], service["spec"]["containers"]
    assert command["args"] == ["plan", "--since", "24h", "--as-backlog", "--memory", "64MiB"]
    for name in ("image", "imagePullPolicy", "securityContext", "volumeMounts", "envFrom"):
        assert command[name] == running[name], name
    own = {variable["name"] for variable in running["env"]} - {variable["name"] for variable in command["env"]}
    assert own <= {"INVENTORY_REFRESH_KAFKA__PROPERTIES__GROUP_INSTANCE_ID"}
    for name in ("serviceAccountName", "securityContext", "volumes", "nodeSelector", "tolerations", "affinity"):
        assert pod["spec"][name] == service["spec"][name], name
    assert (pod["spec"]["restartPolicy"], job["spec"]["backoffLimit"]) == ("Never", 0)
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false", "the Job would never end"


def test_no_selector_of_the_service_matches_a_command() -> None:
    objects = rendered("everything")
    labels = one(objects, "Job")["spec"]["template"]["metadata"]["labels"]
    selectors = [one(objects, "Service")["spec"]["selector"], one(objects, "PodDisruptionBudget")["spec"]["selector"]]
    assert not any(selector.get("matchLabels", selector).items() <= labels.items() for selector in selectors)
    assert one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_a_command_has_twice_the_memory_that_it_takes_and_is_not_run_by_default() -> None:
    assert not of_kind(rendered("minimal"), "Job")
    job = one(template("minimal", {"commandJob": {"enabled": True}}), "Job")
    (command,) = job["spec"]["template"]["spec"]["containers"]
    assert command["args"] == ["check"]
    assert command["resources"]["limits"] == {"memory": f"{2 * SIDE_COMMAND_BYTES // MIB}Mi"}


# Access to the status page


def test_the_status_page_cannot_be_reached_from_outside_by_default() -> None:
    assert not {found["kind"] for found in rendered("production")} & {"Ingress", "HTTPRoute"}
    assert one(rendered("production"), "Service")["spec"]["clusterIP"] == "None"


def test_an_ingress_exposes_only_the_page_and_its_json_unless_it_names_paths() -> None:
    (by_default, by_path) = one(rendered("everything"), "Ingress")["spec"]["rules"]
    paths = [(path["path"], path["pathType"]) for path in by_default["http"]["paths"]]
    assert paths == [("/", "Exact"), ("/api", "Prefix"), ("/static", "Prefix")]
    assert [path["path"] for path in by_path["http"]["paths"]] == ["/"]
    service = one(rendered("everything"), "Service")
    backend = {"service": {"name": service["metadata"]["name"], "port": {"name": service["spec"]["ports"][0]["name"]}}}
    assert all(path["backend"] == backend for rule in (by_default, by_path) for path in rule["http"]["paths"])


def test_an_http_route_exposes_only_the_page_and_its_json() -> None:
    route = one(rendered("everything"), "HTTPRoute")["spec"]
    (rule,) = route["rules"]
    paths = [(match["path"]["value"], match["path"]["type"]) for match in rule["matches"]]
    assert paths == [("/", "Exact"), ("/api", "PathPrefix"), ("/static", "PathPrefix")]
    service = one(rendered("everything"), "Service")
    assert rule["backendRefs"] == [{"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}]
    assert rule["filters"]
    assert route["parentRefs"] == [{"name": "internal", "namespace": "gateways"}]
    assert settings(rendered("everything"))["http"]["port"] == service["spec"]["ports"][0]["port"]
