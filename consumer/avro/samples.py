"""Sample values of a wire schema, to try a decoder on before it is trusted with messages."""

from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import fastavro

SAMPLES: Final = 12
"""Values written of each schema: enough for every branch of a nullable union beside every other length of an array."""

_LONGS: Final = (0, 1, 0, -65, 1, 0, 300, 2**31 - 1, 0, 1, -(2**31), 0)
"""Mostly numbers that an enum has too."""


def sample_values(wire: dict[str, Any]) -> list[bytes]:
    """Values of a schema (as ``wire_schema`` says it, without wide unions), written by fastavro."""
    schema = fastavro.parse_schema(wire)
    written = []
    for number in range(SAMPLES):
        stream = BytesIO()
        fastavro.schemaless_writer(stream, schema, _value(wire, number))
        written.append(stream.getvalue())
    return written


def _value(schema: Any, number: int, *, inside_array: bool = False) -> Any:
    """Sample ``number`` of a type: numbers of one to five bytes, texts of more than one byte a letter."""
    match schema:
        case str():
            sample = _PRIMITIVES[schema](number)
        case [_, _]:
            (other,) = [branch for branch in schema if branch != "null"]
            sample = None if number % 3 == 0 else _value(other, number, inside_array=inside_array)
        case {"type": "record", "fields": fields}:
            sample = {
                field["name"]: _value(field["type"], number + place, inside_array=inside_array)
                for place, field in enumerate(fields)
            }
        case {"type": "array", "items": items}:
            # An array in an array has one item at most: else samples would grow by each level of a schema.
            sample = [
                _value(items, number + place, inside_array=True) for place in range(number % (2 if inside_array else 4))
            ]
        case {"type": "fixed", "size": size}:
            sample = _bytes(number, size)
        case _:
            raise TypeError(f"no sample for the type {schema}")
    return sample


def _bytes(first: int, length: int) -> bytes:
    """Bytes that count up from ``first``, over and over."""
    start = first % 256
    return (bytes(range(256)) * ((start + length) // 256 + 1))[start : start + length]


_PRIMITIVES: Final[dict[str, Callable[[int], Any]]] = {
    "null": lambda _: None,
    "boolean": lambda number: number % 2 == 0,
    "long": lambda number: _LONGS[number % len(_LONGS)],
    "float": lambda number: (-1) ** number * number / 4,
    "double": lambda number: (-1) ** number * number / 4,
    "string": lambda number: "ä€x" * (number % 3),
    "bytes": lambda number: _bytes(number, number % 9),  # as long as a decimal may well be
}
