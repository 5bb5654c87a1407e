"""Granular columns (lot, condition, date, serial number): read only for the OMS's newest API."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from consumer.avro.batches import BatchDecoder
from consumer.avro.bundled import schema_path
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.wire import confluent_prefix
from consumer.core.changes.coalesce import coalesce
from consumer.core.changes.items import GRANULAR_COLUMNS, ITEM_COLUMNS, ITEM_KEY, PLAIN_COLUMNS
from consumer.settings import AvroSettings, EventsSettings
from tests.support.avro import raw_batch, value_of

GRANULAR_SCHEMA = schema_path().parent / "inventory-change-granular.avsc"
LOT = {"lotCode": "L-1", "condition": "New", "date": "12/31/2027", "serialNumber": "S-1", "externalID": "E-1"}
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

    frame = decoded(made, schema, EVENT | LOT, EVENT | dict.fromkeys(LOT, ""), EVENT)

    absent = dict.fromkeys(LOT)
    assert frame.select(*GRANULAR_COLUMNS).to_dicts() == [LOT, absent, absent]


@DECODERS
def test_with_the_older_apis_they_are_ignored_even_if_the_event_has_them(decoder: str) -> None:
    schema = json.loads(GRANULAR_SCHEMA.read_text(encoding="utf-8"))
    made = decoder_of(GRANULAR_SCHEMA, decoder, granular=False)

    frame = decoded(made, schema, EVENT | LOT)

    assert frame.select(*GRANULAR_COLUMNS).to_dicts() == [dict.fromkeys(LOT)]


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
