"""The chart, rendered by the real helm, and validators for each kind of object that comes out of it.

``make chart`` runs this file as a command: it lists the objects of each values file and what the validators say.
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
"""Definitions of the operators' resources, made of their own types (``make crds``)."""

KUBERNETES_OLDEST: Final = "1.29"
"""As kubeVersion in Chart.yaml says."""
KUBERNETES_NEWEST: Final = "1.37"
"""The newest whose schemas the validator has."""

NAMESPACE: Final = "shop"
RELEASE: Final = "demo"


class RefusedError(Exception):
    """helm did not take the values. The message is what a user reads."""


def template(
    values: str = "minimal",
    changes: Mapping[str, Any] | None = None,
    *,
    chart: Path = CHART,
    release: str = RELEASE,
    kubernetes: str = KUBERNETES_NEWEST,
) -> list[Object]:
    """The objects of the chart with a values file of ci/ and ``changes`` over it. Raises RefusedError."""
    text = run_helm("template", values, changes, chart=chart, release=release, kubernetes=kubernetes)
    return [found for found in yaml.load_all(text, Loader=yaml.CSafeLoader) if found]


def run_helm(
    command: str,
    values: str = "minimal",
    changes: Mapping[str, Any] | None = None,
    *,
    chart: Path = CHART,
    release: str = RELEASE,
    kubernetes: str = KUBERNETES_NEWEST,
) -> str:
    """What ``helm template`` or ``helm lint --strict`` prints. Raises RefusedError.

    Of lint also what stands on standard error: it only tells there what the chart's own checks refuse.
    """
    what = [release, str(chart), "--namespace", NAMESPACE] if command == "template" else [str(chart), "--strict"]
    ran = subprocess.run(  # noqa: S603 - a binary of ours
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
    """The same as ``template`` without changes, rendered once. Not to be changed."""
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
    """What the pods are made of: a change of it replaces them."""
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
    """The settings file's content."""
    content: Object = yaml.safe_load(settings_file(objects))
    return content


# Validators


def problems(found: Object, kubernetes: str = KUBERNETES_NEWEST) -> str:
    """What its API would not take of an object; "" if nothing. Unknown fields count, which an API server only drops."""
    schema = _operators().get((found["apiVersion"], found["kind"]))
    try:
        if schema is not None:
            jsonschema.validate(found, schema)
        else:
            kubernetes_validate.validate(found, kubernetes, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        return str(error)
    return ""


def validator_name(found: Object) -> str:
    """Who judges an object, in words for people."""
    if (found["apiVersion"], found["kind"]) in _operators():
        return f"its operator's definition, {found['apiVersion']}"
    return f"Kubernetes {KUBERNETES_OLDEST} and {KUBERNETES_NEWEST}"


@cache
def _operators() -> Mapping[tuple[str, str], Object]:
    """API version and kind to the schema of a resource that an operator defines, without room for unknown fields."""
    schemas = {}
    for file in DEFINITIONS.glob("*.yaml"):
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]
        for version in spec["versions"]:
            schema = _closed(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = _METADATA
            schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return schemas


def _closed(schema: Any) -> Any:
    """The schema, in which no object takes fields that it does not name."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    if isinstance(pattern := schema.get("pattern"), str):
        closed["pattern"] = pattern.replace("^(?i)", "(?i)^")  # Go takes flags anywhere, Python in front only
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
"""Definitions leave metadata to the API server; of it the chart uses this."""


# The command


def main() -> int:
    """List the objects of each values file with what the validators say; 1 if one does not take its object."""
    console, refused = Console(width=None if sys.stdout.isatty() else 120), 0
    for values in VALUES_FILES:
        linted = "refused" if "Fail:" in run_helm("lint", values) else "in order"
        table = Table("object", "judged by", "outcome", title=f"ci/{values}-values.yaml (helm lint --strict: {linted})")
        oldest = template(values, kubernetes=KUBERNETES_OLDEST)
        for found, old in zip(rendered(values), oldest, strict=True):
            said = problems(found) or problems(old, KUBERNETES_OLDEST)
            refused += bool(said)
            name = f"{found['kind']} {found['metadata']['name']}"
            table.add_row(name, validator_name(found), said or "in order")
        console.print(table)
    console.print(f"{len(VALUES_FILES)} values files, {refused} objects refused")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
