import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumer.avro.batches import BatchDecoder
from consumer.avro.bundled import schema_path, schema_text
from consumer.avro.encode import EventEncoder
from consumer.avro.fields import FieldPlan
from consumer.avro.readers import DecodePath, Reader, ReaderFactory, Refused
from consumer.avro.reading import ReadResult
from consumer.avro.wire import BARE, CONFLUENT, SINGLE_OBJECT, Framing, SchemaRef
from consumer.core.changes.items import (
    ASSIGNMENT,
    CHANGE_SCHEMA,
    LINE,
    LOCATION,
    OCCURRED_AT,
    OFFSET,
    TIMESTAMP,
    RejectReason,
)
from tests.support.avro import SCHEMA_ID, by_name, file_decoder, message, raw_batch

DECODE_PATHS = pytest.mark.parametrize("decode_path", ["columnar", "fastavro"])

NOT_UTF8 = message(sku="s1").replace(b"Berlin", b"Ber\xff\xfein")
OVER_63 = [f"A{number}" for number in range(64)]

BAD = [
    pytest.param(b"\x01" + message()[1:], RejectReason.NOT_FRAMED, id="another magic byte"),
    pytest.param(b"\x00\x00", RejectReason.NOT_FRAMED, id="shorter than the framing"),
    pytest.param(b"", RejectReason.NOT_FRAMED, id="empty, which is no tombstone"),
    pytest.param(message()[:5], RejectReason.CORRUPT, id="framing and nothing more"),
    pytest.param(message()[:-3], RejectReason.CORRUPT, id="truncated"),
    pytest.param(NOT_UTF8, RejectReason.CORRUPT, id="text that is not UTF-8"),
    pytest.param(message()[:5] + b"\xff" * 40, RejectReason.CORRUPT, id="no value of the schema"),
    pytest.param(message() + b"\x00", RejectReason.TRAILING_BYTES, id="one byte too many"),
    pytest.param(message() + message(), RejectReason.TRAILING_BYTES, id="two messages in one"),
    pytest.param(message(locationName=""), RejectReason.NO_LOCATION, id="empty location"),
    pytest.param(message(sku=None), RejectReason.NO_IDENTIFIER, id="no identifier"),
    pytest.param(message(sku="", upc="", partNumber=""), RejectReason.NO_IDENTIFIER, id="only empty identifiers"),
    pytest.param(message(quantity=-1), RejectReason.NEGATIVE_QUANTITY, id="negative quantity"),
    pytest.param(message(binID=0), RejectReason.BIN_ID_TOO_SMALL, id="bin 0"),
    pytest.param(message(inventoryLocatorName="ä" * 51), RejectReason.LOCATOR_TOO_LONG, id="locator of 51 letters"),
    pytest.param(message(attributes=OVER_63), RejectReason.TOO_MANY_ATTRIBUTES, id="64 attributes"),
    pytest.param(message(retailPrice=math.nan), RejectReason.NOT_A_NUMBER, id="NaN"),
    pytest.param(message(ltd=math.inf), RejectReason.NOT_A_NUMBER, id="infinity"),
    pytest.param(message(quantity=2**53), RejectReason.INTEGER_OUT_OF_RANGE, id="more than JSON holds exactly"),
    pytest.param(message(floor=-(2**63)), RejectReason.INTEGER_OUT_OF_RANGE, id="the smallest long"),
]


@DECODE_PATHS
@pytest.mark.parametrize("neighbours", [1, 100])
@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_a_bad_message_is_rejected_and_the_others_are_kept(
    bad: bytes, reason: RejectReason, neighbours: int, decode_path: DecodePath
) -> None:
    before = [message(sku=f"before-{number}", quantity=number) for number in range(neighbours)]
    after = [message(sku=f"after-{number}", quantity=number) for number in range(neighbours)]

    decoded = file_decoder(str(schema_path()), decode_path=decode_path).decode([raw_batch([*before, bad, *after])])

    (reject,) = decoded.rejects
    offset = 100 + neighbours
    assert (reject.reason, reject.change_id.offset, reject.change_id.assignment_id, reject.value) == (
        reason,
        offset,
        1,
        bad,
    )
    assert (reject.key, reject.headers, reject.timestamp) == (
        f"key-{offset}".encode(),
        (("trace", b"t"),),
        1_000 + offset,
    )
    assert reject.schema_id == (None if reason is RejectReason.NOT_FRAMED else SCHEMA_ID)
    assert reject.detail
    names = [f"{side}-{number}" for side in ("before", "after") for number in range(neighbours)]
    assert decoded.frame["sku"].to_list() == names
    assert decoded.frame["quantity"].to_list() == [*range(neighbours), *range(neighbours)]
    assert decoded.frame[OFFSET].to_list() == [*range(100, offset), *range(offset + 1, offset + 1 + neighbours)]
    assert decoded.next_offsets == {1: offset + neighbours + 1}


@DECODE_PATHS
def test_every_bad_message_of_a_batch_gets_its_own_reason_in_order(decode_path: DecodePath) -> None:
    cases: list[Any] = [case.values for case in BAD]
    values = [part for number, case in enumerate(cases) for part in (case[0], message(sku=f"good-{number}"))]

    decoded = file_decoder(str(schema_path()), decode_path=decode_path).decode([raw_batch(values)])

    assert [(reject.change_id.offset, reject.reason) for reject in decoded.rejects] == [
        (100 + 2 * number, case[1]) for number, case in enumerate(cases)
    ]
    assert decoded.frame["sku"].to_list() == [f"good-{number}" for number in range(len(cases))]


@DECODE_PATHS
def test_a_change_has_the_columns_of_a_frame_with_every_value(decode_path: DecodePath) -> None:
    event = json.loads((schema_path().parent / "examples" / "every-field.json").read_text(encoding="utf-8"))
    encoder = EventEncoder.confluent(schema_text(), SCHEMA_ID)

    frame = file_decoder(str(schema_path()), decode_path=decode_path).decode([raw_batch([encoder.encode(event)])]).frame

    assert frame.schema == dict(CHANGE_SCHEMA)
    expected = {name: event.get(name) for name in CHANGE_SCHEMA if not name.startswith("_")}
    origin = {ASSIGNMENT: 1, OFFSET: 100, LINE: 0, TIMESTAMP: 1_100, OCCURRED_AT: event["occurredAt"]}
    assert frame.to_dicts() == [expected | origin]


@DECODE_PATHS
def test_tombstones_are_counted_and_skipped(decode_path: DecodePath) -> None:
    values = [None, message(sku="a"), None, None, message(sku="b"), b"broken", None]

    decoded = file_decoder(str(schema_path()), decode_path=decode_path).decode([raw_batch(values)])

    assert decoded.tombstones == 4
    assert decoded.frame[OFFSET].to_list() == [101, 104]
    assert [reject.change_id.offset for reject in decoded.rejects] == [105]
    assert decoded.next_offsets == {1: 107}


def test_a_batch_of_only_tombstones_has_an_empty_frame_and_next_offsets() -> None:
    decoded = file_decoder(str(schema_path())).decode([raw_batch([None, None])])

    assert decoded.frame.schema == dict(CHANGE_SCHEMA)
    assert (len(decoded.frame), decoded.tombstones, decoded.next_offsets) == (0, 2, {1: 102})


def test_an_empty_batch_that_reached_the_end_reports_it() -> None:
    decoded = file_decoder(str(schema_path())).decode([raw_batch([], ends={4: 12})])

    assert (len(decoded.frame), decoded.next_offsets, decoded.ends) == (0, {4: 12}, {4: 12})


def test_the_partitions_end_is_the_next_offset_if_it_is_past_the_last_message() -> None:
    batches = [
        raw_batch([message()], ends={1: 103}),
        raw_batch([message()], first_offset=7, assignment=2, ends={2: 3}),
    ]

    decoded = file_decoder(str(schema_path())).decode(batches)

    assert decoded.next_offsets == {1: 103, 2: 8}
    assert decoded.ends == {1: 103, 2: 3}


@DECODE_PATHS
def test_joined_batches_keep_their_order_and_their_origins(decode_path: DecodePath) -> None:
    batches = [
        raw_batch([message(sku="a"), b"bad"], first_offset=10),
        raw_batch([], first_offset=0),
        raw_batch([message(sku="b")], first_offset=5, assignment=2),
        raw_batch([b"\x00bad", message(sku="c")], first_offset=12),
    ]

    decoded = file_decoder(str(schema_path()), decode_path=decode_path).decode(batches)

    assert decoded.frame.select("sku", ASSIGNMENT, OFFSET).rows() == [("a", 1, 10), ("b", 2, 5), ("c", 1, 13)]
    assert [(reject.change_id.assignment_id, reject.change_id.offset, reject.key) for reject in decoded.rejects] == [
        (1, 11, b"key-11"),
        (1, 12, b"key-12"),
    ]
    assert decoded.next_offsets == {1: 14, 2: 6}


def test_a_change_has_its_own_time_or_kafkas_timestamp_or_0() -> None:
    values = [message(occurredAt=42), message(), message()]

    frame = file_decoder(str(schema_path())).decode([raw_batch(values, timestamps=[7, 8, None])]).frame

    assert frame[OCCURRED_AT].to_list() == [42, 8, 0]
    assert frame[TIMESTAMP].to_list() == [7, 8, None]


@DECODE_PATHS
def test_empty_texts_become_null(decode_path: DecodePath) -> None:
    value = message(partNumber="", upc="", sku="s1", inventoryLocatorName="", attributes=[""])

    frame = file_decoder(str(schema_path()), decode_path=decode_path).decode([raw_batch([value])]).frame

    columns = frame.select("partNumber", "upc", "sku", "inventoryLocatorName", "attributes")
    assert columns.row(0) == (None, None, "s1", None, [""])


@DECODE_PATHS
@pytest.mark.parametrize(
    "framing", [pytest.param(framing, id=framing.name) for framing in (CONFLUENT, SINGLE_OBJECT, BARE)]
)
def test_each_framing_is_read(framing: Framing, decode_path: DecodePath) -> None:
    encoder = {
        "confluent": EventEncoder.confluent(schema_text(), 3),
        "single-object": EventEncoder.single_object(schema_text()),
        "bare": EventEncoder(schema_text(), b""),
    }[framing.name]
    values = encoder.encode_all({"locationName": "Berlin", "sku": f"s{number}", "quantity": 1} for number in range(3))

    decoded = file_decoder(str(schema_path()), decode_path=decode_path, framing=framing).decode(
        [raw_batch([*values, values[0][:-1]])]
    )

    assert decoded.frame["sku"].to_list() == ["s0", "s1", "s2"]
    assert [reject.reason for reject in decoded.rejects] == [RejectReason.CORRUPT]


def test_with_a_schema_file_confluent_messages_with_any_id_are_read_with_it() -> None:
    values = [message(sku="a", schema_id=1), message(sku="b", schema_id=2), message(sku="c", schema_id=2**32 - 1)]
    decoder = file_decoder(str(schema_path()))

    for _ in range(2):
        assert decoder.decode([raw_batch(values)]).frame["sku"].to_list() == ["a", "b", "c"]
    assert decoder.decode([raw_batch(values[:1])]).frame["sku"].to_list() == ["a"]


class CountingSource:
    """A single reader for all prefixes, which counts its calls."""

    def __init__(self) -> None:
        self.reads = 0
        reader = ReaderFactory(by_name(), CONFLUENT.length, "columnar").reader(schema_text())
        assert not isinstance(reader, Refused)
        self._reader = reader

    def reader(self, ref: SchemaRef, *, must_ask: bool = False) -> Reader | Refused:
        assert isinstance(ref.value, int)
        return Refused(RejectReason.UNKNOWN_SCHEMA, "odd") if ref.value % 2 else self

    def read_together(self, values: Sequence[bytes]) -> ReadResult | None:
        return self._reader.read_together(values)

    def read(self, values: Sequence[bytes]) -> ReadResult:
        self.reads += 1
        return self._reader.read(values)

    def plan_of(self, value: bytes) -> FieldPlan | None:
        return self._reader.plan_of(value)

    def begin(self) -> None:
        """Nothing to ask for."""

    def close(self) -> None:
        """Nothing to close."""


def test_a_schema_id_of_its_own_for_each_message_once_made_decoding_a_thousand_times_slower() -> None:
    source = CountingSource()
    values = [message(sku=f"s{number}", schema_id=number) for number in range(2, 502)]
    values[10] += b"\x00"

    decoded = BatchDecoder(CONFLUENT, source).decode([raw_batch([*values, b"bad"])])

    assert source.reads == 1
    assert decoded.frame["sku"].to_list() == [f"s{number}" for number in range(2, 502, 2) if number != 12]
    reasons = {reject.change_id.offset - 100: reject.reason for reject in decoded.rejects}
    assert reasons.pop(10) is RejectReason.TRAILING_BYTES
    assert reasons.pop(500) is RejectReason.NOT_FRAMED
    assert reasons == dict.fromkeys(range(1, 500, 2), RejectReason.UNKNOWN_SCHEMA)
    assert [reject.schema_id for reject in decoded.rejects][:3] == [3, 5, 7]


def test_a_single_object_of_another_schema_is_rejected_as_unknown() -> None:
    other = b"\xc3\x01" + b"12345678"
    good = EventEncoder.single_object(schema_text()).encode({"locationName": "Berlin", "sku": "a", "quantity": 1})

    decoded = file_decoder(str(schema_path()), framing=SINGLE_OBJECT).decode([raw_batch([other, good])])

    assert [(reject.reason, reject.schema_id) for reject in decoded.rejects] == [(RejectReason.UNKNOWN_SCHEMA, None)]
    assert decoded.frame["sku"].to_list() == ["a"]


def test_renamed_and_nested_fields_are_found_by_path(tmp_path: Path) -> None:
    schema = {
        "type": "record",
        "name": "Moved",
        "fields": [
            {
                "name": "where",
                "type": {"type": "record", "name": "Where", "fields": [{"name": "site", "type": "string"}]},
            },
            {"name": "count", "type": "int"},
            {
                "name": "item",
                "type": ["null", {"type": "record", "name": "Item", "fields": [{"name": "sku", "type": "string"}]}],
            },
        ],
    }
    path = tmp_path / "moved.avsc"
    path.write_text(json.dumps(schema), encoding="utf-8")
    encoder = EventEncoder.confluent(json.dumps(schema), 9)
    values = [
        encoder.encode({"where": {"site": "Rome"}, "count": 3, "item": {"sku": "x"}}),
        encoder.encode({"where": {"site": "Rome"}, "count": 4, "item": None}),
    ]

    fields = {LOCATION: "where.site", "quantity": "count", "sku": "item.sku"}
    decoded = file_decoder(str(path), fields=fields).decode([raw_batch(values)])

    assert decoded.frame.select(LOCATION, "quantity", "sku").rows() == [("Rome", 3, "x")]
    assert [reject.reason for reject in decoded.rejects] == [RejectReason.NO_IDENTIFIER]


def test_of_a_long_batch_with_bad_messages_far_apart_only_those_are_rejected() -> None:
    values = [message(sku=f"s{number}") for number in range(3_000)]
    values[17], values[1_500], values[2_999] = values[17][:-1], values[1_500] + b"\x00", b"\x00\x00\x00\x00\x07"

    decoded = file_decoder(str(schema_path())).decode([raw_batch(values)])

    assert [reject.change_id.offset - 100 for reject in decoded.rejects] == [17, 1_500, 2_999]
    assert decoded.frame["sku"].to_list() == [f"s{n}" for n in range(3_000) if n not in {17, 1_500, 2_999}]


def test_changes_decoded_together_have_the_time_of_the_first_poll() -> None:
    first = replace(raw_batch([message()]), polled_at=10.0)
    second = replace(raw_batch([message()], first_offset=101), polled_at=10.2)

    assert file_decoder(str(schema_path())).decode([first, second]).polled_at == 10.0
