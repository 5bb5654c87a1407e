"""How the log looks: one event per line, as JSON or in a readable form.

Our log and the libraries' logs go to standard error; standard output is for the results of commands.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor

from consumer.observe.folding import REPEATED, Line, RepeatFolder
from consumer.settings import LogSettings
from consumer.terminal import NO_COLOR_VARIABLE, allows_color
from consumer.text import escape_unprintable

_ENCODE: Final = json.JSONEncoder(default=str).encode

WARNINGS_ONLY: Final = ("httpcore", "httpcore2", "httpx", "httpx2", "urllib3", "asyncio")
"""Libraries that log every call at info level: of these, only warnings are logged."""
ERRORS_ONLY: Final = ("uvicorn",)
"""It warns of every malformed request, which anyone can send."""

_WARNING: Final = "warning"
_DUE_SECONDS: Final = 1.0
"""How often is looked for repetitions that are due, at most."""
_FIRST: Final = ("timestamp", "level", "event")
_EVENT_WIDTH: Final = 24
"""On a terminal, fields begin in the same column unless the event's name is longer."""

_QUOTED: Final = frozenset(" \t=\r\n\"'")
"""The console renderer writes a value (but not the event) with one of these as a Python literal, so escaped."""
_MULTILINE: Final = frozenset({"exception", "stack"})
"""Tracebacks, which structlog puts there."""


def configure_logging(
    settings: LogSettings,
    stream: TextIO | None = None,
    *,
    folds: bool = False,
    monotonic: Callable[[], float] = time.monotonic,
) -> "RepeatedWarnings":
    """Send structlog's and the standard library's events to ``stream`` (None: standard error). May be called again.

    With ``folds``, repeated warnings become one line a minute, unless the level is debug. The caller must then call
    ``write_due`` of the result now and then, and ``close`` at the end.
    """
    stream = stream if stream is not None else sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    finish: list[Processor] = [
        _time_stamper(console=console),
        structlog.processors.StackInfoRenderer(),
        *_renderers(stream, console=console),
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_foreign(),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    repeated = RepeatedWarnings(handler, finish, monotonic, is_on=folds and settings.level != "debug")
    handler.addFilter(repeated.filter_record)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for name in WARNINGS_ONLY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ERRORS_ONLY:
        logging.getLogger(name).setLevel(logging.ERROR)
    structlog.configure(
        # Not through the standard library: that costs twice as much, and there is a line for every request.
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            repeated.process,
            *finish,
        ],
        logger_factory=lambda *name: _LineLogger("".join(name), handler),
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        # With the cache, loggers used before this call would keep the old configuration.
        cache_logger_on_first_use=False,
    )
    return repeated


class _LineLogger:
    """Writes finished lines to the stream of a handler, one at a time with it."""

    def __init__(self, name: str, handler: "logging.StreamHandler[TextIO]") -> None:
        self.name = name
        self._handler = handler

    def msg(self, line: str) -> None:
        """Write a line. As in the standard library, a log that cannot be written does not stop the service."""
        handler = self._handler
        handler.acquire()
        try:
            with suppress(OSError, ValueError):  # ValueError: the stream is closed
                handler.stream.write(line + "\n")
                handler.stream.flush()
        finally:
            handler.release()

    debug = info = warning = error = critical = exception = msg


class RepeatedWarnings:
    """Folds repeated warnings on their way to the log; from any thread."""

    def __init__(
        self,
        handler: "logging.StreamHandler[TextIO]",
        finish: Sequence[Processor],
        monotonic: Callable[[], float],
        *,
        is_on: bool,
    ) -> None:
        """``finish`` makes a line of text from an event."""
        self._handler = handler
        self._finish = finish
        self._monotonic = monotonic
        self._is_on = is_on
        self._lock = threading.Lock()
        self._folder = RepeatFolder()
        self._due_at = 0.0

    def process(self, _logger: object, _name: str, event: EventDict) -> EventDict:
        """As a processor of structlog. Drops a warning that is folded."""
        line = self._folded(dict(event)) if event.get("level") == _WARNING else event
        if line is None:
            raise structlog.DropEvent
        return line

    def filter_record(self, record: logging.LogRecord) -> bool:
        """As a filter of the standard library's handler: whether a library's warning is logged."""
        if record.levelno != logging.WARNING:
            return True
        line = self._folded({"event": record.getMessage(), "logger": record.name, "level": _WARNING})
        if line is not None and REPEATED in line:
            record.__dict__[REPEATED] = line[REPEATED]
        return line is not None

    def write_due(self) -> None:
        """Write the lines of repetitions that are a minute old. Cheap, so it may be called often."""
        now = self._monotonic()
        if now < self._due_at:
            return
        self._due_at = now + _DUE_SECONDS
        with self._lock:
            lines = self._folder.due(now)
        self._write(lines)

    def close(self) -> None:
        """Write the lines of all repetitions so far."""
        with self._lock:
            lines = self._folder.flush()
        self._write(lines)

    def _folded(self, line: Line) -> Line | None:
        if not self._is_on:
            return line
        with self._lock:
            return self._folder.fold(line, self._monotonic())

    def _write(self, lines: Sequence[Line]) -> None:
        for line in lines:
            logger = _LineLogger(str(line.get("logger")), self._handler)
            finished: Any = dict(line)
            for processor in self._finish:
                finished = processor(logger, _WARNING, finished)
            logger.msg(finished)


def _foreign() -> list[Processor]:
    """What makes an event of a library's record."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
    ]


def _time_stamper(*, console: bool) -> Processor:
    """For people the time of day where they are; otherwise ISO 8601 in UTC."""
    if console:
        return structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
    return structlog.processors.TimeStamper(fmt="iso", utc=True)


def _printable(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Escape unprintable characters: text from outside must not forge lines of the log or control the terminal."""
    for name, value in event.items():
        if not isinstance(value, str) or value.isprintable() or name in _MULTILINE:
            continue
        if name == "event" or not set(value) & _QUOTED:
            event[name] = escape_unprintable(value)
    return event


def _in_order(event: EventDict) -> EventDict:
    """With what every line has at its beginning, so that people find it there."""
    return {name: event[name] for name in _FIRST if name in event} | dict(event)


def _shortened(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Leave out fields without a value, and which of our loggers it was: the event's name says more."""
    if str(event.get("logger", "")).startswith("inventory_refresh"):
        del event["logger"]
    return {name: value for name, value in event.items() if value is not None and value != []}


def _renderers(stream: TextIO, *, console: bool) -> list[Processor]:
    if console:
        return [
            _printable,
            _shortened,
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty() and allows_color(os.environ.get(NO_COLOR_VARIABLE)),
                exception_formatter=structlog.dev.plain_traceback,
                sort_keys=False,
                pad_event_to=_EVENT_WIDTH,
            ),
        ]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(lambda event, **_: _ENCODE(_in_order(event))),
    ]
