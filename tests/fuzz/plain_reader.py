"""A plain reader of Avro, one message at a time: slow, short, and independent of both decoders."""

import struct
from dataclasses import dataclass
from typing import Any

VARINT_BYTES_MAX = 10


class NoValueError(Exception):
    """The bytes are not a value of the schema."""


@dataclass
class PlainReading:
    """The content of a message. ``lenient``: decoders are known to differ, see docs/decisions/0008-decoding.md."""

    value: Any = None
    left: int = 0
    wrong: str = ""
    lenient: bool = False


def read(schema: Any, body: bytes, checked: set[str]) -> PlainReading:
    """Read the value. Only the event's fields in ``checked`` must have valid content."""
    reader = _Reader(body)
    reading = PlainReading()
    try:
        reading.value = {}
        for field in schema["fields"]:
            reader.skipping = field["name"] not in checked
            reading.value[field["name"]] = reader.read(field["type"])
        reading.left = len(body) - reader.at
        reading.wrong = "no symbol" if reader.no_symbol and not reading.left else ""
    except NoValueError as error:
        reading.wrong = str(error) or "no value"
    reading.lenient = reader.lenient
    return reading


class _Reader:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self.at = 0
        self.lenient = False
        self.skipping = False
        self.no_symbol = False

    def read(self, schema: Any) -> Any:  # noqa: PLR0911 - one for each kind of type
        match schema:
            case list():
                return self._branch(schema)
            case {"type": "record", "fields": fields}:
                return {field["name"]: self.read(field["type"]) for field in fields}
            case {"type": "array", "items": items}:
                return self._blocks(lambda: self.read(items))
            case {"type": "map", "values": values}:
                return self._blocks(lambda: (self.read("string"), self.read(values)))
            case {"type": "fixed", "size": size}:
                return self._take(size)
            case {"type": "enum", "symbols": symbols}:
                return self._symbol(symbols)
            case {"type": str() as kind}:
                return self._simple(kind)
        return self._simple(schema)

    def _simple(self, kind: str) -> Any:  # noqa: PLR0911 - one for each kind of type
        match kind:
            case "null":
                return None
            case "boolean":
                return self._take(1) != b"\x00"
            case "int" | "long":
                return self._long()
            case "float":
                return struct.unpack("<f", self._take(4))[0]
            case "double":
                return struct.unpack("<d", self._take(8))[0]
            case "bytes":
                return self._take(self._long())
        octets = self._take(self._long())
        try:
            return octets.decode()
        except UnicodeDecodeError:
            if not self.skipping:
                raise NoValueError("not text") from None
            return octets

    def _branch(self, branches: list[Any]) -> Any:
        number = self._long()
        if 0 <= number < len(branches):
            return self.read(branches[number])
        self.lenient = True
        raise NoValueError("no branch")

    def _symbol(self, symbols: list[str]) -> str:
        number = self._long()
        if 0 <= number < len(symbols):
            return symbols[number]
        self.no_symbol |= not self.skipping  # reading continues after it
        return ""

    def _blocks(self, item: Any) -> list[Any]:
        items: list[Any] = []
        while count := self._long():
            size = self._long() if count < 0 else None
            start = self.at
            if abs(count) > len(self._body):
                self.lenient |= size is not None  # a decoder that skips the block only looks at its size
                raise NoValueError("more items than bytes")
            try:
                items.extend(item() for _ in range(abs(count)))
            except NoValueError:
                self.lenient |= size is not None
                raise
            self.lenient |= size is not None and size != self.at - start
        return items

    def _long(self) -> int:
        number = shift = 0
        while True:
            (byte,) = self._take(1)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        self.lenient |= shift > 7 * (VARINT_BYTES_MAX - 1)
        return (number >> 1) ^ -(number & 1)

    def _take(self, count: int) -> bytes:
        if not 0 <= count <= len(self._body) - self.at:
            raise NoValueError("too few bytes")
        taken = self._body[self.at : self.at + count]
        self.at += count
        return taken
