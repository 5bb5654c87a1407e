"""Output for people: in colour only on a terminal, and progress bars that leave results alone.

Everything here is slow to import, so commands import it when they run.
"""

import faulthandler
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Final, TextIO

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

NO_COLOR_VARIABLE = "NO_COLOR"
"""Set to anything but the empty text: no colours (https://no-color.org)."""
READER_SECONDS_MAX: Final = 1.0
"""How long the end waits for the last lines of native code."""

_PANIC: Final = re.compile(r"thread '.*' (\(\d+\) )?panicked at ")
"""How Rust begins; a line with the message follows, and once in a process a hint."""
_BACKTRACE_NOTE: Final = "note: run with `RUST_BACKTRACE"

_log = structlog.get_logger("inventory_refresh.native")


def console(*, stderr: bool = False, highlight: bool = True, soft_wrap: bool = False) -> Console:
    """A console on standard output or standard error, without any style if it is no terminal or NO_COLOR is set."""
    return Console(
        stderr=stderr,
        color_system="auto" if allows_color(os.environ.get(NO_COLOR_VARIABLE)) else None,
        highlight=highlight,
        soft_wrap=soft_wrap,
    )


def allows_color(no_color: str | None) -> bool:
    """Whether this value of NO_COLOR permits colours."""
    return not no_color


@contextmanager
def native_stderr_discarded() -> Iterator[TextIO]:
    """For that long, ``sys.stderr`` is a duplicate of file descriptor 2, and what native code writes to 2 is discarded.

    Polars reports on 2 each panic that the decoder catches. A log that is configured meanwhile, Python's tracebacks and
    the report of a crash go to the duplicate, so that no line of another thread is lost. It stays open afterwards.
    """
    with _native_stderr_to(os.open(os.devnull, os.O_WRONLY)) as own:
        yield own


@contextmanager
def native_panics_logged() -> Iterator[TextIO]:
    """As ``native_stderr_discarded``, but panics of polars are logged at debug level, and other lines are written.

    A thread reads them from a pipe. If the process crashes, the last line of native code may be lost; Python's report
    of the crash is not.
    """
    reading, writing = os.pipe()
    with _native_stderr_to(writing) as own:
        reader = Thread(target=_read_native, args=(reading, own), name="native-stderr", daemon=True)
        reader.start()
        yield own
    reader.join(READER_SECONDS_MAX)


@contextmanager
def _native_stderr_to(target: int) -> Iterator[TextIO]:
    """File descriptor 2 is ``target``, which is closed in the end, and ``sys.stderr`` a duplicate of what 2 was.

    A ``sys.stderr`` that something else has replaced already stays as it is.
    """
    before = sys.stderr
    before.flush()
    saved = os.dup(2)
    is_ours = _descriptor_of(before) == 2
    own = before
    if is_ours:
        own = sys.stderr = os.fdopen(saved, "w", buffering=1, encoding=before.encoding, errors="backslashreplace")
        faulthandler.enable(own)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield own
    finally:
        own.flush()
        os.dup2(saved, 2)
        sys.stderr = before
        if not is_ours:
            os.close(saved)


def _descriptor_of(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except OSError:  # it writes to memory
        return None


def _read_native(reading: int, own: TextIO) -> None:
    """Sort out the lines of native code until nothing can write any more."""
    panic: str | None = None
    with os.fdopen(reading, encoding="utf-8", errors="backslashreplace") as lines:
        for line in lines:
            text = line.rstrip()
            if _PANIC.match(text):
                panic = text
            elif panic is not None:
                _log.debug("native_code_panicked", detail=f"{panic} {text}")
                panic = None
            elif text and not text.startswith(_BACKTRACE_NOTE):
                own.write(f"{text}\n")


def progress_bar(what: str, *counts: ProgressColumn) -> Progress:
    """A bar on standard error, which is only there on a terminal. ``counts`` are columns next to it.

    It is removed when it is done, so that the result stands alone. What is printed to standard output stays there.
    """
    shown = console(stderr=True)
    columns = (TextColumn(what, markup=False), BarColumn(), TaskProgressColumn(), *counts, TimeRemainingColumn())
    return Progress(*columns, console=shown, disable=not shown.is_terminal, transient=True, redirect_stdout=False)
