"""Pods of the chart before the strictest admission that Kubernetes has: Pod Security "restricted"."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.api_server import RefusedError
from tests.support.release import CHART, Object, Release, workload_of
from tests.support.service_process import wait_until

VALUES = sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*-values.yaml"))
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"


def admit(here: Release, pod: Object) -> None:
    """Have the API server judge a pod as if a controller made it of its template. Raises RefusedError."""
    metadata = pod["metadata"] | {"name": "judged", "namespace": here.namespace}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}
    here.server.call("POST", f"/api/v1/namespaces/{here.namespace}/pods", body, dryRun="All", fieldValidation="Strict")


def make_priority_class(here: Release, pod: Object) -> None:
    """Make the class that a pod names, and wait until admission, which hears of it later, knows it."""
    name = pod["spec"]["priorityClassName"]
    try:
        here.server.call("POST", CLASSES, {"metadata": {"name": name}, "value": 1_000})
    except RefusedError as refused:  # it is of no namespace, and another test may have made it
        assert "already exists" in str(refused)  # noqa: PT017

    def is_known() -> bool:
        try:
            admit(here, pod)
        except RefusedError as refused:
            return f"no PriorityClass with name {name}" not in str(refused)
        return True

    wait_until(is_known, f"the priority class {name} is known")


@pytest.mark.parametrize("values", VALUES)
def test_pods_of_each_values_file_are_admitted(values: str, release: Callable[..., Release]) -> None:
    here = release()
    here.install(values)
    pod = here.pod_template()
    if "priorityClassName" in pod["spec"]:
        make_priority_class(here, pod)

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
