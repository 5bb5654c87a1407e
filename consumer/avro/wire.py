"""Wire formats: what stands before the Avro value in a message, and which schema it names."""

from dataclasses import dataclass
from typing import Final, Literal

FramingName = Literal["confluent", "single-object", "bare"]


@dataclass(frozen=True, slots=True)
class Framing:
    """How messages begin: with a prefix of ``length`` bytes that starts with ``start`` and names the schema.

    Messages of one prefix are messages of one schema, so a batch is grouped by prefix and no more is known of it.
    """

    name: FramingName
    length: int
    start: bytes

    def prefix_of(self, value: bytes) -> bytes | None:
        """The prefix of a message, None when it does not begin as this framing says."""
        return value[: self.length] if len(value) >= self.length and value.startswith(self.start) else None

    def schema_id(self, prefix: bytes) -> int | None:
        """The schema registry's id in a prefix, None where the framing has none."""
        return int.from_bytes(prefix[1:5], "big") if self.name == "confluent" else None

    def schema_id_of(self, value: bytes) -> int | None:
        """The schema registry's id in a message, None if the message or this framing has none."""
        prefix = self.prefix_of(value)
        return None if prefix is None else self.schema_id(prefix)

    def not_framed(self, value: bytes) -> str:
        """What is wrong with a message that has no prefix, for people."""
        if len(value) < self.length:
            return f"{len(value)} bytes, fewer than the {self.length} that {self.name} framing begins with"
        return f"begins with {value[: len(self.start)].hex()}, not {self.start.hex()} as {self.name} framing says"


CONFLUENT: Final = Framing("confluent", length=5, start=b"\x00")
"""A zero byte, and the schema's id in 4 bytes, big-endian."""

SINGLE_OBJECT: Final = Framing("single-object", length=10, start=b"\xc3\x01")
"""C3 01, and the schema's CRC-64-AVRO fingerprint in 8 bytes, little-endian."""

BARE: Final = Framing("bare", length=0, start=b"")
"""Nothing: the whole message is the value."""

FRAMINGS: Final[dict[FramingName, Framing]] = {framing.name: framing for framing in (CONFLUENT, SINGLE_OBJECT, BARE)}


def confluent_prefix(schema_id: int) -> bytes:
    """The bytes before a value that was written with this schema of the registry."""
    return CONFLUENT.start + schema_id.to_bytes(4, "big")


def single_object_prefix(fingerprint: bytes) -> bytes:
    """The bytes before a value, given the 8 bytes of its schema's fingerprint."""
    return SINGLE_OBJECT.start + fingerprint
