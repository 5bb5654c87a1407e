"""The OMS sandbox as a web application: the OMS's own endpoints, and endpoints to inspect it and to inject faults.

| path | what |
| --- | --- |
| POST /oauthserver/oauth2/token | a token for an API key and its secret |
| POST /api/platform/applications/authtickets/oauth | the same for Unified Commerce |
| POST /inv/api/v5/inventory/refresh | Inventory Specific: accepts only tokens of its own key |
| POST /api/v5/inventory/refresh | Inventory V5: accepts only tokens of its own key |
| POST /commerce/inventory/v5/inventory/refresh | Unified Commerce: the same, and requires the tenant header |
| POST /commerce/inventory/v5/inventory/smart-refresh[/] | the same, applied at once if it is small |
| GET /inv/api/v1/queue/{jobID}, /api/v1/queue/{jobID}, /commerce/inventory/v1/queue/{jobID} | one job |
| GET /commerce/inventory/v1/queue[?locationCode=][&types=][&limit=] | the newest jobs |
| GET /api/platform/tenants/{id} | the tenant of Unified Commerce, with the host that serves it |
| GET / | the status page |
| GET /sandbox/inventory[?location=], /sandbox/jobs, /sandbox/summary | current items, jobs with their cost, totals |
| GET /sandbox/applied[?location=][&after=] | when each item was applied, by which request; after a number |
| GET, POST, DELETE /sandbox/faults | list, add, or remove all faults |

The paths of Unified Commerce also work below ``/api``, where the vendor's own client looks for them.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, TypeVar

import anyio.to_thread
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from consumer.errors import InvariantError
from consumer.sandbox.oms.access import Endpoint, access_denied, form_token, gateway_answer, json_token, tenant
from consumer.sandbox.oms.context import Sandbox, sandbox_of
from consumer.sandbox.oms.errors import OmsCode, RefusalError
from consumer.sandbox.oms.faults.outcome import CallOutcome, JobIdStyle
from consumer.sandbox.oms.faults.scripted import FaultRequest
from consumer.sandbox.oms.http import CountAnswers, job_id_text, json_body, replacement_answer
from consumer.sandbox.oms.page import render_page
from consumer.sandbox.oms.reports import REFRESH, applied_json, oms_job, sandbox_job, summary_json, unified_job
from consumer.sandbox.oms.settings import Package, SandboxSettings
from consumer.sandbox.oms.smart_refresh import SyncRefresh
from consumer.sandbox.oms.state import Clock, SandboxState
from consumer.sandbox.oms.validation import Refresh

TOKEN_PATH: Final = "/oauthserver/oauth2/token"  # noqa: S105 - a path
UNIFIED_TOKEN_PATH: Final = "/api/platform/applications/authtickets/oauth"  # noqa: S105 - a path
REFRESH_PATHS: Final = {
    Package.SPECIFIC: "/inv/api/v5/inventory/refresh",
    Package.V5: "/api/v5/inventory/refresh",
    Package.UNIFIED: "/commerce/inventory/v5/inventory/refresh",
}
JOB_PATHS: Final = {
    Package.SPECIFIC: "/inv/api/v1/queue/{job_id}",
    Package.V5: "/api/v1/queue/{job_id}",
    Package.UNIFIED: "/commerce/inventory/v1/queue/{job_id}",
}
JOB_LIST_PATH: Final = "/commerce/inventory/v1/queue"
SMART_REFRESH_PATH: Final = "/commerce/inventory/v5/inventory/smart-refresh"
TENANT_PATH: Final = "/api/platform/tenants/{tenant_id}"
UNIFIED_BASE: Final = "/api"
"""What the addresses of the vendor's client have before the paths of Unified Commerce."""
JOBS_LISTED: Final = 100
"""Jobs in a list whose request has no limit."""

Parsed = TypeVar("Parsed", bound=Refresh | SyncRefresh)
Parse: TypeAlias = Callable[[Sandbox, bytes, Package], Parsed]
Accept: TypeAlias = Callable[[SandboxState, Parsed, CallOutcome], Response]

_FAULTS_BODY_BYTES_MAX: Final = 1024 * 1024
_INLINE_BYTES_MAX: Final = 64 * 1024
"""Bodies up to this size are validated on the event loop (well below 2 ms); larger ones on a worker thread."""
_PAGE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}


def create_app(settings: SandboxSettings, *, clock: Clock | None = None) -> Starlette:
    """The sandbox's application; its ``state.sandbox.state`` is the ``SandboxState``.

    ``clock`` returns seconds since 1970 and never goes back; by default it is the machine's clock.
    """
    sandbox = Sandbox(SandboxState(settings, clock))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        sandbox.wake_on_added_jobs()
        finish_jobs = asyncio.create_task(sandbox.finish_jobs())
        try:
            yield
        finally:
            finish_jobs.cancel()
            await asyncio.wait([finish_jobs])
            sandbox.state.on_job_added = lambda: None

    routes = [Route("/", _page), Route(TOKEN_PATH, form_token, methods=["POST"])]
    routes += [Route(UNIFIED_TOKEN_PATH, json_token, methods=["POST"])]
    routes += [Route(TENANT_PATH, tenant, methods=["GET"])]
    routes += [Route(path, _refresh_at(package), methods=["POST"]) for package, path in _paths(REFRESH_PATHS)]
    # The vendor's pages have the slash at its end, and so has its client; both are accepted.
    smart = [base + path for base in ("", UNIFIED_BASE) for path in (SMART_REFRESH_PATH, f"{SMART_REFRESH_PATH}/")]
    routes += [Route(path, _smart_refresh, methods=["POST"]) for path in smart]
    routes += [Route(path, _job_at(package), methods=["GET"]) for package, path in _paths(JOB_PATHS)]
    routes += [Route(base + JOB_LIST_PATH, _job_list, methods=["GET"]) for base in ("", UNIFIED_BASE)]
    routes += [
        Route("/sandbox/inventory", _inventory),
        Route("/sandbox/applied", _applied),
        Route("/sandbox/jobs", _jobs),
        Route("/sandbox/summary", _summary),
        Route("/sandbox/faults", _faults, methods=["GET", "POST", "DELETE"]),
    ]
    app = Starlette(
        debug=False,
        routes=routes,
        exception_handlers={RefusalError: _refused, HTTPException: _http_error},
        lifespan=lifespan,
    )
    app.add_middleware(CountAnswers, state=sandbox.state)
    app.router.redirect_slashes = False
    app.state.sandbox = sandbox
    return app


def _paths(paths: Mapping[Package, str]) -> list[tuple[Package, str]]:
    return [*paths.items(), (Package.UNIFIED, UNIFIED_BASE + paths[Package.UNIFIED])]


def _refresh_at(package: Package) -> Endpoint:
    async def refresh(request: Request) -> Response:
        return await _refresh(request, package, Sandbox.parse_refresh, _job_answer)

    return refresh


async def _smart_refresh(request: Request) -> Response:
    return await _refresh(request, Package.UNIFIED, Sandbox.parse_smart_refresh, _smart_answer)


async def _refresh(request: Request, package: Package, parse: Parse[Parsed], answer: Accept[Parsed]) -> Response:
    """Check the call, read its body, accept the request and answer it, unless a fault changes that.

    ``answer`` queues the request, or applies it, and returns the regular answer.
    """
    sandbox = sandbox_of(request)
    arrived = sandbox.state.clock()
    denied = gateway_answer(request) or access_denied(request, package, "refresh")
    if denied is not None:
        return denied
    body = await json_body(request, sandbox.state.settings.max_body_bytes)
    sandbox.state.count_bytes(len(body))
    denied = gateway_answer(request, body)
    if denied is not None:
        return denied
    if len(body) > _INLINE_BYTES_MAX:
        parsed = await anyio.to_thread.run_sync(parse, sandbox, body, package)
    else:
        parsed = parse(sandbox, body, package)
    with sandbox.state.in_flight(parsed.location, arrived):
        _, delay_seconds = sandbox.state.script()
        await sandbox.delay(delay_seconds)
        outcome = sandbox.state.apply_faults("refresh", parsed.location)
        await sandbox.delay(outcome.delay_before_queue_seconds)
        answered = answer(sandbox.state, parsed, outcome) if outcome.is_queued else None
        await sandbox.delay(outcome.delay_after_queue_seconds)
    replacement = replacement_answer(outcome)
    if replacement is not None:
        return replacement
    if answered is None:
        raise InvariantError("a request whose answer is not replaced was not queued")
    return answered


def _job_answer(state: SandboxState, refresh: Refresh, outcome: CallOutcome) -> Response:
    job_id = state.accept(refresh, outcome.job)
    return _job_id_answer(job_id, outcome.job_id_style or state.settings.job_id_style)


def _smart_answer(state: SandboxState, refresh: Refresh | SyncRefresh, outcome: CallOutcome) -> Response:
    form = outcome.sync_form
    if isinstance(refresh, Refresh):
        job_id = job_id_text(state.accept(refresh, outcome.job), outcome.job_id_style or "string")
        method = "" if form == "no-method" else '"method": "async", '
        return Response(f'{{{method}"jobID": {job_id}}}', media_type="application/json")
    results = state.apply_at_once(refresh, form)
    if form == "missing-result":
        results.pop()
    content = {"method": "sync", "jobID": None, "results": results}
    left_out = {"no-method": "method", "no-results": "results"}.get(form or "")
    return JSONResponse({name: value for name, value in content.items() if name != left_out})


def _job_id_answer(job_id: int, style: JobIdStyle) -> Response:
    return Response(f'{{"jobID": {job_id_text(job_id, style)}}}', media_type="application/json")


def _job_at(package: Package) -> Endpoint:
    async def job(request: Request) -> Response:
        denied = gateway_answer(request) or access_denied(request, package, "job")
        if denied is not None:
            return denied
        job_id = request.path_params["job_id"]
        if not re.fullmatch(r"[0-9]{1,19}", job_id):
            raise RefusalError(400, OmsCode.INVALID_ID, "the jobID must be a number of at most 19 digits")
        sandbox = sandbox_of(request)
        record = await anyio.to_thread.run_sync(sandbox.state.job, int(job_id))
        if record is None:
            raise RefusalError(404, OmsCode.NOT_FOUND, f"there is no job {job_id}")
        outcome = sandbox.state.apply_faults("job", record.location)
        await sandbox.delay(outcome.delay_before_queue_seconds + outcome.delay_after_queue_seconds)
        content = unified_job(record, sandbox.state.settings.tenant) if package is Package.UNIFIED else oms_job(record)
        return replacement_answer(outcome) or JSONResponse(content)

    return job


async def _job_list(request: Request) -> Response:
    """The newest jobs, of one location and of some types if they are given; ``limit`` of them."""
    denied = gateway_answer(request) or access_denied(request, Package.UNIFIED, "job")
    if denied is not None:
        return denied
    location = request.query_params.get("locationCode")
    types = request.query_params.getlist("types")
    limit = request.query_params.get("limit", str(JOBS_LISTED))
    if not re.fullmatch(r"[0-9]{1,4}", limit):
        raise RefusalError(400, OmsCode.INVALID_ID, "limit must be a number of at most 4 digits")
    sandbox = sandbox_of(request)
    records = await anyio.to_thread.run_sync(sandbox.state.jobs)
    outcome = sandbox.state.apply_faults("job", location)
    await sandbox.delay(outcome.delay_before_queue_seconds + outcome.delay_after_queue_seconds)
    listed = reversed(records) if not types or REFRESH in types else ()
    newest = [record for record in listed if location in (None, record.location)][: int(limit)]
    jobs = [unified_job(record, sandbox.state.settings.tenant) for record in newest]
    return replacement_answer(outcome) or JSONResponse(jobs)


# The next five are not coroutines, so that starlette runs them on worker threads: they may copy a lot.


def _inventory(request: Request) -> Response:
    location = request.query_params.get("location")
    return JSONResponse({"locations": sandbox_of(request).state.inventory(location)})


def _applied(request: Request) -> Response:
    after = request.query_params.get("after", "0")
    if not re.fullmatch(r"[0-9]{1,15}", after):
        raise RefusalError(400, OmsCode.INVALID_ID, "after must be a number of at most 15 digits")
    applied = sandbox_of(request).state.applied(request.query_params.get("location"), after=int(after))
    return JSONResponse({"applied": applied_json(applied)})


def _jobs(request: Request) -> Response:
    return JSONResponse({"jobs": [sandbox_job(record) for record in sandbox_of(request).state.jobs()]})


def _summary(request: Request) -> Response:
    return JSONResponse(summary_json(sandbox_of(request).state.summary()))


def _page(request: Request) -> Response:
    state = sandbox_of(request).state
    return HTMLResponse(render_page(state.summary(), state.jobs(), state.settings), headers=_PAGE_HEADERS)


async def _faults(request: Request) -> Response:
    state = sandbox_of(request).state
    if request.method == "DELETE":
        state.clear_faults()
    elif request.method == "POST":
        body = await json_body(request, _FAULTS_BODY_BYTES_MAX)
        try:
            faults = FaultRequest.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the body"
            raise RefusalError(400, OmsCode.INVALID_REQUEST_DATA, f"{where}: {first['msg']}") from None
        if not state.add_faults(faults):
            message = "there can be at most 10,000 scripted answers and 100 fault rules"
            raise RefusalError(400, OmsCode.BAD_REQUEST, message)
    left, delay = state.script()
    hits = state.summary().fault_hits
    return JSONResponse({"answers_left": left, "delay_seconds": delay, "rules": state.fault_rules(), "hits": hits})


def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusalError):
        raise error
    body = error.unified_body() if _is_unified(request) else error.body()
    return JSONResponse(body, status_code=error.status)


def _is_unified(request: Request) -> bool:
    return request.url.path.startswith(("/commerce/", f"{UNIFIED_BASE}/commerce/", f"{UNIFIED_BASE}/platform/"))


def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own errors (unknown path, wrong method) in the OMS's format."""
    if not isinstance(error, HTTPException):
        raise error
    codes = {404: OmsCode.NOT_FOUND, 405: OmsCode.NOT_ALLOWED}
    messages = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not allowed here"}
    code = codes.get(error.status_code, OmsCode.BAD_REQUEST)
    refusal = RefusalError(error.status_code, code, messages.get(error.status_code, error.detail))
    body = refusal.unified_body() if _is_unified(request) else refusal.body()
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)
