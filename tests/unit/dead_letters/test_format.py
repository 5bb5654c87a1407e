"""The format of dead letters: what is written can be read back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumer.dead_letters.format import (
    DETAIL_CHARACTERS_MAX,
    REDRIVEN_FROM,
    DeadLetter,
    Header,
    parse,
    redriven_headers,
    write_headers,
)
from consumer.dead_letters.record import Record, RecordPosition
from consumer.ports import Headers

POSITION = RecordPosition("dead", 0, 7)
SOURCE = RecordPosition("changes", 3, 77)
HEADERS: list[tuple[str, bytes | None]] = [
    ("trace", b"abc"),
    ("inventory_refresh.redriven_from", b"changes/3/11"),
    ("inventory_refresh.reason", b"job_failed"),
    ("inventory_refresh.detail", "no such location — Rome".encode()),
    ("inventory_refresh.topic", b"changes"),
    ("inventory_refresh.partition", b"3"),
    ("inventory_refresh.offset", b"77"),
    ("inventory_refresh.timestamp", b"1700"),
    ("inventory_refresh.location", b"Rome"),
    ("inventory_refresh.request_id", b"0badc0ffee-7"),
    ("inventory_refresh.job_id", b"12"),
]


def parsed(headers: Headers, **changed: Any) -> DeadLetter | None:
    return parse(replace(Record(POSITION, b"key", b"value", headers, timestamp=5_000), **changed))


def dead_letter(**changed: Any) -> DeadLetter:
    found = parsed(HEADERS)
    assert found is not None
    return replace(found, **changed)


def test_a_dead_letter_has_what_its_headers_say_and_keeps_those_of_the_change() -> None:
    assert dead_letter() == DeadLetter(
        source=SOURCE,
        reason="job_failed",
        detail="no such location — Rome",
        key=b"key",
        value=b"value",
        headers=(("trace", b"abc"),),
        timestamp=1_700,
        location="Rome",
        request_id="0badc0ffee-7",
        job_id="12",
        redriven_from=RecordPosition("changes", 3, 11),
        position=POSITION,
        written_at=5_000,
    )


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"detail": "no such location — Rome", "timestamp": 1_700, "schema_id": 42, "location": "Rome", "job_id": "12"},
        {"value": None, "value_bytes": 2_000_000},
        {"value": b'{"sku": "a"}', "missing": True},
    ],
    ids=["as little as possible", "everything", "value too large", "missing from its topic"],
)
def test_what_is_written_is_read_back(known: dict[str, Any]) -> None:
    always = {"source": SOURCE, "reason": "corrupt", "detail": None, "key": b"item", "value": b"\x00"}
    written = DeadLetter(**(always | {"headers": (("trace", b"abc"), ("empty", None))} | known))
    headers = [(name, text if isinstance(text, bytes) else None) for name, text in write_headers(written)]
    read = parse(Record(POSITION, written.key, written.value, headers, timestamp=5_000))
    assert read == replace(written, position=POSITION, written_at=5_000)


def test_a_long_detail_is_cut() -> None:
    headers = dict(write_headers(dead_letter(detail="x" * 5_000)))
    assert len(headers[Header.DETAIL] or b"") == DETAIL_CHARACTERS_MAX


def test_a_redriven_change_has_its_own_headers_and_the_position_of_the_original() -> None:
    assert redriven_headers(dead_letter()) == [
        ("trace", b"abc"),
        ("inventory_refresh.redriven_from", b"changes/3/77"),
    ]


@pytest.mark.parametrize("changed", [("inventory_refresh.topic", None), ("inventory_refresh.offset", b"x")])
def test_a_record_that_this_service_did_not_write_is_not_a_dead_letter(changed: tuple[str, bytes | None]) -> None:
    others = [header for header in HEADERS if header[0] != changed[0]]
    assert parsed(others if changed[1] is None else [*others, changed]) is None


def test_a_dead_letter_whose_value_is_the_item_has_no_event() -> None:
    missing = parsed([*HEADERS, ("inventory_refresh.missing", b"1")], value=b"{}")
    assert missing is not None
    assert (missing.missing, missing.event) == (True, None)


@pytest.mark.parametrize("text", ["", "changes", "changes/1", "changes/a/1", "changes/1/-1"])
def test_text_that_is_not_a_position_parses_to_none(text: str) -> None:
    assert RecordPosition.parse(text) is None


def test_every_header_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "dead-letters.md").read_text()
    undocumented = [name for name in [*Header, REDRIVEN_FROM] if f"`{name}`" not in page]
    assert undocumented == []
