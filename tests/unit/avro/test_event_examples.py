"""Every example of docs/events.md: its records become exactly the changes that the page shows, on both decode paths."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.leaves import TARGETS
from consumer.core.changes.items import LINE, OCCURRED_AT, OFFSET
from consumer.settings import AvroSettings, EventsSettings
from tests.support.avro import raw_batch
from tests.support.event_examples import Example, examples

EXAMPLES = examples()


def test_the_page_has_an_example_for_each_kind_of_topic() -> None:
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("decoder", ["columnar", "fastavro"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_of_the_page_is_true(example: Example, decoder: Any, tmp_path: Path) -> None:
    schema = tmp_path / "event.avsc"
    schema.write_text(example.schema, encoding="utf-8")
    avro = AvroSettings(schema_file=str(schema), decoder=decoder)
    events = EventsSettings.model_validate(example.settings["events"])
    batch = raw_batch([value for _, value in example.records], keys=[key for key, _ in example.records])

    with closing(build_batch_decoder(avro, events)) as made:
        decoded = made.decode([batch])

    assert not decoded.rejects
    names = [*(name for name in TARGETS if name in decoded.frame.columns), OCCURRED_AT]
    rows = decoded.frame.sort(OFFSET, LINE).select(names).to_dicts()
    read = [{name.lstrip("_"): value for name, value in row.items() if value is not None} for row in rows]
    if not any("occurredAt" in change for change in example.changes):
        read = [{name: value for name, value in row.items() if name != "occurredAt"} for row in read]
    assert read == example.changes
