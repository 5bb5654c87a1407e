"""Rules about the structure of the code: imports, rooms, purity of the core, size, and error handling."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "consumer"
CORE = sorted((PACKAGE / "core").rglob("*.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 450
"""Upper bounds, not targets. A module that approaches its bound usually has two subjects."""

BANNED_MODULES = {
    "asyncio", "datetime", "io", "logging", "os", "pathlib", "queue", "random", "secrets", "signal", "socket",
    "structlog", "subprocess", "sys", "threading", "time", "uuid",
}  # fmt: skip
BANNED_CALLS = {"breakpoint", "eval", "exec", "input", "open", "print"}


def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"), filename=str(module))


def imported(module: Path) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run(  # noqa: S603 - our own tool
        [str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=110
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("module", CORE, ids=relative)
def test_the_core_uses_no_clock_randomness_threads_files_or_logging(module: Path) -> None:
    assert not BANNED_MODULES & set(imported(module))
    called = {
        node.func.id
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not BANNED_CALLS & called


def test_the_purity_check_covers_every_folder_of_the_core() -> None:
    checked = {path.parent for path in CORE}
    assert checked == {
        PACKAGE / "core",
        *(PACKAGE / "core" / room for room in ("changes", "location", "oms", "partition", "trace")),
    }


@pytest.mark.parametrize("room", ROOMS, ids=relative)
def test_every_folder_says_what_belongs_there_and_what_does_not(room: Path) -> None:
    subject, *rest = (ast.get_docstring(tree(room)) or "").splitlines()
    assert subject.endswith(".")
    assert [line.partition(":")[0] for line in rest if line.startswith(("Belongs here: ", "Does not: "))] == [
        "Belongs here",
        "Does not",
    ]


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_functions_and_modules_stay_short(module: Path) -> None:
    long = [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert not long
    assert len(module.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES_MAX


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_input_is_never_checked_with_assert(module: Path) -> None:
    assert not [node.lineno for node in ast.walk(tree(module)) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_a_broken_invariant_raises_invariant_error(module: Path) -> None:
    """``AssertionError`` and ``RuntimeError`` say nothing about who must act."""
    raised = [node.exc for node in ast.walk(tree(module)) if isinstance(node, ast.Raise)]
    names = {named.id for error in raised for named in ast.walk(error or ast.Pass()) if isinstance(named, ast.Name)}
    assert not {"AssertionError", "RuntimeError"} & names


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_no_exception_is_swallowed(module: Path) -> None:
    """A bare ``except``, or a handler with nothing but ``pass``, hides an error."""
    silent = [
        node.lineno
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or all(isinstance(line, ast.Pass) for line in node.body))
    ]
    assert not silent
