"""What docs/operations.md tells operators to type or look up exists: values, settings, commands, metrics, events."""

import importlib.util
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from consumer.cli import app
from consumer.settings import Settings
from tests.support.metrics_list import described

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
CHART = ROOT / "helm" / "inventory-refresh"
CODE = re.findall(r"`([^`\n]+)`", PAGE)
"""Everything in backticks within a line."""

OPTIONS = {
    section: set(getattr(field.annotation, "model_fields", {})) for section, field in Settings.model_fields.items()
}


def example_values() -> Mapping[str, Any]:
    """The example on the chart's page, to which the section "Install" refers."""
    block = re.search(r"```yaml\n( *image:.*?)```", (CHART / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    values: Mapping[str, Any] = yaml.safe_load(textwrap.dedent(block[1]))
    return values


def paths(values: Mapping[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """The path of every value that is not a map."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from paths(value, *above, name)
        else:
            yield (*above, name)


def has(values: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(values, dict) or name not in values:
            return False
        values = values[name]
    return True


@pytest.fixture
def values() -> Any:
    file = CHART / "values.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def test_the_values_it_names_are_in_the_chart(values: Any) -> None:
    # The command plan has an option of that name, for settings.
    lines = "\n".join(line for line in PAGE.splitlines() if "inventory-refresh plan" not in line)
    named = {tuple(name.split(".")) for name in re.findall(r"--set ([\w.]+)=", lines)}
    # Names with a capital letter inside belong to the chart, and so do names that begin with one of its sections.
    dotted = [code for code in CODE if re.fullmatch(r"[a-z]\w*(\.\w+)*", code) and code != "occurredAt"]
    named |= {tuple(name.split(".")) for name in dotted if re.search(r"[a-z][A-Z]", name)}
    parts = {name for name, value in values.items() if isinstance(value, dict)} - OPTIONS.keys()
    named |= {tuple(name.split(".")) for name in dotted if name.split(".")[0] in parts}
    assert len(named) > 10
    assert not {".".join(name) for name in named if not has(values, name)}


def test_the_values_of_the_example_are_in_the_chart(values: Any) -> None:
    for path in paths(example_values()):
        if path[0] == "config":
            assert path[2] in OPTIONS[path[1]], path
        else:
            assert has(values, path), path


def test_the_settings_it_names_exist() -> None:
    dotted = {tuple(code.split(".")) for code in CODE if re.fullmatch(r"\w+\.\w+", code)}
    dotted |= {tuple(name.split(".")) for name in re.findall(r"inventory-refresh plan.* --set ([\w.]+)=", PAGE)}
    named = {(section, name) for section, name in dotted if section in OPTIONS}
    assert len(named) > 20
    assert not {f"{section}.{name}" for section, name in named if name not in OPTIONS[section]}


def test_the_metrics_it_names_exist() -> None:
    known = described().keys()
    named = set(re.findall(r"\binventory_refresh_\w+", PAGE))
    assert named
    assert not {name for name in named if name not in known and re.sub("_(sum|count|bucket)$", "", name) not in known}


def test_the_events_reasons_and_fields_it_names_are_in_the_code() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "consumer").rglob("*.py"))
    code += " partitions_lost"  # composed of two parts there
    words = {word for word in CODE if re.fullmatch(r"[a-z]+(_[a-z]+)+", word)}
    named = {word for word in words if not word.startswith("inventory_refresh_")}
    assert {"committed_offset_out_of_range", "request_not_accepted", "jobs_abandoned", "job_failed"} <= named
    assert not {word for word in named if not re.search(rf"\b{word}\b", code)}


def test_the_commands_it_shows_exist_with_their_options() -> None:
    shown = re.findall(r"inventory-refresh ((?:run|job|dead-letters|demo|sandbox|produce)\b[^`\n\"]*)", PAGE)
    assert len(shown) > 8
    for line in shown:
        command: Any = typer.main.get_command(app)
        words = line.split()
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, line


def test_the_panels_it_names_are_on_a_dashboard() -> None:
    files = sorted((CHART / "dashboards").glob("*.json"))
    boards = "\n".join(file.read_text(encoding="utf-8") for file in files)
    titles = {json.loads(title) for title in re.findall(r'"title": ("(?:[^"\\]|\\.)*")', boards)}
    named = set()
    for listed in re.findall(r"\b(?:panels?|row|[Dd]ashboard)\**\s+(\*[^*]+\*(?:(?:,|\sand)\s+\*[^*]+\*)*)", PAGE):
        named |= {" ".join(name.split()) for name in re.findall(r"\*([^*]+)\*", listed)}
    assert len(named) > 15
    assert not named - titles


def test_it_names_every_exit_code() -> None:
    spec = importlib.util.find_spec("consumer.errors")
    assert spec is not None
    assert spec.origin is not None
    raised = set(re.findall(r"exit_code = (\d)", Path(spec.origin).read_text(encoding="utf-8")))
    named = set(re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE))
    assert named == raised | {"0"}
