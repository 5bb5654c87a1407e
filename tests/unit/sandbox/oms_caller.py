"""A simple client of a sandbox, and a clock that tests advance."""

from collections.abc import Callable
from typing import Any

import httpx

from consumer.sandbox.oms.access import TENANT_HEADER
from consumer.sandbox.oms.app import JOB_PATHS, REFRESH_PATHS, SMART_REFRESH_PATH, TOKEN_PATH, UNIFIED_TOKEN_PATH
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import (
    SPECIFIC_KEY,
    SPECIFIC_SECRET,
    UNIFIED_KEY,
    UNIFIED_SECRET,
    V5_KEY,
    V5_SECRET,
    Package,
)
from consumer.sandbox.oms.state import SandboxState
from consumer.sandbox.oms.validation import LOCATION_FIELDS

CREDENTIALS = {
    Package.SPECIFIC: (SPECIFIC_KEY, SPECIFIC_SECRET),
    Package.V5: (V5_KEY, V5_SECRET),
    Package.UNIFIED: (UNIFIED_KEY, UNIFIED_SECRET),
}
GRANT = {"grant_type": "client_credentials"}


class ManualClock:
    """Seconds since 1970 that pass only in ``advance``."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class OmsCaller:
    """Calls one sandbox with the token of one package, without retries."""

    def __init__(self, server: SandboxServer, http: httpx.Client, package: Package) -> None:
        self.server = server
        self.http = http
        self.package = package
        self.token = self._fetch_token()

    @property
    def state(self) -> SandboxState:
        return self.server.state

    def renew(self) -> None:
        self.token = self._fetch_token()

    def _fetch_token(self) -> str:
        return str(self.request_token().json()["access_token"])

    def request_token(self, **fields: str) -> httpx.Response:
        key, secret = CREDENTIALS[self.package]
        if self.package is Package.UNIFIED:
            return self.http.post(UNIFIED_TOKEN_PATH, json={**GRANT, "client_id": key, "client_secret": secret})
        return self.http.post(TOKEN_PATH, data=GRANT | fields, auth=(key, secret))

    @property
    def bearer(self) -> dict[str, str]:
        """The headers of a call."""
        tenant = {TENANT_HEADER: str(self.server.settings.tenant)} if self.package is Package.UNIFIED else {}
        return {"Authorization": f"Bearer {self.token}", **tenant}

    def refresh(self, location: str, items: list[dict[str, Any]]) -> httpx.Response:
        return self.send(self.body(location, items))

    def smart_refresh(self, location: str, items: list[Any]) -> httpx.Response:
        return self.http.post(f"{SMART_REFRESH_PATH}/", json=self.body(location, items), headers=self.bearer)

    def body(self, location: str, items: list[Any]) -> dict[str, Any]:
        return {LOCATION_FIELDS[self.package]: location, "items": items}

    def job(self, job_id: object) -> httpx.Response:
        return self.http.get(JOB_PATHS[self.package].format(job_id=job_id), headers=self.bearer)

    def send(self, body: object, *, package: Package | None = None) -> httpx.Response:
        return self.http.post(REFRESH_PATHS[package or self.package], json=body, headers=self.bearer)

    def script(self, *answers: dict[str, Any], **keys: object) -> None:
        """Add scripted answers; ``keys`` are further keys of the request."""
        answer = self.http.post("/sandbox/faults", json={"answers": answers, **keys})
        assert answer.status_code == 200, answer.text

    def add_rules(self, *rules: dict[str, Any], **keys: object) -> None:
        """Add fault rules; ``keys`` are further keys of the request."""
        answer = self.http.post("/sandbox/faults", json={"rules": rules, **keys})
        assert answer.status_code == 200, answer.text

    def fault_hits(self) -> dict[str, int]:
        return self.state.summary().fault_hits

    def get(self, path: str) -> Any:
        return self.http.get(path).json()


MakeOms = Callable[..., OmsCaller]
