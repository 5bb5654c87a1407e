"""Releases of the chart on a real API server, created by the real helm."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.api_server import ApiServer
from tests.support.keeper import ROOT

CHART: Final = ROOT / "helm" / "inventory-refresh"
HELM_SECONDS_MAX: Final = 120.0
HOMES: Final = ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "KUBECACHEDIR")
"""Variables for the directories in which helm stores data; the last one is its cache of API server discovery."""

Object = dict[str, Any]
Identity = tuple[str, str]
"""Kind and name."""


class HelmError(Exception):
    """helm failed. The message is what a user sees."""


@dataclass(frozen=True)
class Release:
    """A release of the chart, installed or not. helm runs as ``user``; None: with all permissions."""

    helm: Path
    server: ApiServer
    namespace: str
    name: str = "refresh"
    user: str | None = None

    def install(self, values: str = "minimal", changes: Mapping[str, Any] | None = None, chart: Path = CHART) -> None:
        """Install with a values file of ci/, overridden by ``changes``. Raises HelmError."""
        self._with_chart("install", values, changes, chart)

    def upgrade(self, values: str = "minimal", changes: Mapping[str, Any] | None = None, chart: Path = CHART) -> None:
        """Upgrade; pass the values of the install again to keep them. Raises HelmError."""
        self._with_chart("upgrade", values, changes, chart)

    def rendered(self, values: str = "minimal", changes: Mapping[str, Any] | None = None) -> list[Object]:
        """The objects of the chart, without installing them."""
        return _documents(self._with_chart("template", values, changes, CHART))

    def rollback(self) -> None:
        self._run("rollback", self.name)

    def uninstall(self) -> None:
        self._run("uninstall", self.name)

    def manifests(self) -> list[Object]:
        """The objects of the installed release, except hooks."""
        return _documents(self._run("get", "manifest", self.name))

    def hooks(self) -> list[Object]:
        return _documents(self._run("get", "hooks", self.name))

    def workload(self) -> Object:
        """The Deployment or StatefulSet, as stored by the API server."""
        return workload_of(self.objects().values())

    def pod_template(self) -> Object:
        """The pod template as stored by the API server; changing it replaces the pods."""
        template: Object = self.workload()["spec"]["template"]
        return template

    def objects(self) -> dict[Identity, Object]:
        """All objects of this release on the API server, by kind and name; without helm's own records."""
        return {
            (stored["kind"], stored["metadata"]["name"]): stored
            for stored in self.server.objects(self.namespace)
            if stored["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == self.name
        }

    def _with_chart(self, command: str, values: str, changes: Mapping[str, Any] | None, chart: Path) -> str:
        files = ("--values", str(CHART / "ci" / f"{values}-values.yaml"), "--values", "-")
        return self._run(command, self.name, str(chart), *files, given=yaml.safe_dump(dict(changes or {})))

    def _run(self, *arguments: str, given: str = "") -> str:
        where = (
            "--namespace",
            self.namespace,
            "--kubeconfig",
            self.server.kubeconfig,
            "--kube-as-user",
            self.user or "",
        )
        with tempfile.TemporaryDirectory() as home:  # isolated from the user's own configuration
            ran = subprocess.run(  # noqa: S603 - a binary of ours
                [str(self.helm), *arguments, *where],
                env=os.environ | dict.fromkeys(HOMES, home),
                input=given,
                capture_output=True,
                text=True,
                timeout=HELM_SECONDS_MAX,
                check=False,
            )
        if ran.returncode:
            raise HelmError(ran.stderr.strip())
        return ran.stdout


def workload_of(objects: Iterable[Object]) -> Object:
    """The Deployment or StatefulSet among them."""
    (found,) = [candidate for candidate in objects if candidate["kind"] in {"Deployment", "StatefulSet"}]
    return found


def identity(found: Object) -> Identity:
    return found["kind"], found["metadata"]["name"]


def _documents(text: str) -> list[Object]:
    return [found for found in yaml.safe_load_all(text) if found]
