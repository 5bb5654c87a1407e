"""Redrive has a decoder of its own, one message at a time: it must reject exactly what the service rejects."""

import json
from contextlib import closing
from typing import Any

import pytest

from consumer.avro.bundled import schema_path
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.core.changes.items import OFFSET
from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.record import RecordPosition
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
def test_redrive_rejects_what_the_service_rejects_for_the_same_reason_and_nothing_else(item_key: list[str]) -> None:
    settings = settings_with(WINDOW__ITEM_KEY=json.dumps(item_key))
    dead_letters = [
        DeadLetter(
            source=RecordPosition("t", 0, 100 + n),
            reason="",
            detail=None,
            key=None,
            value=value,
            headers=(),
            timestamp=1_100 + n,
        )
        for n, value in enumerate(MESSAGES)
    ]
    item_columns = APIS[settings.oms.api].item_columns
    with closing(
        build_batch_decoder(settings.avro, settings.events, settings.window.item_key, item_columns)
    ) as decoder:
        decoded = decoder.decode([raw_batch(MESSAGES)])
    with closing(EventReader(settings)) as events:
        accepted, rejected = events.check(dead_letters)

    by_offset = {100 + n: (rejection.reason, rejection.detail) for n, rejection in rejected.items()}
    assert by_offset == {reject.change_id.offset: (reject.reason, reject.detail) for reject in decoded.rejects}
    assert len(by_offset) > len(MESSAGES) / 2
    columns = [name for name in decoded.frame.columns if name in accepted.columns]
    assert OFFSET in columns
    assert accepted.sort(OFFSET).select(columns).equals(decoded.frame.sort(OFFSET).select(columns))
