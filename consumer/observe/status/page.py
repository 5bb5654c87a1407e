"""The status page and its files. It is made whole for each request, so it works without JavaScript too."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from consumer.mailbox import Unanswered
from consumer.observe.status import queries
from consumer.observe.status.api import LocationQuery, PageQuery, Trace, TraceQuery
from consumer.observe.status.board import StatusBoard
from consumer.observe.status.traces import TRACE_SECONDS_MAX, UNANSWERED, trace_item
from consumer.observe.status.words import ago, count, counted, duration

REQUESTS_SHOWN: Final = 20
"""On the page, the latest ones; the JSON has more."""
CHANGES_SHOWN: Final = 20
"""Of the item that is looked for; the JSON has more."""
_HERE: Final = "consumer.observe.status"
FILE_TYPES: Final = {
    "icon.svg": "image/svg+xml",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "uPlot.iife.min.js": "text/javascript",
    "uPlot.min.css": "text/css",
}
"""The files that the page may load, with their content types."""


@cache
def file_bytes(name: str) -> bytes:
    """One of the files."""
    return (files(_HERE) / "static" / name).read_bytes()


def file_address(name: str) -> str:
    """Where the page finds a file. It changes with the file's content, so browsers may keep the file."""
    return f"static/{name}?v={hashlib.sha256(file_bytes(name)).hexdigest()[:12]}"


def render_page(board: StatusBoard, query: PageQuery, port: int) -> str:
    """The page; every value is escaped. ``port`` is that of this process."""
    overview = queries.overview(board)
    trace = _trace(board, query)
    return (
        _environment()
        .get_template("page.html")
        .render(
            overview=overview,
            locations=queries.locations(board, query),
            requests=queries.requests(board).requests[:REQUESTS_SHOWN],
            problems=queries.problems(board).problems,
            partitions=queries.partitions(board).partitions,
            members=queries.members(board, port),
            totals=overview.totals.model_dump(),
            settings=board.settings,
            query=query,
            trace=None if isinstance(trace, Unanswered) else trace,
            unanswered=UNANSWERED[trace] if isinstance(trace, Unanswered) else None,
            shown_max=CHANGES_SHOWN,
            port=port,
        )
    )


def _trace(board: StatusBoard, query: PageQuery) -> Trace | Unanswered | None:
    """Where the item is that is looked for; None if none is."""
    if not (query.location and query.item):
        return None
    return trace_item(board, TraceQuery(location=query.location, item=query.item), TRACE_SECONDS_MAX)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {
        "address": _address,
        "ago": ago,
        "count": count,
        "counted": counted,
        "duration": duration,
        "file": file_address,
        "text_of": _text_of,
        "turned": _turned,
    }
    return environment


def _address(query: LocationQuery, **changes: Any) -> str:
    """The query string of a page with some parameters changed."""
    return urlencode(query.model_dump() | changes)


def _turned(query: LocationQuery, key: str) -> str:
    """The order after a click on the title of a column: the other one if the page is sorted by it already."""
    if query.sort == key:
        return "asc" if query.order == "desc" else "desc"
    return "asc" if key in ("name", "next_send") else "desc"


def _text_of(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {part}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
