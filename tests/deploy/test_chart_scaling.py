"""The number of replicas, and static membership."""

from typing import Any

import pytest
import yaml

from consumer.settings import Settings
from consumer.settings.memory import GIB, budget_bytes, memory_shares
from tests.support.chart import VALUES_FILES, container, of_kind, one, rendered, template, workload
from tests.support.release import CHART

pytestmark = pytest.mark.usefixtures("helm")

CHANGE_BYTES = 100
"""Of a short event that is pending."""
INSTANCE_ID = "INVENTORY_REFRESH_KAFKA__PROPERTIES__GROUP_INSTANCE_ID"

AUTOSCALED = {"everything", "keda", "hpa"}


@pytest.mark.parametrize("values", VALUES_FILES)
def test_replicas_are_left_to_an_enabled_autoscaler(values: str) -> None:
    objects = rendered(values)
    scalers = of_kind(objects, "ScaledObject") + of_kind(objects, "HorizontalPodAutoscaler")
    assert len(scalers) == (values in AUTOSCALED)
    assert ("replicas" in workload(objects)["spec"]) == (values not in AUTOSCALED)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("kind", ["ScaledObject", "HorizontalPodAutoscaler"])
def test_an_autoscaler_scales_the_installed_workload(kind: str, *, static: bool) -> None:
    values = "keda" if kind == "ScaledObject" else "hpa"
    objects = template(values, {"staticMembership": {"enabled": static}})
    target = one(objects, kind)["spec"]["scaleTargetRef"]
    found = workload(objects)
    assert target == {"apiVersion": "apps/v1", "kind": found["kind"], "name": found["metadata"]["name"]}
    assert found["kind"] == ("StatefulSet" if static else "Deployment")


def triggers(values: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one(rendered(values), "ScaledObject")["spec"]["triggers"]
    return found


def test_keda_uses_the_lag_of_the_group_in_every_topic() -> None:
    by_topic = {trigger["metadata"]["topic"]: trigger for trigger in triggers("keda")}
    assert list(by_topic) == ["inventory-changes", "returns"]
    for trigger in by_topic.values():
        assert trigger["type"] == "kafka"
        assert trigger["metadata"]["bootstrapServers"] == "kafka-bootstrap.kafka:9093"
        assert trigger["metadata"]["consumerGroup"] == "inventory-refresh"
        assert trigger["authenticationRef"] == {"name": "kafka-lag", "kind": "TriggerAuthentication"}
        assert trigger["metadata"]["sasl"] == "scram_sha512"
        assert all(isinstance(value, str) for value in trigger["metadata"].values())


@pytest.mark.parametrize("values", ["keda", "everything"])
def test_keda_never_starts_more_replicas_than_partitions(values: str) -> None:
    assert {trigger["metadata"]["allowIdleConsumers"] for trigger in triggers(values)} == {"false"}


def test_lag_of_waiting_windows_counts_as_lag_but_not_as_backlog() -> None:
    (metadata, _) = (trigger["metadata"] for trigger in triggers("keda"))
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert defaults["resources"]["limits"]["memory"] == "1Gi"
    held = memory_shares(budget_bytes("auto", GIB)).pending_bytes / CHANGE_BYTES
    assert 0.4 * held < int(metadata["lagThreshold"]) < 0.5 * held
    assert metadata["excludePersistentLag"] == "false"
    assert metadata["offsetResetPolicy"] == "earliest"


@pytest.mark.parametrize(("values", "kind"), [("keda", "ScaledObject"), ("hpa", "HorizontalPodAutoscaler")])
def test_scaling_down_waits_longer_than_the_lag_normally_fluctuates(values: str, kind: str) -> None:
    spec = one(rendered(values), kind)["spec"]
    behavior = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    window = Settings.model_fields["window"].annotation
    assert window is not None
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] > window.model_fields["max_age"].default


def test_an_hpa_uses_cpu_and_additional_metrics() -> None:
    spec = one(rendered("hpa"), "HorizontalPodAutoscaler")["spec"]
    assert [metric["type"] for metric in spec["metrics"]] == ["Resource", "External"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 12)
    only = template("hpa", {"hpa": {"targetCPUUtilizationPercentage": 0}})
    assert [metric["type"] for metric in one(only, "HorizontalPodAutoscaler")["spec"]["metrics"]] == ["External"]


def test_a_static_member_has_the_name_of_its_pod_and_pods_start_in_parallel() -> None:
    objects = rendered("static-membership")
    (variable,) = [variable for variable in container(objects)["env"] if variable["name"] == INSTANCE_ID]
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    spec = workload(objects)["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["serviceName"] == one(objects, "Service")["metadata"]["name"]
    assert one(objects, "Service")["spec"]["clusterIP"] == "None"


def test_the_name_of_a_static_member_reaches_the_consumer_but_not_helm_test() -> None:
    from consumer.settings.sources import from_environment  # noqa: PLC0415

    objects = rendered("static-membership")
    given = from_environment({INSTANCE_ID: "demo-inventory-refresh-0"})
    assert {path: setting.value for path, setting in given.items()} == {
        ("kafka", "properties", "group.instance.id"): "demo-inventory-refresh-0"
    }
    for pod in of_kind(objects, "Pod"):
        assert INSTANCE_ID not in {variable["name"] for variable in pod["spec"]["containers"][0].get("env", [])}


def test_members_of_a_deployment_are_not_static() -> None:
    assert INSTANCE_ID not in {variable["name"] for variable in container(rendered("minimal"))["env"]}
