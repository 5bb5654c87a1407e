"""What the commands ``config show`` and ``config schema`` do."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.text import Text

from consumer.container import ContainerMemory
from consumer.network import environment_proxy
from consumer.settings import CONFIG_VARIABLE, SECRETS_DIR_VARIABLE, Settings
from consumer.settings.effective import Derived, EffectiveSetting, as_yaml_lines, effective_settings
from consumer.settings.json_schema import editor_schema
from consumer.settings.loading import load_with_origins
from consumer.settings.memory import assumed_limit_bytes, budget_bytes, size
from consumer.settings.redaction import hide_credentials
from consumer.settings.sources import OptionPath
from consumer.terminal import console

SOURCE_COLUMN: Final = 60
"""Where the sources begin, unless a value is longer."""


def print_settings(config: Path | None, *, given_only: bool, as_json: bool) -> None:
    """Print the settings in effect as YAML, with the source of each as a comment, or as JSON; secrets are hidden.

    Raises SettingsError if they are not valid.
    """
    settings, origins = load_with_origins(config, os.environ)
    derived = derived_settings(settings, os.environ, ContainerMemory().limit_bytes)
    shown = effective_settings(settings, origins, derived)
    if given_only:
        shown = [setting for setting in shown if setting.is_given]
    if as_json:
        print(as_json_text(shown))  # noqa: T201 - the result of the command
        return
    out = console()
    text = Text(no_wrap=True, overflow="ignore")
    for line in (_heading(config, os.environ), ""):
        text.append(f"{line}\n", style="dim")
    for line, source in as_yaml_lines(shown):
        text.append(line)
        text.append(f"{' ' * max(SOURCE_COLUMN - len(line), 2)}# {source}\n" if source else "\n", style="dim")
    out.print(text, end="", soft_wrap=True)


def print_schema() -> None:
    """Print the JSON Schema of the settings file."""
    print(schema_text(), end="")  # noqa: T201 - the result of the command


def schema_text() -> str:
    """The JSON Schema of the settings file, as it is committed next to config.example.yaml."""
    return json.dumps(editor_schema(), indent=2, ensure_ascii=False) + "\n"


def as_json_text(settings: list[EffectiveSetting]) -> str:
    """Settings as JSON: by section and name (and for maps by entry) an object with ``value`` and ``source``."""
    tree: dict[str, dict[str, object]] = {}
    for setting in settings:
        known: dict[str, object] = {"value": setting.value, "source": setting.source}
        match setting.path:
            case (section, name, key):
                entries = tree.setdefault(section, {}).setdefault(name, {})
                if isinstance(entries, dict):
                    entries[key] = known
            case (section, name):
                tree.setdefault(section, {})[name] = known
    return json.dumps(tree, indent=2, ensure_ascii=False)


def derived_settings(
    settings: Settings, environ: Mapping[str, str], limit_bytes: int | None
) -> dict[OptionPath, Derived]:
    """What the service derives from other settings, its environment and its container's memory limit."""
    derived: dict[OptionPath, Derived] = {}
    if settings.memory.budget == "auto":
        budget = budget_bytes("auto", limit_bytes)
        limit = assumed_limit_bytes(budget, limit_bytes)
        known = f"the container's limit of {size(limit_bytes)}" if limit_bytes else f"an assumed limit of {size(limit)}"
        derived["memory", "budget"] = Derived(size(budget), f"auto, from {known}")
    if settings.window.flush_items == "auto":
        how = "auto, begins with oms.chunk_items and follows the OMS's queue"
        derived["window", "flush_items"] = Derived(settings.oms.chunk_items, how)
    if settings.avro.registry_ids is None and settings.avro.registry_url:
        derived["avro", "registry_ids"] = Derived("content", "unless global is set")
    if settings.oms.proxy is None and (proxy := environment_proxy(settings.oms.base_url, environ)):
        derived["oms", "proxy"] = Derived(hide_credentials(proxy), "from the environment's proxy variables")
    return derived


def _heading(config: Path | None, environ: Mapping[str, str]) -> str:
    """Where settings are looked for, the strongest source first."""
    file = config or environ.get(CONFIG_VARIABLE) or "no file"
    secrets = environ.get(SECRETS_DIR_VARIABLE)
    return f"# From the environment, {f'secret files in {secrets}, ' if secrets else ''}{file}, defaults"
