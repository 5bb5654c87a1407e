"""What reaches a terminal, and in which form."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.terminal import console, native_panics_logged

ROOT = Path(__file__).parents[2]
CODE = """
import logging, os, sys, threading
import structlog
from consumer.observe.log_setup import configure_logging
from consumer.settings import LogSettings
from consumer.terminal import native_stderr_discarded

def fail():
    raise RuntimeError("a thread failed")

os.write(2, b"before\\n")
with native_stderr_discarded():
    configure_logging(LogSettings(format="console"))
    os.write(2, b"thread 'reader' panicked\\n")
    threads = [threading.Thread(target=fail) for _ in range(3)]
    threads += [threading.Thread(target=structlog.get_logger().error, args=("an_event",)) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("ours", file=sys.stderr)
os.write(2, b"after\\n")
print("last", file=sys.stderr)
"""


def test_what_native_code_writes_to_standard_error_is_discarded_and_no_line_of_ours() -> None:
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)  # noqa: S603
    lines = done.stderr.splitlines()
    assert lines[0] == "before"
    assert lines[-3:] == ["ours", "after", "last"]
    assert not any("panicked" in line for line in lines)
    assert sum("an_event" in line for line in lines) == 50
    assert lines.count("RuntimeError: a thread failed") == 3


@pytest.mark.parametrize("manager", ["native_stderr_discarded", "native_panics_logged"])
def test_a_crash_is_still_reported(manager: str) -> None:
    code = (
        f"import faulthandler\nfrom consumer.terminal import {manager}\n"
        f"with {manager}():\n    faulthandler._sigabrt()\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)  # noqa: S603
    assert done.returncode != 0
    assert "Fatal Python error: Aborted" in done.stderr


LOGGED = """
import os, sys
from consumer.observe.log_setup import configure_logging
from consumer.settings import LogSettings
from consumer.terminal import native_panics_logged

with native_panics_logged():
    configure_logging(LogSettings(format="json", level=sys.argv[1]))
    os.write(2, b"\\nthread '<unnamed>' (17) panicked at crates/avro.rs:12:5:\\nindex out of bounds\\n")
    os.write(2, b"note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\\n")
    os.write(2, b"%3|FAIL|rdkafka\\nthread 'a' panicked at ")
    os.write(2, b"b.rs:1:\\nagain\\n")
    print("ours", file=sys.stderr)
os.write(2, b"after\\n")
"""


@pytest.mark.parametrize("level", ["info", "debug"])
def test_panics_of_native_code_are_log_events_and_its_other_lines_stay(level: str) -> None:
    command = [sys.executable, "-c", LOGGED, level]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)  # noqa: S603
    lines = done.stderr.splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert sorted(line for line in lines if not line.startswith("{")) == ["%3|FAIL|rdkafka", "after", "ours"]
    assert [event["detail"] for event in events] == (
        [
            "thread '<unnamed>' (17) panicked at crates/avro.rs:12:5: index out of bounds",
            "thread 'a' panicked at b.rs:1: again",
        ]
        if level == "debug"
        else []
    )


def test_a_replaced_standard_error_stays_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    with native_panics_logged():
        sys.stderr.write("ours\n")
    assert capsys.readouterr().err == "ours\n"


@pytest.mark.parametrize("manager", ["native_stderr_discarded", "native_panics_logged"])
def test_file_descriptors_are_closed(manager: str) -> None:
    code = (
        f"import os, sys\nfrom consumer.terminal import {manager}\nbefore = os.listdir('/proc/self/fd')\n"
        f"with {manager}():\n    pass\nassert len(os.listdir('/proc/self/fd')) <= len(before) + 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)  # noqa: S603


@pytest.mark.parametrize(("no_color", "has_colors"), [("", True), ("1", False)])
def test_no_color_turns_colours_off(monkeypatch: pytest.MonkeyPatch, no_color: str, has_colors: bool) -> None:  # noqa: FBT001
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert (console().color_system is not None) is has_colors


def test_there_are_no_colours_where_there_is_no_terminal() -> None:
    code = "from consumer.terminal import console\nconsole().print('[red]text[/]')\n"
    environment = {name: text for name, text in os.environ.items() if name != "FORCE_COLOR"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT, env=environment
    )
    assert done.stdout == "text\n"
