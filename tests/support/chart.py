"""The chart, rendered by the real helm, and validators for each kind of object that comes out of it.

``make chart`` runs this file as a command: it lists the objects of each values file and what the validators say.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import pytest
import yaml
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table

from tests.support.go_tools import helm
from tests.support.services import ROOT, PartMissingError

CHART: Final = ROOT / "helm" / "inventory-refresh"
VALUES_FILES: Final = {file.name.removesuffix("-values.yaml"): file for file in sorted(CHART.glob("ci/*-values.yaml"))}

KUBERNETES_OLDEST: Final = "1.29"
"""As kubeVersion in Chart.yaml says."""
KUBERNETES_NEWEST: Final = "1.37"
"""The newest whose schemas the validator has."""

HELM_SECONDS_MAX: Final = 60.0

NAMESPACE: Final = "shop"
RELEASE: Final = "demo"

Object = dict[str, Any]


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
            helm_or_skip(),
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
def helm_or_skip() -> Path:
    """Skip where helm cannot be had on this machine; where every part must be there (CI=true), fail."""
    try:
        return helm()
    except PartMissingError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true, and a part is missing: {missing}")
        pytest.skip(str(missing))


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
    """What its API would not take of an object; "" if nothing. Unknown fields count, which an API server drops."""
    validate = _validators().get(found["kind"])
    try:
        if validate is not None:
            validate(found)
        else:
            kubernetes_validate.validate(found, kubernetes, strict=True)
    except (ValidationError, jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        return str(error)
    return ""


def validator_name(kind: str) -> str:
    """Who judges objects of the kind, in words for people."""
    if kind == "ExternalSecret":
        return "a schema of ours"
    if kind in _validators():
        return "models of its operator's API"
    return f"Kubernetes {KUBERNETES_OLDEST} and {KUBERNETES_NEWEST}"


@cache
def _validators() -> Mapping[str, Callable[[Object], object]]:
    # Not at the top: these models take two seconds to import.
    from cloudcoil.models.keda.v1alpha1 import ScaledObject  # noqa: PLC0415
    from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule, ServiceMonitor  # noqa: PLC0415

    models: list[type[BaseModel]] = [PodMonitor, PrometheusRule, ScaledObject, ServiceMonitor]
    return {
        "ExternalSecret": lambda found: jsonschema.validate(found, EXTERNAL_SECRET),
        **{model.__name__: _validator(model) for model in models},
    }


def _validator(model: type[BaseModel]) -> Callable[[Object], object]:
    # By themselves the models take unknown fields.
    return lambda found: model.model_validate(found, extra="forbid")


def _closed(required: list[str], **properties: Any) -> Object:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


_TEXT: Final = {"type": "string", "minLength": 1}
_REMOTE: Final = _closed(["key"], key=_TEXT, property=_TEXT, version=_TEXT, conversionStrategy=_TEXT)
EXTERNAL_SECRET: Final = _closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"enum": ["external-secrets.io/v1", "external-secrets.io/v1beta1"]},
    kind={"const": "ExternalSecret"},
    metadata=_closed(
        ["name", "namespace", "labels"],
        name=_TEXT,
        namespace=_TEXT,
        labels={"type": "object", "additionalProperties": _TEXT},
        annotations={"type": "object", "additionalProperties": _TEXT},
    ),
    spec=_closed(
        ["secretStoreRef", "target"],
        refreshInterval={"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"},
        secretStoreRef=_closed(["name", "kind"], name=_TEXT, kind={"enum": ["SecretStore", "ClusterSecretStore"]}),
        target=_closed(["name"], name=_TEXT, creationPolicy={"enum": ["Owner", "Orphan", "Merge", "None"]}),
        data={"type": "array", "items": _closed(["secretKey", "remoteRef"], secretKey=_TEXT, remoteRef=_REMOTE)},
        dataFrom={"type": "array", "items": {"type": "object", "minProperties": 1}},
    ),
)
"""What the chart uses of the API of external-secrets.io, for which there are no models in Python."""


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
            table.add_row(name, validator_name(found["kind"]), said or "in order")
        console.print(table)
    console.print(f"{len(VALUES_FILES)} values files, {refused} objects refused")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
