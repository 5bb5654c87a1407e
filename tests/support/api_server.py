"""A real Kubernetes API server on a real etcd, for the tests of the chart.

It has no nodes and no controllers. It validates and stores objects as any cluster does: schemas, defaults, admission
(including Pod Security), and the operators' custom resources, whose definitions are installed.
"""

import secrets
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.go_tools import kube_apiserver
from tests.support.keeper import ROOT, PartMissingError, Server, free_ports, have, use

CRDS = ROOT / "tests" / "deploy" / "crds"
ANSWER_SECONDS_MAX = 60.0
OPENSSL_SECONDS_MAX = 60.0
PATCH = {"Content-Type": "application/merge-patch+json"}


class RefusedError(Exception):
    """The API server refused a call. The message is the server's."""


@dataclass(frozen=True)
class ApiServer:
    """A running API server. ``kubeconfig`` is the path of a file with all permissions."""

    url: str
    token: str
    authority: str
    kubeconfig: str

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token}"},
            verify=ssl.create_default_context(cafile=self.authority),
            timeout=ANSWER_SECONDS_MAX,
        )

    def call(self, method: str, path: str, body: Any = None, **parameters: str) -> Any:
        """The answer to a call, parsed. Raises RefusedError."""
        answer = self._client.request(method, path, json=body, params=parameters)
        content = answer.json()
        if answer.is_error:
            raise RefusedError(content["message"])
        return content

    def make_namespace(self, name: str, labels: dict[str, str]) -> None:
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})

    def objects(self, namespace: str) -> Iterator[dict[str, Any]]:
        """All objects in a namespace, and all cluster-scoped objects, of any kind."""
        for group, resource in self._resources():
            scope = f"/namespaces/{namespace}" if resource["namespaced"] else ""
            listed = self.call("GET", f"{group}{scope}/{resource['name']}")
            for item in listed["items"]:
                yield {"apiVersion": listed["apiVersion"], "kind": resource["kind"], **item}

    def kinds(self) -> set[str]:
        """All kinds that can be listed."""
        return {resource["kind"] for _, resource in self._resources()}

    def may(self, user: str, verb: str, resource: str, namespace: str) -> bool:
        """Whether the user may do this to a resource of the group "apps"."""
        asked = {"namespace": namespace, "verb": verb, "group": "apps", "resource": resource}
        reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        review = self.call("POST", reviews, {"spec": {"user": user, "resourceAttributes": asked}})
        return bool(review["status"]["allowed"])

    def _resources(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All resources that can be listed, with the path of their group."""
        groups = ["/api/v1"]
        groups += [
            f"/apis/{group['preferredVersion']['groupVersion']}" for group in self.call("GET", "/apis")["groups"]
        ]
        for group in groups:
            for resource in self.call("GET", group)["resources"]:
                if "list" in resource["verbs"]:
                    yield group, resource

    def close(self) -> None:
        self._client.close()


def use_api_server(stack: ExitStack) -> ApiServer:
    """Use an API server until ``stack`` is closed. Raises PartMissingError."""
    kube_apiserver()  # built here, because that can take longer than the timeout for a keeper
    server = ApiServer(**use(__name__, "kube-apiserver", stack))
    stack.callback(server.close)
    return server


# Runs in the processes of the keepers


def _etcd(folder: Path) -> Server:
    etcd = shutil.which("etcd")
    if etcd is None:
        raise PartMissingError("etcd is not installed (it is not on the PATH): apt-get install etcd-server")
    clients, peers = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    shutil.rmtree(folder / "data", ignore_errors=True)
    return Server(
        command=[
            *(etcd, "--data-dir", str(folder / "data"), "--log-level", "warn"),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", f"default={peers}"),
        ],
        environment={},
        address={"url": clients},
        is_up=lambda: _is_healthy(f"{clients}/health"),
    )


def _kube_apiserver(folder: Path) -> Server:
    needs = ExitStack()
    etcd = use(__name__, "etcd", needs)["url"]
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    have(data, _make_key)
    (port,) = free_ports(1)
    token = secrets.token_urlsafe()
    (data / "tokens.csv").write_text(f"{token},tests,tests,system:masters\n")
    # It creates its own certificate file, which includes that of the CA.
    server = ApiServer(
        f"https://127.0.0.1:{port}", token, str(data / "apiserver.crt"), str(_write_kubeconfig(data, port, token))
    )
    key = str(data / "service-accounts.key")
    return Server(
        command=[
            *(str(kube_apiserver()), "--etcd-servers", etcd, "--cert-dir", str(data)),
            *("--bind-address", "127.0.0.1", "--secure-port", str(port), "--endpoint-reconciler-type", "none"),
            *("--token-auth-file", str(data / "tokens.csv"), "--authorization-mode", "RBAC"),
            *("--service-account-issuer", "https://tests.example", "--service-account-key-file", key),
            *("--service-account-signing-key-file", key, "--service-cluster-ip-range", "10.0.0.0/24"),
            # Otherwise pods would need an account that only a controller creates.
            *("--disable-admission-plugins", "ServiceAccount"),
            "--enable-priority-and-fairness=false",
        ],
        environment={},
        address={
            "url": server.url,
            "token": token,
            "authority": server.authority,
            "kubeconfig": server.kubeconfig,
        },
        is_up=lambda: _has_all(server),
        needs=needs,
    )


def _make_key(folder: Path) -> None:
    """Create the key that signs tokens of service accounts; it is required even though no test uses tokens."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise PartMissingError("openssl is not installed (it is not on the PATH): apt-get install openssl")
    folder.mkdir()
    key = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(folder / "service-accounts.key")]
    subprocess.run([openssl, *key], check=True, timeout=OPENSSL_SECONDS_MAX)  # noqa: S603


def _write_kubeconfig(folder: Path, port: int, token: str) -> Path:
    path = folder / "kubeconfig.yaml"
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": "apiserver.crt"}
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "tests", "cluster": cluster}],
                "users": [{"name": "tests", "user": {"token": token}}],
                "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
                "current-context": "tests",
            }
        )
    )
    return path


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).is_success
    except httpx.TransportError:
        return False


def _has_all(server: ApiServer) -> bool:
    """Whether the server is ready and serves the custom resources."""
    try:
        ready = httpx.get(f"{server.url}/readyz", verify=False, timeout=2.0).is_success  # noqa: S501
        return ready and _has_definitions(server)
    except (httpx.TransportError, RefusedError):
        return False  # it is still starting; the caller asks again


def _has_definitions(server: ApiServer) -> bool:
    """Install missing definitions of CRDS; returns whether all of them are served, which takes a while."""
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    known = {item["metadata"]["name"]: item for item in server.call("GET", definitions)["items"]}
    wanted = [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]
    for definition in wanted:
        if definition["metadata"]["name"] not in known:
            server.call("POST", definitions, definition)
    if len(known) < len(wanted) or not all(_is_established(definition) for definition in known.values()):
        return False
    return {definition["spec"]["names"]["kind"] for definition in wanted} <= server.kinds()


def _is_established(definition: Any) -> bool:
    conditions = definition.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions)


SERVERS = {"etcd": _etcd, "kube-apiserver": _kube_apiserver}
