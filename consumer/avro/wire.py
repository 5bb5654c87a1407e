"""Wire formats: how a message names the schema of its Avro value, and where the value begins.

A message's *schema key* is what its bytes or headers say about the schema, before anything is looked up: a prefix of
the value, a header, or the schema itself. Messages with the same key have the same schema, so batches are grouped by
key, and each key is turned into a ``SchemaRef`` once.
"""

import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from consumer.avro.container_file import BadContainerFileError, read_container
from consumer.avro.decompress import DecompressionError, decompress
from consumer.core.changes.items import RejectReason
from consumer.ports import Headers

FramingName = Literal["confluent", "apicurio", "aws-glue", "single-object", "bare", "container"]

RefKind = Literal["any", "id", "global id", "GUID", "schema version id", "fingerprint", "schema"]
"""What a message has of its schema: nothing, an id of the registry's Confluent API, a global id of Apicurio Registry, a
GUID of Confluent's registry, a schema version id of AWS Glue, a CRC-64-AVRO fingerprint, or the schema itself."""


class SchemaRef(NamedTuple):
    """Names a schema. ``value`` is a number for ids, hex or UUID text, or the text of the schema itself."""

    kind: RefKind
    value: int | str = ""

    def __str__(self) -> str:
        return f"schema {self.value}" if self.kind == "id" else f"schema with the {self.kind} {self.value}"


class SchemaHeader(NamedTuple):
    """A header that names the schema; the message's whole value is then the Avro value."""

    name: str
    value: bytes


SchemaKey = bytes | SchemaHeader
"""A prefix of the value, the text of a container file's schema, or a header."""


class BadValueError(Exception):
    """A framed message whose Avro value cannot be taken out of it."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


SCHEMA_HEADERS: Final[Mapping[str, RefKind]] = {
    "__value_schema_id": "GUID",
    "apicurio.value.globalId": "global id",
    "apicurio.value.contentId": "id",
}
"""Headers with the schema of the value: of Confluent's serializers since 8.0 (HeaderSchemaIdSerializer) and of Apicurio
Registry's. Apicurio's content ids are the ids of its Confluent API."""

_ID_BYTES: Final = {b"\x00": 4, b"\x01": 16}
"""A magic byte of Confluent's, and the bytes that follow it: an id, or a GUID (in headers only)."""
_GLUE_UNCOMPRESSED: Final = b"\x03\x00"
_GLUE_ZLIB: Final = b"\x03\x05"


@dataclass(frozen=True, slots=True)
class Framing:
    """A wire format. Usually a message begins with a prefix of ``length`` bytes that starts with ``start``.

    ``kind`` is what the prefix has of the schema. With ``headers``, one of ``SCHEMA_HEADERS`` takes precedence over the
    prefix, and the message has none then.
    """

    name: FramingName
    length: int
    start: bytes
    kind: RefKind
    headers: bool = False

    def prefix_of(self, value: bytes) -> bytes | None:
        """The prefix of a message; None if it is too short or begins with other bytes."""
        return value[: self.length] if len(value) >= self.length and value.startswith(self.start) else None

    def header_of(self, headers: Headers | None) -> SchemaHeader | None:
        """The header that names the schema; None without one, and for framings that do not look for it."""
        return schema_header(headers) if self.headers and headers else None

    def key_of(self, value: bytes, header: SchemaHeader | None = None) -> SchemaKey | None:
        """The schema key of a message; None if it is not framed."""
        if header is not None:
            return header
        if self.name != "container":
            return self.prefix_of(value)
        try:
            return read_container(value).schema
        except BadContainerFileError:
            return None

    def ref_of(self, key: SchemaKey) -> SchemaRef | None:
        """The schema that a key names; None if the key cannot be one of this framing's."""
        if isinstance(key, SchemaHeader):
            return _ref_of_header(key)
        match self.kind:
            case "any":
                return SchemaRef("any")
            case "schema":
                return SchemaRef("schema", key.decode("utf-8", "replace"))
            case "fingerprint":
                return SchemaRef("fingerprint", key[len(self.start) :].hex())
            case "schema version id":
                is_known = key[:2] in {_GLUE_UNCOMPRESSED, _GLUE_ZLIB}
                return SchemaRef("schema version id", str(uuid.UUID(bytes=key[2:]))) if is_known else None
            case _:
                number = int.from_bytes(key[1:], "big")
                # Ids begin at 1. A zero is the first half of an id of eight bytes.
                return SchemaRef(self.kind, number) if number else None

    def is_plain(self, key: SchemaKey) -> bool:
        """Whether a message with this key is a prefix of ``length`` bytes and the Avro value, as it is."""
        if self.name == "container" or isinstance(key, SchemaHeader):
            return False
        return self.name != "aws-glue" or key.startswith(_GLUE_UNCOMPRESSED)

    def value_of(self, key: SchemaKey, message: bytes) -> bytes:
        """The Avro value in a message; a container file has rows instead (``container_rows``). Raises BadValueError."""
        if isinstance(key, SchemaHeader):
            return message
        try:
            if self.name == "aws-glue" and key.startswith(_GLUE_ZLIB):
                return decompress(zlib.decompressobj(), message[self.length :])
        except DecompressionError as error:
            raise BadValueError(RejectReason.CORRUPT, str(error)) from error
        return message[self.length :]

    def schema_id_of(self, value: bytes, headers: Headers | None = None) -> int | None:
        """The registry's id of a message's schema; None if the message or this framing has none."""
        if self.kind not in {"id", "global id"}:
            return None
        key = self.key_of(value, self.header_of(headers))
        ref = None if key is None else self.ref_of(key)
        return ref.value if ref is not None and isinstance(ref.value, int) else None


CONFLUENT: Final = Framing("confluent", length=5, start=b"\x00", kind="id", headers=True)
"""A zero byte, and the schema's id in 4 bytes, big-endian; or a header with a GUID."""

APICURIO: Final = Framing("apicurio", length=9, start=b"\x00", kind="id", headers=True)
"""A zero byte, and an id of Apicurio Registry in 8 bytes, big-endian; or a header with it."""

AWS_GLUE: Final = Framing("aws-glue", length=18, start=b"\x03", kind="schema version id")
"""Header version 3, a compression byte (0: none, 5: zlib), and the schema version id, a UUID of 16 bytes."""

SINGLE_OBJECT: Final = Framing("single-object", length=10, start=b"\xc3\x01", kind="fingerprint")
"""C3 01, and the schema's CRC-64-AVRO fingerprint in 8 bytes, little-endian."""

BARE: Final = Framing("bare", length=0, start=b"", kind="any")
"""No prefix: the whole message is the value."""

CONTAINER: Final = Framing("container", length=0, start=b"Obj\x01", kind="schema")
"""An Avro object container file, which contains its schema."""

FRAMINGS: Final[dict[FramingName, Framing]] = {
    framing.name: framing for framing in (CONFLUENT, APICURIO, AWS_GLUE, SINGLE_OBJECT, BARE, CONTAINER)
}


def framing_of(name: FramingName, *, global_ids: bool = False) -> Framing:
    """The framing of this name. ``global_ids``: ids in prefixes are Apicurio's global ids."""
    framing = FRAMINGS[name]
    return replace(framing, kind="global id") if global_ids else framing


def schema_header(headers: Headers | None) -> SchemaHeader | None:
    """The last header that names the value's schema; None without one."""
    found = None
    for name, value in headers or ():
        if name in SCHEMA_HEADERS:
            found = SchemaHeader(name, value or b"")
    return found


def _ref_of_header(header: SchemaHeader) -> SchemaRef | None:
    kind, value = SCHEMA_HEADERS[header.name], header.value
    if kind == "GUID":
        if len(value) - 1 != _ID_BYTES.get(value[:1]):
            return None
        if value[:1] == b"\x01":
            return SchemaRef(kind, str(uuid.UUID(bytes=value[1:])))
        kind, value = "id", value[1:]
    elif len(value) != 8:
        return None
    number = int.from_bytes(value, "big")
    return SchemaRef(kind, number) if number else None


def confluent_prefix(schema_id: int) -> bytes:
    """The prefix for a schema of the registry."""
    return CONFLUENT.start + schema_id.to_bytes(4, "big")


def single_object_prefix(fingerprint: bytes) -> bytes:
    """The prefix for a schema, given the 8 bytes of its fingerprint."""
    return SINGLE_OBJECT.start + fingerprint
