"""How dead letters are printed."""

from collections import Counter
from dataclasses import replace
from io import StringIO
from typing import Any

from rich.console import Console

from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.record import RecordPosition
from consumer.dead_letters.redrive.events import Rejection
from consumer.dead_letters.redrive.plan import Verdict
from consumer.dead_letters.redrive.redrive import Judged
from consumer.dead_letters.views import (
    EXPLANATIONS,
    SKIPPED_SHOWN_MAX,
    as_line,
    as_object,
    as_page,
    counts_table,
    in_full,
    skipped_lines,
)

DEAD_LETTER = DeadLetter(
    source=RecordPosition("changes", 3, 77),
    reason="corrupt",
    detail="truncated",
    key=b"item",
    value=b"\x00\xff",
    headers=(("trace", b"abc"), ("raw", b"\xff"), ("empty", None)),
    position=RecordPosition("dead", 0, 7),
    written_at=5_000,
)


def shown(dead_letter: DeadLetter, **known: Any) -> dict[str, Any]:
    return in_full(dead_letter, known.get("event"), known.get("rejection"))


def test_an_event_that_cannot_be_decoded_is_shown_in_hex_with_the_reason() -> None:
    fields = shown(DEAD_LETTER, rejection=Rejection("corrupt", "2 bytes"))
    assert fields["value_hex"] == "00ff"
    assert fields["not_decoded"] == "corrupt: 2 bytes"
    assert fields["headers"] == [["trace", "abc"], ["raw", "0xff"], ["empty", None]]


def test_an_event_that_can_be_decoded_is_shown_as_json() -> None:
    fields = shown(DEAD_LETTER, event={"locationName": "Rome", "quantity": -1})
    assert fields["event"] == {"locationName": "Rome", "quantity": -1}
    assert "value_hex" not in fields


def test_the_item_of_a_change_that_is_missing_from_its_topic_is_shown() -> None:
    fields = shown(replace(DEAD_LETTER, missing=True, value=b'{"sku": "a"}'))
    assert fields["item"] == {"sku": "a"}
    assert fields["missing"] is True


def test_partition_and_offset_zero_are_shown() -> None:
    fields = as_object(replace(DEAD_LETTER, source=RecordPosition("changes", 0, 0)))
    assert (fields["partition"], fields["offset"]) == (0, 0)


def test_unknown_fields_are_left_out() -> None:
    assert as_object(DEAD_LETTER) == {
        "topic": "changes",
        "partition": 3,
        "offset": 77,
        "reason": "corrupt",
        "detail": "truncated",
        "written_at": "1970-01-01T00:00:05.000+00:00",
        "dead_letter": "dead/0/7",
    }


def test_nothing_in_a_message_moves_the_cursor_or_ends_the_line() -> None:
    evil = replace(DEAD_LETTER, location="\x1b[2JRome\nOslo", detail="\x9b1m", key=b"\x1b]0;x\x07")
    for text in (as_line(evil), as_page(shown(evil)).replace("\n", "")):
        assert text.isprintable()
        assert "Rome" in text


def table_of(counts: Counter[tuple[str, str | None]]) -> str:
    console = Console(width=80, record=True, file=StringIO())
    console.print(counts_table(counts))
    return console.export_text()


def test_square_brackets_in_a_location_are_shown_as_they_are() -> None:
    assert "[bold]Rome" in table_of(Counter({("no_quantity", "[bold]Rome"): 2}))


def test_counts_of_known_and_unknown_locations_are_sorted_together() -> None:
    text = table_of(Counter({("corrupt", "Rome"): 1, ("corrupt", None): 1, ("not_framed", None): 2}))
    assert text.index("not_framed") < text.index(" - ") < text.index("Rome")


def test_a_plan_names_a_limited_number_of_skipped_dead_letters_and_counts_the_rest() -> None:
    judged = [
        Judged(DEAD_LETTER, Verdict.SUPERSEDED, f"see changes/3/{offset}") for offset in range(SKIPPED_SHOWN_MAX + 3)
    ]
    lines = list(skipped_lines([Judged(DEAD_LETTER, Verdict.REDRIVE), *judged]))
    assert lines[0] == "skipped: changes/3/77  corrupt  superseded: see changes/3/0"
    assert lines[SKIPPED_SHOWN_MAX:] == ["and 3 more skipped"]


def test_every_verdict_has_an_explanation() -> None:
    assert set(EXPLANATIONS) == set(Verdict)
