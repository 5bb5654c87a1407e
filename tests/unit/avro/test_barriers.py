"""Which rejects are barriers: those that say that the item has another count now, though one that cannot be sent."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.wire import confluent_prefix
from consumer.core.changes.barriers import barrier_columns
from consumer.core.changes.items import ITEM_KEY, OFFSET, SkipReason
from consumer.errors import SettingsError
from consumer.ports import Decoded
from consumer.settings import AvroSettings, EventsSettings
from tests.support.avro import raw_batch, value_of

ROW: dict[str, Any] = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "locationName", "type": "string"},
        {"name": "sku", "type": "string"},
        {"name": "quantity", "type": "long"},
        {"name": "__deleted", "type": "string", "default": "false"},
    ],
}


def row(sku: str, quantity: int, *, deleted: bool = False) -> dict[str, Any]:
    return {"locationName": "Lund", "sku": sku, "quantity": quantity, "__deleted": str(deleted).lower()}


def decoded(tmp_path: Path, *rows: dict[str, Any] | None, **events: Any) -> Decoded:
    path = tmp_path / "row.avsc"
    path.write_text(json.dumps(ROW))
    values = [None if value is None else confluent_prefix(7) + value_of(ROW, value) for value in rows]
    with closing(build_batch_decoder(AvroSettings(schema_file=str(path)), EventsSettings(**events))) as made:
        return made.decode([raw_batch(values)])


def barriers(found: Decoded) -> list[tuple[str, int]]:
    return [] if found.barriers is None else found.barriers.select("sku", OFFSET).sort(OFFSET).rows()


def test_negative_counts_are_barriers_unless_they_mean_zero(tmp_path: Path) -> None:
    rows = row("a", 4), row("a", -2)
    rejecting = decoded(tmp_path, *rows)
    assert barriers(rejecting) == [("a", 101)]
    assert rejecting.barriers is not None
    assert rejecting.barriers.columns == barrier_columns(ITEM_KEY)

    zero = decoded(tmp_path, *rows, negative_quantity="zero")
    assert (zero.barriers, zero.rejects, zero.frame["quantity"].to_list()) == (None, (), [4, 0])


def test_deletes_that_are_dead_lettered_are_barriers_and_others_are_not(tmp_path: Path) -> None:
    rows = row("a", 4), row("a", 4, deleted=True), row("b", -1)
    assert barriers(decoded(tmp_path, *rows, deletes="dead-letter")) == [("a", 101), ("b", 102)]
    assert barriers(decoded(tmp_path, *rows, deletes="skip")) == [("b", 102)]
    assert barriers(decoded(tmp_path, *rows, deletes="zero")) == [("b", 102)]


def test_a_tombstone_is_a_barrier_if_its_key_names_the_item(tmp_path: Path) -> None:
    fields = {"locationName": "=Lund", "sku": "$key", "quantity": "quantity"}
    found = decoded(tmp_path, row("a", 4), None, tombstones="dead-letter", fields=fields)

    assert barriers(found) == [("key-101", 101)]
    assert [reject.reason.value for reject in found.rejects] == ["deleted"]
    assert barriers(decoded(tmp_path, row("a", 4), None, tombstones="dead-letter")) == []


def test_an_event_without_lines_is_skipped_and_counted(tmp_path: Path) -> None:
    for decoder in ("columnar", "fastavro"):
        path = tmp_path / "counted.avsc"
        schema = {"type": "record", "name": "Counted", "fields": [
            {"name": "locationName", "type": "string"}, {"name": "rows", "type": {"type": "map", "values": "int"}},
        ]}  # fmt: skip
        path.write_text(json.dumps(schema))
        fields = {"locationName": "locationName", "sku": "rows.key", "quantity": "rows.value"}
        values = [
            confluent_prefix(7) + value_of(schema, {"locationName": "Lund", "rows": rows})
            for rows in ({}, {"a": 1}, {})
        ]
        avro = AvroSettings.model_validate({"schema_file": str(path), "decoder": decoder})
        with closing(build_batch_decoder(avro, EventsSettings(items="rows", fields=fields))) as made:
            found = made.decode([raw_batch(values)])

        assert found.skipped == {SkipReason.NO_LINES: 2}
        assert (found.frame.height, found.rejects) == (1, ())


def test_a_debezium_envelope_has_no_lines(tmp_path: Path) -> None:
    value = {"type": "record", "name": "Value", "fields": [
        {"name": "site", "type": "string"}, {"name": "rows", "type": {"type": "map", "values": "int"}},
    ]}  # fmt: skip
    envelope = {"type": "record", "name": "Envelope", "fields": [
        {"name": "before", "type": ["null", value]}, {"name": "after", "type": ["null", "Value"]},
        {"name": "op", "type": "string"},
    ]}  # fmt: skip
    path = tmp_path / "envelope.avsc"
    path.write_text(json.dumps(envelope))
    fields = {"locationName": "after.site", "sku": "after.rows.key", "quantity": "after.rows.value"}
    avro = AvroSettings(schema_file=str(path))
    with pytest.raises(SettingsError, match="set events\\.envelope: none"):
        build_batch_decoder(avro, EventsSettings(items="after.rows", fields=fields))

    event = {"before": None, "after": {"site": "Lund", "rows": {"a": 1}}, "op": "c"}
    with closing(build_batch_decoder(avro, EventsSettings(items="after.rows", fields=fields, envelope="none"))) as made:
        found = made.decode([raw_batch([confluent_prefix(7) + value_of(envelope, event)])])
    assert found.frame.select("locationName", "sku", "quantity").rows() == [("Lund", "a", 1)]
