"""Pods of the chart before the strictest admission that Kubernetes has: Pod Security "restricted"."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.api_server import ApiServer, RefusedError
from tests.support.release import CHART, Object, Release, workload_of

VALUES = sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*-values.yaml"))


def make_priority_class(server: ApiServer, name: str) -> None:
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    if name not in {each["metadata"]["name"] for each in server.call("GET", classes)["items"]}:
        server.call("POST", classes, {"metadata": {"name": name}, "value": 1_000})


def admit(here: Release, pod: Object) -> None:
    """Have the API server judge a pod as if a controller made it of its template. Raises RefusedError."""
    metadata = pod["metadata"] | {"name": "judged", "namespace": here.namespace}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}
    here.server.call("POST", f"/api/v1/namespaces/{here.namespace}/pods", body, dryRun="All", fieldValidation="Strict")


@pytest.mark.parametrize("values", VALUES)
def test_pods_of_each_values_file_are_admitted(
    values: str, release: Callable[..., Release], api_server: ApiServer
) -> None:
    here = release()
    here.install(values)
    pod = here.pod_template()
    make_priority_class(api_server, pod["spec"].get("priorityClassName", "some"))

    admit(here, pod)
    for hook in here.hooks():
        assert hook["kind"] == "Pod"
        admit(here, hook)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"podSecurityContext": {"runAsNonRoot": False}}, "runAsNonRoot != true"),
        ({"podSecurityContext": {"runAsUser": 0}}, "runAsUser=0"),
        ({"podSecurityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccompProfile"),
        ({"securityContext": {"allowPrivilegeEscalation": True}}, "allowPrivilegeEscalation != false"),
        ({"securityContext": {"capabilities": {"drop": ["NET_RAW"]}}}, "unrestricted capabilities"),
        ({"extraVolumes": [{"name": "node", "hostPath": {"path": "/var/log"}}]}, "restricted volume types"),
    ],
    ids=["root allowed", "root", "seccomp", "escalation", "capabilities", "host path"],
)
def test_a_pod_with_one_protection_taken_off_is_refused(
    changes: dict[str, Any], complaint: str, release: Callable[..., Release]
) -> None:
    here = release()
    pod = workload_of(here.rendered("minimal", changes))["spec"]["template"]
    with pytest.raises(RefusedError, match='violates PodSecurity "restricted') as refused:
        admit(here, pod)
    assert complaint in str(refused.value)
