"""HTTP below the sandbox's endpoints: bounded bodies, counted answers, connections dropped on purpose."""

import asyncio
import socket
import struct
from email.utils import formatdate
from typing import Final, cast

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from consumer.sandbox.oms.errors import OmsCode, RefusalError
from consumer.sandbox.oms.faults.outcome import CallOutcome, CannedAnswer, ConnectionDrop, JobIdStyle
from consumer.sandbox.oms.state import SandboxState

DROPPED: Final = "dropped"
"""Counts connections dropped on purpose, in place of an HTTP status."""

_ENDPOINTS: Final = {
    "/oauth2/token": "token",
    "/authtickets/oauth": "token",
    "/v5/inventory/refresh": "refresh",
    "/v5/inventory/smart-refresh": "smart-refresh",
}
"""By the end of the path."""
_TRANSPORT: Final = "transport"
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with 0 seconds: closing the socket then sends RST instead of FIN."""


class TransportInScope(H11Protocol):
    """uvicorn's HTTP/1.1 with the connection's transport in the scope's state, for ``DroppedConnection``.

    It also sets TCP_NODELAY. asyncio does so only for sockets created with IPPROTO_TCP, and ``socket.create_server``
    does not create them that way. Without it an answer, written in two parts, waits 40 ms for the client's ACK.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the parent class
        """Put the transport into the state that every request's scope gets."""
        self.app_state = {**self.app_state, _TRANSPORT: transport}
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)


class DroppedConnection(Response):
    """No answer: the connection is reset (RST) or closed (FIN) instead."""

    def __init__(self, drop: ConnectionDrop) -> None:
        super().__init__()
        self._drop = drop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - nothing is sent
        """Drop the connection; return once the server has noticed, so that it does not expect an answer."""
        transport = cast("asyncio.Transport", scope["state"][_TRANSPORT])
        if self._drop == "reset":
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        scope["app"].state.sandbox.state.count_answer(endpoint_of(scope), DROPPED)
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


def replacement_answer(outcome: CallOutcome) -> Response | None:
    """What is sent instead of the regular answer; None if the outcome does not replace it."""
    if outcome.drop is not None:
        return DroppedConnection(outcome.drop)
    return None if outcome.answer is None else canned_response(outcome.answer)


def canned_response(answer: CannedAnswer) -> Response:
    """The answer as a response."""
    return Response(answer.body, answer.status, dict(answer.headers), answer.media_type)


def job_id_text(job_id: int, style: JobIdStyle) -> str:
    """The jobID as it is written in an answer's JSON."""
    texts: dict[JobIdStyle, str] = {
        "integer": str(job_id),
        "leading-zero": f"0{job_id}",
        "string": f'"{job_id}"',
        "float": f"{job_id}.0",
        "blanks": f'" {job_id} "',
    }
    return texts[style]


class CountAnswers:
    """Middleware that counts each answer by endpoint and HTTP status, before its first byte is sent, and dates it."""

    def __init__(self, app: ASGIApp, state: SandboxState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the answer, and pass everything on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._state.count_answer(endpoint_of(scope), str(message["status"]))
                MutableHeaders(scope=message).setdefault("Date", formatdate(self._state.date(), usegmt=True))
            await send(message)

        await self._app(scope, receive, counted)


def endpoint_of(scope: Scope) -> str:
    """The name under which a request is counted: token, refresh, smart-refresh, job, sandbox, or other."""
    path: str = scope["path"]
    if path.startswith("/sandbox/") or path == "/":
        return "sandbox"
    for ending, name in _ENDPOINTS.items():
        if path.rstrip("/").endswith(ending):
            return name
    return "job" if "/v1/queue" in path else "other"


async def json_body(request: Request, bytes_max: int) -> bytes:
    """The bytes of a JSON body. Raises RefusalError: 415 for another media type, 413 if too large, 400 if empty."""
    if content_type(request) != "application/json":
        raise RefusalError(415, OmsCode.BAD_REQUEST, "the body must be application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusalError(415, OmsCode.BAD_REQUEST, "the body must not be compressed")
    body = await read_body(request, bytes_max)
    if not body:
        raise RefusalError(400, OmsCode.MISSING_REQUEST_DATA, "the body is empty")
    return body


def content_type(request: Request) -> str | None:
    """The body's media type in lower case, without parameters; None without the header."""
    header = request.headers.get("content-type")
    return None if header is None else header.partition(";")[0].strip().lower()


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The request's body. Raises RefusalError (413) as soon as it is found to be larger than ``bytes_max``."""
    declared = request.headers.get("content-length", "0")
    too_large = RefusalError(413, OmsCode.BAD_REQUEST, f"the body may have at most {bytes_max} bytes")
    # h11 has already refused a Content-Length that is not a number.
    if int(declared) > bytes_max:
        raise too_large
    parts = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > bytes_max:
            raise too_large
        parts.append(part)
    return b"".join(parts)
