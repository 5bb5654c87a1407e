"""How the log looks: one event per line, as JSON or in a readable form.

Our log and the libraries' logs go to standard error; standard output is for the results of commands.
"""

import json
import logging
import sys
from contextlib import suppress
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor

from consumer.settings import LogSettings
from consumer.text import escape_unprintable

_ENCODE: Final = json.JSONEncoder(default=str).encode

WARNINGS_ONLY: Final = ("httpcore", "httpcore2", "httpx", "httpx2", "urllib3", "asyncio")
"""Libraries that log every call at info level: of these, only warnings are logged."""
ERRORS_ONLY: Final = ("uvicorn",)
"""It warns of every malformed request, which anyone can send."""

_QUOTED: Final = frozenset(" \t=\r\n\"'")
"""The console renderer writes a value (but not the event) with one of these as a Python literal, so escaped."""
_MULTILINE: Final = frozenset({"exception", "stack"})
"""Tracebacks, which structlog puts there."""


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's events to ``stream`` (None: standard error). May be called again."""
    stream = stream if stream is not None else sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(stream, console=console),
            ],
        )
    )
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
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *_renderers(stream, console=console),
        ],
        logger_factory=lambda *name: _LineLogger("".join(name), handler),
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        # With the cache, loggers used before this call would keep the old configuration.
        cache_logger_on_first_use=False,
    )


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


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _printable(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Escape unprintable characters: text from outside must not forge lines of the log or control the terminal."""
    for name, value in event.items():
        if not isinstance(value, str) or value.isprintable() or name in _MULTILINE:
            continue
        if name == "event" or not set(value) & _QUOTED:
            event[name] = escape_unprintable(value)
    return event


def _renderers(stream: TextIO, *, console: bool) -> list[Processor]:
    if console:
        return [
            _printable,
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(lambda event, **_: _ENCODE(event)),
    ]
