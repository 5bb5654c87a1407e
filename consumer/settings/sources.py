"""Where settings come from: a YAML file, secret files, the environment. Each becomes the same flat mapping.

Only names are checked here: an unknown name is an error in every source, reported with the closest known name.
Every function raises SettingsError with one line.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml

from consumer.errors import SettingsError
from consumer.settings.models import Settings

PREFIX: Final = "INVENTORY_REFRESH_"
CONFIG_VARIABLE: Final = f"{PREFIX}CONFIG"
SECRETS_DIR_VARIABLE: Final = f"{PREFIX}SECRETS_DIR"

CONFIG_BYTES_MAX: Final = 1_048_576
"""Far larger than any configuration; a wrong path must not fill the memory."""
SECRET_BYTES_MAX: Final = 65_536
"""Room for a long certificate chain."""

_SEPARATORS: Final = {("kafka", "properties"): ".", ("avro", "registry"): ".", ("oms", "headers"): "-"}
"""Maps whose keys contain a character that names of environment variables cannot: they use underscores instead."""

_SERVICE_LINK: Final = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")

OptionPath = tuple[str, ...]
"""Section and name of a setting, and for an entry of a map its key."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, and a description of where, for messages."""

    value: Any
    origin: str


Found = dict[OptionPath, Given]


def from_file(path: Path) -> Found:
    """Read the settings of a YAML file. A name without a value counts as not given."""
    origin = path.name
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise SettingsError(f"configuration file {str(path)!r} cannot be read: {error.strerror}") from None
    if len(data) > CONFIG_BYTES_MAX:
        raise SettingsError(f"configuration file {str(path)!r} is larger than {CONFIG_BYTES_MAX} bytes")
    try:
        content = yaml.load(data, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader underneath
    except yaml.YAMLError as error:
        raise SettingsError(f"configuration file {str(path)!r} is not valid YAML{_place(error)}") from None
    return dict(_flat(_mapping(content, origin, "the file"), origin))


def from_secret_files(directories: Sequence[Path]) -> Found:
    """Read a setting per file, named ``section__name``, as Kubernetes mounts a Secret; a trailing newline is dropped.

    Hidden files and directories (such as Kubernetes' own ``..data``) are ignored, and empty files count as not given.
    Raises SettingsError if two directories have a file for the same setting: it is unclear which one is current.
    """
    found: Found = {}
    for directory in directories:
        more = _from_secrets_directory(directory)
        for path in found.keys() & more.keys():
            raise SettingsError(
                f"{more[path].origin} is in several secrets directories ({', '.join(map(str, directories))}); keep one"
            )
        found |= more
    return found


def _from_secrets_directory(directory: Path) -> Found:
    found: Found = {}
    try:
        files = sorted(path for path in directory.iterdir() if not path.name.startswith(".") and not path.is_dir())
    except OSError as error:
        raise SettingsError(f"secrets directory {str(directory)!r} cannot be read: {error.strerror}") from None
    for file in files:
        origin = f"secret file {file.name}"
        text = _secret_text(file)
        if text:
            found |= _option(file.name.split("__", 2), text, origin, file.name, is_variable=False)
    return found


def from_environment(environ: Mapping[str, str]) -> Found:
    """Read the variables ``INVENTORY_REFRESH_<SECTION>__<NAME>``; empty ones count as not given."""
    found: Found = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in {CONFIG_VARIABLE, SECRETS_DIR_VARIABLE}:
            continue
        name = variable.removeprefix(PREFIX)
        if text and not _is_service_link(name, text):
            found |= _option(name.split("__", 2), text, f"environment variable {variable}", variable, is_variable=True)
    return found


def from_assignments(assignments: Sequence[str], option: str) -> Found:
    """Read settings given as ``section.name=value``, or ``section.name.key=value`` for an entry of a map.

    ``option`` is the command's option with which they are given. Raises SettingsError.
    """
    found: Found = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not text:
            raise SettingsError(f"{option} {assignment!r} is not an assignment such as window.max_age=15m")
        parts = path.split(".", 2)
        known = [f"{section}.{name}" for section, options in names().items() for name in options]
        if ".".join(parts[:2]) not in known:
            raise SettingsError(f"{option}: {path} is not a known setting{_near(path, known)}")
        found |= _option(parts, text, f"{option} {path}", path, is_variable=False)
    return found


def is_map(section: str, name: str) -> bool:
    """Whether the setting is a map, whose entries can be given one by one."""
    section_model = Settings.model_fields[section].annotation
    annotation = getattr(section_model, "model_fields", {})[name].annotation
    return getattr(annotation, "__origin__", None) is dict


def names() -> dict[str, list[str]]:
    """Every section with the names of its settings."""
    return {
        section: list(getattr(field.annotation, "model_fields", {})) for section, field in Settings.model_fields.items()
    }


def _option(parts: list[str], text: str, origin: str, given_name: str, *, is_variable: bool) -> Found:
    """A setting from the environment or a secret file; for a map, a single entry or the whole map as JSON."""
    section, name = parts[0].lower(), parts[1].lower() if len(parts) > 1 else ""
    if name not in names().get(section, ()):
        raise SettingsError(f"{origin} is not a known setting{_suggestion(given_name, is_variable=is_variable)}")
    if len(parts) == 2:
        return {(section, name): Given(text, origin)}
    if not is_map(section, name) or not parts[2]:
        raise SettingsError(f"{origin} is not a known setting: {section}.{name} is not a map")
    separator = _SEPARATORS.get((section, name)) if is_variable else None
    key = parts[2].lower().replace("_", separator) if separator else parts[2]
    return {(section, name, key): Given(text, origin)}


def _flat(content: Mapping[str, Any], origin: str) -> Iterator[tuple[OptionPath, Given]]:
    known = names()
    for section, options in content.items():
        if section not in known:
            raise SettingsError(f"{origin}: unknown section {section!r}{_near(section, list(known))}")
        for name, value in _mapping(options, origin, section).items():
            if name not in known[section]:
                raise SettingsError(f"{origin}: unknown setting {section}.{name}{_near(name, known[section])}")
            if is_map(section, name) and isinstance(value, dict):
                for key, part in _mapping(value, origin, f"{section}.{name}").items():
                    yield (section, name, key), Given(part, origin)
            elif value is not None:
                yield (section, name), Given(value, origin)


def _mapping(value: object, origin: str, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsError(f"{origin}: {what} must be a map of names to values")
    for name in value:
        if not isinstance(name, str):
            raise SettingsError(f"{origin}: {what} has the name {name!r}, which is not text: put it in quotes")
    return value


def _secret_text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(SECRET_BYTES_MAX + 1)
        text = data.decode()
    except OSError as error:
        raise SettingsError(f"secret file {file.name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"secret file {file.name} must be UTF-8 text") from None
    if len(data) > SECRET_BYTES_MAX:
        raise SettingsError(f"secret file {file.name} is larger than {SECRET_BYTES_MAX} bytes")
    return text.removesuffix("\n").removesuffix("\r")


def _is_service_link(name: str, text: str) -> bool:
    """Whether Kubernetes set this variable for a Service whose name begins like our prefix.

    Only ``..._PORT`` looks like a misspelt setting (``HTTP_PORT``), so its value must be an address as well.
    """
    if "__" in name or not _SERVICE_LINK.fullmatch(name):
        return False
    bare_port = name.endswith("PORT") and not name.endswith("SERVICE_PORT") and not re.search(r"_\d+_", name)
    return not bare_port or bool(_SERVICE_ADDRESS.match(text))


def _suggestion(given: str, *, is_variable: bool) -> str:
    plain = [f"{section}__{name}" for section, options in names().items() for name in options]
    return _near(given, [f"{PREFIX}{name.upper()}" for name in plain] if is_variable else plain)


def _near(given: str, known: list[str]) -> str:
    near = get_close_matches(given, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; known names are {', '.join(known)}" if len(known) < 10 else ""


def _place(error: yaml.YAMLError) -> str:
    """Line and reason, without an excerpt of the file, which could contain a secret."""
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or "not readable"
    return f": line {mark.line + 1}: {reason}" if mark else f": {reason}"


class _StrictLoader(yaml.SafeLoader):
    """Refuses a name that appears twice in a map; plain YAML silently keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name} appears twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)
