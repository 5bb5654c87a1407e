"""The sandbox's HTTP below its endpoints: bounded bodies, counted answers, connections dropped on purpose."""

import asyncio
import socket
import struct
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from consumer.sandbox.oms.errors import OmsCode, RefusalError
from consumer.sandbox.oms.faults.outcome import CallOutcome, CannedAnswer
from consumer.sandbox.oms.state import SandboxState

LOST: Final = "lost"
"""Under which a connection dropped on purpose is counted, in place of an HTTP code."""

_TRANSPORT: Final = "transport"
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, with 0 seconds: closing the socket then sends RST instead of FIN."""


class TransportInScope(H11Protocol):
    """uvicorn's HTTP/1.1, with the connection's transport in the scope's state, for ``DroppedConnection``.

    It sends without delay: asyncio sees to that only where a socket was made with TCP named as its protocol, and those
    of ``socket.create_server`` are not. Without it an answer, written in two parts, waits 40 ms for the client's ACK.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its parent does
        """Keep the transport where each request's scope is made from."""
        self.app_state = {**self.app_state, _TRANSPORT: transport}
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)


class DroppedConnection(Response):
    """No answer: the connection is reset (``abruptly``: RST) or closed (FIN) instead."""

    def __init__(self, *, abruptly: bool) -> None:
        super().__init__()
        self._abruptly = abruptly

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - there is nothing to send
        """Drop the connection and return once the server has seen it gone, so that it expects no answer any more."""
        transport = cast("asyncio.Transport", scope["state"][_TRANSPORT])
        if self._abruptly:
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        scope["app"].state.sandbox.state.count_request(endpoint_of(scope), LOST)
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


def end_of(fate: CallOutcome) -> Response | None:
    """What stands in place of the usual answer; None if nothing does."""
    if fate.drop is not None:
        return DroppedConnection(abruptly=fate.drop == "reset")
    return None if fate.answer is None else canned(fate.answer)


def canned(answer: CannedAnswer) -> Response:
    """The answer as it is sent."""
    return Response(answer.body, answer.status, dict(answer.headers), answer.media_type)


class CountAnswers:
    """Counts each answer by endpoint and HTTP code, before its first byte leaves."""

    def __init__(self, app: ASGIApp, state: SandboxState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._state.count_request(endpoint_of(scope), str(message["status"]))
            await send(message)

        await self._app(scope, receive, counted)


def endpoint_of(scope: Scope) -> str:
    """Under which name a request is counted: token, refresh, job, sandbox, or other."""
    path: str = scope["path"]
    if path.startswith("/sandbox/") or path == "/":
        return "sandbox"
    endings = {"/oauth2/token": "token", "/authtickets/oauth": "token", "/v5/inventory/refresh": "refresh"}
    for ending, name in endings.items():
        if path.endswith(ending):
            return name
    return "job" if "/v1/queue/" in path else "other"


async def json_body(request: Request, bytes_max: int) -> bytes:
    """The bytes of a JSON body. Raises RefusalError: 415 if it is of another kind, 413 if too large, 400 if empty."""
    if content_type(request) != "application/json":
        raise RefusalError(415, OmsCode.BAD_REQUEST, "the body must be application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusalError(415, OmsCode.BAD_REQUEST, "the body must not be compressed")
    body = await read_body(request, bytes_max)
    if not body:
        raise RefusalError(400, OmsCode.MISSING_REQUEST_DATA, "the body is empty")
    return body


def content_type(request: Request) -> str:
    """What the body is said to be, without parameters, in small letters; "" if nothing is said."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The request's body. Raises RefusalError (413) as soon as it is known to be larger than ``bytes_max``."""
    declared: Any = request.headers.get("content-length", "0")
    too_large = RefusalError(413, OmsCode.BAD_REQUEST, f"the body may have at most {bytes_max} bytes")
    # h11 has refused a Content-Length that is no number before this is reached.
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
