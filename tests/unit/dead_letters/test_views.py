"""Dead letters as people and programs are shown them."""

from collections import Counter
from dataclasses import replace
from io import StringIO
from typing import Any

from rich.console import Console

from consumer.dead_letters.letters import DeadLetter, RecordPosition
from consumer.dead_letters.redrive.events import Rejected
from consumer.dead_letters.redrive.plan import Verdict
from consumer.dead_letters.redrive.redrive import Judged
from consumer.dead_letters.views import _WHY, STAYING_SHOWN_MAX, as_object, counts_table, in_full, line, page, staying

LETTER = DeadLetter(
    place=RecordPosition("changes", 3, 77),
    kept_at=RecordPosition("dead", 0, 7),
    kept_ms=5_000,
    reason="corrupt",
    detail="truncated",
    key=b"item",
    value=b"\x00\xff",
    headers=(("trace", b"abc"), ("raw", b"\xff"), ("empty", None)),
)


def shown(letter: DeadLetter, **known: Any) -> dict[str, Any]:
    return in_full(letter, known.get("event"), known.get("why_not"))


def test_what_cannot_be_decoded_is_shown_in_hex_with_the_reason() -> None:
    told = shown(LETTER, why_not=Rejected("corrupt", "2 bytes"))
    assert told["value_hex"] == "00ff"
    assert told["not_decoded"] == "corrupt: 2 bytes"
    assert told["headers"] == [["trace", "abc"], ["raw", "0xff"], ["empty", None]]


def test_what_can_be_decoded_is_shown_as_an_event() -> None:
    told = shown(LETTER, event={"locationName": "Rome", "quantity": -1})
    assert told["event"] == {"locationName": "Rome", "quantity": -1}
    assert "value_hex" not in told


def test_the_item_that_stands_for_a_change_that_is_gone_is_shown() -> None:
    told = shown(replace(LETTER, gone=True, value=b'{"sku": "a"}'))
    assert told["item"] == {"sku": "a"}


def test_the_first_partition_and_offset_are_known() -> None:
    told = as_object(replace(LETTER, place=RecordPosition("changes", 0, 0)))
    assert (told["partition"], told["offset"]) == (0, 0)


def test_what_is_not_known_is_left_out() -> None:
    assert as_object(LETTER) == {
        "topic": "changes",
        "partition": 3,
        "offset": 77,
        "reason": "corrupt",
        "detail": "truncated",
        "dead_lettered": "1970-01-01T00:00:05.000+00:00",
        "dead_letter": "dead/0/7",
    }


def test_nothing_of_a_message_moves_the_cursor_or_ends_the_line() -> None:
    evil = replace(LETTER, location="\x1b[2JRome\nOslo", detail="\x9b1m", key=b"\x1b]0;x\x07")
    for told in (line(evil), page(shown(evil)).replace("\n", "")):
        assert told.isprintable()
        assert "Rome" in told


def test_square_brackets_of_a_location_are_shown_as_they_are() -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(counts_table(Counter({("no_quantity", "[bold]Rome"): 2})))
    assert "[bold]Rome" in console.export_text()


def test_of_the_letters_that_stay_so_many_are_named_and_the_rest_counted() -> None:
    judged = [Judged(LETTER, Verdict.SUPERSEDED, f"by changes/3/{number}") for number in range(STAYING_SHOWN_MAX + 3)]
    told = list(staying([Judged(LETTER, Verdict.GOES), *judged]))
    assert told[0] == "stays: changes/3/77  corrupt  superseded by changes/3/0"
    assert told[STAYING_SHOWN_MAX:] == ["and 3 more that stay"]


def test_every_verdict_has_its_words() -> None:
    assert set(_WHY) == set(Verdict)
