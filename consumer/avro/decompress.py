"""Decompressing within a limit, however little was sent for it."""

import bz2
import lzma
import zlib
from typing import Any, Final

DECOMPRESSED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of one message. A broker accepts messages of 1 MiB by default, and Avro shrinks to a fifth or so."""


class DecompressionError(Exception):
    """Corrupt compressed bytes, or too many once decompressed."""


def decompress(decompressor: Any, compressed: bytes, bytes_max: int = DECOMPRESSED_BYTES_MAX) -> bytes:
    """Decompress with an object of zlib, bz2 or lzma. Raises DecompressionError."""
    try:
        found: bytes = decompressor.decompress(compressed, bytes_max + 1)
    except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError) as error:
        raise DecompressionError(f"the compressed value cannot be read: {error}") from error
    if len(found) > bytes_max:
        raise DecompressionError(f"the compressed value has more than {bytes_max} bytes")
    if not decompressor.eof:
        raise DecompressionError("the compressed value is cut off")
    return found


CODECS: Final = {
    b"deflate": lambda: zlib.decompressobj(-zlib.MAX_WBITS),
    b"bzip2": bz2.BZ2Decompressor,
    b"xz": lzma.LZMADecompressor,
}
"""Codecs of container files, but for ``null``. Those that need another library (snappy, zstandard) are missing."""
