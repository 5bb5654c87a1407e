"""Wrong values are refused before anything is installed, with a helpful message."""

from collections.abc import Mapping
from typing import Any

import pytest

from consumer.app import STALLED_SECONDS
from tests.support.chart import RefusedError, template

pytestmark = pytest.mark.usefixtures("helm")


def refusal(changes: Mapping[str, Any], values: str = "minimal") -> str:
    with pytest.raises(RefusedError) as refused:
        template(values, changes)
    return str(refused.value)


BY_SCHEMA: list[tuple[str, Mapping[str, Any], str]] = [
    ("unknown value", {"replicas": 3}, "additional properties 'replicas' not allowed"),
    ("unknown value inside", {"keda": {"enable": True}}, "at '/keda': additional properties 'enable' not allowed"),
    ("unknown section", {"config": {"kafak": {}}}, "at '/config': additional properties 'kafak' not allowed"),
    ("unknown setting", {"config": {"window": {"age": 1}}}, "at '/config/window': additional properties 'age' not"),
    ("text for a switch", {"keda": {"enabled": "yes"}}, "at '/keda/enabled': got string, want boolean"),
    ("text for a number", {"replicaCount": "two"}, "at '/replicaCount': got string, want integer"),
    ("negative number", {"replicaCount": -1}, "at '/replicaCount': minimum: got -1, want 0"),
    ("duration", {"config": {"window": {"max_age": "5 minutes"}}}, "at '/config/window/max_age': '5 minutes' does not"),
    (
        "duration too long",
        {"config": {"oms": {"timeout": 601}}},
        "at '/config/oms/timeout': maximum: got 601, want 600",
    ),
    ("duration of zero", {"config": {"window": {"max_age": 0}}}, "at '/config/window/max_age': exclusiveMinimum"),
    ("unknown API", {"config": {"oms": {"api": "v6"}}}, "value must be one of 'inventory-specific', 'inventory-v5'"),
    ("items beyond the OMS's", {"config": {"oms": {"max_items": 13_000}}}, "maximum: got 13,000, want 12,000"),
    (
        "flush_items as text",
        {"config": {"window": {"flush_items": "never"}}},
        "at '/config/window/flush_items': 'never' does not",
    ),
    ("budget without a unit", {"config": {"memory": {"budget": "400"}}}, "at '/config/memory/budget': '400' does not"),
    ("topics as text", {"config": {"kafka": {"topics": "a,b"}}}, "at '/config/kafka/topics': got string, want array"),
    (
        "property that the service controls",
        {"config": {"kafka": {"properties": {"group.id": "x"}}}},
        "invalid propertyName 'group.id'",
    ),
    ("property that is a list", {"config": {"kafka": {"properties": {"a": [1]}}}}, "properties/a': got array, want"),
    ("port unknown to the probes", {"config": {"http": {"port": 0}}}, "at '/config/http/port': minimum: got 0, want 1"),
    ("section removed", {"config": {"avro": None}}, "at '/config': missing property 'avro'"),
    ("value removed", {"probes": {"liveness": None}}, "at '/probes': missing property 'liveness'"),
    ("digest", {"image": {"digest": "latest"}}, "at '/image/digest': 'latest' does not match"),
    ("label that is a number", {"podLabels": {"a": 1}}, "at '/podLabels/a': got number, want string"),
    ("name", {"fullnameOverride": "My_Name"}, "at '/fullnameOverride': 'My_Name' does not match"),
    ("secret without a name", {"secrets": {"existing": [{}]}}, "at '/secrets/existing/0': missing property 'name'"),
    (
        "file that is not a setting",
        {"secrets": {"existing": [{"name": "a", "items": [{"key": "b", "path": "password"}]}]}},
        "at '/secrets/existing/0/items/0/path': 'password' does not match",
    ),
    ("variables from nowhere", {"extraEnvFrom": [{"name": "a"}]}, "additional properties 'name' not allowed"),
    (
        "relative directory",
        {"secrets": {"directories": ["vault"]}},
        "at '/secrets/directories/0': 'vault' does not match",
    ),
    ("registry with a scheme", {"image": {"registry": "https://a/ b"}}, "at '/image/registry'"),
    ("DNS policy", {"dnsPolicy": "Cluster"}, "at '/dnsPolicy': value must be one of"),
    ("DNS option", {"dnsConfig": {"option": []}}, "additional properties 'option' not allowed"),
    ("host alias without a name", {"hostAliases": [{"ip": "192.0.2.1"}]}, "missing property 'hostnames'"),
    ("hook", {"lifecycle": {"prestop": {}}}, "additional properties 'prestop' not allowed"),
    ("container without a name", {"initContainers": [{"image": "a"}]}, "missing property 'name'"),
    ("misspelt change of an alert", {"prometheusRule": {"alerts": {"A": {"treshold": 1}}}}, "'treshold' not allowed"),
    ("path type", {"ingress": {"hosts": [{"host": "a", "paths": [{"path": "/", "pathType": "Any"}]}]}}, "/pathType'"),
    ("runbook URL", {"prometheusRule": {"runbookUrl": "wiki"}}, "at '/prometheusRule/runbookUrl'"),
    ("interval", {"serviceMonitor": {"interval": "often"}}, "at '/serviceMonitor/interval': 'often' does not match"),
    ("margin too small", {"shutdownMarginSeconds": 5}, "at '/shutdownMarginSeconds': minimum: got 5, want 10"),
]


@pytest.mark.parametrize(("changes", "words"), [case[1:] for case in BY_SCHEMA], ids=[case[0] for case in BY_SCHEMA])
def test_a_wrong_value_is_refused_with_its_path_and_what_is_allowed(changes: Mapping[str, Any], words: str) -> None:
    assert words in refusal(changes)


BY_TEMPLATE: list[tuple[str, str, Mapping[str, Any], str]] = [
    (
        "no brokers",
        "minimal",
        {"config": {"kafka": {"bootstrap_servers": ""}}},
        "config.kafka.bootstrap_servers: must be set",
    ),
    ("no topics", "minimal", {"config": {"kafka": {"topics": []}}}, "config.kafka.topics: must be set"),
    ("no OMS", "minimal", {"config": {"oms": {"base_url": None}}}, "config.oms.base_url: must be set"),
    (
        "no schema",
        "minimal",
        {"config": {"avro": {"registry_url": ""}}},
        "config.avro.registry_url: must be set, or avroSchema instead",
    ),
    (
        "two schemas",
        "minimal",
        {"avroSchema": "{}"},
        "avroSchema: must not be set together with config.avro.registry_url",
    ),
    (
        "no secrets",
        "minimal",
        {"secrets": {"existing": []}},
        "set secrets.existing, secrets.externalSecret or secrets.directories",
    ),
    (
        "external secret without a store",
        "everything",
        {"secrets": {"externalSecret": {"secretStoreRef": {"name": ""}}}},
        "secrets.externalSecret.secretStoreRef.name: must be set",
    ),
    (
        "empty external secret",
        "everything",
        {"secrets": {"externalSecret": {"data": []}}},
        "secrets.externalSecret: set data or dataFrom",
    ),
    (
        "API key in the settings",
        "minimal",
        {"config": {"oms": {"api_key": "abc"}}},
        "config.oms.api_key: is a secret: put it into a secret file named oms__api_key",
    ),
    (
        "password in the settings",
        "minimal",
        {"config": {"kafka": {"properties": {"sasl.password": "abc"}}}},
        "is a secret: put it into a secret file named kafka__properties__sasl.password",
    ),
    (
        "registry's password in the settings",
        "minimal",
        {"config": {"avro": {"registry": {"basic.auth.user.info": "a:b"}}}},
        "named avro__registry__basic.auth.user.info",
    ),
    (
        "revoke longer than the poll interval",
        "minimal",
        {"config": {"kafka": {"revoke_timeout": "5m"}}},
        "config.kafka.revoke_timeout: 5m must be more than 0 and less than max.poll.interval.ms (300 s)",
    ),
    (
        "unreachable for longer than a stalled loop",
        "minimal",
        {"config": {"kafka": {"unreachable_timeout": "3m"}}},
        f"config.kafka.unreachable_timeout: 3m must be less than {STALLED_SECONDS:g} s",
    ),
    (
        "one instance id for all pods",
        "minimal",
        {"config": {"kafka": {"properties": {"group.instance.id": "a"}}}},
        "set staticMembership.enabled instead",
    ),
    (
        "address that probes cannot reach",
        "minimal",
        {"config": {"http": {"host": "127.0.0.1"}}},
        "config.http.host: 127.0.0.1 cannot be reached by probes",
    ),
    ("two CA bundles", "production", {"caBundle": {"secret": "a"}}, "caBundle: set configMap or secret, not both"),
    (
        "scraped twice",
        "production",
        {"podMonitor": {"enabled": True}},
        "serviceMonitor, podMonitor: enable only one of the two",
    ),
    (
        "two autoscalers",
        "keda",
        {"hpa": {"enabled": True}},
        "keda.enabled, hpa.enabled: enable only one of the two, because both set the number of replicas",
    ),
    (
        "more replicas than partitions",
        "minimal",
        {"partitions": 4, "replicaCount": 5},
        "replicaCount: 5 must be at most partitions (4)",
    ),
    ("KEDA's", "keda", {"keda": {"maxReplicaCount": 13}}, "keda.maxReplicaCount: 13 must be at most partitions (12)"),
    ("the HPA's", "hpa", {"hpa": {"maxReplicas": 13}}, "hpa.maxReplicas: 13 must be at most partitions (12)"),
    ("HPA without partitions", "hpa", {"partitions": 0}, "partitions: must be set for hpa"),
    (
        "HPA minimum above maximum",
        "hpa",
        {"hpa": {"minReplicas": 13}},
        "hpa.minReplicas: 13 must be at most hpa.maxReplicas",
    ),
    (
        "KEDA minimum above maximum",
        "keda",
        {"keda": {"minReplicaCount": 13}},
        "keda.minReplicaCount: 13 must be at most",
    ),
    (
        "HPA without a target",
        "hpa",
        {"hpa": {"metrics": [], "targetCPUUtilizationPercentage": 0}},
        "hpa: set targetCPUUtilizationPercentage or metrics",
    ),
    (
        "a roll-out that cannot replace a pod",
        "minimal",
        {"rollingUpdate": {"maxSurge": 0}},
        "rollingUpdate: maxSurge and maxUnavailable must not both be 0",
    ),
    (
        "a variable that hides a setting",
        "minimal",
        {"extraEnv": [{"name": "INVENTORY_REFRESH_HTTP__PORT", "value": "1"}]},
        "extraEnv: INVENTORY_REFRESH_HTTP__PORT would bypass a value that the chart uses",
    ),
    (
        "a variable that hides the secrets",
        "minimal",
        {"extraEnv": [{"name": "INVENTORY_REFRESH_SECRETS_DIR", "value": "/vault/secrets"}]},
        "extraEnv: INVENTORY_REFRESH_SECRETS_DIR: use secrets.directories instead",
    ),
    (
        "a field of the pod with a value of its own",
        "minimal",
        {"extraPodSpec": {"volumes": []}},
        "extraPodSpec.volumes: use the value extraVolumes instead",
    ),
    (
        "a fixed field of the pod",
        "minimal",
        {"extraPodSpec": {"restartPolicy": "Never"}},
        "extraPodSpec.restartPolicy: cannot be changed",
    ),
    (
        "two containers of one name",
        "minimal",
        {"extraContainers": [{"name": "inventory-refresh", "image": "a"}]},
        "inventory-refresh is the name of the service's own container",
    ),
    (
        "an alert that does not exist",
        "production",
        {"prometheusRule": {"alerts": {"InventoryRefreshLate": {"enabled": False}}}},
        "prometheusRule.alerts: there is no alert InventoryRefreshLate",
    ),
    (
        "the threshold of an alert without one",
        "production",
        {"prometheusRule": {"alerts": {"InventoryRefreshNoMembers": {"threshold": 1}}}},
        "prometheusRule.alerts: InventoryRefreshNoMembers has no threshold",
    ),
    ("ingress without a host", "minimal", {"ingress": {"enabled": True}}, "ingress.hosts: must be set"),
    ("route without a gateway", "minimal", {"httpRoute": {"enabled": True}}, "httpRoute.parentRefs: must be set"),
]


@pytest.mark.parametrize(
    ("values", "changes", "words"), [case[1:] for case in BY_TEMPLATE], ids=[case[0] for case in BY_TEMPLATE]
)
def test_values_that_do_not_fit_together_are_refused_with_what_to_do(
    values: str, changes: Mapping[str, Any], words: str
) -> None:
    said = refusal(changes, values)
    assert words in said
    assert "abc" not in said, "a refusal never shows a secret"


def test_all_missing_values_are_reported_at_once() -> None:
    changes = {"config": {"kafka": {"bootstrap_servers": "", "topics": []}, "oms": {"token_url": ""}}}
    said = refusal(changes | {"secrets": {"existing": []}})
    assert said.count("\n  - ") == 4


def test_properties_that_only_look_like_secrets_are_accepted() -> None:
    properties = {"ssl.key.location": "/etc/key", "ssl.keystore.location": "/etc/store", "sasl.username": "a"}
    assert template("minimal", {"config": {"kafka": {"properties": properties}}})


def test_the_chart_is_refused_on_a_kubernetes_that_is_too_old() -> None:
    with pytest.raises(RefusedError, match=r"requires kubeVersion: >=1\.29"):
        template(kubernetes="1.28")
