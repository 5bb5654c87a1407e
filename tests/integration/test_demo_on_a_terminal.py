"""``demo`` on a terminal: its story, and nothing but it."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from tests.support.service_process import ROOT

pytestmark = pytest.mark.integration


def on_terminal(command: list[str], *, columns: int, lines: int) -> tuple[int, str]:
    """Run a command on a terminal of this size. Returns its exit code and all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {name: text for name, text in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    written = b""
    with subprocess.Popen(  # noqa: S603 - this project's own command
        command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm-256color"}
    ) as process:
        os.close(theirs)
        while data := _read(ours):
            written += data
        process.wait(60.0)
    os.close(ours)
    return process.returncode, written.decode()


def _read(descriptor: int) -> bytes:
    """What is there; nothing once the command has closed its end."""
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""


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
