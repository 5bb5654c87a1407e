"""The values of the chart, their schema and the README agree with each other and with the settings of the service."""

import importlib.util
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import yaml
from pydantic import SecretStr

from consumer.kafka.options import consumer_options, group_times
from consumer.settings import Section, Settings, load
from tests.support.chart import (
    NAMESPACE,
    VALUES_FILES,
    container,
    of_kind,
    pod_template,
    rendered,
    settings,
    settings_file,
    template,
)
from tests.support.keeper import ROOT
from tests.support.release import CHART

pytestmark = pytest.mark.usefixtures("helm")

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

each_values_file = pytest.mark.parametrize("values", VALUES_FILES)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("helm_generate", ROOT / "helm" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options() -> Iterator[tuple[str, str, Any]]:
    for section, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, Section)
        for name, option in field.annotation.model_fields.items():
            yield section, name, option


def is_secret(annotation: object) -> bool:
    """Whether a setting of this type, or None in its place, is given in a secret file."""
    return annotation is SecretStr or any(map(is_secret, get_args(annotation)))


def loaded(objects: list[dict[str, Any]], folder: Path) -> Settings:
    """The settings that the service loads from its ConfigMap and a Secret with API key and secret."""
    config = folder / "config.yaml"
    config.write_text(settings_file(objects), encoding="utf-8")
    secrets = folder / "secrets"
    secrets.mkdir(exist_ok=True)
    for name in ("oms__api_key", "oms__api_secret"):
        (secrets / name).write_text("x", encoding="utf-8")
    environment = {variable["name"]: variable.get("value", "from-the-pod") for variable in container(objects)["env"]}
    return load(config, environment, secrets)


@each_values_file
def test_the_service_accepts_the_rendered_settings(values: str, tmp_path: Path) -> None:
    read = loaded(rendered(values), tmp_path)
    consumer_options(read.kafka)
    group_times(read.kafka)


def test_every_setting_of_the_values_reaches_the_service(tmp_path: Path) -> None:
    given = yaml.safe_load(VALUES_FILES["everything"].read_text(encoding="utf-8"))["config"]
    unset = {("avro", "registry_url"), ("avro", "registry"), ("avro", "schema_file"), ("oms", "ca_file")}
    unset |= {("avro", "key_schema_file")}
    read = loaded(rendered("everything"), tmp_path)
    for section, name, option in options():
        if is_secret(option.annotation) or (section, name) in unset:
            continue
        assert name in given.get(section, {}), f"ci/everything-values.yaml does not set {section}.{name}"
        value, default = getattr(getattr(read, section), name), option.get_default(call_default_factory=True)
        assert value != default or name == "track_jobs", f"{section}.{name} is still {default!r}"


def test_every_setting_of_the_schema_exists_and_has_the_default_of_the_service() -> None:
    sections = SCHEMA["properties"]["config"]["properties"]
    known = {(section, name): option for section, name, option in options()}
    assert {(section, name) for section, content in sections.items() for name in content["properties"]} == set(known)
    for (section, name), option in known.items():
        default = None if option.is_required() else option.get_default(call_default_factory=True)
        assert sections[section]["properties"][name].get("default") == default, f"{section}.{name}"


def test_the_settings_in_values_yaml_are_the_defaults_of_the_service(tmp_path: Path) -> None:
    minimal = yaml.safe_load(VALUES_FILES["minimal"].read_text(encoding="utf-8"))["config"]
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(minimal), encoding="utf-8")
    bare = load(config, {"INVENTORY_REFRESH_OMS__API_KEY": "x", "INVENTORY_REFRESH_OMS__API_SECRET": "x"})
    with_values = loaded(rendered("minimal"), tmp_path)
    differing = {
        f"{section}.{name}"
        for section, name, option in options()
        if not is_secret(option.annotation)
        and getattr(getattr(bare, section), name) != getattr(getattr(with_values, section), name)
    }
    assert differing == {"http.members", "log.format"}, "the Service, and what the image sets to json, too"


def test_the_members_are_found_by_the_headless_service_unless_the_settings_name_them() -> None:
    objects = template("minimal", {"fullnameOverride": "stock", "config": {"http": {"port": 9090}}})
    (service,) = of_kind(objects, "Service")
    name, namespace = service["metadata"]["name"], service["metadata"].get("namespace", NAMESPACE)
    assert settings(objects)["http"]["members"] == [f"{name}.{namespace}.svc:9090"]
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert settings(rendered("everything"))["http"]["members"] == ["stock.shop.svc:9090", "[fd00::7]:9090"]


def test_the_settings_file_overrides_the_variables_of_the_image(tmp_path: Path) -> None:
    objects = template("minimal", {"config": {"log": {"format": "console"}}})
    assert {"name": "INVENTORY_REFRESH_LOG__FORMAT", "value": ""} in container(objects)["env"]
    assert loaded(objects, tmp_path).log.format == "console"


def test_an_avro_schema_in_the_values_becomes_the_schema_file() -> None:
    objects = rendered("everything")
    (data,) = [found["data"] for found in of_kind(objects, "ConfigMap") if "config.yaml" in found["data"]]
    (mount,) = [mount for mount in container(objects)["volumeMounts"] if mount["name"] == "config"]
    assert settings(objects)["avro"]["schema_file"] == f"{mount['mountPath']}/inventory-change.avsc"
    assert json.loads(data["inventory-change.avsc"])["name"] == "StockChange"


def test_an_avro_schema_is_copied_verbatim() -> None:
    text = (ROOT / "schemas" / "inventory-change.avsc").read_text(encoding="utf-8")
    objects = template("minimal", {"avroSchema": text, "config": {"avro": {"registry_url": ""}}})
    (data,) = [found["data"] for found in of_kind(objects, "ConfigMap") if "config.yaml" in found["data"]]
    assert data["inventory-change.avsc"].rstrip("\n") == text.rstrip("\n")


@pytest.mark.parametrize(
    ("revoke_timeout", "margin", "seconds"),
    [
        ("30s", 30, 60),
        ("2m", 30, 150),
        ("1.5m", 10, 100),
        (45, 30, 75),
        (0.5, 30, 31),
        ("500ms", 30, 31),
        ("90", 30, 120),
        ("90 s", 30, 120),
    ],
)
def test_a_stopping_pod_has_the_revoke_timeout_and_a_margin(
    revoke_timeout: object, margin: int, seconds: int, tmp_path: Path
) -> None:
    changes = {"config": {"kafka": {"revoke_timeout": revoke_timeout}}, "shutdownMarginSeconds": margin}
    objects = template("minimal", changes)
    assert pod_template(objects)["spec"]["terminationGracePeriodSeconds"] == seconds
    assert 0 <= seconds - margin - loaded(objects, tmp_path).kafka.revoke_timeout < 1


def test_the_longest_revoke_timeout_also_fits() -> None:
    kafka = {"revoke_timeout": "1h", "properties": {"max.poll.interval.ms": 4_000_000}}
    objects = template("minimal", {"config": {"kafka": kafka}})
    assert pod_template(objects)["spec"]["terminationGracePeriodSeconds"] == 3_630


def test_large_numbers_stay_integers(tmp_path: Path) -> None:
    changes = {"kafka": {"max_uncommitted_offsets": 1_000_000_000}}
    read = loaded(template("minimal", {"config": changes}), tmp_path)
    assert read.kafka.max_uncommitted_offsets == 1_000_000_000


def test_false_and_zero_are_not_empty_values() -> None:
    changes = {"oms": {"track_jobs": False}, "kafka": {"properties": {"linger.ms": 0}}}
    given = settings(template("minimal", {"config": changes}))
    assert given["oms"]["track_jobs"] is False
    assert given["kafka"]["properties"] == {"linger.ms": 0}


def test_every_value_has_a_comment() -> None:
    made = generator()
    described = made.descriptions((CHART / "values.yaml").read_text(encoding="utf-8"))
    missing = [".".join(path) for path, _ in made.values(DEFAULTS, described) if path not in described]
    assert not missing


def test_schema_and_readme_are_current() -> None:
    made = generator()
    assert (CHART / "values.schema.json").read_text(encoding="utf-8") == made.schema(), "run make docs"
    assert (CHART / "README.md").read_text(encoding="utf-8") == made.readme(), "run make docs"


def test_schema_and_values_yaml_have_the_same_values() -> None:
    properties = {name: schema for name, schema in SCHEMA["properties"].items() if name != "config"}
    defaults = {name: value for name, value in DEFAULTS.items() if name != "config"}
    assert not list(_differences(properties, defaults, ""))


def _differences(properties: dict[str, Any], defaults: dict[str, Any], above: str) -> Iterator[str]:
    yield from (f"{above}{name}" for name in properties.keys() ^ defaults.keys())
    for name in properties.keys() & defaults.keys():
        inner = properties[name].get("properties")
        if inner is not None and name not in {
            "affinity",
            "dnsConfig",
            "lifecycle",
            "resources",
        }:  # fields of Kubernetes
            yield from _differences(inner, defaults[name], f"{above}{name}.")


def test_only_values_that_charts_share_allow_unknown_properties() -> None:
    def objects(schema: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(schema, dict):
            if schema.get("type") == "object" and "properties" in schema:
                yield path, schema.get("additionalProperties")
            for name, part in schema.items():
                yield from objects(part, f"{path}/{name}")

    found = dict(objects(SCHEMA, ""))
    assert len(found) > 20
    assert [path for path, others in found.items() if others is not False] == ["/properties/global"]


def test_the_chart_has_the_version_of_the_service() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"] == project["version"]
