"""The chart, rendered by the real helm, and validators for all kinds of its objects.

``make chart`` runs this file as a command: it lists the objects of every values file with the validators' results.
"""

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import yaml
from rich.console import Console
from rich.table import Table

from tests.support import go_tools
from tests.support.keeper import ROOT
from tests.support.parts import or_skip
from tests.support.release import CHART, HELM_SECONDS_MAX, Object

VALUES_FILES: Final = {file.name.removesuffix("-values.yaml"): file for file in sorted(CHART.glob("ci/*-values.yaml"))}
DEFINITIONS: Final = ROOT / "tests" / "deploy" / "crds"
"""Custom resource definitions; the README there says where they come from."""

KUBERNETES_OLDEST: Final = "1.29"
"""As in kubeVersion of Chart.yaml."""
KUBERNETES_NEWEST: Final = "1.37"
"""The newest version that the validator has schemas of."""

NAMESPACE: Final = "shop"
RELEASE: Final = "demo"


class RefusedError(Exception):
    """helm refused the values. The message is what a user sees."""


def template(
    values: str = "minimal",
    changes: Mapping[str, Any] | None = None,
    *,
    chart: Path = CHART,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    kubernetes: str = KUBERNETES_NEWEST,
) -> list[Object]:
    """The objects of the chart with a values file of ci/, overridden by ``changes``. Raises RefusedError."""
    text = run_helm(
        "template", values, changes, chart=chart, release=release, namespace=namespace, kubernetes=kubernetes
    )
    return [found for found in yaml.load_all(text, Loader=yaml.CSafeLoader) if found]


def run_helm(
    command: str,
    values: str = "minimal",
    changes: Mapping[str, Any] | None = None,
    *,
    chart: Path = CHART,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    kubernetes: str = KUBERNETES_NEWEST,
) -> str:
    """The output of ``helm template`` or ``helm lint --strict``. Raises RefusedError.

    For lint this includes standard error, which is where failures of the chart's own checks appear.
    """
    what = [release, str(chart), "--namespace", namespace] if command == "template" else [str(chart), "--strict"]
    ran = subprocess.run(  # noqa: S603 - a binary that we built
        [
            or_skip(go_tools.helm),
            command,
            *what,
            "--kube-version",
            kubernetes,
            "--values",
            VALUES_FILES[values],
            "--values",
            "-",
        ],
        input=yaml.safe_dump(dict(changes or {})),
        capture_output=True,
        text=True,
        timeout=HELM_SECONDS_MAX,
        check=False,
    )
    if ran.returncode:
        raise RefusedError(ran.stderr.strip() or ran.stdout.strip())
    return ran.stdout if command == "template" else ran.stdout + ran.stderr


@cache
def rendered(values: str) -> list[Object]:
    """The same as ``template`` without changes, rendered once. The caller must not modify it."""
    return template(values)


def one(objects: list[Object], kind: str) -> Object:
    """The only object of the kind."""
    (found,) = of_kind(objects, kind)
    return found


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def workload(objects: list[Object]) -> Object:
    """The Deployment or StatefulSet."""
    (found,) = [found for found in objects if found["kind"] in {"Deployment", "StatefulSet"}]
    return found


def pod_template(objects: list[Object]) -> Object:
    """The pod template; changing it replaces the pods."""
    found: Object = workload(objects)["spec"]["template"]
    return found


def container(objects: list[Object]) -> Object:
    """The service's container."""
    found: Object = pod_template(objects)["spec"]["containers"][0]
    return found


def settings_file(objects: list[Object]) -> str:
    """The text of the settings file that the service reads."""
    (text,) = [
        found["data"]["config.yaml"] for found in of_kind(objects, "ConfigMap") if "config.yaml" in found["data"]
    ]
    return str(text)


def settings(objects: list[Object]) -> Object:
    """The content of the settings file."""
    content: Object = yaml.safe_load(settings_file(objects))
    return content


# Validators


def problem(found: Object, kubernetes: str = KUBERNETES_NEWEST) -> str | None:
    """Why its API would reject an object. Unknown fields count too, although an API server only drops them."""
    schema = _operators().get((found["apiVersion"], found["kind"]))
    try:
        if schema is not None:
            jsonschema.validate(found, schema)
        else:
            kubernetes_validate.validate(found, kubernetes, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        return str(error)
    return None


def validator_name(found: Object) -> str:
    """What validates an object, for the table."""
    if (found["apiVersion"], found["kind"]) in _operators():
        return f"its operator's definition, {found['apiVersion']}"
    return f"Kubernetes {KUBERNETES_OLDEST} and {KUBERNETES_NEWEST}"


@cache
def _operators() -> Mapping[tuple[str, str], Object]:
    """API version and kind to the schema of a custom resource, without unknown fields."""
    schemas = {}
    for file in DEFINITIONS.glob("*.yaml"):
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]
        for version in spec["versions"]:
            schema = _closed(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = _METADATA
            schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return schemas


def _closed(schema: Any) -> Any:
    """The schema with ``additionalProperties: false`` for all objects."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    if isinstance(pattern := schema.get("pattern"), str):
        closed["pattern"] = pattern.replace("^(?i)", "(?i)^")  # Go allows flags anywhere, Python only in front
    opened = schema.keys() & {"additionalProperties", "x-kubernetes-preserve-unknown-fields"}
    if schema.get("type") == "object" and "properties" in schema and not opened:
        closed["additionalProperties"] = False
    return closed


_TEXTS: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA: Final = {
    "type": "object",
    "required": ["name", "namespace", "labels"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": _TEXTS,
        "annotations": _TEXTS,
    },
}
"""Definitions do not cover metadata, which the API server validates; the chart uses only these fields."""


# The command


def main() -> int:
    """List the objects of every values file with the validators' results; returns 1 if an object is invalid."""
    console, refused = Console(width=None if sys.stdout.isatty() else 120), 0
    for values in VALUES_FILES:
        linted = "failed" if "Fail:" in run_helm("lint", values) else "passed"
        table = Table(
            "object", "validated by", "result", title=f"ci/{values}-values.yaml (helm lint --strict: {linted})"
        )
        oldest = template(values, kubernetes=KUBERNETES_OLDEST)
        for found, old in zip(rendered(values), oldest, strict=True):
            invalid = problem(found) or problem(old, KUBERNETES_OLDEST)
            refused += bool(invalid)
            name = f"{found['kind']} {found['metadata']['name']}"
            table.add_row(name, validator_name(found), invalid or "valid")
        console.print(table)
    console.print(f"{len(VALUES_FILES)} values files, {refused} invalid objects")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
