"""A plain client of a sandbox, and a clock that tests move by hand."""

from collections.abc import Callable
from typing import Any

import httpx

from consumer.sandbox.oms_app import REFRESH_PATHS, TOKEN_PATH
from consumer.sandbox.oms_server import SandboxServer
from consumer.sandbox.oms_settings import SPECIFIC_KEY, SPECIFIC_SECRET, V5_KEY, V5_SECRET, Package
from consumer.sandbox.oms_state import SandboxState

CREDENTIALS = {Package.SPECIFIC: (SPECIFIC_KEY, SPECIFIC_SECRET), Package.V5: (V5_KEY, V5_SECRET)}


class HandClock:
    """Seconds since 1970 that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class OmsCaller:
    """Calls one sandbox as it is told: no retries, the token of one package."""

    def __init__(self, server: SandboxServer, http: httpx.Client, package: Package) -> None:
        self.server = server
        self.http = http
        self.package = package
        self.token = ""
        self.renew()

    @property
    def state(self) -> SandboxState:
        return self.server.state

    def renew(self) -> None:
        answer = self.http.post(TOKEN_PATH, data={"grant_type": "client_credentials"}, auth=CREDENTIALS[self.package])
        self.token = answer.json()["access_token"]

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def refresh(self, location: str, items: list[dict[str, Any]]) -> httpx.Response:
        return self.send({"locationName": location, "items": items})

    def send(self, body: object, *, package: Package | None = None) -> httpx.Response:
        return self.http.post(REFRESH_PATHS[package or self.package], json=body, headers=self.bearer)

    def script(self, *answers: dict[str, Any], **order: object) -> None:
        answer = self.http.post("/sandbox/faults", json={"answers": answers, **order})
        assert answer.status_code == 200, answer.text

    def get(self, path: str) -> Any:
        return self.http.get(path).json()


MakeOms = Callable[..., OmsCaller]
