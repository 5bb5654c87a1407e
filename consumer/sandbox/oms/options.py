"""Turns the command line's options into the sandbox's settings; errors name the option.

A fault is written ``NAME:KEY=VALUE,KEY=VALUE,...``, or as the JSON object that the control endpoint takes. A key with
several values is repeated. docs/sandbox.md lists names and keys.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from consumer.errors import SettingsError
from consumer.sandbox.oms.faults.base import RULES_MAX, Rule
from consumer.sandbox.oms.faults.rules import FAULTS, FaultRule
from consumer.sandbox.oms.settings import SandboxSettings

OPTION: Final = "--fault"

_SHOWN_CHARACTERS_MAX: Final = 200
"""Of the fault's text in an error message."""

_BY_NAME: Final[Mapping[str, type[Rule]]] = {fault.model_fields["fault"].default: fault for fault in FAULTS}
_RULE: Final[TypeAdapter[FaultRule]] = TypeAdapter(FaultRule)


def settings_from_options(faults: Sequence[str], **options: Any) -> SandboxSettings:
    """The settings of a sandbox; ``options`` have the names of ``SandboxSettings``.

    Raises SettingsError, which names the option and says what is allowed.
    """
    if len(faults) > RULES_MAX:
        raise SettingsError(f"{OPTION} is given {len(faults)} times: at most {RULES_MAX} are allowed")
    rules = tuple(parse_fault(text) for text in faults)
    try:
        return SandboxSettings(faults=rules, **options)
    except ValidationError as error:
        first = _first(error)
        if not first["loc"]:
            raise SettingsError(f"{OPTION}: {_allowed(first)}") from None
        option = str(first["loc"][0]).replace("_", "-")
        raise SettingsError(f"--{option} is {first['input']!r}: {_allowed(first)}") from None


def parse_fault(text: str) -> FaultRule:
    """Parse one fault as written on the command line. Raises SettingsError if it is not valid."""
    content = _json(text) if text.lstrip().startswith("{") else _pairs(text)
    name = content.get("fault")
    if not isinstance(name, str) or name not in _BY_NAME:
        raise _invalid(text, f'there is no fault "{name}"; the faults are {", ".join(_BY_NAME)}')
    try:
        return _RULE.validate_python(content)
    except ValidationError as error:
        raise _invalid(text, _problem(name, _first(error))) from None


def _json(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(text, f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise _invalid(text, "not a JSON object")
    return content


def _pairs(text: str) -> dict[str, Any]:
    name, _, rest = text.partition(":")
    fields = _BY_NAME[name].model_fields if name in _BY_NAME else {}
    content: dict[str, Any] = {}
    for pair in rest.split(",") if rest else []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise _invalid(text, f'"{pair}" is not KEY=VALUE (a value that contains a comma must be written as JSON)')
        if key in content and not _takes_several(fields.get(key)):
            raise _invalid(text, f"{key} is given twice")
        content[key] = [*content.get(key, []), value] if _takes_several(fields.get(key)) else value
    return {**content, "fault": name}


def _takes_several(field: FieldInfo | None) -> bool:
    return field is not None and get_origin(field.annotation) is tuple


def _problem(name: str, error: Mapping[str, Any]) -> str:
    """The error message for a fault's parameter, or for a combination of parameters."""
    path = [str(part) for part in error["loc"][1:]]
    if not path:
        return _allowed(error)
    key = path[0]
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        known = ", ".join(field for field in _BY_NAME[name].model_fields if field != "fault")
        return f"{name} has no key {key}; its keys are {known}"
    return f"{key} {_allowed(error)}, not {error['input']!r}"


def _allowed(error: Mapping[str, Any]) -> str:
    return re.sub(r"^(Input|String|Tuple) should ", "must ", error["msg"]).removeprefix("Value error, ")


def _first(validation_error: ValidationError) -> Mapping[str, Any]:
    """The first error, but unknown keys first: a missing key may only be misspelt."""
    errors = validation_error.errors(include_url=False, include_context=False)
    return min(errors, key=lambda error: error["type"] != "extra_forbidden")


def _invalid(text: str, problem: str) -> SettingsError:
    shown = text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}..."
    return SettingsError(f"{OPTION} {shown!r}: {problem}")
