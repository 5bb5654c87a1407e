"""Output for people: in colour only on a terminal, and progress bars that leave results alone.

Everything here is slow to import, so commands import it when they run.
"""

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

NO_COLOR_VARIABLE = "NO_COLOR"
"""Set to anything but the empty text: no colours (https://no-color.org)."""


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
    before = sys.stderr
    before.flush()
    own = os.fdopen(os.dup(2), "w", buffering=1, encoding=before.encoding, errors="backslashreplace")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    sys.stderr = own
    faulthandler.enable(own)
    try:
        yield own
    finally:
        own.flush()
        os.dup2(own.fileno(), 2)
        sys.stderr = before


def progress_bar(what: str, *counts: ProgressColumn) -> Progress:
    """A bar on standard error, which is only there on a terminal. ``counts`` are columns next to it.

    It is removed when it is done, so that the result stands alone. What is printed to standard output stays there.
    """
    shown = console(stderr=True)
    columns = (TextColumn(what, markup=False), BarColumn(), TaskProgressColumn(), *counts, TimeRemainingColumn())
    return Progress(*columns, console=shown, disable=not shown.is_terminal, transient=True, redirect_stdout=False)
