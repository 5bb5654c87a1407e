"""How the log looks."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from consumer.observe.log_setup import configure_logging
from consumer.settings import LogSettings


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.usefixtures("_logging_as_before")
def test_our_events_and_those_of_libraries_are_one_json_object_per_line() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="json"), stream)
    structlog.get_logger("ours").info("request_accepted", items=3, location="shop\n1")
    logging.getLogger("library").warning("took %d s", 4)
    ours, library = lines(stream)
    assert (ours["event"], ours["items"], ours["location"], ours["level"]) == ("request_accepted", 3, "shop\n1", "info")
    assert (library["event"], library["logger"]) == ("took 4 s", "library")


@pytest.mark.usefixtures("_logging_as_before")
def test_events_below_the_level_are_not_logged_and_chatty_libraries_only_warn() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="json", level="info"), stream)
    structlog.get_logger("ours").debug("quiet")
    for chatty in ("httpx", "httpx2", "httpcore2.http11"):
        logging.getLogger(chatty).info("HTTP Request")
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("_logging_as_before")
def test_a_log_that_cannot_be_written_does_not_stop_the_service() -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

    closed = io.StringIO()
    closed.close()
    for stream in (Full(), closed):
        configure_logging(LogSettings(format="json"), stream)
        structlog.get_logger("ours").info("request_accepted")


@pytest.mark.usefixtures("_logging_as_before")
def test_an_exception_stays_on_its_line() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="json"), stream)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        structlog.get_logger("ours").exception("broken")
    (line,) = lines(stream)
    assert "ZeroDivisionError" in str(line["exception"])


@pytest.mark.usefixtures("_logging_as_before")
def test_auto_is_json_without_a_terminal_and_console_is_readable() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="auto"), stream)
    structlog.get_logger("ours").info("one")
    assert lines(stream)[0]["event"] == "one"
    configure_logging(LogSettings(format="console"), stream)
    structlog.get_logger("ours").info("two", items=3)
    assert "items=3" in stream.getvalue().splitlines()[-1]


@pytest.mark.usefixtures("_logging_as_before")
def test_text_from_outside_could_once_forge_log_lines_and_control_the_terminal() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="console"), stream)
    structlog.get_logger("ours").warning("request_not_accepted", location="Köln\n2026-01-01 [info] stopped \x1b[2J")
    logging.getLogger("library").warning("broker says %s", "a\r\nb")
    structlog.get_logger("ours").warning("failed", detail="line1\u2028\x1b[2Jline2")
    first, second, third = stream.getvalue().splitlines()
    assert "Köln\\n2026-01-01 [info] stopped \\x1b[2J" in first
    assert "broker says a\\r\\nb" in second
    assert "line1\\u2028\\x1b[2Jline2" in third


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.usefixtures("_logging_as_before")
def test_repeated_warnings_of_ours_and_of_libraries_are_folded_and_none_is_lost() -> None:
    stream, clock = io.StringIO(), Clock()
    repeated = configure_logging(LogSettings(format="json"), stream, folds=True, monotonic=clock)
    for second in range(4):
        clock.now = float(second)
        structlog.get_logger("ours").warning("changes_rejected", reason="corrupt", count=2)
        logging.getLogger("library").warning("took %d s", 4)
        structlog.get_logger("ours").error("changes_rejected", reason="corrupt")
        structlog.get_logger("ours").info("request_accepted", items=3)
    clock.now = 61.0
    repeated.write_due()
    structlog.get_logger("ours").warning("changes_rejected", reason="corrupt", count=2)
    repeated.close()

    found = [line for line in lines(stream) if line["level"] == "warning"]
    assert [(line["event"], line.get("count"), line.get("repeated")) for line in found] == [
        ("changes_rejected", 2, None),
        ("took 4 s", None, None),
        ("changes_rejected", 6, 3),
        ("took 4 s", None, 3),
        ("changes_rejected", 2, 1),
    ]
    assert all(line["logger"] and line["timestamp"] for line in found)
    assert [line["level"] for line in lines(stream)].count("error") == 4
    assert [line["level"] for line in lines(stream)].count("info") == 4


@pytest.mark.usefixtures("_logging_as_before")
def test_a_library_that_goes_on_warning_says_how_often() -> None:
    stream, clock = io.StringIO(), Clock()
    configure_logging(LogSettings(format="json"), stream, folds=True, monotonic=clock)
    for second in (0.0, 1.0, 60.0):
        clock.now = second
        logging.getLogger("library").warning("slow")
    assert [line.get("repeated") for line in lines(stream)] == [None, 2]


@pytest.mark.usefixtures("_logging_as_before")
@pytest.mark.parametrize(("level", "folds"), [("debug", True), ("info", False)])
def test_at_level_debug_and_in_other_commands_nothing_is_folded(level: Any, folds: bool) -> None:  # noqa: FBT001
    stream = io.StringIO()
    configure_logging(LogSettings(format="json", level=level), stream, folds=folds)
    for _ in range(3):
        structlog.get_logger("ours").warning("commit_refused", fenced=True)
    assert len(lines(stream)) == 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("_logging_as_before")
@pytest.mark.parametrize(("no_color", "has_colors"), [("", True), ("1", False)])
def test_lines_for_a_terminal_are_in_colour_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch,
    no_color: str,
    has_colors: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    configure_logging(LogSettings(), stream)
    structlog.get_logger("inventory_refresh.loop").info("request_accepted", location="Rome", items=3)
    assert ("\x1b[" in stream.getvalue()) is has_colors


@pytest.mark.usefixtures("_logging_as_before")
def test_lines_for_people_have_the_time_of_day_the_event_and_its_fields_in_their_order() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="console"), stream)
    structlog.get_logger("inventory_refresh.loop").info("request_accepted", location="Rome", items=3, status=None)
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[info +\] request_accepted +location=Rome items=3\n", stream.getvalue())


@pytest.mark.usefixtures("_logging_as_before")
def test_json_begins_with_time_level_and_event() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="json"), stream)
    structlog.get_logger("inventory_refresh.loop").info("request_accepted", location="Rome")
    assert list(lines(stream)[0]) == ["timestamp", "level", "event", "location", "logger"]
