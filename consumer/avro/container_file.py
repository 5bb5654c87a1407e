"""Avro object container files as values: a magic, metadata with the schema, and blocks of rows.

Only the frame is read here. Where a row ends, only its schema says: see ``container_rows``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consumer.avro.decompress import CODECS, DECOMPRESSED_BYTES_MAX, DecompressionError, decompress
from consumer.core.changes.items import RejectReason

MAGIC: Final = b"Obj\x01"
SYNC_BYTES: Final = 16
VARINT_BYTES_MAX: Final = 10


class BadContainerFileError(Exception):
    """The value is not a container file, or not one whose rows can be read."""

    def __init__(self, detail: str, reason: RejectReason = RejectReason.CORRUPT) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a container file: ``rows`` values, one after the other in ``data``, as the codec compressed them."""

    rows: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ContainerFile:
    """A container file as it was sent: the text of its schema, its codec, and its blocks."""

    schema: bytes
    codec: bytes
    blocks: Sequence[Block]

    @property
    def rows(self) -> int:
        return sum(block.rows for block in self.blocks)

    def block_bytes(self) -> list[bytes]:
        """The bytes of each block, decompressed. Raises BadContainerFileError."""
        left, found = DECOMPRESSED_BYTES_MAX, []
        for block in self.blocks:
            found.append(self._decompressed(block.data, left))
            left -= len(found[-1])
        return found

    def _decompressed(self, data: bytes, bytes_max: int) -> bytes:
        if self.codec in {b"", b"null"}:
            return data
        try:
            return decompress(CODECS[self.codec](), data, bytes_max)
        except DecompressionError as error:
            raise BadContainerFileError(str(error)) from error
        except KeyError:
            known = ", ".join(["null", *(name.decode() for name in CODECS)])
            raise BadContainerFileError(
                f"the container file is compressed with {self.codec[:30]!r}; readable are {known}",
                RejectReason.NOT_FRAMED,
            ) from None


def read_container(file: bytes) -> ContainerFile:
    """Read the frame of a container file. Raises BadContainerFileError."""
    reader = _Bytes(file)
    if reader.take(len(MAGIC)) != MAGIC:
        raise BadContainerFileError("the value is not an Avro object container file")
    metadata = reader.map()
    sync = reader.take(SYNC_BYTES)
    blocks: list[Block] = []
    while not reader.is_at_end:
        rows, size = reader.long(), reader.long()
        if rows < 0:
            raise BadContainerFileError(f"the container file has a block of {rows} rows")
        blocks.append(Block(rows, reader.take(size)))
        if reader.take(SYNC_BYTES) != sync:
            raise BadContainerFileError("the container file has a block that ends without the sync marker")
    return ContainerFile(metadata.get(b"avro.schema", b""), metadata.get(b"avro.codec", b""), blocks)


class _Bytes:
    """Avro's encoding, as far as the frame of a container file needs it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if count < 0 or end > len(self._data):
            raise BadContainerFileError("the container file is cut off")
        taken, self._at = self._data[self._at : end], end
        return taken

    def long(self) -> int:
        number = 0
        for position in range(VARINT_BYTES_MAX):
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1)
        raise BadContainerFileError("the container file has a number of more than 64 bits")

    def map(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        while count := self.long():
            if count < 0:  # followed by the block's size
                count = -count
                self.long()
            for _ in range(count):
                key = self.take(self.long())
                found[key] = self.take(self.long())
        return found
