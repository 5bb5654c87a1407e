"""Sample values of a wire schema, on which a decode path is tested before it is used."""

from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import fastavro

from consumer.errors import InvariantError

SAMPLES: Final = 12
"""Values per schema: enough to combine each branch of a nullable union with each length of an array."""

_LONGS: Final = (0, 1, 0, -65, 1, 0, 300, 2**31 - 1, 0, 1, -(2**31), 0)
"""Mostly small numbers, which are also valid for enums."""


def sample_values(wire: dict[str, Any]) -> list[bytes]:
    """Values of a schema from ``wire_schema``, encoded by fastavro. Its unions must be of null and one type."""
    schema = fastavro.parse_schema(wire)
    written = []
    for number in range(SAMPLES):
        stream = BytesIO()
        fastavro.schemaless_writer(stream, schema, _value(wire, number))
        written.append(stream.getvalue())
    return written


def _value(schema: Any, number: int, *, inside_array: bool = False) -> Any:
    """Sample ``number`` of a type: numbers of one to five bytes, texts with characters of several bytes."""
    match schema:
        case str():
            sample = _PRIMITIVES[schema](number)
        case [_, _]:
            (other,) = [branch for branch in schema if branch != "null"]
            sample = None if number % 3 == 0 else _value(other, number, inside_array=inside_array)
        case {"type": "record", "fields": fields}:
            sample = {
                field["name"]: _value(field["type"], number + index, inside_array=inside_array)
                for index, field in enumerate(fields)
            }
        case {"type": "array", "items": items}:
            # An array inside an array has at most one item: otherwise samples would grow with each level.
            sample = [
                _value(items, number + index, inside_array=True) for index in range(number % (2 if inside_array else 4))
            ]
        case {"type": "fixed", "size": size}:
            sample = _bytes(number, size)
        case _:
            raise InvariantError(f"no sample for the type {schema}")
    return sample


def _bytes(first: int, length: int) -> bytes:
    """Bytes that count up from ``first``, starting over after 255."""
    start = first % 256
    return (bytes(range(256)) * ((start + length) // 256 + 1))[start : start + length]


_PRIMITIVES: Final[dict[str, Callable[[int], Any]]] = {
    "null": lambda _: None,
    "boolean": lambda number: number % 2 == 0,
    "long": lambda number: _LONGS[number % len(_LONGS)],
    "float": lambda number: (-1) ** number * number / 4,
    "double": lambda number: (-1) ** number * number / 4,
    "string": lambda number: "ä€x" * (number % 3),
    "bytes": lambda number: _bytes(number, number % 9),  # up to 8 bytes, a usual length for decimals
}
