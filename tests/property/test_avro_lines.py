"""Events with several changes, nested and with nulls anywhere: both decoders read the same lines."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.avro.batches import BatchDecoder
from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.wire import SchemaRef, confluent_prefix
from consumer.core.changes.items import ITEM_COLUMNS, LINE, OFFSET
from consumer.ports import Decoded
from consumer.settings import AvroSettings, EventsSettings
from tests.support.avro import raw_batch, value_of

LINE_TYPE = {
    "type": "record",
    "name": "Line",
    "fields": [
        {"name": "article", "type": ["null", "string"]},
        {"name": "pieces", "type": ["null", "long"]},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "bin", "type": ["null", "int"]},
    ],
}
SCHEMA = {
    "type": "record",
    "name": "Counted",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "body", "type": ["null", {"type": "record", "name": "Body", "fields": [
            {"name": "stores", "type": ["null", {"type": "map", "values": {
                "type": "record", "name": "Store", "fields": [
                    {"name": "lines", "type": {"type": "array", "items": ["null", LINE_TYPE]}},
                ]}}]},
        ]}]},
    ],
}  # fmt: skip
PATH = "body.stores.value.lines"
FIELDS = {
    "locationName": "body.stores.key",
    "sku": f"{PATH}.article",
    "quantity": f"{PATH}.pieces",
    "attributes": f"{PATH}.tags",
    "binID": f"{PATH}.bin",
    "occurredAt": "at",
}
LINES = st.fixed_dictionaries(
    {
        "article": st.none() | st.sampled_from(["a", "b", ""]),
        "pieces": st.none() | st.integers(-(2**62), 2**62) | st.integers(0, 9),
        "tags": st.lists(st.sampled_from(["x", "y"]), max_size=3),
        "bin": st.none() | st.integers(0, 9),
    }
)
STORES = st.fixed_dictionaries({"lines": st.lists(st.none() | LINES, max_size=5)})
BODIES = st.fixed_dictionaries({"stores": st.none() | st.dictionaries(st.sampled_from(["", "Lund", "Oslo"]), STORES)})
EVENTS = st.fixed_dictionaries({"at": st.just(1_700_000_000_000), "body": st.none() | BODIES})


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BatchDecoder]]:
    path: Path = tmp_path_factory.mktemp("lines") / "schema.avsc"
    path.write_text(json.dumps(SCHEMA))
    events = EventsSettings(items=PATH, fields=FIELDS, lines_max=8)
    made = [
        build_batch_decoder(
            AvroSettings.model_validate({"schema_file": str(path), "decoder": decoder}),
            events,
            item_columns=ITEM_COLUMNS,
        )
        for decoder in ("columnar", "fastavro")
    ]
    with closing(made[0]), closing(made[1]):
        yield made


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort(OFFSET, LINE)


def rejects(decoded: Decoded) -> list[tuple[Any, ...]]:
    return [(reject.change_id, reject.line, reject.reason) for reject in decoded.rejects]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, min_size=1, max_size=6), cut=st.integers(0, 40))
def test_both_decoders_read_the_same_lines(decoders: list[BatchDecoder], events: list[Any], cut: int) -> None:
    values = [confluent_prefix(7) + value_of(SCHEMA, event) for event in events]
    values[0] = values[0][: max(len(values[0]) - cut, 5)] if cut > 30 else values[0]
    columnar, rows = (decoder.decode([raw_batch(values)]) for decoder in decoders)

    assert in_order(columnar.frame).equals(in_order(rows.frame))
    assert rejects(columnar) == rejects(rows)
    assert (columnar.barriers is None) == (rows.barriers is None)
    if columnar.barriers is not None and rows.barriers is not None:
        assert in_order(columnar.barriers).equals(in_order(rows.barriers))
    assert columnar.next_offsets == rows.next_offsets


def test_the_columnar_decoder_reads_this_schema_itself(decoders: list[BatchDecoder]) -> None:
    reader = decoders[0]._values._source.reader(SchemaRef("id", 7))
    assert type(reader).__name__ == "ColumnarReader"
