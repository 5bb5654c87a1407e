"""The settings as they take effect, each with where its value comes from, and without secrets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from pydantic.fields import FieldInfo

from consumer.settings.json_schema import is_parsed_by, sections_of
from consumer.settings.loading import Origins
from consumer.settings.memory import size
from consumer.settings.models import Settings
from consumer.settings.redaction import redacted
from consumer.settings.sources import OptionPath, is_map
from consumer.settings.values import parse_body_bytes, parse_bytes_or_auto, parse_seconds, seconds_text
from consumer.text import escape_unprintable

DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Derived:
    """A value that the service derives from others or from its surroundings; ``how`` says from what."""

    value: Any
    how: str


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """A setting, or an entry of a map. Secrets in ``value`` are replaced by ``***``; durations and sizes are text."""

    path: OptionPath
    value: Any
    source: str

    @property
    def is_given(self) -> bool:
        """Whether some source has it."""
        return self.source != DEFAULT and not self.source.startswith("derived")


def effective_settings(
    settings: Settings, origins: Origins, derived: Mapping[OptionPath, Derived]
) -> list[EffectiveSetting]:
    """All settings, in the order of docs/configuration.md; a map without an entry is one setting."""
    shown = redacted(settings)
    found: list[EffectiveSetting] = []
    for section, model in sections_of(Settings).items():
        for name, info in model.model_fields.items():
            value = shown[section][name]
            if is_map(section, name) and value:
                entries = (((section, name, key), part) for key, part in value.items())
                found += [EffectiveSetting(path, part, origins.get(path, DEFAULT)) for path, part in entries]
            elif known := derived.get((section, name)):
                found.append(EffectiveSetting((section, name), known.value, f"derived: {known.how}"))
            else:
                source = origins.get((section, name), DEFAULT)
                found.append(EffectiveSetting((section, name), _written(info, value), source))
    return found


def as_yaml_lines(settings: list[EffectiveSetting]) -> list[tuple[str, str]]:
    """Lines of a YAML file with these settings, each with the source of its value; a heading has none."""
    lines: list[tuple[str, str]] = []
    above: OptionPath = ()
    for setting in settings:
        parents = setting.path[:-1]
        lines += [
            (f"{'  ' * depth}{_scalar(parent)}:", "")
            for depth, parent in enumerate(parents)
            if parents[: depth + 1] != above[: depth + 1]
        ]
        above = parents
        lines.append((f"{'  ' * len(parents)}{_scalar(setting.path[-1])}: {_scalar(setting.value)}", setting.source))
    return lines


def _written(info: FieldInfo, value: Any) -> Any:
    """The value as people write it: with a unit, if it has one."""
    if isinstance(value, float) and is_parsed_by(info, parse_seconds):
        return seconds_text(value)
    if isinstance(value, int) and (is_parsed_by(info, parse_bytes_or_auto) or is_parsed_by(info, parse_body_bytes)):
        return size(value) if value % 1024 == 0 else value
    return value


def _scalar(value: Any) -> str:
    """The value on one line of YAML; characters that would steer a terminal are escapes."""
    dumped: str = yaml.safe_dump(value, default_flow_style=True, width=1_000_000, allow_unicode=True)
    return escape_unprintable(dumped.removesuffix("\n").removesuffix("\n..."))
