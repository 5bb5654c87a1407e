"""The OMS sandbox on a socket: on its own thread (``SandboxServer``), or as a whole process (``serve``)."""

import signal
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import uvicorn
from starlette.applications import Starlette

from consumer.errors import InvariantError, SettingsError, StopError
from consumer.sandbox.oms.app import create_app
from consumer.sandbox.oms.context import Sandbox
from consumer.sandbox.oms.http import TransportInScope
from consumer.sandbox.oms.settings import SandboxSettings
from consumer.sandbox.oms.state import Clock, SandboxState

_BACKLOG: Final = 1_024
_CONNECTIONS_MAX: Final = 1_000
_HEADER_BYTES_MAX: Final = 64 * 1024
_KEEP_ALIVE_SECONDS: Final = 75
"""Longer than clients keep idle connections, so that the server does not close one just as a client sends on it."""
_SHUTDOWN_SECONDS: Final = 5
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 60.0
"""Starting and stopping take a fraction of a second, but more on a busy machine."""
_START_POLL_SECONDS: Final = 0.01


class SandboxServer:
    """A sandbox that listens during the ``with`` block, served by its own thread.

    ``url`` contains the actual port, ``state`` gives access without HTTP. Entering raises SettingsError if it cannot
    listen on host and port.
    """

    def __init__(self, settings: SandboxSettings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self._url: str | None = None
        self._app = create_app(settings, clock=clock)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The sandbox's URL, without a trailing slash. It must have been started."""
        if self._url is None:
            raise InvariantError("the sandbox was not started")
        return self._url

    @property
    def state(self) -> SandboxState:
        """The sandbox's state; its methods may be called from any thread."""
        return _sandbox_of(self._app).state

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start to listen; returns once requests are answered."""
        if self._server is not None:
            raise InvariantError("a sandbox server can be started only once")
        listener = _listen(self.settings)
        self._url = _url(self.settings.host, listener)
        self._server = _Server(_config(self._app), _sandbox_of(self._app))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="oms-sandbox", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self._server.should_exit = True
                listener.close()
                raise StopError(f"the OMS sandbox did not start within {_START_SECONDS:g} s; its log says why")
            time.sleep(_START_POLL_SECONDS)

    def stop(self) -> None:
        """Answer the requests in flight, ending all delays, and close; a second call does nothing."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            raise StopError(f"the OMS sandbox did not stop within {_STOP_SECONDS:g} s")


def serve(settings: SandboxSettings, announce: Callable[[str], None]) -> None:
    """Run a sandbox until SIGINT or SIGTERM, then return. Must be called on the main thread.

    ``announce`` is called with the sandbox's URL once it listens. Raises SettingsError if it cannot listen.
    """
    app = create_app(settings)
    listener = _listen(settings)
    server = _Server(_config(app), _sandbox_of(app))
    # uvicorn shuts down on either signal, then calls the previous handler: here it raises KeyboardInterrupt for both.
    previous = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        announce(_url(settings.host, listener))
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        listener.close()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """uvicorn's server, which ends all delays when it stops."""

    def __init__(self, config: uvicorn.Config, sandbox: Sandbox) -> None:
        super().__init__(config)
        self._sandbox = sandbox

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._sandbox.stopping.set()
        await super().shutdown(sockets)


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=TransportInScope,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,  # ``CountAnswers`` adds it
        limit_concurrency=_CONNECTIONS_MAX,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=_HEADER_BYTES_MAX,
    )


def _listen(settings: SandboxSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(
            f"the OMS sandbox cannot listen on {where} ({error}): choose another host or port"
        ) from error


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _sandbox_of(app: Starlette) -> Sandbox:
    sandbox: Sandbox = app.state.sandbox
    return sandbox
