"""Redrive decodes apart from the service, message by message; it must come to the same verdict of every change."""

import json
from contextlib import closing
from typing import Any

import pytest

from consumer.avro.bundled import schema_path
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.core.changes.items import OFFSET
from consumer.dead_letters.letters import DeadLetter, RecordPosition
from consumer.dead_letters.redrive.events import EventReader
from consumer.oms.apis import APIS
from consumer.settings import PREFIX, Settings, load
from tests.support.avro import message, raw_batch

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
def test_what_the_service_rejects_redrive_rejects_for_the_same_reason_and_nothing_else(item_key: list[str]) -> None:
    settings = settings_with(WINDOW__ITEM_KEY=json.dumps(item_key))
    letters = [
        DeadLetter(
            RecordPosition("t", 0, 100 + n),
            RecordPosition("dead", 0, n),
            0,
            "",
            "",
            None,
            value,
            (),
            timestamp=1_100 + n,
        )
        for n, value in enumerate(MESSAGES)
    ]
    item_columns = APIS[settings.oms.api].item_columns
    with closing(build_batch_decoder(settings.avro, settings.window.item_key, item_columns)) as decoder:
        decoded = decoder.decode([raw_batch(MESSAGES)])
    with closing(EventReader(settings)) as events:
        taken, rejected = events.judge(letters)

    told = {100 + number: (each.reason, each.detail) for number, each in rejected.items()}
    assert told == {each.change_id.offset: (each.reason, each.detail) for each in decoded.rejects}
    assert len(told) > len(MESSAGES) / 2
    columns = [name for name in decoded.frame.columns if name in taken.columns]
    assert OFFSET in columns
    assert taken.sort(OFFSET).select(columns).equals(decoded.frame.sort(OFFSET).select(columns))
