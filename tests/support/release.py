"""Releases of the chart on a real API server, made by the real helm."""

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
"""Variables that name the folders where helm keeps something, the last of them what it has heard of an API server."""

Object = dict[str, Any]
Identity = tuple[str, str]
"""Kind and name."""


class HelmError(Exception):
    """helm did not do it. The message is what a user reads."""


@dataclass(frozen=True)
class Release:
    """A release of the chart, installed or not. ``user`` calls helm; without one, somebody with all rights does."""

    helm: Path
    server: ApiServer
    namespace: str
    name: str = "refresh"
    user: str = ""

    def install(self, values: str = "minimal", changes: Mapping[str, Any] | None = None, chart: Path = CHART) -> None:
        """With a values file of ci/ and ``changes`` over it. Raises HelmError."""
        self._with_chart("install", values, changes, chart)

    def upgrade(self, values: str = "minimal", changes: Mapping[str, Any] | None = None, chart: Path = CHART) -> None:
        """The same values as at the install, where they shall stay. Raises HelmError."""
        self._with_chart("upgrade", values, changes, chart)

    def rendered(self, values: str = "minimal", changes: Mapping[str, Any] | None = None) -> list[Object]:
        """What the chart would make, without installing it."""
        return _documents(self._with_chart("template", values, changes, CHART))

    def rollback(self) -> None:
        self._run("rollback", self.name)

    def uninstall(self) -> None:
        self._run("uninstall", self.name)

    def manifests(self) -> list[Object]:
        """What the chart makes, but for hooks."""
        return _documents(self._run("get", "manifest", self.name))

    def hooks(self) -> list[Object]:
        return _documents(self._run("get", "hooks", self.name))

    def workload(self) -> Object:
        """The Deployment or StatefulSet, as the API server has it."""
        return workload_of(self.objects().values())

    def pod_template(self) -> Object:
        """As the API server has it; a change of it replaces the pods."""
        template: Object = self.workload()["spec"]["template"]
        return template

    def objects(self) -> dict[Identity, Object]:
        """What the API server keeps for this release, wherever: by kind and name. Without helm's own records."""
        return {
            (each["kind"], each["metadata"]["name"]): each
            for each in self.server.objects(self.namespace)
            if each["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == self.name
        }

    def _with_chart(self, command: str, values: str, changes: Mapping[str, Any] | None, chart: Path) -> str:
        files = ("--values", str(CHART / "ci" / f"{values}-values.yaml"), "--values", "-")
        return self._run(command, self.name, str(chart), *files, given=yaml.safe_dump(dict(changes or {})))

    def _run(self, *arguments: str, given: str = "") -> str:
        where = ("--namespace", self.namespace, "--kubeconfig", self.server.kubeconfig, "--kube-as-user", self.user)
        with tempfile.TemporaryDirectory() as home:  # nothing of the user's own, and nothing left
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
    (found,) = [each for each in objects if each["kind"] in {"Deployment", "StatefulSet"}]
    return found


def identity(found: Object) -> Identity:
    return found["kind"], found["metadata"]["name"]


def _documents(text: str) -> list[Object]:
    return [found for found in yaml.safe_load_all(text) if found]
