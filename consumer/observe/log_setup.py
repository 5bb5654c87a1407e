"""How the log looks: one event a line.

The log goes to standard error, ours and the libraries' alike; standard output belongs to the results of commands.
"""

import logging
import sys
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor

from consumer.settings import LogSettings
from consumer.text import escape_unprintable

QUIET: Final = ("httpcore", "httpcore2", "httpx", "httpx2", "urllib3", "asyncio")
"""Libraries that log every call at info: only their warnings are of interest."""

_QUOTED: Final = frozenset(" \t=\r\n\"'")
"""With one of these in it, structlog writes a value, but for the event itself, as Python would: escaped."""
_OF_SEVERAL_LINES: Final = frozenset({"exception", "stack"})
"""Tracebacks, which structlog puts there; the words of an error inside them come from our code and libraries."""


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Route structlog and the standard library's logging to ``stream`` (None: standard error); may be called again."""
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
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Without it, loggers made before this call would keep the old configuration.
        cache_logger_on_first_use=False,
    )


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
    """Escape what is not printable: texts of events and of the OMS must not make up lines, nor steer a terminal."""
    for name, value in event.items():
        if not isinstance(value, str) or value.isprintable() or name in _OF_SEVERAL_LINES:
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
        structlog.processors.JSONRenderer(sort_keys=False, default=str),
    ]
