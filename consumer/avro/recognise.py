"""Recognising wire formats by their first bytes, so that a message that does not fit the settings says what it is."""

import uuid
from typing import Final

from consumer.avro.container_file import BadContainerFileError, read_container
from consumer.avro.wire import AWS_GLUE, CONTAINER, SINGLE_OBJECT, Framing, schema_header
from consumer.ports import Headers

_LONG_ID_MAX: Final = 2**40
"""Above this, eight bytes are hardly an id."""
_SHORT_ID_MAX: Final = 2**24
"""Above this, four bytes are hardly an id."""


def describe_unframed(framing: Framing, value: bytes, headers: Headers | None) -> str:
    """Why a message is not framed as set, and what it looks like, in one line."""
    header = schema_header(headers)
    if framing.headers and header is not None:
        return f"the header {header.name} names the schema, but has {len(header.value)} bytes that are no id"
    looks_like = recognise(value, headers, expected=framing)
    return _mismatch(framing, value) + (f"; {looks_like}" if looks_like else "")


def recognise(value: bytes, headers: Headers | None, expected: Framing | None = None) -> str | None:
    """What a message looks like and which setting reads it; None if it looks like nothing in particular.

    ``expected`` is the framing as set, which did not fit.
    """
    header = schema_header(headers)
    if header is not None:
        return f"the header {header.name} names the schema: set avro.framing to confluent, which looks for it"
    for framing, found in ((AWS_GLUE, _glue), (SINGLE_OBJECT, _single_object), (CONTAINER, _container)):
        text = found(value) if framing.name != (expected.name if expected else "") else None
        if text:
            return text
    return _zero_byte(value, expected) or _text(value)


def _mismatch(framing: Framing, value: bytes) -> str:
    if not value:
        return "the value is empty"
    if len(value) < framing.length:
        return f"{len(value)} bytes, fewer than the {framing.length} bytes of the {framing.name} prefix"
    if not value.startswith(framing.start):
        begins = value[: len(framing.start)].hex()
        return f"begins with {begins}; {framing.name} framing begins with {framing.start.hex()}"
    if framing.kind in {"id", "global id"}:
        return "its schema id is 0, which no registry has"
    try:
        read_container(value)
    except BadContainerFileError as error:
        return str(error)
    return f"this is not {framing.name} framing"


def _glue(value: bytes) -> str | None:
    if len(value) < AWS_GLUE.length or value[:2] not in {b"\x03\x00", b"\x03\x05"}:
        return None
    version_id = uuid.UUID(bytes=value[2 : AWS_GLUE.length])
    if version_id.variant != uuid.RFC_4122:
        return None
    return (
        f"this looks like AWS Glue framing: header version 3, schema version id {version_id}; set avro.framing to "
        "aws-glue and avro.schema_file to the schema"
    )


def _single_object(value: bytes) -> str | None:
    if len(value) < SINGLE_OBJECT.length or not value.startswith(SINGLE_OBJECT.start):
        return None
    return (
        f"this looks like Avro's single-object encoding, fingerprint {value[2 : SINGLE_OBJECT.length].hex()}; set "
        "avro.framing to single-object and avro.schema_file to the schema"
    )


def _container(value: bytes) -> str | None:
    if not value.startswith(CONTAINER.start):
        return None
    return "this looks like an Avro object container file; set avro.framing to container"


def _zero_byte(value: bytes, expected: Framing | None) -> str | None:
    name = expected.name if expected else ""
    if name != "apicurio" and value.startswith(bytes(5)) and 0 < (number := _id(value, 9)) < _LONG_ID_MAX:
        return f"this looks like Apicurio's framing with an id of 8 bytes, {number}; set avro.framing to apicurio"
    if name != "confluent" and value[:1] == b"\x00" and 0 < (number := _id(value, 5)) < _SHORT_ID_MAX:
        return f"this looks like Confluent framing, schema id {number}; set avro.framing to confluent"
    return None


def _id(value: bytes, end: int) -> int:
    return int.from_bytes(value[1:end], "big") if len(value) >= end else 0


def _text(value: bytes) -> str | None:
    text = value.strip()
    if text[:1] + text[-1:] in {b"{}", b"[]"}:
        return "this looks like JSON; events must be Avro"
    if text[:1] == b"<":
        return "this looks like XML; events must be Avro"
    return None
