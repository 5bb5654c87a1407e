"""The wheel contains what the service needs, and nothing else."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from consumer.avro.bundled import schema_path

ROOT = Path(__file__).parents[2]

FIND_SCHEMA = "from consumer.avro import bundled; print(bundled.schema_path()); print(len(bundled.schema_text()))"


def run(*command: str, cwd: Path = ROOT, **environ: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own tools
        command, cwd=cwd, env=os.environ | environ, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory))
    (built,) = directory.glob("*.whl")
    return built


def test_the_wheel_contains_only_the_package_and_its_schemas(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"consumer", "inventory_refresh"}
    assert "consumer/schemas/inventory-change.avsc" in names
    assert "consumer/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "__pycache__" in name or "test" in name]


def test_an_installed_wheel_finds_its_schema(wheel: Path, tmp_path: Path) -> None:
    """Installing a pure wheel only unpacks its modules, so the test does the same."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    found, length = run(
        sys.executable, "-P", "-c", FIND_SCHEMA, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site")
    ).splitlines()
    assert Path(found) == tmp_path / "site" / "consumer" / "schemas" / "inventory-change.avsc"
    assert int(length) > 0


def test_a_checkout_finds_the_schema_in_its_schemas_folder() -> None:
    assert schema_path() == ROOT / "schemas" / "inventory-change.avsc"


def test_the_command_starts_and_lists_its_subcommands() -> None:
    printed = run(sys.executable, "-m", "consumer", "--help")
    for command in ("run", "demo", "sandbox", "produce"):
        assert command in printed
