"""Merges the sources (environment over secret files over the YAML file) and reports wrong values in one line."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import ValidationError

from consumer.errors import SettingsError
from consumer.settings.models import Settings
from consumer.settings.redaction import hide_credentials, is_secret
from consumer.settings.sources import (
    CONFIG_VARIABLE,
    SECRETS_DIR_VARIABLE,
    Found,
    Given,
    OptionPath,
    from_assignments,
    from_environment,
    from_file,
    from_secret_files,
    is_map,
    names,
)
from consumer.settings.values import parse_scalar_map
from consumer.text import one_line

PROBLEMS_MAX: Final = 3
"""Wrong values reported at once, at most; more would make the line unreadable."""
SHOWN_CHARACTERS_MAX: Final = 80
"""Characters of a wrong value that are shown, at most; a pasted certificate must not fill the line."""

ASSIGNMENT_OPTION: Final = "--set"
"""The option of a command that tries other settings."""

Credentials = Callable[[], tuple[str, str]]
"""Returns the current API key and API secret."""

Origins = Mapping[OptionPath, str]
"""Where a value comes from, such as ``environment variable INVENTORY_REFRESH_HTTP__PORT``. Defaults have no entry."""

_log = structlog.get_logger("inventory_refresh.settings")

_ALLOWED: Final[Mapping[str, str]] = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must not be empty",
    "string_type": "must be text (put it in quotes)",
    "too_short": "must not be empty",
    "value_error": "{error}",
}
"""What is allowed, in our words, by the type of pydantic's error."""


def load(
    config: Path | None,
    environ: Mapping[str, str],
    secrets_dir: Path | None = None,
    *,
    assignments: Sequence[str] = (),
) -> Settings:
    """Read and validate the settings from all sources.

    ``config`` is the YAML file (None: the one named by INVENTORY_REFRESH_CONFIG, if set), ``environ`` the environment
    of the process, ``secrets_dir`` the directory of secret files (None: those of INVENTORY_REFRESH_SECRETS_DIR,
    separated by colons, if set). ``assignments`` (``section.name=value``) come before all of them.
    Raises SettingsError: one line with the setting, its value unless it is a secret, and what is allowed.
    """
    settings, _ = load_with_origins(config, environ, secrets_dir, assignments=assignments)
    return settings


def load_with_origins(
    config: Path | None,
    environ: Mapping[str, str],
    secrets_dir: Path | None = None,
    *,
    assignments: Sequence[str] = (),
) -> tuple[Settings, Origins]:
    """As ``load``, with where each given value comes from."""
    found = _found(config, environ, secrets_dir, assignments)
    try:
        settings = Settings.model_validate(_nested(found))
    except ValidationError as error:
        raise SettingsError(_line(error.errors(include_url=False), found)) from None
    return settings, {path: given.origin for path, given in found.items()}


def credentials_reader(
    settings: Settings, config: Path | None, environ: Mapping[str, str], secrets_dir: Path | None = None
) -> Credentials:
    """Return a function that reloads ``oms.api_key`` and ``oms.api_secret`` from the sources that ``load`` used.

    Secrets may change while the service runs. If they cannot be reloaded, the function logs a warning and returns the
    previous ones: the OMS decides whether they are still valid.
    """
    last = (settings.oms.api_key.get_secret_value(), settings.oms.api_secret.get_secret_value())

    def reload() -> tuple[str, str]:
        nonlocal last
        try:
            fresh = load(config, environ, secrets_dir).oms
        except SettingsError as error:
            _log.warning("credentials_not_reloaded", detail=str(error))
        else:
            last = (fresh.api_key.get_secret_value(), fresh.api_secret.get_secret_value())
        return last

    return reload


def _found(
    config: Path | None, environ: Mapping[str, str], secrets_dir: Path | None, assignments: Sequence[str]
) -> Found:
    file = config or _path(environ.get(CONFIG_VARIABLE))
    directories = [secrets_dir] if secrets_dir else _paths(environ.get(SECRETS_DIR_VARIABLE))
    found: Found = {}
    for source in (
        from_file(file) if file else {},
        from_secret_files(directories),
        from_environment(environ),
        from_assignments(assignments, ASSIGNMENT_OPTION),
    ):
        found.update(_entries(source))
    return found


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _paths(text: str | None) -> list[Path]:
    return [Path(part) for part in (text or "").split(os.pathsep) if part]


def _entries(source: Found) -> Found:
    """The same, with maps split into entries, because sources are merged entry by entry."""
    entries: Found = {}
    for path, given in source.items():
        if len(path) == 2 and is_map(*path):
            try:
                parts = parse_scalar_map(given.value)
            except ValueError as error:
                raise SettingsError(f"{'.'.join(path)}: {error} (from {given.origin})") from None
            entries |= {(*path, key): Given(part, given.origin) for key, part in parts.items()}
        else:
            entries[path] = given
    return entries


def _nested(found: Found) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {section: {} for section in names()}
    for path, given in found.items():
        match path:
            case (section, name):
                nested[section][name] = given.value
            case (section, name, key):
                nested[section].setdefault(name, {})[key] = given.value
    return nested


def _line(errors: Sequence[Mapping[str, Any]], found: Found) -> str:
    missing = [".".join(map(str, error["loc"])) for error in errors if error["type"] == "missing"]
    problems = [_problem(error, found) for error in errors if error["type"] != "missing"]
    if missing:
        problems.insert(0, f"{', '.join(missing)}: must be set (config.example.yaml shows how)")
    more = len(problems) - PROBLEMS_MAX
    return "; ".join(problems[:PROBLEMS_MAX]) + (f"; and {more} more" if more > 0 else "")


def _problem(error: Mapping[str, Any], found: Found) -> str:
    bounds = {name: _plain(value) for name, value in error.get("ctx", {}).items()}
    allowed = str(_ALLOWED.get(error["type"], error["msg"])).format(**bounds)
    path = tuple(map(str, error["loc"][:2]))
    if len(path) < 2:
        return allowed  # settings that do not fit together: the message names them
    option = ".".join(path)
    given = found.get(path)
    if given is None:
        origins = sorted({entry.origin for entry_path, entry in found.items() if entry_path[:2] == path})
        return f"{option}: {allowed}" + (f" (from {', '.join(origins)})" if origins else "")
    value = "" if is_secret(*path) or is_map(*path) else f" {_shown(given.value)}"
    return f"{option}:{value} {allowed} (from {given.origin})"


def _plain(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: object) -> str:
    return one_line(hide_credentials(repr(value)), SHOWN_CHARACTERS_MAX)
