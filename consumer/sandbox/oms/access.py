"""Access to the sandbox: both token endpoints, and the check of each call's token, quota and tenant."""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Collection
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from consumer.sandbox.oms.context import sandbox_of
from consumer.sandbox.oms.errors import OmsCode, RefusalError
from consumer.sandbox.oms.faults.outcome import CallKind
from consumer.sandbox.oms.http import canned_response, content_type, read_body, replacement_answer
from consumer.sandbox.oms.settings import CLASSIC, Package

TENANT_HEADER: Final = "x-vol-tenant"

_TOKEN_BODY_BYTES_MAX: Final = 16 * 1024
_GRANT: Final = "client_credentials"

Endpoint = Callable[[Request], Awaitable[Response]]


async def form_token(request: Request) -> Response:
    """The older token endpoint: the grant in a form, credentials in the header or in the form."""
    body = await read_body(request, _TOKEN_BODY_BYTES_MAX)
    if content_type(request) != "application/x-www-form-urlencoded":
        return _oauth_error(400, "invalid_request", "the body must be application/x-www-form-urlencoded")
    try:
        form = parse_qs(body.decode("ascii"), strict_parsing=bool(body), max_num_fields=20)
    except ValueError:
        return _oauth_error(400, "invalid_request", "the body is not a form")
    grant = form.get("grant_type", [])
    if grant != [_GRANT]:
        return _wrong_grant(given=bool(grant))
    credentials = _basic_credentials(request)
    if credentials is None and "client_id" in form:
        credentials = (form["client_id"][0], form.get("client_secret", [""])[0])
    return await _token(request, credentials, CLASSIC, form.get("scope", [""])[0])


async def json_token(request: Request) -> Response:
    """The token endpoint of Unified Commerce: credentials and grant in a JSON body."""
    body = await read_body(request, _TOKEN_BODY_BYTES_MAX)
    if content_type(request) != "application/json":
        return _oauth_error(400, "invalid_request", "the body must be application/json")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return _oauth_error(400, "invalid_request", "the body is not a JSON object")
    grant = content.get("grant_type")
    if grant != _GRANT:
        return _wrong_grant(given=grant is not None)
    key, secret = content.get("client_id"), content.get("client_secret")
    if not isinstance(key, str) or not isinstance(secret, str):
        return _oauth_error(400, "invalid_request", "client_id and client_secret are required")
    return await _token(request, (key, secret), (Package.UNIFIED,), content.get("scope"))


async def tenant(request: Request) -> Response:
    """The tenant, as the vendor's client looks it up: ``domain`` is the host that the call came to.

    Such a client then sends everything to ``https://<domain>/api``, and so to a TLS proxy that it reached this by.
    """
    state = sandbox_of(request).state
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    granted = state.package_of(token.strip()) if scheme.lower() == "bearer" else None
    if granted is None:
        return _invalid_token()
    tenant_id = request.path_params["tenant_id"]
    if granted is not Package.UNIFIED or tenant_id != str(state.settings.tenant):
        raise RefusalError(403, OmsCode.NOT_AUTHORISED, f"this client_id may not see the tenant {tenant_id}")
    host = request.headers.get("host", "")
    return JSONResponse({"id": state.settings.tenant, "name": "sandbox", "domain": host, "sites": []})


def access_denied(request: Request, package: Package, call: CallKind) -> Response | None:
    """The answer to a call without a valid token (401) or over its quota (403); None if the call may pass.

    Raises RefusalError: 403 for a token of another package or for another tenant, 400 if the tenant is missing.
    """
    state = sandbox_of(request).state
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    granted = state.authenticate(token.strip(), call) if scheme.lower() == "bearer" else None
    if granted is None:
        return _invalid_token()
    over_limit = state.over_limit(call)
    if over_limit is not None:
        return canned_response(over_limit)
    if granted is not package:
        raise RefusalError(403, OmsCode.NOT_AUTHORISED, f"this API key is for {granted}, not for {package}")
    if package is Package.UNIFIED:
        _check_tenant(request, state.settings.tenant)
    return None


def gateway_answer(request: Request, body: bytes | None = None) -> Response | None:
    """What a gateway in front of the OMS answers, by a fault; None if it passes the call on.

    ``body`` is None before it was read.
    """
    answer = sandbox_of(request).state.gateway_answer(request.headers, body)
    return None if answer is None else canned_response(answer)


def _check_tenant(request: Request, tenant: int) -> None:
    named = request.headers.get(TENANT_HEADER, "").strip()
    if not named:
        raise RefusalError(400, OmsCode.MISSING_REQUEST_DATA, f"the header {TENANT_HEADER} is required")
    if named != str(tenant):
        raise RefusalError(403, OmsCode.NOT_AUTHORISED, f"{TENANT_HEADER}: this client_id may not act for this tenant")


async def _token(
    request: Request, credentials: tuple[str, str] | None, packages: Collection[Package], scope: object
) -> Response:
    sandbox = sandbox_of(request)
    package = None if credentials is None else sandbox.state.package_for(*credentials, packages)
    if package is None:
        wrong = _oauth_error(401, "invalid_client", "the API key or its secret is wrong")
        wrong.headers["WWW-Authenticate"] = 'Basic realm="OMS sandbox"'
        return wrong
    wanted = sandbox.state.wanted_scope()
    if wanted is not None and scope != wanted:
        return _oauth_error(400, "invalid_scope", f"the request must name the scope {wanted}")
    outcome = sandbox.state.apply_faults("token")
    await sandbox.delay(outcome.delay_before_queue_seconds + outcome.delay_after_queue_seconds)
    replacement = replacement_answer(outcome)
    if replacement is not None:
        return replacement
    token = sandbox.state.issue_token(package)
    answer = {"access_token": token, "token_type": "Bearer", "expires_in": sandbox.state.settings.token_seconds}
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


def _basic_credentials(request: Request) -> tuple[str, str] | None:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        key, separator, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (key, secret) if separator else None


def _wrong_grant(*, given: bool) -> Response:
    if given:
        return _oauth_error(400, "unsupported_grant_type", f"grant_type must be {_GRANT}")
    return _oauth_error(400, "invalid_request", "grant_type is required")


def _invalid_token() -> Response:
    answer = _oauth_error(401, "invalid_token", "the access token is missing, unknown, expired or revoked")
    answer.headers["WWW-Authenticate"] = 'Bearer realm="OMS sandbox", error="invalid_token"'
    return answer


def _oauth_error(status: int, error: str, description: str) -> Response:
    return JSONResponse(
        {"error": error, "error_description": description}, status_code=status, headers={"Cache-Control": "no-store"}
    )
