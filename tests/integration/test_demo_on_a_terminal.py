"""``demo`` on a terminal: its story, and nothing but it."""

import sys

import pytest

from tests.support.terminals import on_terminal

pytestmark = pytest.mark.integration


@pytest.mark.timeout(300)
def test_the_demo_shows_its_progress_and_its_story_and_no_panic_of_the_reader() -> None:
    exit_code, written = on_terminal([sys.executable, "-m", "consumer", "demo"], columns=80, lines=24)
    assert exit_code == 0, written[-3_000:]
    assert "panicked" not in written
    assert "Changes are collected per location" in written
    story = written[written.index("Came in") :]
    assert "items have their last value in the OMS" in story
    assert "OK: the OMS holds the latest value of every item" in story
    assert story.count("\n") <= 21, "it leaves room on a screen of 24 lines for the command and the next prompt"
