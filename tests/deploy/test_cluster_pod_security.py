"""Pods of the chart pass the strictest admission of Kubernetes: Pod Security "restricted"."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.api_server import RefusedError
from tests.support.release import CHART, Object, Release, workload_of
from tests.support.service_process import wait_until

VALUES = sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*-values.yaml"))
PRIORITY_CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
RUNTIME_CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"


def admit(here: Release, pod: Object) -> None:
    """Let the API server admit a pod as if a controller created it from its template. Raises RefusedError."""
    metadata = pod["metadata"] | {"name": "admitted", "namespace": here.namespace}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}
    here.server.call("POST", f"/api/v1/namespaces/{here.namespace}/pods", body, dryRun="All", fieldValidation="Strict")


def make_classes(here: Release, pod: Object) -> None:
    """Create the priority and runtime class of a pod, and wait until admission knows them, which takes a while."""
    if name := pod["spec"].get("priorityClassName"):
        make_class(here, PRIORITY_CLASSES, {"metadata": {"name": name}, "value": 1_000})
        wait_until(lambda: not refuses(here, pod, "no PriorityClass"), f"the priority class {name} is known")
    if name := pod["spec"].get("runtimeClassName"):
        make_class(here, RUNTIME_CLASSES, {"metadata": {"name": name}, "handler": "runsc"})
        wait_until(lambda: not refuses(here, pod, "pod rejected: RuntimeClass"), f"the runtime class {name} is known")


def make_class(here: Release, path: str, body: Object) -> None:
    try:
        here.server.call("POST", path, body)
    except RefusedError as refused:  # it is cluster-scoped, and another test may have created it
        assert "already exists" in str(refused)  # noqa: PT017


def refuses(here: Release, pod: Object, words: str) -> bool:
    try:
        admit(here, pod)
    except RefusedError as refused:
        return words in str(refused)
    return False


@pytest.mark.parametrize("values", VALUES)
def test_pods_of_every_values_file_are_admitted(values: str, release: Callable[..., Release]) -> None:
    here = release()
    here.install(values)
    pod = here.pod_template()
    make_classes(here, pod)

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
def test_a_pod_without_one_of_its_restrictions_is_refused(
    changes: dict[str, Any], complaint: str, release: Callable[..., Release]
) -> None:
    here = release()
    pod = workload_of(here.rendered("minimal", changes))["spec"]["template"]
    with pytest.raises(RefusedError, match='violates PodSecurity "restricted') as refused:
        admit(here, pod)
    assert complaint in str(refused.value)
