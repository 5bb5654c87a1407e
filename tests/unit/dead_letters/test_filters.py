"""Which dead letters a command means."""

from dataclasses import replace

import pytest

from consumer.dead_letters.filters import DeadLetterFilter, latest_by_change, parse_time_ms
from consumer.dead_letters.format import DeadLetter
from consumer.dead_letters.record import RecordPosition
from consumer.errors import SettingsError

DEAD_LETTER = DeadLetter(
    source=RecordPosition("changes", 3, 77),
    reason="job_failed",
    detail="no such location",
    key=b"key",
    value=b"value",
    headers=(),
    location="Rome",
    request_id="0badc0ffee-7",
    job_id="12",
    position=RecordPosition("dead", 0, 7),
    written_at=5_000,
)


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (DeadLetterFilter(), True),
        (DeadLetterFilter(reason="job_failed", location="Rome", topic="changes", partition=3, offset=77), True),
        (DeadLetterFilter(reason="corrupt"), False),
        (DeadLetterFilter(location="Oslo"), False),
        (DeadLetterFilter(job_id="12", request_id="0badc0ffee-7"), True),
        (DeadLetterFilter(job_id="13"), False),
        (DeadLetterFilter(request_id="0badc0ffee-8"), False),
        (DeadLetterFilter(topic="others"), False),
        (DeadLetterFilter(partition=0), False),
        (DeadLetterFilter(offset=0), False),
        (DeadLetterFilter(since_ms=5_000, until_ms=5_001), True),
        (DeadLetterFilter(since_ms=5_001), False),
        (DeadLetterFilter(until_ms=5_000), False),
    ],
)
def test_a_filter_matches_if_everything_that_is_set_agrees(wanted: DeadLetterFilter, matches: bool) -> None:  # noqa: FBT001
    assert wanted.matches(DEAD_LETTER) is matches


def test_the_latest_of_two_dead_letters_of_a_change_is_kept_in_the_order_of_the_changes() -> None:
    first, second = replace(DEAD_LETTER, detail="first"), replace(DEAD_LETTER, detail="second")
    other = replace(DEAD_LETTER, source=RecordPosition("changes", 0, 99))
    assert latest_by_change([first, other, second]) == [other, second]


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2h", 2_800_000),
        ("90s", 9_910_000),
        ("1970-01-01T00:00:05", 5_000),
        ("1970-01-01T01:00:05+01:00", 5_000),
        ("1970-01-02", 86_400_000),
    ],
)
def test_a_time_is_absolute_or_a_duration_before_now(text: str, milliseconds: int) -> None:
    assert parse_time_ms("--since", text, 10_000.0) == milliseconds


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "-5m", "1d"])
def test_text_that_is_not_a_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--since: .* is not a time; use ISO 8601, such as 2026-"):
        parse_time_ms("--since", text, 0.0)
