"""The wheel contains what the service needs, and nothing else."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from consumer.avro.bundled import schema_path

ROOT = Path(__file__).parents[2]

RENDER_PAGE = """
from consumer.observe.status.api import PageQuery
from consumer.observe.status.board import StatusBoard
from consumer.observe.status.page import FILE_TYPES, file_bytes, render_page
from consumer.app import SystemClock
board = StatusBoard(SystemClock(), version="1", settings={}, stalled_after_seconds=1.0)
assert "What waits and why" in render_page(board, PageQuery(), 8080)
assert all(file_bytes(name) for name in FILE_TYPES)
"""
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
        archive.extractall(tmp_path / "site")  # noqa: S202 - a wheel of ours
    found, length = run(
        sys.executable, "-P", "-c", FIND_SCHEMA, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site")
    ).splitlines()
    assert Path(found) == tmp_path / "site" / "consumer" / "schemas" / "inventory-change.avsc"
    assert int(length) > 0


def test_an_installed_wheel_has_the_status_page_with_its_files_and_their_licence(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")  # noqa: S202 - a wheel of ours
        names = archive.namelist()
    run(sys.executable, "-P", "-c", RENDER_PAGE, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert any(name.endswith("uPlot.LICENSE.txt") and "dist-info" in name for name in names)


def test_the_source_distribution_contains_no_stray_files(tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path))
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    top = {name.split("/")[0] for name in names}
    assert top == {
        *("consumer", "schemas", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"),
        *("PKG-INFO", ".gitignore"),  # hatchling always adds these
    }


def test_the_project_is_described_for_an_index_and_as_in_the_chart() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    described = yaml.safe_load((ROOT / "helm" / "inventory-refresh" / "Chart.yaml").read_text(encoding="utf-8"))
    assert project["authors"][0]["name"] == described["maintainers"][0]["name"]
    assert project["urls"]["Homepage"] == described["home"]
    assert project["urls"]["Source"] in described["sources"]
    assert any(name.startswith("Development Status ::") for name in project["classifiers"])
    assert project["keywords"]
    assert described["icon"].startswith("data:image/svg+xml;base64,")
    assert described["annotations"]["artifacthub.io/license"] == project["license"]


def test_every_import_of_the_package_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = {
        re.split(r"[\[<>=]", name)[0] for name in [*project["dependencies"], *extras["sandbox"], *extras["msk"]]
    }
    names = {"yaml": "pyyaml", "aws_msk_iam_sasl_signer": "aws-msk-iam-sasl-signer-python"}
    imported = set()
    for module in (ROOT / "consumer").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
    foreign = imported - sys.stdlib_module_names - {"consumer"}
    assert {names.get(name, name.replace("_", "-")) for name in foreign} <= declared


def test_a_checkout_finds_the_schema_in_its_schemas_folder() -> None:
    assert schema_path() == ROOT / "schemas" / "inventory-change.avsc"


def test_the_command_starts_and_lists_its_subcommands() -> None:
    printed = run(sys.executable, "-m", "consumer", "--help")
    for command in ("run", "demo", "sandbox", "produce"):
        assert command in printed
