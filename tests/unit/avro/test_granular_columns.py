"""Granular columns (lot, condition, date, serial number): read only for the OMS's newest API."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from consumer.avro.batches import BatchDecoder
from consumer.avro.bundled import schema_path
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.wire import confluent_prefix
from consumer.core.changes.coalesce import coalesce
from consumer.core.changes.items import (
    GRANULAR_COLUMNS,
    ITEM_COLUMNS,
    ITEM_KEY,
    LINE,
    OFFSET,
    PLAIN_COLUMNS,
    RejectReason,
)
from consumer.errors import SettingsError
from consumer.settings import AvroSettings, EventsSettings
from tests.support.avro import raw_batch, value_of

GRANULAR_SCHEMA = schema_path().parent / "inventory-change-granular.avsc"
LOT = {
    "lotCode": "L-1",
    "condition": "New",
    "date": "12/31/2027",
    "serialNumber": "S-1",
    "externalID": "E-1",
    "deliveryDate": "2027-12-31T12:00:00-0500",
}
TAGS = {"tags": {"Channel": "Web", "Buyers": 'VIP \\ "gold"'}}
TAGS_TEXT = {"tags": '{"Buyers":"VIP \\\\ \\"gold\\"","Channel":"Web"}'}
EVENT = {"locationName": "Rome", "sku": "s", "quantity": 1}
DECODERS = pytest.mark.parametrize("decoder", ["columnar", "fastavro"])


def decoder_of(schema: Path, decoder: str, *, granular: bool, **fields: str) -> BatchDecoder:
    settings = AvroSettings.model_validate({"schema_file": str(schema), "decoder": decoder})
    events = EventsSettings(fields=fields, match_by_name=True)
    return build_batch_decoder(settings, events, item_columns=ITEM_COLUMNS if granular else PLAIN_COLUMNS)


def decoded(made: BatchDecoder, schema: Any, *events: dict[str, Any]) -> pl.DataFrame:
    found = made.decode([raw_batch([confluent_prefix(7) + value_of(schema, event) for event in events])])
    assert not found.rejects
    return found.frame


@DECODERS
def test_they_are_read_if_the_api_accepts_them_and_an_empty_text_becomes_null(decoder: str) -> None:
    schema = json.loads(GRANULAR_SCHEMA.read_text(encoding="utf-8"))
    made = decoder_of(GRANULAR_SCHEMA, decoder, granular=True)

    empty = dict.fromkeys(LOT, "") | {"tags": {"Channel": ""}}
    frame = decoded(made, schema, EVENT | LOT | TAGS, EVENT | empty, EVENT | {"tags": {}}, EVENT)

    absent = dict.fromkeys(GRANULAR_COLUMNS)
    assert frame.select(*GRANULAR_COLUMNS).to_dicts() == [LOT | TAGS_TEXT, absent, absent, absent]


@DECODERS
def test_with_the_older_apis_they_are_ignored_even_if_the_event_has_them(decoder: str) -> None:
    schema = json.loads(GRANULAR_SCHEMA.read_text(encoding="utf-8"))
    made = decoder_of(GRANULAR_SCHEMA, decoder, granular=False)

    frame = decoded(made, schema, EVENT | LOT | TAGS)

    assert frame.select(*GRANULAR_COLUMNS).to_dicts() == [dict.fromkeys(GRANULAR_COLUMNS)]


@DECODERS
def test_with_the_older_apis_a_field_of_that_name_may_have_any_type(tmp_path: Path, decoder: str) -> None:
    names = {"locationName": "string", "sku": "string", "quantity": "int", "date": "long", "condition": "boolean"}
    schema = {
        "type": "record",
        "name": "E",
        "fields": [{"name": name, "type": schema} for name, schema in names.items()],
    }
    path = tmp_path / "event.avsc"
    path.write_text(json.dumps(schema), encoding="utf-8")
    made = decoder_of(path, decoder, granular=False)

    frame = decoded(made, schema, EVENT | {"date": 17, "condition": True})

    assert frame["quantity"].to_list() == [1]


@DECODERS
def test_they_may_be_at_another_path_in_the_event(tmp_path: Path, decoder: str) -> None:
    lot = {"type": "record", "name": "Lot", "fields": [{"name": "code", "type": "string"}]}
    names = {"locationName": "string", "sku": "string", "quantity": "int", "lot": lot}
    schema = {
        "type": "record",
        "name": "E",
        "fields": [{"name": name, "type": schema} for name, schema in names.items()],
    }
    path = tmp_path / "event.avsc"
    path.write_text(json.dumps(schema), encoding="utf-8")
    made = decoder_of(path, decoder, granular=True, lotCode="lot.code")

    frame = decoded(made, schema, EVENT | {"lot": {"code": "L-9"}})

    assert frame["lotCode"].to_list() == ["L-9"]


def test_two_lots_of_one_part_are_two_items() -> None:
    schema = json.loads(GRANULAR_SCHEMA.read_text(encoding="utf-8"))
    made = decoder_of(GRANULAR_SCHEMA, "columnar", granular=True)
    events = [EVENT | {"lotCode": lot, "quantity": count} for lot, count in (("A", 1), ("B", 2), ("A", 3))]

    items = coalesce(decoded(made, schema, *events), ITEM_KEY)

    assert items.select("lotCode", "quantity").rows() == [("A", 3), ("B", 2)]


def test_two_segments_of_one_part_are_two_items_and_the_order_of_tags_does_not_matter() -> None:
    schema = json.loads(GRANULAR_SCHEMA.read_text(encoding="utf-8"))
    made = decoder_of(GRANULAR_SCHEMA, "columnar", granular=True)
    tags = [{"A": "1", "B": "2"}, {"A": "1"}, {"B": "2", "A": "1"}]
    events = [EVENT | {"tags": segment, "quantity": count} for count, segment in enumerate(tags)]

    items = coalesce(decoded(made, schema, *events), ITEM_KEY)

    assert items.select("tags", "quantity").rows() == [('{"A":"1","B":"2"}', 2), ('{"A":"1"}', 1)]


def written_schema(folder: Path, **types: Any) -> Path:
    names = {"locationName": "string", "sku": "string", "quantity": "int"} | types
    fields = [{"name": name, "type": schema} for name, schema in names.items()]
    path = folder / "event.avsc"
    path.write_text(json.dumps({"type": "record", "name": "E", "fields": fields}), encoding="utf-8")
    return path


@DECODERS
def test_a_tag_that_is_null_or_stands_for_nothing_is_left_out(tmp_path: Path, decoder: str) -> None:
    path = written_schema(tmp_path, tags={"type": "map", "values": ["null", "string"]})
    made = decoder_of(path, decoder, granular=True)
    tags = {"Channel": "Web", "Buyers": None, "Store": "__debezium_unavailable_value", "Area": ""}

    frame = decoded(made, json.loads(path.read_text(encoding="utf-8")), EVENT | {"tags": tags})

    assert frame["tags"].to_list() == ['{"Channel":"Web"}']


@DECODERS
def test_tags_may_be_in_a_line_of_an_event(tmp_path: Path, decoder: str) -> None:
    tags = {"type": "map", "values": "string"}
    names = {"sku": "string", "quantity": "int", "segment": tags}
    line = {"type": "record", "name": "Line", "fields": [{"name": name, "type": kind} for name, kind in names.items()]}
    schema = {
        "type": "record",
        "name": "E",
        "fields": [
            {"name": "locationName", "type": "string"},
            {"name": "lines", "type": {"type": "array", "items": line}},
        ],
    }
    path = tmp_path / "event.avsc"
    path.write_text(json.dumps(schema), encoding="utf-8")
    settings = AvroSettings.model_validate({"schema_file": str(path), "decoder": decoder})
    fields = {"sku": "lines.sku", "quantity": "lines.quantity", "tags": "lines.segment"}
    events = EventsSettings(fields=fields, match_by_name=True, items="lines")
    made = build_batch_decoder(settings, events, item_columns=ITEM_COLUMNS)
    lines = [{"sku": "s", "quantity": 1, "segment": {"Channel": name}} for name in ("Web", "Shop")]

    frame = decoded(made, schema, {"locationName": "Rome", "lines": lines})

    assert frame["tags"].to_list() == ['{"Channel":"Web"}', '{"Channel":"Shop"}']


@pytest.mark.parametrize(
    "kind",
    ["string", {"type": "array", "items": "string"}, {"type": "map", "values": "int"}],
    ids=["text", "list", "map of numbers"],
)
def test_tags_that_are_no_map_of_texts_make_the_schema_unusable(tmp_path: Path, kind: Any) -> None:
    path = written_schema(tmp_path, tags=kind)
    with pytest.raises(SettingsError, match=r"the field tags is .*, which cannot become tags \(events.fields.tags\)"):
        decoder_of(path, "columnar", granular=True)


@pytest.mark.parametrize("source", ["=Web", "$key", "$key.tags", "$header.tags"])
def test_tags_come_only_from_the_event(source: str) -> None:
    with pytest.raises(ValidationError, match="cannot map tags to"):
        EventsSettings(fields={"tags": source}, match_by_name=True)


@DECODERS
def test_an_envelope_whose_row_moves_to_another_segment_deletes_the_one_before(tmp_path: Path, decoder: str) -> None:
    names = {"locationName": "string", "sku": "string", "quantity": "int", "tags": {"type": "map", "values": "string"}}
    row = {"type": "record", "name": "Row", "fields": [{"name": name, "type": kind} for name, kind in names.items()]}
    fields = {"before": ["null", row], "after": ["null", "Row"], "op": "string"}
    schema = {
        "type": "record",
        "name": "Envelope",
        "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
    }
    path = tmp_path / "event.avsc"
    path.write_text(json.dumps(schema), encoding="utf-8")
    settings = AvroSettings.model_validate({"schema_file": str(path), "decoder": decoder})
    made = build_batch_decoder(settings, EventsSettings(deletes="zero"), item_columns=ITEM_COLUMNS)
    web, shop = (EVENT | {"tags": {"Channel": name}} for name in ("Web", "Shop"))

    frame = decoded(made, schema, *({"before": web, "after": after, "op": "u"} for after in (web, shop)))

    assert frame.sort(OFFSET, LINE).select("tags", "quantity").rows() == [
        ('{"Channel":"Web"}', 1),
        ('{"Channel":"Web"}', 0),
        ('{"Channel":"Shop"}', 1),
    ]


MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
DAYS = {"type": "int", "logicalType": "date"}


@DECODERS
@pytest.mark.parametrize(
    ("target", "kind", "value", "text"),
    [
        ("date", DAYS, 20_452, "12/30/2025"),
        ("date", MILLIS, 1_767_225_599_999, "12/31/2025"),
        ("date", "int", 20_251_231, "20251231"),
        ("deliveryDate", MILLIS, 1_767_225_600_000, "2026-01-01T00:00:00+0000"),
        ("deliveryDate", ["null", MICROS], 1_767_225_600_000_000, "2026-01-01T00:00:00+0000"),
        ("deliveryDate", ["null", MICROS], None, None),
        ("deliveryDate", "string", "tomorrow", "tomorrow"),
    ],
)
def test_a_date_that_the_schema_declares_is_written_as_the_oms_does(
    tmp_path: Path, decoder: str, target: str, kind: Any, value: Any, text: str | None
) -> None:
    path = written_schema(tmp_path, **{target: kind})
    made = decoder_of(path, decoder, granular=True)

    # Written with the plain type: fastavro would take a number for a day or a time of its own.
    plain = json.loads(json.dumps(kind).replace('"logicalType"', '"x"'))
    schema = json.loads(written_schema(tmp_path, **{target: plain}).read_text(encoding="utf-8"))
    frame = decoded(made, schema, EVENT | {target: value})

    assert frame[target].to_list() == [text]


@DECODERS
def test_a_date_beyond_the_calendar_is_dead_lettered(tmp_path: Path, decoder: str) -> None:
    path = written_schema(tmp_path, deliveryDate=MICROS)
    made = decoder_of(path, decoder, granular=True)
    schema = json.loads(written_schema(tmp_path, deliveryDate="long").read_text(encoding="utf-8"))
    values = [2**62, -(2**62), 0]
    messages = [confluent_prefix(7) + value_of(schema, EVENT | {"deliveryDate": value}) for value in values]

    found = made.decode([raw_batch(messages)])

    assert found.frame["deliveryDate"].to_list() == ["1970-01-01T00:00:00+0000"]
    assert [reject.reason for reject in found.rejects] == [RejectReason.INTEGER_OUT_OF_RANGE] * 2
    assert f"deliveryDate is {2**62}, which is no date" in found.rejects[0].detail
