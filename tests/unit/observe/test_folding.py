"""Repeated warnings: which are written, when, and with which counts."""

from typing import Any

from consumer.observe.folding import FOLD_SECONDS, KEYS_MAX, RepeatFolder


def rejected(reason: str = "corrupt", count: int = 1, **fields: Any) -> dict[str, Any]:
    return {"event": "changes_rejected", "level": "warning", "reason": reason, "count": count, **fields}


def test_the_first_of_its_kind_is_written_at_once_and_others_in_its_minute_as_one_line_with_totals() -> None:
    folder = RepeatFolder()
    assert folder.fold(rejected(count=5, first_offset=1), 0.0) == rejected(count=5, first_offset=1)
    assert folder.fold(rejected(count=2, first_offset=9), 10.0) is None
    assert folder.fold(rejected(count=3, first_offset=12), 59.9) is None
    assert folder.due(59.9) == []
    assert folder.due(60.0) == [rejected(count=5, first_offset=12, repeated=2)]


def test_what_lasts_is_one_line_a_minute() -> None:
    folder = RepeatFolder()
    written = []
    for second in range(601):
        line = folder.fold(rejected(), float(second))
        written += [*([line] if line else []), *folder.due(float(second))]
    assert len(written) == 11
    assert sum(line.get("repeated", 1) for line in written) == 601
    assert sum(line["count"] for line in written) == 601


def test_a_repetition_after_the_minute_is_written_at_once_with_those_before_it() -> None:
    folder = RepeatFolder()
    folder.fold(rejected(count=1), 0.0)
    folder.fold(rejected(count=2), 1.0)
    assert folder.fold(rejected(count=3), FOLD_SECONDS) == rejected(count=5, repeated=2)


def test_a_warning_that_came_once_is_forgotten_so_the_next_one_is_written_at_once() -> None:
    folder = RepeatFolder()
    folder.fold(rejected(), 0.0)
    assert folder.due(60.0) == []
    assert folder.fold(rejected(), 61.0) == rejected()


def test_warnings_of_another_kind_are_not_repetitions() -> None:
    folder = RepeatFolder()
    assert folder.fold(rejected("corrupt"), 0.0) is not None
    assert folder.fold(rejected("no_location"), 0.0) is not None
    for location, status in (("Rome", 503), ("Oslo", 503), ("Rome", 504)):
        line = {"event": "request_not_accepted", "location": location, "outcome": "unavailable", "http_status": status}
        assert folder.fold(line, 0.0) == line


def test_without_a_rule_all_texts_decide_and_numbers_do_not() -> None:
    folder = RepeatFolder()
    assert folder.fold({"event": "took long", "logger": "library", "seconds": 1.0}, 0.0) is not None
    assert folder.fold({"event": "took long", "logger": "library", "seconds": 2.0}, 0.0) is None
    assert folder.fold({"event": "took long", "logger": "other", "seconds": 1.0}, 0.0) is not None


def test_at_the_end_nothing_is_kept_back() -> None:
    folder = RepeatFolder()
    for second in range(5):
        folder.fold(rejected(), float(second))
    assert folder.flush() == [rejected(count=4, repeated=4)]
    assert folder.flush() == []


def test_more_kinds_than_are_kept_in_mind_are_all_written() -> None:
    folder = RepeatFolder()
    lines = [{"event": "request_not_accepted", "location": str(number)} for number in range(KEYS_MAX + 10)]
    assert all(folder.fold(line, 0.0) is not None for line in lines)
    assert [folder.fold(line, 1.0) is None for line in lines] == [True] * KEYS_MAX + [False] * 10


def test_the_line_that_was_written_is_not_changed_afterwards() -> None:
    folder = RepeatFolder()
    first = rejected()
    folder.fold(first, 0.0)
    folder.fold(rejected(), 1.0)
    folder.due(60.0)
    assert first == rejected()
