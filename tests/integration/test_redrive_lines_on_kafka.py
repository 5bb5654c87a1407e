"""Redriving events with several changes on a real Kafka: an event goes back only if that is right for all its lines."""

import json
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from consumer.avro.wire import confluent_prefix
from consumer.core.changes.items import RejectReason
from consumer.dead_letters.commands import list_dead_letters, show_dead_letters
from consumer.dead_letters.filters import DeadLetterFilter
from consumer.dead_letters.redrive.plan import Verdict
from consumer.dead_letters.redrive.redrive import Judged, Redrive
from tests.support.avro import value_of
from tests.support.dead_letters import Sent, Shop

pytestmark = pytest.mark.integration

ANY = DeadLetterFilter()
COUNTED: dict[str, Any] = {
    "type": "record",
    "name": "Counted",
    "fields": [
        {"name": "locationName", "type": "string"},
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
            {"name": "sku", "type": "string"}, {"name": "quantity", "type": "int"},
        ]}}},
    ],
}  # fmt: skip


def counted(**lines: int) -> bytes:
    rows = [{"sku": sku, "quantity": quantity} for sku, quantity in lines.items()]
    return confluent_prefix(7) + value_of(COUNTED, {"locationName": "Rome", "lines": rows})


@pytest.fixture
def shop(kafka: str, topic: Callable[..., str], tmp_path: Path) -> Shop:
    schema = tmp_path / "counted.avsc"
    schema.write_text(json.dumps(COUNTED))
    fields = {"locationName": "locationName", "sku": "lines.sku", "quantity": "lines.quantity"}
    events = {"items": "lines", "fields": fields}
    return Shop(kafka, topic(2), topic(), avro={"schema_file": str(schema), "schema_file_id": 7}, events=events)


def redriven(shop: Shop, wanted: DeadLetterFilter = ANY) -> dict[tuple[int, int | None], Verdict]:
    """Plan and execute; returns the verdict of every dead letter by offset and line."""
    with closing(Redrive(shop.settings)) as redrive:
        return verdicts(redrive.plan(wanted)) | verdicts(redrive.execute())


def verdicts(judged: list[Judged]) -> dict[tuple[int, int | None], Verdict]:
    return {(entry.dead_letter.source.offset, entry.dead_letter.line): entry.verdict for entry in judged}


def values(shop: Shop) -> list[bytes | None]:
    return [message.value() for message in shop.read()]


def publish(shop: Shop, **lines: int) -> Sent:
    return shop.raw(counted(**lines))


def test_an_event_goes_back_once_for_all_of_its_dead_letters(shop: Shop) -> None:
    sent = publish(shop, a=1, b=2, c=3)
    shop.job_failed(sent, lines=(0, 2))

    assert redriven(shop) == {(sent[1], 0): Verdict.REDRIVE, (sent[1], 2): Verdict.REDRIVE}
    assert values(shop) == [counted(a=1, b=2, c=3)] * 2


def test_a_newer_change_of_any_line_keeps_the_event_back_also_of_one_that_was_accepted(shop: Shop) -> None:
    old, other = publish(shop, a=1, b=2), publish(shop, c=3, d=4)
    newer = publish(shop, b=5)
    shop.job_failed(old, other, lines=(0,))

    with closing(Redrive(shop.settings)) as redrive:
        details = {entry.dead_letter.place: entry.detail for entry in redrive.plan(ANY)}
    assert details[f"{shop.topic}/0/{old[1]}, line 0"] == f"see {shop.topic}/0/{newer[1]}"
    assert redriven(shop) == {(old[1], 0): Verdict.SUPERSEDED, (other[1], 0): Verdict.REDRIVE}
    assert values(shop) == [counted(a=1, b=2), counted(c=3, d=4), counted(b=5), counted(c=3, d=4)]


def test_events_that_share_an_item_go_back_together_or_not_at_all(shop: Shop) -> None:
    first, second = publish(shop, a=1, b=2), publish(shop, b=3, c=4)
    shop.job_failed(first, second, lines=(0,))
    assert redriven(shop, DeadLetterFilter(offset=first[1])) == {(first[1], 0): Verdict.SUPERSEDED}

    assert set(redriven(shop).values()) == {Verdict.REDRIVE}
    assert values(shop) == [counted(a=1, b=2), counted(b=3, c=4)] * 2


def test_a_line_that_would_be_rejected_again_does_not_keep_the_others_back(shop: Shop) -> None:
    sent = publish(shop, a=1, b=-2)
    shop.job_failed(sent, lines=(0,))
    shop.rejected(sent, counted(a=1, b=-2), RejectReason.NEGATIVE_QUANTITY, line=1)

    assert redriven(shop) == {(sent[1], 0): Verdict.REDRIVE, (sent[1], 1): Verdict.REJECTED_AGAIN}
    assert values(shop) == [counted(a=1, b=-2)] * 2


def test_a_newer_count_that_cannot_be_sent_keeps_older_counts_of_its_item_back(shop: Shop) -> None:
    old, barrier = publish(shop, a=1), publish(shop, a=-2)
    shop.job_failed(old, lines=(0,))
    shop.rejected(barrier, counted(a=-2), RejectReason.NEGATIVE_QUANTITY, line=0)

    assert redriven(shop) == {(old[1], 0): Verdict.SUPERSEDED, (barrier[1], 0): Verdict.REJECTED_AGAIN}
    assert values(shop) == [counted(a=1), counted(a=-2)]


def test_an_older_count_would_not_be_put_back_before_a_newer_one_by_a_barrier_of_its_event(shop: Shop) -> None:
    old = publish(shop, a=1, b=-2)
    publish(shop, b=7)
    shop.job_failed(old, lines=(0,))
    shop.rejected(old, counted(a=1, b=-2), RejectReason.NEGATIVE_QUANTITY, line=1)

    assert redriven(shop)[old[1], 0] is Verdict.SUPERSEDED


def test_a_whole_event_that_could_not_be_read_goes_back_if_it_can_be_now(shop: Shop) -> None:
    sent = publish(shop, a=1, b=2)
    shop.rejected(sent, counted(a=1, b=2), RejectReason.UNUSABLE_SCHEMA)

    assert redriven(shop) == {(sent[1], None): Verdict.REDRIVE}
    assert len(values(shop)) == 2


def test_a_dead_letter_is_listed_and_shown_with_its_line(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    sent = publish(shop, a=1, b=2)
    shop.job_failed(sent, lines=(1,))
    list_dead_letters(shop.settings, ANY, limit=None, with_lines=True, as_json_lines=False)
    assert f"{shop.topic}/0/{sent[1]}, line 1" in capsys.readouterr().out

    show_dead_letters(shop.settings, ANY, limit=1, as_json_lines=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["line"], shown["event"]) == (1, {"locationName": "Rome", "sku": "b", "quantity": 2})


def file_of(**rows: int) -> bytes:
    row_type = {
        "type": "record",
        "name": "Row",
        "fields": [
            {"name": "locationName", "type": "string"},
            {"name": "sku", "type": "string"},
            {"name": "quantity", "type": "int"},
        ],
    }
    stream = BytesIO()
    events = [{"locationName": "Rome", "sku": sku, "quantity": quantity} for sku, quantity in rows.items()]
    fastavro.writer(stream, fastavro.parse_schema(row_type), events, sync_marker=b"s" * 16)
    return stream.getvalue()


def test_a_container_file_goes_back_only_if_that_is_right_for_all_of_its_rows(
    kafka: str, topic: Callable[..., str]
) -> None:
    shop = Shop(kafka, topic(2), topic(), avro={"framing": "container"})
    files = [file_of(a=1, b=2), file_of(c=3, d=-4), file_of(b=5, e=6)]
    old, other, newer = [shop.raw(file) for file in files]
    shop.job_failed(old, other, lines=(0,))
    shop.rejected(other, files[1], RejectReason.NEGATIVE_QUANTITY, line=1)

    with closing(Redrive(shop.settings)) as redrive:
        details = {entry.dead_letter.place: entry.detail for entry in redrive.plan(ANY)}
    assert details[f"{shop.topic}/0/{old[1]}, line 0"] == f"see {shop.topic}/0/{newer[1]}"
    assert redriven(shop) == {
        (old[1], 0): Verdict.SUPERSEDED,
        (other[1], 0): Verdict.REDRIVE,
        (other[1], 1): Verdict.REJECTED_AGAIN,
    }
    assert values(shop) == [*files, files[1]]
