"""The OMS sandbox as a web application: the OMS's own endpoints, and those to look inside and to script faults.

| path | what |
| --- | --- |
| POST /oauthserver/oauth2/token | a token for an API key and its secret |
| POST /inv/api/v5/inventory/refresh | Inventory Specific: takes only tokens of its own key |
| POST /api/v5/inventory/refresh | Inventory V5: takes only tokens of its own key |
| GET /inv/api/v1/queue/{jobID}, GET /api/v1/queue/{jobID} | one job |
| GET / | a page for people |
| GET /sandbox/inventory[?location=], /sandbox/jobs, /sandbox/summary | what is held, what the jobs cost, totals |
| GET, POST, DELETE /sandbox/faults | scripted answers still to come; script more; clear them |
"""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs

import anyio.to_thread
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from consumer.sandbox.oms_errors import OmsCode, RefusalError
from consumer.sandbox.oms_faults import FaultOrder, ScriptedAnswer
from consumer.sandbox.oms_http import CountAnswers, DroppedConnection, read_body
from consumer.sandbox.oms_page import render_page
from consumer.sandbox.oms_rules import Refresh, count_refresh, read_refresh
from consumer.sandbox.oms_settings import Package, SandboxSettings
from consumer.sandbox.oms_state import Clock, SandboxState, oms_job, sandbox_job, summary_json

TOKEN_PATH: Final = "/oauthserver/oauth2/token"  # noqa: S105 - a path
REFRESH_PATHS: Final = {
    Package.SPECIFIC: "/inv/api/v5/inventory/refresh",
    Package.V5: "/api/v5/inventory/refresh",
}
JOB_PATHS: Final = {
    Package.SPECIFIC: "/inv/api/v1/queue/{job_id}",
    Package.V5: "/api/v1/queue/{job_id}",
}

_TOKEN_BODY_BYTES_MAX: Final = 16 * 1024
_FAULTS_BODY_BYTES_MAX: Final = 1024 * 1024
_INLINE_BYTES_MAX: Final = 64 * 1024
"""Bodies up to this size are checked on the event loop (well below 2 ms); larger ones in a worker thread."""
_PAGE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}

Endpoint = Callable[[Request], Awaitable[Response]]


class Sandbox:
    """What the endpoints share: the state, and the events of the loop they run on."""

    def __init__(self, state: SandboxState) -> None:
        self.state = state
        self.stopping = asyncio.Event()
        self._job_added = asyncio.Event()

    def hear_of_jobs(self) -> None:
        """Wake the worker whenever a job is added, from whichever thread. Call on the loop."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._job_added.set)

        self.state.job_added = wake

    async def work(self) -> None:
        """Work the queue off, until cancelled."""
        while True:
            self._job_added.clear()
            seconds = await anyio.to_thread.run_sync(self.state.work_off)
            await _wait(self._job_added, seconds)

    async def hang(self, seconds: float) -> None:
        """Wait, but no longer than the server lives."""
        if seconds > 0:
            await _wait(self.stopping, seconds)

    def read(self, body: bytes) -> Refresh:
        """Check a request's body as the settings say; raises RefusalError."""
        settings = self.state.settings
        check = read_refresh if settings.validation == "full" else count_refresh
        return check(body, max_items=settings.max_items)


def create_app(settings: SandboxSettings, *, clock: Clock | None = None) -> Starlette:
    """The sandbox's application; its ``state.sandbox.state`` is the ``SandboxState``.

    ``clock`` gives seconds since 1970, never going back; by default the machine's.
    """
    sandbox = Sandbox(SandboxState(settings, clock))

    @asynccontextmanager
    async def working(_: Starlette) -> AsyncGenerator[None]:
        sandbox.hear_of_jobs()
        worker = asyncio.create_task(sandbox.work())
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
            sandbox.state.job_added = lambda: None

    routes = [Route("/", _page), Route(TOKEN_PATH, _token, methods=["POST"])]
    routes += [Route(path, _refresh_at(package), methods=["POST"]) for package, path in REFRESH_PATHS.items()]
    routes += [Route(path, _job_at(package), methods=["GET"]) for package, path in JOB_PATHS.items()]
    routes += [
        Route("/sandbox/inventory", _inventory),
        Route("/sandbox/jobs", _jobs),
        Route("/sandbox/summary", _summary),
        Route("/sandbox/faults", _faults, methods=["GET", "POST", "DELETE"]),
    ]
    app = Starlette(
        debug=False,
        routes=routes,
        exception_handlers={RefusalError: _refused, HTTPException: _http_error},
        lifespan=working,
    )
    app.add_middleware(CountAnswers, state=sandbox.state)
    app.router.redirect_slashes = False
    app.state.sandbox = sandbox
    return app


async def _token(request: Request) -> Response:
    body = await read_body(request, _TOKEN_BODY_BYTES_MAX)
    if _content_type(request) != "application/x-www-form-urlencoded":
        return _oauth_error(400, "invalid_request", "the body must be application/x-www-form-urlencoded")
    try:
        form = parse_qs(body.decode("ascii"), strict_parsing=bool(body), max_num_fields=20)
    except ValueError:
        return _oauth_error(400, "invalid_request", "the body is no form")
    grant = form.get("grant_type", [])
    if not grant:
        return _oauth_error(400, "invalid_request", "grant_type is required")
    if grant != ["client_credentials"]:
        return _oauth_error(400, "unsupported_grant_type", "grant_type must be client_credentials")
    state = _sandbox(request).state
    credentials = _basic_credentials(request)
    token = state.issue_token(*credentials) if credentials is not None else None
    if token is None:
        wrong = _oauth_error(401, "invalid_client", "the API key or its secret is wrong")
        wrong.headers["WWW-Authenticate"] = 'Basic realm="OMS sandbox"'
        return wrong
    answer = {"access_token": token, "token_type": "Bearer", "expires_in": state.settings.token_seconds}
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


def _refresh_at(package: Package) -> Endpoint:
    async def refresh(request: Request) -> Response:
        sandbox = _sandbox(request)
        arrived = sandbox.state.clock()
        refused = _unauthorised(request, package)
        if refused is not None:
            return refused
        body = await _json_body(request, sandbox.state.settings.max_body_bytes)
        sandbox.state.count_bytes(len(body))
        if len(body) > _INLINE_BYTES_MAX:
            asked = await anyio.to_thread.run_sync(sandbox.read, body)
        else:
            asked = sandbox.read(body)
        with sandbox.state.in_flight(asked.location, arrived):
            await sandbox.hang(sandbox.state.faults()[1])
            return await _answer(sandbox, asked)

    return refresh


async def _answer(sandbox: Sandbox, asked: Refresh) -> Response:
    """Queue the request and answer with its jobID, or do what the next scripted answer says."""
    state = sandbox.state
    script = state.take_fault(asked.location) or ScriptedAnswer()
    job_id = state.accept(asked, fails=script.fail_job) if script.queues_first() else None
    await sandbox.hang(script.hang_seconds)
    if script.drops_connection():
        return DroppedConnection(abruptly=script.reset is not None)
    if script.quota or script.status is not None:
        return _scripted(script)
    if job_id is None:
        job_id = state.accept(asked, fails=script.fail_job)
    return _job_id_answer(job_id, state.settings.job_id_style)


def _scripted(script: ScriptedAnswer) -> Response:
    headers = dict(script.headers)
    if script.retry_after is not None:
        headers["Retry-After"] = str(script.retry_after)
    if script.quota:
        headers["X-Mashery-Error-Code"] = "ERR_403_DEVELOPER_OVER_QPS"
        return Response("<h1>Developer Over Qps</h1>", status_code=403, headers=headers, media_type="text/html")
    status = script.status or 200
    if script.body is not None:
        return JSONResponse(script.body, status_code=status, headers=headers)
    return Response(script.body_text or "", status_code=status, headers=headers, media_type="application/json")


def _job_id_answer(job_id: int, style: str) -> Response:
    written = {"integer": str(job_id), "leading-zero": f"0{job_id}", "string": f'"{job_id}"'}[style]
    return Response(f'{{"jobID": {written}}}', media_type="application/json")


def _job_at(package: Package) -> Endpoint:
    async def job(request: Request) -> Response:
        refused = _unauthorised(request, package)
        if refused is not None:
            return refused
        job_id = request.path_params["job_id"]
        if not re.fullmatch(r"[0-9]{1,19}", job_id):
            raise RefusalError(400, OmsCode.INVALID_ID, "the jobID must be a number of at most 19 digits")
        record = await anyio.to_thread.run_sync(_sandbox(request).state.job, int(job_id))
        if record is None:
            raise RefusalError(404, OmsCode.NOT_FOUND, f"there is no job {job_id}")
        return JSONResponse(oms_job(record))

    return job


# The functions below are no coroutines: starlette runs them in worker threads, for they may copy much.


def _inventory(request: Request) -> Response:
    location = request.query_params.get("location")
    return JSONResponse({"locations": _sandbox(request).state.inventory(location)})


def _jobs(request: Request) -> Response:
    return JSONResponse({"jobs": [sandbox_job(record) for record in _sandbox(request).state.jobs()]})


def _summary(request: Request) -> Response:
    return JSONResponse(summary_json(_sandbox(request).state.summary()))


def _page(request: Request) -> Response:
    state = _sandbox(request).state
    return HTMLResponse(render_page(state.summary(), state.jobs(), state.settings), headers=_PAGE_HEADERS)


async def _faults(request: Request) -> Response:
    state = _sandbox(request).state
    if request.method == "DELETE":
        state.clear_faults()
    elif request.method == "POST":
        body = await _json_body(request, _FAULTS_BODY_BYTES_MAX)
        try:
            order = FaultOrder.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the body"
            raise RefusalError(400, OmsCode.INVALID_REQUEST_DATA, f"{place}: {first['msg']}") from None
        if not state.order_faults(order):
            raise RefusalError(400, OmsCode.BAD_REQUEST, "at most 10,000 scripted answers can be waiting")
    left, delay = state.faults()
    return JSONResponse({"answers_left": left, "delay_seconds": delay})


def _sandbox(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


def _unauthorised(request: Request, package: Package) -> Response | None:
    """The 401 or 403 for a request whose token is not good here, None for one that is."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    granted = _sandbox(request).state.package_of(token.strip()) if scheme.lower() == "bearer" else None
    if granted is None:
        answer = _oauth_error(401, "invalid_token", "the access token is missing, unknown, expired or revoked")
        answer.headers["WWW-Authenticate"] = 'Bearer realm="OMS sandbox", error="invalid_token"'
        return answer
    if granted is not package:
        raise RefusalError(403, OmsCode.NOT_AUTHORISED, f"this API key is for {granted}, not for {package}")
    return None


def _basic_credentials(request: Request) -> tuple[str, str] | None:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        key, separator, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (key, secret) if separator else None


async def _json_body(request: Request, bytes_max: int) -> bytes:
    if _content_type(request) != "application/json":
        raise RefusalError(415, OmsCode.BAD_REQUEST, "the body must be application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusalError(415, OmsCode.BAD_REQUEST, "the body must not be compressed")
    body = await read_body(request, bytes_max)
    if not body:
        raise RefusalError(400, OmsCode.MISSING_REQUEST_DATA, "the body is empty")
    return body


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _oauth_error(status: int, error: str, description: str) -> Response:
    return JSONResponse(
        {"error": error, "error_description": description}, status_code=status, headers={"Cache-Control": "no-store"}
    )


def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, RefusalError):
        raise error
    return JSONResponse(error.body(), status_code=error.status)


def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own errors (no such path, wrong method) as the OMS would say them."""
    if not isinstance(error, HTTPException):
        raise error
    codes = {404: OmsCode.NOT_FOUND, 405: OmsCode.NOT_ALLOWED}
    messages = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not allowed here"}
    body: dict[str, Any] = {
        "code": int(codes.get(error.status_code, OmsCode.BAD_REQUEST)),
        "message": messages.get(error.status_code, error.detail),
    }
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
