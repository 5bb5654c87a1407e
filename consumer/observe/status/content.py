"""The status page, its files and its JSON as responses: everything that only people look at.

``server`` imports this when it is first asked for, since templates and models take 2 MiB and most processes are never
looked at.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from consumer.mailbox import Unanswered
from consumer.observe.status import queries
from consumer.observe.status.api import LocationQuery, PageQuery, TraceQuery
from consumer.observe.status.board import StatusBoard
from consumer.observe.status.page import FILE_TYPES, file_bytes, render_page
from consumer.observe.status.traces import TRACE_SECONDS_MAX, UNANSWERED, trace_item

FILE_SECONDS: Final = 86_400
"""How long browsers may keep a file of the page: its address changes with its content."""

NOT_FOUND: Final = PlainTextResponse("not found\n", 404)


def answer(board: StatusBoard, request: Request) -> Response:
    """The response to a request for the page, a file or JSON. A wrong parameter is named, with what is allowed."""
    make = _ANSWERS.get(request.scope["path"])  # not `url`, which the Host header may break
    if make is None:
        return NOT_FOUND
    try:
        return make(board, request)
    except _BadQueryError as error:
        return PlainTextResponse(f"{error}\n", 400)


class _BadQueryError(Exception):
    """A parameter of the query is wrong; the text says which, and what is allowed."""


Query = TypeVar("Query", bound=BaseModel)


def _query(model: type[Query], request: Request) -> Query:
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise _BadQueryError(f"{where}: {problem['msg']}" if where else problem["msg"]) from None


_Answer = Callable[[StatusBoard, Request], Response]


def _page(board: StatusBoard, request: Request) -> Response:
    return HTMLResponse(render_page(board, _query(PageQuery, request), _port(request)))


def _port(request: Request) -> int:
    """The port that the client is connected to: that of this process, also behind a port-forward."""
    return int(request.scope["server"][1])


def _file(name: str, _board: StatusBoard, _request: Request) -> Response:
    headers = {"Cache-Control": f"public, max-age={FILE_SECONDS}, immutable"}
    return Response(file_bytes(name), media_type=FILE_TYPES[name], headers=headers)


def _json(make: Callable[[StatusBoard], BaseModel], board: StatusBoard, _request: Request) -> Response:
    return Response(make(board).model_dump_json(), media_type="application/json")


def _locations(board: StatusBoard, request: Request) -> Response:
    return _json(partial(queries.locations, query=_query(LocationQuery, request)), board, request)


def _trace(board: StatusBoard, request: Request) -> Response:
    found = trace_item(board, _query(TraceQuery, request), TRACE_SECONDS_MAX)
    if isinstance(found, Unanswered):
        return PlainTextResponse(f"{UNANSWERED[found]}\n", 503, {"Retry-After": "1"})
    return _json(lambda _: found, board, request)


def _members(board: StatusBoard, request: Request) -> Response:
    return _json(partial(queries.members, port=_port(request)), board, request)


_ANSWERS: Final[Mapping[str, _Answer]] = {
    "/": _page,
    "/api/overview": partial(_json, queries.overview),
    "/api/locations": _locations,
    "/api/requests": partial(_json, queries.requests),
    "/api/problems": partial(_json, queries.problems),
    "/api/partitions": partial(_json, queries.partitions),
    "/api/history": partial(_json, queries.history),
    "/api/trace": _trace,
    "/api/members": _members,
    **{f"/static/{name}": partial(_file, name) for name in FILE_TYPES},
}
