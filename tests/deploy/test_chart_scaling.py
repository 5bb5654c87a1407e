"""Who decides on replicas, and what static members are."""

from typing import Any

import pytest

from consumer.settings import Settings
from tests.support.chart import VALUES_FILES, container, of_kind, one, rendered, template, workload

pytestmark = pytest.mark.usefixtures("helm")

INSTANCE_ID = "INVENTORY_REFRESH_KAFKA__PROPERTIES__GROUP_INSTANCE_ID"

AUTOSCALED = {"everything", "keda", "hpa"}


@pytest.mark.parametrize("values", VALUES_FILES)
def test_replicas_are_left_to_an_autoscaler_where_there_is_one(values: str) -> None:
    objects = rendered(values)
    scalers = of_kind(objects, "ScaledObject") + of_kind(objects, "HorizontalPodAutoscaler")
    assert len(scalers) == (values in AUTOSCALED)
    assert ("replicas" in workload(objects)["spec"]) == (values not in AUTOSCALED)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("kind", ["ScaledObject", "HorizontalPodAutoscaler"])
def test_an_autoscaler_scales_the_workload_that_is_there(kind: str, *, static: bool) -> None:
    values = "keda" if kind == "ScaledObject" else "hpa"
    objects = template(values, {"staticMembership": {"enabled": static}})
    target = one(objects, kind)["spec"]["scaleTargetRef"]
    found = workload(objects)
    assert target == {"apiVersion": "apps/v1", "kind": found["kind"], "name": found["metadata"]["name"]}
    assert found["kind"] == ("StatefulSet" if static else "Deployment")


def triggers(values: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one(rendered(values), "ScaledObject")["spec"]["triggers"]
    return found


def test_keda_looks_at_the_lag_of_the_group_in_each_topic() -> None:
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
def test_keda_never_takes_more_replicas_than_there_are_partitions(values: str) -> None:
    assert {trigger["metadata"]["allowIdleConsumers"] for trigger in triggers(values)} == {"false"}


def test_lag_that_waits_for_a_window_to_fill_counts_as_lag_and_is_no_backlog() -> None:
    (metadata, _) = (trigger["metadata"] for trigger in triggers("keda"))
    window = Settings.model_fields["window"].annotation
    assert window is not None
    held = window.model_fields["max_pending_changes"].default
    assert int(metadata["lagThreshold"]) == held / 2
    assert metadata["excludePersistentLag"] == "false"
    assert metadata["offsetResetPolicy"] == "earliest"


@pytest.mark.parametrize(("values", "kind"), [("keda", "ScaledObject"), ("hpa", "HorizontalPodAutoscaler")])
def test_scaling_down_waits_for_longer_than_lag_takes_to_rise_and_fall_by_itself(values: str, kind: str) -> None:
    spec = one(rendered(values), kind)["spec"]
    behavior = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    window = Settings.model_fields["window"].annotation
    assert window is not None
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] > window.model_fields["max_age"].default


def test_an_hpa_takes_cpu_and_further_metrics() -> None:
    spec = one(rendered("hpa"), "HorizontalPodAutoscaler")["spec"]
    assert [metric["type"] for metric in spec["metrics"]] == ["Resource", "External"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 12)
    only = template("hpa", {"hpa": {"targetCPUUtilizationPercentage": 0}})
    assert [metric["type"] for metric in one(only, "HorizontalPodAutoscaler")["spec"]["metrics"]] == ["External"]


def test_a_static_member_is_called_as_its_pod_and_its_pods_start_together() -> None:
    objects = rendered("static-membership")
    (variable,) = [each for each in container(objects)["env"] if each["name"] == INSTANCE_ID]
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    spec = workload(objects)["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["serviceName"] == one(objects, "Service")["metadata"]["name"]
    assert one(objects, "Service")["spec"]["clusterIP"] == "None"


def test_a_static_members_name_reaches_the_consumer_and_helm_test_does_not_take_it() -> None:
    from consumer.settings.sources import from_environment  # noqa: PLC0415

    objects = rendered("static-membership")
    given = from_environment({INSTANCE_ID: "demo-inventory-refresh-0"})
    assert {path: each.value for path, each in given.items()} == {
        ("kafka", "properties", "group.instance.id"): "demo-inventory-refresh-0"
    }
    for pod in of_kind(objects, "Pod"):
        assert INSTANCE_ID not in {each["name"] for each in pod["spec"]["containers"][0].get("env", [])}


def test_members_of_a_deployment_are_not_static() -> None:
    assert INSTANCE_ID not in {each["name"] for each in container(rendered("minimal"))["env"]}
