"""In corrupted batches, good messages keep exactly their values, and only bad ones are rejected."""

import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumer.avro.bundled import schema_text
from consumer.avro.columnar import ColumnarReader
from consumer.avro.leaves import TARGETS
from consumer.avro.readers import ReaderFactory
from consumer.avro.reading import POSITION
from consumer.core.changes.items import GRANULAR_COLUMNS
from tests.support.avro import EVENT, by_name, message

PREFIX = message()[:5]

TEXTS = st.text(max_size=8)
LONGS = st.integers(-(2**63), 2**63 - 1)
EVENTS = st.fixed_dictionaries(
    {"locationName": TEXTS, "quantity": LONGS},
    optional={
        "sku": TEXTS,
        "binID": LONGS,
        "retailPrice": st.floats(allow_nan=False),
        "attributes": st.lists(TEXTS, max_size=3),
        "eventId": TEXTS,
        "occurredAt": st.integers(0, 2**62),
    },
)


@dataclass(frozen=True)
class Verdict:
    """The expected result of a message. ``unsure``: a branch number or a varint on which decoders differ."""

    row: dict[str, Any] | None
    unsure: bool


class ByTheLetter:
    """A plain reader of the bundled schema, independent of both decoders, as lenient as documented."""

    def __init__(self, value: bytes) -> None:
        self.rest = value
        self.unsure = False

    def verdict(self) -> Verdict:
        try:
            row = self.record()
        except (ValueError, IndexError, struct.error):
            return Verdict(None, self.unsure)
        return Verdict(None if self.rest else row, self.unsure)

    def record(self) -> dict[str, Any]:
        names = ("partNumber", "upc", "sku")
        row: dict[str, Any] = dict.fromkeys(GRANULAR_COLUMNS)  # this schema has none of them
        row |= {"locationName": self.text() or None}
        row |= {name: self.nullable(self.text) or None for name in names}
        row["quantity"] = self.long()
        row["binID"] = self.nullable(self.long)
        row["ltd"] = self.nullable(self.double)
        row |= {name: self.nullable(self.long) for name in ("floor", "safetyStock", "currencyID")}
        row["retailPrice"] = self.nullable(self.double)
        row["inventoryLocatorName"] = self.nullable(self.text) or None
        row["attributes"] = self.nullable(self.array)
        self.nullable(self.octets)
        row["occurredAt"] = self.nullable(self.long)
        return row

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.rest):
            raise ValueError(count)
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def long(self) -> int:
        number = shift = 0
        while True:
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        self.unsure |= shift > 63
        return (number >> 1) ^ -(number & 1)

    def double(self) -> float:
        return float(struct.unpack("<d", self.take(8))[0])

    def octets(self) -> bytes:
        return self.take(self.long())

    def text(self) -> str:
        return self.octets().decode()

    def array(self) -> list[str]:
        items: list[str] = []
        while count := self.long():
            if count < 0:
                self.long()
            items.extend(self.text() for _ in range(abs(count)))
        return items

    def nullable(self, read: Any) -> Any:
        branch = self.long()
        self.unsure |= branch not in {0, 1}
        return None if branch == 0 else read()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message with a few of its bytes changed, lost or added, or cut short."""
    value = bytearray(message(draw(EVENTS))[len(PREFIX) :])
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(value)))
        match draw(st.sampled_from(["change", "cut", "lose", "add"])):
            case "change":
                value[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del value[place:]
            case "lose":
                del value[place : place + draw(st.integers(1, 3))]
            case "add":
                value[place:place] = draw(st.binary(min_size=1, max_size=4))
    return PREFIX + bytes(value)


@st.composite
def batches(draw: st.DrawFn) -> list[bytes]:
    """Good messages with mutated ones among them; some batches long enough to be split."""
    good = [message(event) for event in draw(st.lists(EVENTS, min_size=1, max_size=6))]
    values = good * draw(st.sampled_from([1, 1, 1, 20]))
    for value in draw(st.lists(mutated(), min_size=1, max_size=4)):
        values.insert(draw(st.integers(0, len(values))), value)
    return values


@cache
def reader() -> ColumnarReader:
    made = ReaderFactory(by_name(), len(PREFIX), "columnar").reader(schema_text())
    assert isinstance(made, ColumnarReader)
    return made


def same(found: dict[str, Any], meant: dict[str, Any]) -> bool:
    """Equal, with NaN equal to itself, and without the padding of identifiers."""
    padded = {name: (meant[name] or "").rstrip(" ") or None for name in ("locationName", "partNumber", "upc", "sku")}
    meant = meant | padded
    return all(found[name] == meant[name] or found[name] != found[name] != meant[name] for name in TARGETS)


@settings(max_examples=200, deadline=None)
@given(batches())
@example([message(), PREFIX, message()])
@example([message(), PREFIX + b"\xff" * 30, message(EVENT)])
def test_only_bad_messages_are_rejected_and_the_others_keep_their_values(values: list[bytes]) -> None:
    reading = reader().read(values)

    rows = {row.pop(POSITION): row for row in reading.frame.to_dicts()}
    rejected = {bad.position for bad in reading.bad}
    assert sorted([*rows, *rejected]) == list(range(len(values)))
    for position, value in enumerate(values):
        verdict = ByTheLetter(value[len(PREFIX) :]).verdict()
        if position in rows and not verdict.unsure:
            assert verdict.row is not None, f"{value!r} was read as {rows[position]}"
        if position in rejected and not verdict.unsure:
            assert verdict.row is None, f"{value!r} was rejected"
        if position in rows and verdict.row is not None and not verdict.unsure:
            assert same(rows[position], verdict.row)


@settings(max_examples=100, deadline=None)
@given(batches())
def test_reading_together_gives_the_same_as_reading_one_by_one(values: list[bytes]) -> None:
    together = reader().read_together(values)

    if together is not None:
        assert not together.bad
        for position, row in enumerate(together.frame.drop(POSITION).to_dicts()):
            verdict = ByTheLetter(values[position][len(PREFIX) :]).verdict()
            assert verdict.unsure or (verdict.row is not None and same(row, verdict.row))
