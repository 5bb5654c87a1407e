"""What the command line does before any command runs."""

import subprocess
import sys
from importlib.metadata import version

import pytest

HEAVY = ("polars", "confluent_kafka", "httpx", "fastavro")
"""Libraries that take long to load."""


def loaded_after(code: str) -> list[str]:
    """Which of the heavy libraries a new Python process has loaded after running this code."""
    report = f"import sys\n{code}\nprint('loaded:', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(  # noqa: S603 - this Python, and code of this file
        [sys.executable, "-c", report], capture_output=True, text=True, check=True, timeout=60
    )
    last = done.stdout.splitlines()[-1]
    assert last.startswith("loaded:")
    return last.split()[1:]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["check", "--help"],
        ["demo", "--help"],
        ["dead-letters", "redrive", "--help"],
    ],
    ids=" ".join,
)
def test_help_and_version_load_no_heavy_library(arguments: list[str]) -> None:
    assert loaded_after(f"from consumer.cli import app\napp({arguments!r}, standalone_mode=False)") == []


def test_settings_load_no_heavy_library() -> None:
    assert loaded_after("import consumer.settings") == []


def test_the_check_sees_a_library_that_is_loaded() -> None:
    assert loaded_after("import consumer.core.changes.items") == ["polars"]


def test_the_version_is_that_of_the_installed_package() -> None:
    command = [sys.executable, "-m", "consumer", "--version"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout  # noqa: S603
    assert printed == f"inventory-refresh {version('inventory-refresh')}\n"
