"""The status server: an HTTP server with a few read-only pages, in a thread of its own.

It answers GET and HEAD:

- ``/healthz``, for a liveness probe: 200 while the loop is alive, else 503 and the reason.
- ``/readyz``, for a readiness probe: 200 once the process has joined its group (a spare member without partitions is
  ready too) and as long as nothing needs an operator, else 503 and the reason. An outage of the OMS or of the schema
  registry does not make a process unready: it must not block a rollout.
- ``/metrics``: Prometheus metrics. ``/``: the status page, with its files below ``/static/``.
- ``/api/*``: what the page shows as JSON (``api``); ``/api/status``: the latest snapshot and the settings.

Probes are answered by the server's own thread, scrapes and pages are made on a few others: neither waits for a page.
What a client can use is bounded in time, bytes and connections (``connection``).
"""

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Final, cast

import structlog
import uvicorn
from prometheus_client import CollectorRegistry, make_wsgi_app
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consumer.errors import SettingsError
from consumer.observe.status.board import StatusBoard
from consumer.observe.status.connection import (
    CONNECTIONS_MAX,
    REQUEST_BYTES_MAX,
    SECURITY_HEADERS,
    SERVER_NAME,
    Connection,
    Opened,
)
from consumer.settings import HttpSettings

WORKERS: Final = 4
"""Pages that are made at a time; they share one processor with the loop. Scrapes have one more."""
STOP_SECONDS_MAX: Final = 5.0
_SHUTDOWN_SECONDS: Final = 1
"""For responses that are being sent when the server stops."""
ALL_IPV6: Final = "::"
ALL_IPV4: Final = "0.0.0.0"  # noqa: S104 - probes and Prometheus connect from outside the pod
METHODS: Final = ("GET", "HEAD")

_log = structlog.get_logger("inventory_refresh.status")

Answer = Callable[[Request], Response]
"""Makes the response to a request, on a worker."""


class StatusServer:
    """The server in its thread. ``port`` is the one it listens on, also if the setting is 0 (any free port)."""

    def __init__(self, settings: HttpSettings, board: StatusBoard, registry: CollectorRegistry) -> None:
        """Listen, without answering yet. Raises SettingsError if the address cannot be used."""
        self._listener = _listen(settings)
        self.port: int = self._listener.getsockname()[1]
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="status-worker")
        self._scrapes = ThreadPoolExecutor(1, thread_name_prefix="status-scrape")
        self._opened: Opened = {}
        application = _application(board, registry, self._workers, self._scrapes)
        self._server = uvicorn.Server(_config(application, self._opened))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, name="status", daemon=True
        )

    @property
    def url(self) -> str:
        """A URL of this server for clients on this machine."""
        host = str(self._listener.getsockname()[0])
        host = {ALL_IPV6: "127.0.0.1", ALL_IPV4: "127.0.0.1"}.get(host, host)
        return f"http://{_in_url(host)}:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._opened)

    def start(self) -> None:
        """Start to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, within a few seconds. Connections that are still open end with the process."""
        if self._thread.is_alive():
            self._server.should_exit = True
            self._thread.join(STOP_SECONDS_MAX)
        self._listener.close()
        for threads in (self._workers, self._scrapes):
            threads.shutdown(wait=False, cancel_futures=True)


def _config(application: ASGIApp, opened: Opened) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        loop="asyncio",
        http=cast("type[asyncio.Protocol]", partial(Connection, opened)),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("Server", SERVER_NAME), ("Connection", "close")],
        backlog=CONNECTIONS_MAX,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=2 * REQUEST_BYTES_MAX,
    )


def _listen(settings: HttpSettings) -> socket.socket:
    """A socket at the address of the settings; without one, at all addresses. Raises SettingsError."""
    host = settings.host or (ALL_IPV6 if _has_ipv6() else ALL_IPV4)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = None
    try:
        # asyncio sends small responses at once (TCP_NODELAY) only on sockets that name their protocol.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # At all addresses it also accepts IPv4, whatever the machine's default is.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != ALL_IPV6)
        listener.bind((host, settings.port))
        listener.listen(CONNECTIONS_MAX)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise SettingsError(
            f"http.port: cannot listen on {_in_url(host)}:{settings.port}: {error.strerror or error}; "
            "choose another http.port or http.host"
        ) from None
    return listener


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _has_ipv6() -> bool:
    """Whether this machine has IPv6: the kernel may be without it, or have it switched off for all interfaces."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((ALL_IPV6, 0))
    except OSError:
        return False
    return True


# Pages


def _application(
    board: StatusBoard, registry: CollectorRegistry, workers: ThreadPoolExecutor, scrapes: ThreadPoolExecutor
) -> ASGIApp:
    answers: dict[str, Answer] = {
        "/": partial(_content, board),
        "/api/status": lambda _: Response(json.dumps(board.status(), indent=2) + "\n", media_type="application/json"),
        "/api/{name}": partial(_content, board),
        "/static/{name}": partial(_content, board),
    }
    probes = {"/healthz": board.stalled, "/readyz": board.not_ready}
    routes = [Route(path, _on_worker(answer, workers)) for path, answer in answers.items()]
    routes.append(Route("/metrics", _on_worker(partial(_metrics, registry), scrapes)))
    routes += [Route(path, _probe(problem)) for path, problem in probes.items()]
    return _ReadOnly(Router(routes, redirect_slashes=False, default=PlainTextResponse("not found\n", 404)))


def _content(board: StatusBoard, request: Request) -> Response:
    from consumer.observe.status import content  # noqa: PLC0415 - see its docstring

    return content.answer(board, request)


def _on_worker(answer: Answer, workers: ThreadPoolExecutor) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        return await asyncio.get_running_loop().run_in_executor(workers, answer, request)

    return endpoint


def _probe(problem: Callable[[], str | None]) -> Callable[[Request], object]:
    async def endpoint(_request: Request) -> Response:
        found = problem()
        status = HTTPStatus.OK.value if found is None else HTTPStatus.SERVICE_UNAVAILABLE.value
        return PlainTextResponse(f"{found or 'ok'}\n", status)

    return endpoint


def _metrics(registry: CollectorRegistry, request: Request) -> Response:
    """The official client's own answer, in the format and encoding that the scrape asks for."""
    response = Response()
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/metrics",
        "QUERY_STRING": request.scope["query_string"].decode("latin-1"),
        "HTTP_ACCEPT": request.headers.get("accept", ""),
        "HTTP_ACCEPT_ENCODING": request.headers.get("accept-encoding", ""),
    }

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        response.status_code = int(status.partition(" ")[0])
        for name, value in headers:
            response.headers[name] = value

    response.body = b"".join(make_wsgi_app(registry)(environ, start_response))
    response.headers["Content-Length"] = str(len(response.body))
    return response


class _ReadOnly:
    """Middleware: only GET and HEAD, the security headers on every response, and an answer also to a bug."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status: int | None = None

        async def send_secured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                headers.update(dict(SECURITY_HEADERS))
            await send(message)

        application = self._application if scope["method"] in METHODS else _READ_ONLY
        try:
            await application(scope, receive, send_secured)
        except Exception:  # noqa: BLE001 - whatever it is, it is a bug of a page and must not end the server
            _log.error("status_page_failed", exc_info=True)
            if status is None:
                await _FAILED(scope, receive, send_secured)
        request = f"{scope['method']} {scope['path']}"
        _log.debug(
            "status_request", client=scope["client"][0] if scope["client"] else "", request=request, status=status
        )


_READ_ONLY: Final = PlainTextResponse("read only\n", 405, {"Allow": ", ".join(METHODS)})
_FAILED: Final = PlainTextResponse("this page could not be made; the log says why\n", 500)
