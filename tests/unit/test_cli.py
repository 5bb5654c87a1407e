"""What the command line does before any command runs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version

import pytest
import typer
from typer.testing import CliRunner

from consumer.__main__ import command_of
from consumer.cli import app
from consumer.cli_options import Verbose, is_verbose

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
        ["-h"],
        ["--version"],
        ["-V"],
        ["run", "--help"],
        ["check", "--help"],
        ["demo", "--help"],
        ["produce", "--help"],
        ["dead-letters", "redrive", "--help"],
        ["config", "--help"],
        ["config", "show", "--help"],
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


def pages(group: typer.Typer = app, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The arguments of every command and group of commands."""
    yield above
    for command in group.registered_commands:
        assert command.callback is not None
        yield (*above, command.name or command.callback.__name__)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from pages(inner.typer_instance, (*above, str(inner.typer_instance.info.name)))


@pytest.mark.parametrize("arguments", list(pages()), ids=" ".join)
def test_every_help_has_an_example_of_its_own_command(arguments: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*arguments, "--help"], terminal_width=200)
    assert f"Example: {' '.join(('inventory-refresh', *arguments))}" in shown.output


def test_every_command_is_in_a_group_of_the_help() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    assert "─ Commands ─" not in shown, "give the command a rich_help_panel"


def run_module(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "consumer", *arguments]
    environ = {name: text for name, text in os.environ.items() if name not in {"FORCE_COLOR", "GITHUB_ACTIONS"}}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ | environment)  # noqa: S603


def test_there_are_no_colours_where_there_is_no_terminal() -> None:
    assert "\x1b" not in run_module("--help", TERM="xterm-256color").stdout


def test_shells_complete_commands_and_options_without_loading_heavy_libraries() -> None:
    environment = {"_INVENTORY_REFRESH_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    code = "import sys\nsys.argv[:] = ['inventory-refresh']\nfrom consumer.cli import main\n"
    report = f"import atexit\natexit.register(lambda: print('heavy:', *[n for n in {HEAVY!r} if n in sys.modules]))\n"
    done = subprocess.run(  # noqa: S603 - this Python, and code of this file
        [sys.executable, "-c", f"{code}{report}main()"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | environment | {"COMP_WORDS": "inventory-refresh d"},
    )
    assert done.stdout.split() == ["decode", "demo", "dead-letters", "heavy:"]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [(["run", "-c", "x"], "run"), (["-v", "run"], "run"), (["--version"], None), (["-v", "decode", "run"], "decode")],
)
def test_the_command_is_known_before_anything_is_loaded_so_that_signals_come_first(
    arguments: list[str], command: str | None
) -> None:
    assert command_of(arguments) == command


@pytest.mark.parametrize(
    ("arguments", "verbose"), [(["look"], False), (["-v", "look"], True), (["look", "--verbose"], True)]
)
def test_verbose_may_stand_before_or_after_the_command(arguments: list[str], verbose: bool) -> None:  # noqa: FBT001
    small = typer.Typer()
    seen: list[bool] = []

    @small.callback()
    def options(_verbose: Verbose = False) -> None:  # noqa: FBT002
        pass

    @small.command()
    def look(context: typer.Context, _verbose: Verbose = False) -> None:  # noqa: FBT002
        seen.append(is_verbose(context))

    assert CliRunner().invoke(small, arguments).exit_code == 0
    assert seen == [verbose]
