"""The examples of docs/events.md: schema, settings, records and the changes that they become."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import yaml

from consumer.avro.bundled import schema_text
from consumer.avro.wire import confluent_prefix

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
SCHEMA_ID = 7


@dataclass(frozen=True)
class Example:
    """``records`` are pairs of key and value as bytes; ``changes`` the fields of the changes, in order."""

    name: str
    schema: str
    settings: dict[str, Any]
    records: list[tuple[bytes | None, bytes | None]]
    changes: list[dict[str, Any]]


def examples() -> list[Example]:
    """All examples of the page, by section."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [_example(section) for section in sections if "```json records" in section]


def _example(section: str) -> Example:
    blocks = dict(re.findall(r"^```\w+ (\w+)\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL))
    schema = blocks.get("schema", schema_text())
    records = [json.loads(line) for line in blocks["records"].splitlines()]
    return Example(
        name=section.partition("\n")[0],
        schema=schema,
        settings=yaml.safe_load(blocks["settings"]),
        records=[(_key(record.get("key")), _value(schema, record["value"])) for record in records],
        changes=[json.loads(line) for line in blocks["changes"].splitlines()],
    )


def _key(key: Any) -> bytes | None:
    return None if key is None else json.dumps(key).encode()


def _value(schema: str, value: Any) -> bytes | None:
    if value is None:
        return None
    parsed = json.loads(schema)
    stream = BytesIO(confluent_prefix(SCHEMA_ID))
    stream.seek(0, 2)
    written = (value[0], value[1]) if isinstance(value, list) else value
    fastavro.schemaless_writer(stream, fastavro.parse_schema(parsed), _with_types(written), strict_allow_default=True)
    return stream.getvalue()


def _with_types(value: Any) -> Any:
    """The value with decimals in place of the texts of decimals, which JSON does not have."""
    convert: dict[type, Callable[[Any], Any]] = {
        dict: lambda record: {name: _decimal(name, _with_types(part)) for name, part in record.items()},
        tuple: lambda pair: (pair[0], _with_types(pair[1])),
    }
    return convert.get(type(value), lambda same: same)(value)


def _decimal(name: str, value: Any) -> Any:
    return Decimal(value) if name == "QTY" else value
