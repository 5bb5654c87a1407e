"""JSON Schema of the settings: for editors, which complete and check a YAML file with it, and for the chart's values.

It is made from the models, as far as JSON Schema can express their checks.
"""

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from consumer.settings.models import Settings
from consumer.settings.values import (
    OMS_ITEMS_MAX,
    parse_body_bytes,
    parse_bytes_or_auto,
    parse_items_or_auto,
    parse_seconds,
    parse_value_lists,
)

DURATION_PATTERN: Final = r"^\d+(\.\d+)?\s*(ms|s|m|h)?$"
SIZE_PATTERN: Final = r"^\s*(auto|\d+(\.\d+)?\s*[KMG]iB)?\s*$"

_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""The version that every YAML editor knows."""
_BOUNDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""Attribute of a bound in pydantic's metadata to its keyword in JSON Schema."""
_PARSED: Final[Mapping[Any, dict[str, Any]]] = {
    parse_seconds: {"type": ["number", "string"], "pattern": DURATION_PATTERN},
    parse_bytes_or_auto: {"type": "string", "pattern": SIZE_PATTERN},
    parse_body_bytes: {"type": ["integer", "string"], "pattern": SIZE_PATTERN},
    parse_items_or_auto: {"type": ["integer", "string"], "minimum": 1, "maximum": OMS_ITEMS_MAX, "pattern": "^auto$"},
    parse_value_lists: {
        "type": "object",
        "additionalProperties": {
            "type": ["string", "boolean", "integer", "array"],
            "items": {"type": ["string", "boolean", "integer"]},
        },
    },
}
"""Settings that a function parses, to what it takes."""
_TYPES: Final[Mapping[Any, str]] = {bool: "boolean", float: "number", int: "integer", str: "string"}


def editor_schema() -> dict[str, Any]:
    """JSON Schema of the settings file, for editors.

    Nothing is required, since each setting may also come from the environment or a secret file, and a name without a
    value counts as not given.
    """
    sections = {
        name: {
            "type": ["object", "null"],
            "description": (model.__doc__ or "").strip(),
            "additionalProperties": False,
            "properties": {
                option: _or_null(_editor_option(name, option, info)) for option, info in model.model_fields.items()
            },
        }
        for name, model in sections_of(Settings).items()
    }
    return {
        "$schema": _DIALECT,
        "title": "Settings of the inventory refresh consumer",
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": sections,
    }


def sections_of(settings: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The model of each section, by its name."""
    return {
        name: field.annotation
        for name, field in settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def option_schema(info: FieldInfo) -> dict[str, Any]:
    """JSON Schema of a setting that is not a secret: type, bounds, description and default."""
    schema = _kind(info) | {"description": (info.description or "").replace("`", "")}
    if not info.is_required() and (default := info.get_default(call_default_factory=True)) is not None:
        schema["default"] = default
    return schema


def bare(annotation: Any) -> Any:
    """The type without ``| None`` and without annotations."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType} and type(None) in get_args(annotation):
        return bare(next(part for part in get_args(annotation) if part is not type(None)))
    return annotation


def is_parsed_by(info: FieldInfo, parse: object) -> bool:
    """Whether this function of ``consumer.settings.values`` parses the setting."""
    return any(getattr(part, "func", None) is parse for part in _metadata(info))


def _editor_option(section: str, name: str, info: FieldInfo) -> dict[str, Any]:
    if bare(info.annotation) is SecretStr:
        where = f"Better in a secret file {section}__{name} or in the environment than in this file."
        return {"type": "string", "description": f"{(info.description or '').replace('`', '')} {where}"}
    schema = option_schema(info)
    if schema.get("type") == "array":
        return schema | {"type": ["array", "string"]}  # separated by commas
    return schema


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    nullable = schema | {"type": [*types, "null"]}
    return nullable | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})


def _metadata(info: FieldInfo) -> list[Any]:
    """The field's annotations. Those of ``X | None`` are inside, with X."""
    return [*info.metadata, *(part for choice in get_args(info.annotation) for part in _annotations(choice))]


def _annotations(choice: Any) -> tuple[Any, ...]:
    return getattr(choice, "__metadata__", ())


def _kind(info: FieldInfo) -> dict[str, Any]:
    plain = bare(info.annotation)
    for parse, kind in _PARSED.items():
        if is_parsed_by(info, parse):
            return kind | _bounds(info)
    if get_origin(plain) is Literal:
        return {"type": "string", "enum": list(get_args(plain))}
    if get_origin(plain) is dict:
        _, value = get_args(plain)
        return {
            "type": "object",
            "additionalProperties": {"type": "string" if value is str else ["string", "number", "boolean"]},
        }
    if get_origin(plain) is list:
        return {"type": "array", "uniqueItems": True, "items": {"type": "string", "minLength": 1}}
    return {"type": _TYPES[plain]} | _bounds(info)


def _bounds(info: FieldInfo) -> dict[str, Any]:
    """Bounds and pattern. Lengths are left out, because an empty value counts as not given."""
    found = {
        keyword: _whole(getattr(part, attribute))
        for attribute, keyword in _BOUNDS.items()
        for part in info.metadata
        if hasattr(part, attribute)
    }
    patterns = [part.pattern for part in info.metadata if getattr(part, "pattern", None)]
    return found | ({"pattern": patterns[0]} if patterns else {})


def _whole(number: float) -> float:
    return int(number) if float(number).is_integer() else number
