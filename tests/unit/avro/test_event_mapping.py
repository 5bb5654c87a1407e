"""From events as topics have them to changes: choosing, deletes, envelopes, times, numbers, and other sources."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.wire import confluent_prefix
from consumer.core.changes.items import LINE, OCCURRED_AT, OFFSET, RejectReason, SkipReason
from consumer.errors import SettingsError
from consumer.ports import Decoded
from consumer.settings import AvroSettings, EventsSettings
from tests.support.avro import TinyRegistry, raw_batch, value_of

DECODERS = pytest.mark.parametrize("decoder", ["columnar", "fastavro"])
FLAT = {"locationName": "site", "sku": "article", "quantity": "pieces"}
FIRST_OFFSET = 100


def record(name: str = "Row", **types: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": field, "type": kind} for field, kind in types.items()]}


ROW = record(site="string", article="string", pieces="int")
ENVELOPE = record(
    "Envelope",
    before=["null", ROW],
    after=["null", "Row"],
    source=record("Source", ts_ms="long"),
    op="string",
)


@pytest.fixture
def registry() -> Iterator[TinyRegistry]:
    made = TinyRegistry()
    yield made
    made.down()


def decode(
    registry: TinyRegistry,
    events: dict[str, Any],
    schema: Any,
    values: Sequence[Any],
    *,
    decoder: str = "columnar",
    **origin: Any,
) -> Decoded:
    """Decode values of a schema, each written by fastavro; bytes and None are taken as they are."""
    registry.add(7, json.dumps(schema))
    avro = AvroSettings.model_validate({"registry_url": registry.url, "decoder": decoder})
    messages = [
        value if value is None or isinstance(value, bytes) else confluent_prefix(7) + value_of(schema, value)
        for value in values
    ]
    with closing(build_batch_decoder(avro, EventsSettings.model_validate(events))) as made:
        return made.decode([raw_batch(messages, first_offset=FIRST_OFFSET, **origin)])


def changes(decoded: Decoded, *names: str) -> list[tuple[Any, ...]]:
    """Offset, line and these columns of each change, in order."""
    return decoded.frame.sort(OFFSET, LINE).select(OFFSET, LINE, *names).rows()


def rejects(decoded: Decoded) -> list[tuple[int, int, RejectReason]]:
    return [(reject.change_id.offset, reject.change_id.line, reject.reason) for reject in decoded.rejects]


# Debezium envelopes

KEPT = {"site": "Lund", "article": "B-1", "pieces": 3}
MOVED = KEPT | {"site": "Malmö"}


def envelope(op: str, before: Any = None, after: Any = None) -> dict[str, Any]:
    return {"before": before, "after": after, "source": {"ts_ms": 1_700_000_000_000}, "op": op}


@DECODERS
def test_creates_updates_and_snapshots_of_an_envelope_are_the_row_after(registry: TinyRegistry, decoder: str) -> None:
    values = [envelope("c", None, KEPT), envelope("u", KEPT, KEPT | {"pieces": 2}), envelope("r", None, KEPT)]

    decoded = decode(registry, {"fields": FLAT | {"occurredAt": "source.ts_ms"}}, ENVELOPE, values, decoder=decoder)

    assert [row[2] for row in changes(decoded, "quantity", OCCURRED_AT)] == [3, 2, 3]
    assert set(decoded.frame[OCCURRED_AT]) == {1_700_000_000_000}
    assert not decoded.rejects


@DECODERS
@pytest.mark.parametrize("fields", [FLAT, {name: f"after.{path}" for name, path in FLAT.items()}], ids=["row", "after"])
def test_a_delete_of_an_envelope_is_skipped_by_default_and_counted(
    registry: TinyRegistry, decoder: str, fields: dict[str, str]
) -> None:
    values = [envelope("d", KEPT), None, envelope("t"), envelope("m")]

    decoded = decode(registry, {"fields": fields}, ENVELOPE, values, decoder=decoder)

    assert decoded.frame.is_empty()
    assert not decoded.rejects
    assert decoded.skipped == {SkipReason.DELETE: 1, SkipReason.TRUNCATE: 1, SkipReason.MESSAGE: 1}
    assert decoded.tombstones == 1


@DECODERS
def test_a_delete_sets_the_count_of_the_row_before_to_zero_if_that_is_what_it_means(
    registry: TinyRegistry, decoder: str
) -> None:
    values = [envelope("d", KEPT), envelope("d"), envelope("t")]

    decoded = decode(registry, {"fields": FLAT, "deletes": "zero"}, ENVELOPE, values, decoder=decoder)

    assert changes(decoded, "locationName", "sku", "quantity") == [(100, 0, "Lund", "B-1", 0)]
    assert rejects(decoded) == [(101, 0, RejectReason.NO_LOCATION), (102, 0, RejectReason.DELETED)]


@DECODERS
def test_an_update_to_another_location_deletes_the_row_before(registry: TinyRegistry, decoder: str) -> None:
    values = [envelope("u", KEPT, MOVED), envelope("u", KEPT | {"site": "Lund  "}, KEPT)]

    zero = decode(registry, {"fields": FLAT, "deletes": "zero"}, ENVELOPE, values, decoder=decoder)
    skip = decode(registry, {"fields": FLAT}, ENVELOPE, values, decoder=decoder)
    letter = decode(registry, {"fields": FLAT, "deletes": "dead-letter"}, ENVELOPE, values, decoder=decoder)

    after = [(100, 1, "Malmö", 3), (101, 0, "Lund", 3)]
    assert changes(zero, "locationName", "quantity") == [(100, 0, "Lund", 0), *after]
    assert changes(skip, "locationName", "quantity") == after
    assert skip.skipped == {SkipReason.DELETE: 1}
    assert changes(letter, "locationName", "quantity") == after
    assert rejects(letter) == [(100, 0, RejectReason.DELETED)]


@DECODERS
def test_a_row_before_of_which_only_the_key_was_logged_is_no_other_item(registry: TinyRegistry, decoder: str) -> None:
    row = record(site=["null", "string"], article="string", pieces=["null", "int"])
    schema = record("Envelope", before=["null", row], after=["null", "Row"], op="string")
    value = {"before": {"site": None, "article": "B-1", "pieces": None}, "after": KEPT, "op": "u"}

    decoded = decode(registry, {"fields": FLAT, "deletes": "zero"}, schema, [value], decoder=decoder)

    assert changes(decoded, "quantity") == [(100, 0, 3)]


def test_without_unwrapping_an_envelope_is_a_record_like_any_other(registry: TinyRegistry) -> None:
    fields = {name: f"after.{path}" for name, path in FLAT.items()}

    decoded = decode(registry, {"fields": fields, "envelope": "none"}, ENVELOPE, [envelope("d", KEPT)])

    assert rejects(decoded) == [(100, 0, RejectReason.NO_LOCATION)]


def test_a_record_that_is_no_envelope_is_refused_where_one_must_be(registry: TinyRegistry) -> None:
    decoded = decode(registry, {"fields": FLAT, "envelope": "debezium"}, ROW, [KEPT])

    assert "no Debezium envelope with before, after and op" in decoded.rejects[0].detail


# Other deletes


@DECODERS
@pytest.mark.parametrize(
    ("kind", "gone", "stays"),
    [(["null", "string"], "true", "false"), ("boolean", True, False)],
    ids=["text", "boolean"],
)
@pytest.mark.parametrize("deletes", ["skip", "zero", "dead-letter"])
def test_a_flattened_row_that_is_marked_as_deleted_is_a_delete(
    registry: TinyRegistry, decoder: str, kind: Any, gone: Any, stays: Any, deletes: str
) -> None:
    schema = record(site="string", article="string", pieces="int", __deleted=kind)
    values = [KEPT | {"__deleted": stays}, KEPT | {"__deleted": gone}]

    decoded = decode(registry, {"fields": FLAT, "deletes": deletes}, schema, values, decoder=decoder)

    assert changes(decoded, "quantity") == [(100, 0, 3), *([(101, 0, 0)] if deletes == "zero" else [])]
    assert rejects(decoded) == ([(101, 0, RejectReason.DELETED)] if deletes == "dead-letter" else [])
    assert decoded.skipped == ({SkipReason.DELETE: 1} if deletes == "skip" else {})


def test_any_field_may_say_that_a_row_is_deleted(registry: TinyRegistry) -> None:
    schema = record(site="string", article="string", pieces="int", op_type="string")
    events = {"fields": FLAT, "deletes": "zero", "deleted_when": {"op_type": ["D", "T"]}}

    decoded = decode(registry, events, schema, [KEPT | {"op_type": "D"}, KEPT | {"op_type": "U"}])

    assert changes(decoded, "quantity") == [(100, 0, 0), (101, 0, 3)]


@pytest.mark.parametrize(
    ("tombstones", "found"),
    [("skip", []), ("zero", [(101, 0, "B-2", 0)]), ("dead-letter", [])],
)
def test_a_tombstone_means_what_the_setting_says(registry: TinyRegistry, tombstones: str, found: Any) -> None:
    fields = {"locationName": "=Lund", "sku": "$key", "quantity": "pieces"}

    decoded = decode(
        registry, {"fields": fields, "tombstones": tombstones}, ROW, [KEPT, None, None], keys=[b"B-1", b"B-2", None]
    )

    assert changes(decoded, "sku", "quantity") == [(100, 0, "B-1", 3), *found]
    assert decoded.tombstones == (2 if tombstones == "skip" else 0)
    expected = {
        "skip": [],
        "zero": [(102, 0, RejectReason.NO_IDENTIFIER)],
        "dead-letter": [(101, 0, RejectReason.DELETED), (102, 0, RejectReason.DELETED)],
    }
    assert rejects(decoded) == expected[tombstones]


# Choosing

UNION = [
    "null",
    record("shop.Counted", site="string", article="string", pieces="int"),
    record("shop.Renamed", article="string", title="string"),
]


@DECODERS
def test_of_a_root_union_only_the_branches_that_are_taken_are_read(registry: TinyRegistry, decoder: str) -> None:
    values = [("shop.Counted", KEPT), ("shop.Renamed", {"article": "B-1", "title": "x"})] * 30
    written = [confluent_prefix(7) + _union_bytes(value) for value in [*values, None]]

    taken = decode(registry, {"fields": FLAT, "take": {"$record": "Counted"}}, UNION, written, decoder=decoder)
    refused = decode(registry, {"fields": FLAT}, UNION, written, decoder=decoder)

    assert taken.frame.height == refused.frame.height == 30
    assert taken.skipped == {SkipReason.NOT_TAKEN: 30, SkipReason.NULL_VALUE: 1}
    assert not taken.rejects
    assert {reject.reason for reject in refused.rejects} == {RejectReason.UNUSABLE_SCHEMA}


def _union_bytes(value: Any) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(UNION), value)
    return stream.getvalue()


def test_a_branch_that_the_schema_does_not_have_is_corrupt(registry: TinyRegistry) -> None:
    decoded = decode(registry, {"fields": FLAT}, UNION, [confluent_prefix(7) + b"\x08\x00", confluent_prefix(7)])

    assert rejects(decoded) == [(100, 0, RejectReason.CORRUPT), (101, 0, RejectReason.CORRUPT)]


@DECODERS
@pytest.mark.parametrize(
    "choice",
    [
        {"take": {"kind": "COUNTED"}},
        {"skip": {"kind": "RESERVED, REMOVED"}},
        {"take": {"event.$record": "shop.Counted"}},
        {"skip": {"event.$record": "Reserved"}},
        {"take": {"final": "true"}},
        {"take": {"level": "2"}},
    ],
    ids=str,
)
def test_events_are_chosen_by_the_value_of_a_field(registry: TinyRegistry, decoder: str, choice: Any) -> None:
    branches = [record(f"shop.{name}", article="string", pieces="int") for name in ("Counted", "Reserved")]
    kinds = {"type": "enum", "name": "Kind", "symbols": ["COUNTED", "RESERVED", "REMOVED"]}
    schema = record("Event", site="string", kind=kinds, event=branches, final="boolean", level=["null", "int"])
    item = {"article": "B-1", "pieces": 100}
    values = [
        {"site": "Lund", "kind": "COUNTED", "event": ("shop.Counted", item), "final": True, "level": 2},
        {"site": "Lund", "kind": "RESERVED", "event": ("shop.Reserved", item), "final": False, "level": None},
    ]
    fields = {"locationName": "site", "sku": "event.article", "quantity": "event.pieces"}

    decoded = decode(registry, {"fields": fields} | choice, schema, values, decoder=decoder)

    assert changes(decoded) == [(100, 0)]
    assert decoded.skipped == {SkipReason.NOT_TAKEN: 1}


def test_a_field_of_take_that_a_schema_lacks_refuses_it_because_nothing_would_be_left(registry: TinyRegistry) -> None:
    decoded = decode(registry, {"fields": FLAT, "take": {"kid": "COUNTED"}}, ROW, [KEPT])

    assert decoded.rejects[0].detail == "the schema has no field kid, which events.take tests"


# Other sources


def test_columns_come_from_key_headers_topic_and_timestamp(registry: TinyRegistry) -> None:
    fields = {
        "locationName": "$header.store, =Lund",
        "sku": "$key",
        "partNumber": "$topic",
        "quantity": "pieces",
        "floor": "$header.floor",
        "occurredAt": "$timestamp",
    }

    decoded = decode(
        registry,
        {"fields": fields},
        ROW,
        [KEPT, KEPT],
        keys=[b"K-1", b"\xff"],
        headers=[(("store", b"old"), ("store", b"Oslo"), ("floor", b"2")), ()],
        timestamps=[5, 6],
    )

    assert changes(decoded, "locationName", "sku", "partNumber", "floor", OCCURRED_AT) == [
        (100, 0, "Oslo", "K-1", "stock", 2, 5),
        (101, 0, "Lund", None, "stock", None, 6),
    ]


def test_a_number_from_a_header_must_be_one(registry: TinyRegistry) -> None:
    fields = FLAT | {"quantity": "$header.count"}

    decoded = decode(
        registry, {"fields": fields}, ROW, [KEPT, KEPT], headers=[(("count", b"7.5"),), (("count", b"7"),)]
    )

    assert changes(decoded, "quantity") == [(101, 0, 7)]
    assert rejects(decoded) == [(100, 0, RejectReason.NOT_A_WHOLE_NUMBER)]


@DECODERS
def test_columns_come_from_avro_keys_of_any_schema(registry: TinyRegistry, decoder: str) -> None:
    key = record("Key", store="int", item=["null", "string"])
    registry.add(8, json.dumps(key))
    registry.add(9, json.dumps("string"))
    fields = {"locationName": "site", "sku": "$key.item", "partNumber": "$key", "quantity": "pieces"}
    keys = [
        confluent_prefix(8) + value_of(key, {"store": 4, "item": "B-9"}),
        confluent_prefix(9) + value_of("string", "P-1"),
        b"not framed",
        None,
    ]

    for mapped, found in (("$key.item", ["B-9", None, None, None]), ("$key", [None, "P-1", None, None])):
        events = {"fields": fields | {"sku": "article", "partNumber": "none", "upc": mapped}, "key_format": "avro"}
        decoded = decode(registry, events, ROW, [KEPT] * 4, keys=keys, decoder=decoder)
        assert [row[2] for row in changes(decoded, "upc")] == found


@DECODERS
def test_of_several_sources_the_first_with_a_value_counts_for_each_event(registry: TinyRegistry, decoder: str) -> None:
    schema = record(site=["null", "string"], shop=["null", "string"], article="string", pieces="int")
    values = [
        {"site": "Lund", "shop": "x", "article": "B-1", "pieces": 1},
        {"site": None, "shop": "Oslo", "article": "B-1", "pieces": 1},
        {"site": "__debezium_unavailable_value", "shop": "   ", "article": "B-1", "pieces": 1},
    ]

    decoded = decode(
        registry, {"fields": FLAT | {"locationName": "site, shop, =Rome"}}, schema, values, decoder=decoder
    )

    assert [row[2] for row in changes(decoded, "locationName")] == ["Lund", "Oslo", "Rome"]


def test_with_a_mapping_only_what_is_mapped_counts(registry: TinyRegistry) -> None:
    schema = record(site="string", article="string", pieces="int", floor="int", upc="string")
    value = KEPT | {"floor": 3, "upc": "U"}

    mapped = decode(registry, {"fields": FLAT}, schema, [value])
    by_name = decode(registry, {"fields": FLAT | {"upc": "none"}, "match_by_name": True}, schema, [value])

    assert changes(mapped, "floor", "upc") == [(100, 0, None, None)]
    assert changes(by_name, "floor", "upc") == [(100, 0, 3, None)]


# Values


@DECODERS
@pytest.mark.parametrize(
    ("kind", "written", "reason"),
    [
        ("double", 60.5, RejectReason.NOT_A_WHOLE_NUMBER),
        ("double", float("nan"), RejectReason.NOT_A_NUMBER),
        ("double", 1e300, RejectReason.INTEGER_OUT_OF_RANGE),
        ("string", "60,5", RejectReason.NOT_A_NUMBER),
        ("string", "6.05E+1", RejectReason.NOT_A_WHOLE_NUMBER),
        ("string", "1E+999999999", RejectReason.INTEGER_OUT_OF_RANGE),
        ("string", "1_000", RejectReason.NOT_A_NUMBER),
        ("string", "  ", RejectReason.NO_QUANTITY),
        ("bytes-4", Decimal("0.5000"), RejectReason.NOT_A_WHOLE_NUMBER),
        ("bytes-0", Decimal(10**30), RejectReason.INTEGER_OUT_OF_RANGE),
    ],
)
def test_a_quantity_that_is_no_whole_number_is_rejected_with_its_reason(
    registry: TinyRegistry, decoder: str, kind: str, written: Any, reason: RejectReason
) -> None:
    scales = {"bytes-0": 0, "bytes-4": 4}
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": scales.get(kind)}
    schema = record(site="string", article="string", pieces=decimal if kind in scales else kind)
    good = {"string": "7", "double": 7.0}.get(kind, Decimal(7))

    decoded = decode(
        registry, {"fields": FLAT}, schema, [KEPT | {"pieces": written}, KEPT | {"pieces": good}], decoder=decoder
    )

    assert rejects(decoded) == [(100, 0, reason)]
    assert changes(decoded, "quantity") == [(101, 0, 7)]


@DECODERS
@pytest.mark.parametrize(("text", "count"), [("60.000", 60), ("+60", 60), (" 60 ", 60), ("6E+1", 60), ("0", 0)])
def test_numeric_text_is_a_count(registry: TinyRegistry, decoder: str, text: str, count: int) -> None:
    schema = record(site="string", article="string", pieces="string")

    decoded = decode(registry, {"fields": FLAT}, schema, [KEPT | {"pieces": text}], decoder=decoder)

    assert changes(decoded, "quantity") == [(100, 0, count)]


@DECODERS
@pytest.mark.parametrize(
    ("price", "sent"), [(19.99, 19.99), (0.1, 0.1), (77914368.0, 77914368.0), (1e-7, 1e-7), (-0.0, 0.0)]
)
@pytest.mark.parametrize("kind", ["float", ["null", "float", "string"]], ids=["float", "wide"])
def test_a_float_price_is_the_shortest_decimal_that_is_that_float(
    registry: TinyRegistry, decoder: str, kind: Any, price: float, sent: float
) -> None:
    schema = record(site="string", article="string", pieces="int", price=kind)

    decoded = decode(
        registry, {"fields": FLAT | {"retailPrice": "price"}}, schema, [KEPT | {"price": price}], decoder=decoder
    )

    assert changes(decoded, "retailPrice") == [(100, 0, sent)]


INSTANT = 1_700_000_000_000


@DECODERS
@pytest.mark.parametrize(
    ("kind", "written", "read"),
    [
        ({"type": "long", "logicalType": "local-timestamp-micros"}, INSTANT * 1_000, INSTANT),
        ({"type": "long", "connect.name": "io.debezium.time.NanoTimestamp"}, INSTANT * 10**6, INSTANT),
        ({"type": "long", "connect.name": "org.apache.kafka.connect.data.Timestamp"}, INSTANT, INSTANT),
        ({"type": "int", "logicalType": "date"}, 19_675, 19_675 * 86_400_000),
        ("long", INSTANT, INSTANT),
        ("long", INSTANT // 1_000, None),
        ("long", INSTANT * 1_000, None),
        ("string", "2023-11-14T22:13:20Z", INSTANT),
        ("string", "2023-11-14T23:13:20.000+01:00", INSTANT),
        ("string", "2023-11-14 22:13:20", INSTANT),
        ("string", "2023-11-14T22:13Z[UTC]", INSTANT - 20_000),
        ("string", "2023-11-14", 19_675 * 86_400_000),
        ("string", "yesterday", None),
    ],
    ids=str,
)
def test_a_time_is_read_in_its_unit_or_not_at_all(
    registry: TinyRegistry, decoder: str, kind: Any, written: Any, read: int | None
) -> None:
    schema = record(site="string", article="string", pieces="int", at=kind)
    plain = record(site="string", article="string", pieces="int", at=kind["type"] if isinstance(kind, dict) else kind)
    value = confluent_prefix(7) + value_of(plain, KEPT | {"at": written})

    decoded = decode(
        registry, {"fields": FLAT | {"occurredAt": "at"}}, schema, [value], decoder=decoder, timestamps=[5]
    )

    assert changes(decoded, OCCURRED_AT) == [(100, 0, 5 if read is None else read)]
    assert decoded.ignored == ({"occurredAt": 1} if read is None else {})


@DECODERS
@pytest.mark.parametrize(
    ("kind", "written"), [("long", INSTANT // 1_000), ("int", INSTANT // 1_000), ("double", INSTANT / 1_000)]
)
def test_epoch_seconds_are_read_by_a_setting(registry: TinyRegistry, decoder: str, kind: str, written: Any) -> None:
    schema = record(site="string", article="string", pieces="int", at=kind)
    events = {"fields": FLAT | {"occurredAt": "at"}, "occurred_at_unit": "seconds"}

    decoded = decode(registry, events, schema, [KEPT | {"at": written}], decoder=decoder)

    assert changes(decoded, OCCURRED_AT) == [(100, 0, INSTANT)]


@DECODERS
@pytest.mark.parametrize("kind", ["long", ["null", "long"]], ids=["plain", "nullable"])
def test_a_logical_type_in_the_field_instead_of_its_type_counts(
    registry: TinyRegistry, decoder: str, kind: Any
) -> None:
    schema = record(site="string", article="string", pieces="int", at=kind)
    schema["fields"][-1]["logicalType"] = "timestamp-micros"

    decoded = decode(
        registry, {"fields": FLAT | {"occurredAt": "at"}}, schema, [KEPT | {"at": INSTANT * 1_000}], decoder=decoder
    )

    assert changes(decoded, OCCURRED_AT) == [(100, 0, INSTANT)]


@pytest.mark.parametrize(("trim", "location"), [("trailing", " Lund"), ("both", "Lund"), ("none", " Lund  ")])
@pytest.mark.parametrize("count", [1, 300])
def test_padding_of_location_and_identifiers_is_cut(
    registry: TinyRegistry, trim: str, location: str, count: int
) -> None:
    padded = KEPT | {"site": " Lund  "}

    decoded = decode(registry, {"fields": FLAT, "trim": trim}, ROW, [padded] * count)

    assert decoded.frame["locationName"].unique().to_list() == [location]


# Schema files


@pytest.fixture
def schema_file(tmp_path: Path) -> Path:
    path = tmp_path / "row.avsc"
    path.write_text(json.dumps(ROW), encoding="utf-8")
    return path


@pytest.mark.parametrize("known_id", [None, 7])
def test_a_message_of_a_second_schema_id_stops_the_service_that_has_a_schema_file(
    schema_file: Path, known_id: int | None
) -> None:
    avro = AvroSettings(schema_file=str(schema_file), schema_file_id=known_id)
    values = [confluent_prefix(schema_id) + value_of(ROW, KEPT) for schema_id in (7, 8)]

    with closing(build_batch_decoder(avro, EventsSettings(fields=FLAT))) as decoder:
        assert decoder.decode([raw_batch(values[:1])]).frame.height == 1
        with pytest.raises(SettingsError, match="schema id 8, but the file has the schema of id 7"):
            decoder.decode([raw_batch(values[1:])])


def test_a_known_schema_id_holds_for_the_first_message_too(schema_file: Path) -> None:
    avro = AvroSettings(schema_file=str(schema_file), schema_file_id=7)

    with (
        closing(build_batch_decoder(avro, EventsSettings(fields=FLAT))) as decoder,
        pytest.raises(SettingsError, match="schema id 8, but the file has the schema of id 7"),
    ):
        decoder.decode([raw_batch([confluent_prefix(8) + value_of(ROW, KEPT)])])


def test_a_schema_file_may_be_for_all_ids(schema_file: Path) -> None:
    avro = AvroSettings(schema_file=str(schema_file), schema_file_for_all_ids=True)
    values = [confluent_prefix(schema_id) + value_of(ROW, KEPT) for schema_id in (7, 8)]

    with closing(build_batch_decoder(avro, EventsSettings(fields=FLAT))) as decoder:
        assert decoder.decode([raw_batch(values)]).frame.height == 2
