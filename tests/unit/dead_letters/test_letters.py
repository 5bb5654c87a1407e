"""Dead letters as they are read back, and which are meant."""

from dataclasses import replace
from typing import Any

import pytest

from consumer.dead_letters.letters import (
    DeadLetter,
    Filters,
    RecordPosition,
    latest_of_each,
    moment_ms,
    read_letter,
    redriven_headers,
)
from consumer.errors import SettingsError

KEPT_AT = RecordPosition("dead", 0, 7)
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
    ("inventory_refresh.job_id", b"12"),
]


def letter(**changed: Any) -> DeadLetter:
    read = read_letter(KEPT_AT, 5_000, b"key", b"value", HEADERS)
    assert read is not None
    return replace(read, **changed)


def test_a_letter_tells_what_its_headers_say_and_keeps_the_changes_own() -> None:
    assert letter() == DeadLetter(
        place=RecordPosition("changes", 3, 77),
        kept_at=KEPT_AT,
        kept_ms=5_000,
        reason="job_failed",
        detail="no such location — Rome",
        key=b"key",
        value=b"value",
        headers=(("trace", b"abc"),),
        timestamp=1_700,
        location="Rome",
        job_id="12",
        redriven_from=RecordPosition("changes", 3, 11),
    )


def test_what_goes_back_has_its_own_headers_and_says_where_it_was() -> None:
    assert redriven_headers(letter()) == [("trace", b"abc"), ("inventory_refresh.redriven_from", b"changes/3/77")]


@pytest.mark.parametrize("gone", [("inventory_refresh.topic", None), ("inventory_refresh.offset", b"x")])
def test_a_message_that_this_service_did_not_write_is_no_letter(gone: tuple[str, bytes | None]) -> None:
    left = [each for each in HEADERS if each[0] != gone[0]]
    headers = left if gone[1] is None else [*left, gone]
    assert read_letter(KEPT_AT, None, None, None, headers) is None


def test_a_letter_whose_value_stands_for_the_change_has_no_event() -> None:
    gone = read_letter(KEPT_AT, None, None, b"{}", [*HEADERS, ("inventory_refresh.gone", b"1")])
    assert gone is not None
    assert (gone.gone, gone.event) == (True, None)


@pytest.mark.parametrize(
    ("filters", "taken"),
    [
        (Filters(), True),
        (Filters(reason="job_failed", location="Rome", topic="changes", partition=3, offset=77), True),
        (Filters(reason="corrupt"), False),
        (Filters(location="Oslo"), False),
        (Filters(topic="others"), False),
        (Filters(partition=0), False),
        (Filters(offset=0), False),
        (Filters(since_ms=5_000, until_ms=5_001), True),
        (Filters(since_ms=5_001), False),
        (Filters(until_ms=5_000), False),
    ],
)
def test_filters_take_what_agrees_with_all_of_them(filters: Filters, taken: bool) -> None:  # noqa: FBT001
    assert filters.take(letter()) is taken


def test_of_a_letter_that_came_twice_the_latest_is_taken_in_the_order_of_the_changes() -> None:
    first, second = letter(detail="first"), letter(detail="second")
    other = letter(place=RecordPosition("changes", 0, 99))
    assert latest_of_each([first, other, second]) == [other, second]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", 2_800_000),
        ("90s", 9_910_000),
        ("1970-01-01T00:00:05", 5_000),
        ("1970-01-01T01:00:05+01:00", 5_000),
        ("1970-01-02", 86_400_000),
    ],
)
def test_a_moment_is_a_time_or_how_long_ago_it_was(text: str, moment: int) -> None:
    assert moment_ms("--since", text, 10_000.0) == moment


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "-5m", "1d"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--since: .* is no time: give one such as 2026-"):
        moment_ms("--since", text, 0.0)


@pytest.mark.parametrize("text", ["", "changes", "changes/1", "changes/a/1", "changes/1/-1"])
def test_what_names_no_place_is_none(text: str) -> None:
    assert RecordPosition.parse(text) is None
