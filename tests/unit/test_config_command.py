"""``config show`` and ``config schema``: settings with their sources, without secrets, and their JSON Schema."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from consumer.config_command import as_json_text, derived_settings
from consumer.settings import Settings
from consumer.settings.effective import EffectiveSetting, as_yaml_lines, effective_settings
from consumer.settings.json_schema import editor_schema
from consumer.settings.loading import load_with_origins
from consumer.settings.redaction import hide_credentials
from consumer.settings.values import parse_seconds, seconds_text

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"
ENVIRONMENT = {
    "INVENTORY_REFRESH_OMS__API_KEY": SECRET,
    "INVENTORY_REFRESH_WINDOW__MAX_AGE": "90s",
    "INVENTORY_REFRESH_KAFKA__PROPERTIES__SASL_PASSWORD": SECRET,
}
FILE: dict[str, dict[str, Any]] = {
    "kafka": {
        "bootstrap_servers": "kafka-1.example:9093",
        "topics": ["stock"],
        "properties": {"client.id": "me", "ssl.ca.location": f"https://me:{SECRET}@ca.example/x"},
    },
    "avro": {
        "registry_url": "https://registry.example",
        "registry": {
            "proxy": f"http://me:{SECRET}@proxy:3128",
            "bearer.auth.issuer.endpoint.url": f"https://issuer.example/t?tenant=1&client_secret={SECRET}",
        },
    },
    "window": {"flush_items": "auto"},
    "oms": {
        "base_url": "https://oms.example",
        "token_url": "https://oms.example/token",
        "headers": {"X-Channel": SECRET},
        "max_request_bytes": 1_048_576,
    },
    "log": {"level": None},
}


@pytest.fixture
def shown(tmp_path: Path) -> dict[tuple[str, ...], EffectiveSetting]:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(FILE))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "oms__api_secret").write_text(SECRET)
    settings, origins = load_with_origins(config, ENVIRONMENT, secrets)
    environment = ENVIRONMENT | {"https_proxy": f"http://me:{SECRET}@proxy:3128"}
    found = effective_settings(settings, origins, derived_settings(settings, environment, 2**30))
    return {setting.path: setting for setting in found}


@pytest.mark.parametrize(
    ("path", "value", "source"),
    [
        ("kafka.topics", ["stock"], "config.yaml"),
        ("kafka.group_id", "inventory-refresh", "default"),
        ("log.level", "info", "default"),
        ("window.max_age", "90s", "environment variable INVENTORY_REFRESH_WINDOW__MAX_AGE"),
        ("oms.max_request_bytes", "1MiB", "config.yaml"),
        ("oms.api_key", "***", "environment variable INVENTORY_REFRESH_OMS__API_KEY"),
        ("oms.api_secret", "***", "secret file oms__api_secret"),
        ("oms.client_key_password", None, "default"),
        ("oms.proxy", "http://***@proxy:3128", "derived: from the environment's proxy variables"),
        ("memory.budget", "448MiB", "derived: auto, from the container's limit of 1GiB"),
        ("window.flush_items", 3_000, "derived: auto, begins with oms.chunk_items and follows the OMS's queue"),
        ("avro.registry_ids", "content", "derived: unless global is set"),
    ],
)
def test_each_setting_is_shown_with_its_source(
    shown: dict[tuple[str, ...], EffectiveSetting], path: str, value: object, source: str
) -> None:
    setting = shown[tuple(path.split("."))]
    assert (setting.value, setting.source) == (value, source)


def test_entries_of_a_map_have_their_own_sources(shown: dict[tuple[str, ...], EffectiveSetting]) -> None:
    properties = {path[2]: setting for path, setting in shown.items() if path[:2] == ("kafka", "properties")}
    assert {key: setting.source for key, setting in properties.items()} == {
        "client.id": "config.yaml",
        "ssl.ca.location": "config.yaml",
        "sasl.password": "environment variable INVENTORY_REFRESH_KAFKA__PROPERTIES__SASL_PASSWORD",
    }


def test_every_setting_is_shown_and_no_secret(shown: dict[tuple[str, ...], EffectiveSetting]) -> None:
    known = {
        (section, name)
        for section, field in Settings.model_fields.items()
        for name in getattr(field.annotation, "model_fields", {})
    }
    assert {path[:2] for path in shown} == known
    text = as_json_text(list(shown.values())) + "".join(line for line, _ in as_yaml_lines(list(shown.values())))
    assert SECRET not in text
    assert shown["avro", "registry", "proxy"].value == "http://***@proxy:3128"
    issuer = shown["avro", "registry", "bearer.auth.issuer.endpoint.url"]
    assert issuer.value == "https://issuer.example/t?tenant=1&client_secret=***"


def test_what_is_printed_is_a_settings_file_that_means_the_same(
    shown: dict[tuple[str, ...], EffectiveSetting], tmp_path: Path
) -> None:
    lines = as_yaml_lines([setting for setting in shown.values() if setting.path != ("avro", "registry_ids")])
    copy = tmp_path / "copy.yaml"
    copy.write_text("".join(f"{line}  # {source}\n" if source else f"{line}\n" for line, source in lines))
    settings, _ = load_with_origins(copy, {})
    assert settings.window.max_age == 90.0
    assert settings.oms.max_request_bytes == 1_048_576
    assert settings.kafka.properties["client.id"] == "me"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:p@ss@host/x", "http://***@host/x"),
        ("me:p/a@ss@host:3128", "***@host:3128"),
        ("'me:p@host:3128'", "'***@host:3128'"),
        ("https://host/t?a=1&api_key=x&b=2", "https://host/t?a=1&api_key=***&b=2"),
        ("host:9092,other:9092", "host:9092,other:9092"),
        ("me@example.com", "me@example.com"),
    ],
)
def test_credentials_in_addresses_are_hidden(text: str, shown: str) -> None:
    assert hide_credentials(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.5, "500ms"), (1.5, "1500ms"), (90, "90s"), (300, "5m"), (86_400, "24h")]
)
def test_durations_are_written_with_their_unit_and_read_back(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text
    assert parse_seconds(text) == seconds


# The JSON Schema


def test_the_schema_is_one_and_takes_the_example_and_what_is_commented_out_there() -> None:
    schema = editor_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    text = (ROOT / "config.example.yaml").read_text(encoding="utf-8")
    jsonschema.validate(yaml.safe_load(text), schema)
    jsonschema.validate(FILE, schema)


def test_the_example_begins_with_the_line_that_editors_look_for() -> None:
    first = (ROOT / "config.example.yaml").read_text(encoding="utf-8").splitlines()[0]
    marker, path = first.split("$schema=")
    assert marker == "# yaml-language-server: "
    assert json.loads((ROOT / path).read_text(encoding="utf-8")) == editor_schema()


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("window", "max_age", "five minutes"),
        ("window", "max_age", 0),
        ("window", "max_edge", "5m"),
        ("oms", "api", "kibo"),
        ("oms", "max_items", 12_001),
        ("kafka", "topics", [""]),
        ("kafka", "properties", {"client.id": ["me"]}),
        ("memory", "budget", 400),
        ("events", "take", {"kind": {"a": 1}}),
        ("colours", "red", 1),
    ],
)
def test_the_schema_refuses_what_the_service_refuses(section: str, name: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({section: {name: value}}, editor_schema())


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("window", "max_age", "5m"),
        ("window", "max_age", 300),
        ("window", "max_age", None),
        ("window", "flush_items", "auto"),
        ("kafka", "topics", "stock,returns"),
        ("memory", "budget", "400MiB"),
        ("oms", "client_key_password", "x"),
        ("oms", "api", None),
        ("events", "take", {"kind": ["COUNTED", "MOVED"]}),
        ("events", "deleted_when", {"deleted": True}),
    ],
)
def test_the_schema_takes_what_the_service_takes(section: str, name: str, value: object) -> None:
    jsonschema.validate({section: {name: value}}, editor_schema())


# As commands


def config_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "consumer", "config", *arguments]
    environ = {"PATH": "", "PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)  # noqa: S603


def test_show_prints_only_what_is_given_as_json(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(FILE))
    environment = ENVIRONMENT | {"INVENTORY_REFRESH_OMS__API_SECRET": SECRET}
    done = config_command("show", "--config", str(config), "--given", "--json", **environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kafka"]["topics"] == {"value": ["stock"], "source": "config.yaml"}
    assert "group_id" not in found["kafka"]
    assert SECRET not in done.stdout + done.stderr


def test_show_refuses_settings_that_are_wrong_as_run_does(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("window: {max_edge: 5m}\n")
    done = config_command("show", "--config", str(config))
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean max_age?" in done.stderr


def test_schema_prints_the_schema() -> None:
    assert json.loads(config_command("schema").stdout) == editor_schema()
