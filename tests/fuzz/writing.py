"""Random values of a schema, written byte by byte: mostly valid, sometimes as no encoder would write them."""

import struct
from random import Random
from typing import Any

HUGE = (2**62, 2**63 - 1, -(2**63), 2**40, -1, -(2**62), 10**6)
LONGS = (0, 1, -1, 63, 64, -65, 2**31 - 1, -(2**31), 2**31, 2**53, 2**53 - 1, 2**63 - 1, -(2**63))
DOUBLES = (0.0, -0.0, 1.5, -9.99, 1e300, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "a", "Berlin", "ä€x", "x" * 51, "x" * 300, "\x00", "<b>&", "😀", "a  ", "  ", "7", "6.0", "6.5", "6E+1")


def long_bytes(value: int, *, padded: int = 0) -> bytes:
    """A long as Avro encodes it, with ``padded`` redundant bytes, which Avro's specification does not forbid."""
    rest = (value << 1) ^ (value >> 63)
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    if padded:
        written[-1] |= 0x80
        written += b"\x80" * (padded - 1) + b"\x00"
    return bytes(written)


class Writer:
    """Writes values; ``hostility`` is the probability of bytes that no encoder would write, at any place."""

    def __init__(self, random: Random, hostility: float) -> None:
        self._random = random
        self._hostility = hostility
        self._arrays = 0

    def write(self, schema: Any) -> bytes:  # noqa: PLR0911 - one for each kind of type
        match schema:
            case list():
                branch = self._random.randrange(len(schema))
                number = self._random.choice((2, -1, 7, 2**62)) if self._hostile() else branch
                return long_bytes(number) + self.write(schema[branch])
            case {"type": "record", "fields": fields}:
                return b"".join(self.write(field["type"]) for field in fields)
            case {"type": "array", "items": items}:
                return self._blocks(lambda: self.write(items))
            case {"type": "map", "values": values}:
                return self._blocks(lambda: self.write("string") + self.write(values))
            case {"type": "fixed", "size": size}:
                return self._random.randbytes(size - 1 if size and self._hostile() else size)
            case {"type": "enum", "symbols": symbols}:
                beyond = self._random.choice((-1, len(symbols), 2**62))
                return long_bytes(beyond if self._hostile() else self._random.randrange(len(symbols)))
            case {"type": str() as kind}:
                return self._simple(kind)
        return self._simple(schema)

    def _simple(self, kind: str) -> bytes:  # noqa: PLR0911 - one for each kind of type
        pick = self._random
        match kind:
            case "null":
                return b""
            case "boolean":
                return pick.choice((b"\x00", b"\x01", b"\x02" if self._hostile() else b"\x00"))
            case "int":
                number = pick.choice(LONGS) if self._hostile() else pick.randint(-(2**31), 2**31 - 1)
                return long_bytes(pick.choice((number, pick.randint(0, 99))))
            case "long":
                number = pick.choice((*LONGS, pick.randint(0, 99), pick.randint(0, 99), pick.randint(0, 10**6)))
                return long_bytes(number, padded=pick.randint(1, 9) if self._hostile() else 0)
            case "float":
                return struct.pack("<f", pick.choice((*DOUBLES[:4], pick.uniform(-1e6, 1e6))))
            case "double":
                return struct.pack("<d", pick.choice((*DOUBLES, pick.uniform(-1e9, 1e9))))
            case "bytes":
                content = pick.randbytes(pick.randint(0, 9))
            case _:
                content = pick.choice(TEXTS).encode()
                content = b"\xff" + content if self._hostile() else content
        return long_bytes(pick.choice(HUGE) if self._hostile() else len(content)) + content

    def _blocks(self, item: Any) -> bytes:
        """Blocks of items, some with their size in bytes before them, some with an impossible count."""
        written = b""
        self._arrays += 1
        for _ in range(self._random.randint(0, 2)):
            items = [item() for _ in range(self._random.choice((1, 2, 3, 70 if self._arrays == 1 else 1)))]
            content = b"".join(items)
            if self._random.random() < 0.2:
                size = self._random.choice(HUGE) if self._hostile() else len(content)
                written += long_bytes(-len(items)) + long_bytes(size) + content
            else:
                written += long_bytes(self._random.choice(HUGE) if self._hostile() else len(items)) + content
        self._arrays -= 1
        return written + b"\x00"

    def _hostile(self) -> bool:
        return self._random.random() < self._hostility


def mutated(random: Random, value: bytes, others: list[bytes]) -> bytes:
    """A message with a few of its bytes changed, lost, added, taken from another one, or cut short."""
    changed = bytearray(value)
    for _ in range(random.randint(1, 3)):
        place = random.randint(0, len(changed))
        match random.randrange(6):
            case 0:
                changed[place : place + 1] = random.randbytes(1)
            case 1:
                del changed[place:]
            case 2:
                del changed[place : place + random.randint(1, 3)]
            case 3:
                changed[place:place] = random.choice((random.randbytes(2), b"\xff" * 9, long_bytes(2**62), b"\x00"))
            case 4:
                other = random.choice(others)
                changed[place:] = other[random.randint(0, len(other)) :]
            case _:
                changed[place : place + 8] = struct.pack("<q", random.choice(HUGE))
    return bytes(changed)
