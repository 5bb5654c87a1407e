"""Redrive has a decoder of its own, one message at a time: it must reject exactly what the service rejects."""

import json
import uuid
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest

from consumer.avro.bundled import schema_path, schema_text
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.wire import confluent_prefix
from consumer.core.changes.items import LINE, OFFSET
from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.record import RecordPosition
from consumer.dead_letters.redrive.events import INDEX, EventReader
from consumer.oms.apis import APIS
from consumer.settings import PREFIX, Settings, load
from tests.support.avro import TinyRegistry, message, raw_batch, value_of

MESSAGES = [
    message(),
    message(quantity=-1),
    message(locationName=""),
    message(sku=None),
    message(binID=0),
    message(quantity=2**53),
    message(inventoryLocatorName="x" * 51),
    message(attributes=[f"a{number}" for number in range(64)]),
    message(retailPrice=float("nan")),
    message(partNumber="p", sku=None, occurredAt=5),
    message()[:-3],
    message() + b"\x00",
    b"{}",
    b"\x00",
]


def settings_with(**options: Any) -> Settings:
    always = {
        "OMS__API_KEY": "k",
        "OMS__API_SECRET": "s",
        "OMS__BASE_URL": "http://127.0.0.1:9",
        "OMS__TOKEN_URL": "http://127.0.0.1:9",
    }
    kafka = {"KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA__GROUP_ID": "g", "KAFKA__TOPICS": '["t"]'}
    schema = {"AVRO__SCHEMA_FILE": str(schema_path())}
    return load(None, {PREFIX + name: value for name, value in (always | kafka | schema | options).items()})


@pytest.mark.parametrize("item_key", [["sku"], ["partNumber", "upc", "sku"]])
def test_redrive_rejects_what_the_service_rejects_for_the_same_reason_and_nothing_else(item_key: list[str]) -> None:
    settings = settings_with(WINDOW__ITEM_KEY=json.dumps(item_key))
    dead_letters = [letter_of(n, value) for n, value in enumerate(MESSAGES)]
    item_columns = APIS[settings.oms.api].item_columns
    with closing(
        build_batch_decoder(settings.avro, settings.events, settings.window.item_key, item_columns)
    ) as decoder:
        decoded = decoder.decode([raw_batch(MESSAGES)])
    with closing(EventReader(settings)) as events:
        checked = events.check(dead_letters)

    by_offset = {100 + n: (rejection.reason, rejection.detail) for (n, _), rejection in checked.rejected.items()}
    assert by_offset == {reject.change_id.offset: (reject.reason, reject.detail) for reject in decoded.rejects}
    assert len(by_offset) > len(MESSAGES) / 2
    assert decoded.barriers is not None
    assert_same_changes(checked.accepted, decoded.frame)
    assert_same_changes(checked.barriers, decoded.barriers)


def assert_same_changes(checked: pl.DataFrame, decoded: pl.DataFrame) -> None:
    columns = [name for name in decoded.columns if name in checked.columns]
    assert {OFFSET, LINE} <= set(columns)
    assert decoded.height
    order = (OFFSET, LINE)
    assert checked.sort(order).select(columns).equals(decoded.sort(order).select(columns))


LINE_TYPE: dict[str, Any] = {
    "type": "record",
    "name": "Line",
    "fields": [
        {"name": "sku", "type": "string"},
        {"name": "quantity", "type": "long"},
        {"name": "binID", "type": ["null", "int"]},
    ],
}
COUNTED = {
    "type": "record",
    "name": "Counted",
    "fields": [
        {"name": "locationName", "type": "string"},
        {"name": "lines", "type": {"type": "array", "items": LINE_TYPE}},
    ],
}


def counted(*lines: tuple[str, int], location: str = "Rome") -> dict[str, Any]:
    rows = [{"sku": sku, "quantity": quantity, "binID": None} for sku, quantity in lines]
    return {"locationName": location, "lines": rows}


@pytest.mark.parametrize("negative", ["reject", "zero"])
def test_redrive_reads_the_lines_of_an_event_as_the_service_does(tmp_path: Path, negative: str) -> None:
    schema = tmp_path / "schema.avsc"
    schema.write_text(json.dumps(COUNTED))
    settings = settings_with(
        AVRO__SCHEMA_FILE=str(schema),
        EVENTS__ITEMS="lines",
        EVENTS__LINES_MAX="4",
        EVENTS__NEGATIVE_QUANTITY=negative,
        EVENTS__MATCH_BY_NAME="true",
        EVENTS__FIELDS='{"sku": "lines.sku", "quantity": "lines.quantity", "binID": "lines.binID"}',
    )
    events_with_lines = [
        counted(("a", 1), ("b", -2), ("c", 2**60)),
        counted(),
        counted(*[("d", 1)] * 5),
        counted(("e", 1), ("", 2), ("f", 3)),
        counted(("g", 1), location=""),
    ]
    values = [confluent_prefix(7) + value_of(COUNTED, event) for event in events_with_lines]
    values.append(values[0][:-1])
    dead_letters = [letter_of(n, value) for n, value in enumerate(values)]
    with closing(build_batch_decoder(settings.avro, settings.events, settings.window.item_key)) as decoder:
        decoded = decoder.decode([raw_batch(values)])
    with closing(EventReader(settings)) as events:
        checked = events.check(dead_letters)

    rejected = {(100 + n, line): found.reason for (n, line), found in checked.rejected.items()}
    assert rejected == {(found.change_id.offset, found.line): found.reason for found in decoded.rejects}
    assert len(rejected) == (6 if negative == "reject" else 5)
    assert decoded.barriers is not None
    assert_same_changes(checked.accepted, decoded.frame)
    assert_same_changes(checked.barriers, decoded.barriers)


def test_redrive_reads_all_rows_of_a_container_file_as_the_service_does() -> None:
    settings = settings_with(AVRO__SCHEMA_FILE="", AVRO__FRAMING="container", EVENTS__LINES_MAX="4")
    values = [
        file_of(("a", 1), ("b", -2), ("", 1), ("c", 3)),
        file_of(),
        file_of(*[("d", 1)] * 5),
        file_of(("e", 1), ("f", 2))[:-1],
        file_of(("g", 1)),
    ]
    dead_letters = [letter_of(n, value) for n, value in enumerate(values)]
    with closing(build_batch_decoder(settings.avro, settings.events, settings.window.item_key)) as decoder:
        decoded = decoder.decode([raw_batch(values)])
    with closing(EventReader(settings)) as events:
        checked = events.check(dead_letters)
        read = events.read(dead_letters)

    assert [(100 + n, line) for n, line in checked.rejected] == [(100, 1), (100, 2), (102, None), (103, None)]
    rejected = {(100 + n, line): found.reason for (n, line), found in checked.rejected.items()}
    assert rejected == {(found.change_id.offset, found.line): found.reason for found in decoded.rejects}
    assert decoded.barriers is not None
    assert_same_changes(checked.accepted, decoded.frame)
    assert_same_changes(checked.barriers, decoded.barriers)
    assert read.frame.select(INDEX, LINE, "sku").rows()[:4] == [(0, 0, "a"), (0, 1, "b"), (0, 2, None), (0, 3, "c")]


def file_of(*lines: tuple[str, int]) -> bytes:
    stream = BytesIO()
    row_type = {**LINE_TYPE, "fields": [{"name": "locationName", "type": "string"}, *LINE_TYPE["fields"]]}
    rows = [{"locationName": "Rome", "sku": sku, "quantity": quantity, "binID": None} for sku, quantity in lines]
    fastavro.writer(stream, fastavro.parse_schema(row_type), rows)
    return stream.getvalue()


def letter_of(n: int, value: bytes) -> DeadLetter:
    source = RecordPosition("t", 0, 100 + n)
    return DeadLetter(source=source, reason="", detail=None, key=None, value=value, headers=(), timestamp=1_100 + n)


def test_an_event_whose_schema_is_named_by_a_header_is_read_with_it() -> None:
    registry = TinyRegistry()
    guid = uuid.UUID(int=5)
    registry.guids[str(guid)] = {"schema": schema_text()}
    settings = settings_with(AVRO__SCHEMA_FILE="", AVRO__REGISTRY_URL=registry.url)
    bare = message()[5:]
    headers = [("__value_schema_id", b"\x01" + guid.bytes)]
    dead_letters = [
        DeadLetter(RecordPosition("t", 0, 100), "", None, key=None, value=bare, headers=headers, timestamp=1),
        DeadLetter(RecordPosition("t", 0, 101), "", None, key=None, value=bare, headers=(), timestamp=1),
    ]
    try:
        with closing(EventReader(settings)) as events:
            checked = events.check(dead_letters)
    finally:
        registry.down()

    assert checked.accepted["sku"].to_list() == ["s1"]
    assert list(checked.rejected) == [(1, None)]
