"""Wire formats: the prefix of a message before its Avro value, and the schema that the prefix names."""

from dataclasses import dataclass
from typing import Final, Literal

FramingName = Literal["confluent", "single-object", "bare"]


@dataclass(frozen=True, slots=True)
class Framing:
    """A wire format: messages begin with a prefix of ``length`` bytes that starts with ``start`` and names the schema.

    Messages with the same prefix have the same schema, so batches are grouped by prefix.
    """

    name: FramingName
    length: int
    start: bytes

    def prefix_of(self, value: bytes) -> bytes | None:
        """The prefix of a message; None if it is too short or begins with other bytes."""
        return value[: self.length] if len(value) >= self.length and value.startswith(self.start) else None

    def schema_id(self, prefix: bytes) -> int | None:
        """The schema registry's id in a prefix; None for framings without one."""
        return int.from_bytes(prefix[1:5], "big") if self.name == "confluent" else None

    def not_framed(self, value: bytes) -> str:
        """Describe what is wrong with a message for which ``prefix_of`` is None."""
        if len(value) < self.length:
            return f"{len(value)} bytes, fewer than the {self.length} bytes of the {self.name} prefix"
        return f"begins with {value[: len(self.start)].hex()}; {self.name} framing begins with {self.start.hex()}"


CONFLUENT: Final = Framing("confluent", length=5, start=b"\x00")
"""A zero byte, and the schema's id in 4 bytes, big-endian."""

SINGLE_OBJECT: Final = Framing("single-object", length=10, start=b"\xc3\x01")
"""C3 01, and the schema's CRC-64-AVRO fingerprint in 8 bytes, little-endian."""

BARE: Final = Framing("bare", length=0, start=b"")
"""No prefix: the whole message is the value."""

FRAMINGS: Final[dict[FramingName, Framing]] = {framing.name: framing for framing in (CONFLUENT, SINGLE_OBJECT, BARE)}


def confluent_prefix(schema_id: int) -> bytes:
    """The prefix for a schema of the registry."""
    return CONFLUENT.start + schema_id.to_bytes(4, "big")


def single_object_prefix(fingerprint: bytes) -> bytes:
    """The prefix for a schema, given the 8 bytes of its fingerprint."""
    return SINGLE_OBJECT.start + fingerprint
