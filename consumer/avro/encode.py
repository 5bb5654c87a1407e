"""Encoding of events as messages, for the sandbox and for tests."""

import json
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

import fastavro

from consumer.avro.sources import schema_fingerprint
from consumer.avro.wire import confluent_prefix, single_object_prefix


class EventEncoder:
    """Encodes events of one schema. All its messages begin with the same prefix."""

    def __init__(self, schema_text: str, prefix: bytes) -> None:
        """``prefix`` is written before each value: see ``confluent`` and ``single_object``; b"" for bare values."""
        self._schema = fastavro.parse_schema(json.loads(schema_text))
        self._prefix = prefix

    @classmethod
    def confluent(cls, schema_text: str, schema_id: int) -> "EventEncoder":
        """With Confluent framing, for the schema that has this id in the registry."""
        return cls(schema_text, confluent_prefix(schema_id))

    @classmethod
    def single_object(cls, schema_text: str) -> "EventEncoder":
        """With single-object framing."""
        return cls(schema_text, single_object_prefix(schema_fingerprint(schema_text)))

    def encode(self, event: Mapping[str, Any]) -> bytes:
        """One message; a field with a default may be left out.

        Raises ValueError, TypeError or OverflowError when the event does not fit the schema.
        """
        stream = BytesIO()
        stream.write(self._prefix)
        fastavro.schemaless_writer(stream, self._schema, dict(event), strict_allow_default=True)
        return stream.getvalue()

    def encode_all(self, events: Iterable[Mapping[str, Any]]) -> list[bytes]:
        """One message for each event, in order."""
        return [self.encode(event) for event in events]


def encode_events(events: Iterable[Mapping[str, Any]], *, schema_text: str, schema_id: int) -> list[bytes]:
    """Events as Confluent-framed messages."""
    return EventEncoder.confluent(schema_text, schema_id).encode_all(events)
