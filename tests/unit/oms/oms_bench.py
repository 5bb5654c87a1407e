"""A client with its clock, and an OMS that answers from a script behind httpx's mock transport."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from consumer.core.changes.blocks import Rows
from consumer.core.oms.job_schedule import JobReport
from consumer.oms.client import HttpRefreshClient
from consumer.ports import Answered, Submission
from consumer.settings import OmsSettings
from tests.support.frames import change, frame

ANSWER_SECONDS_MAX = 60.0
SETTINGS = OmsSettings.model_validate(
    {
        "base_url": "https://oms.example/",
        "token_url": "https://auth.example/oauthserver/oauth2/token",
        "api_key": "the-key",
        "api_secret": "the-secret",
        "max_in_flight": 4,
    }
)

Reply = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


@dataclass
class Clock:
    now: float = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now


@dataclass
class ScriptedOms:
    """Answers from its lists of refresh and token replies, then with default ones; keeps all requests."""

    refreshes: list[Reply] = field(default_factory=list)
    token_replies: list[Reply] = field(default_factory=list)
    expires_in: Any = 3_600
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        is_token = request.url.host == "auth.example"
        self.requests.append(request)
        script = self.token_replies if is_token else self.refreshes
        reply = script.pop(0) if script else self._usual(is_token=is_token)
        if isinstance(reply, Exception):
            raise reply
        return reply(request) if callable(reply) else reply

    def _usual(self, *, is_token: bool) -> httpx.Response:
        if is_token:
            token = f"token-{len(self.sent_to('auth.example'))}"
            return httpx.Response(
                200, json={"access_token": token, "token_type": "bearer", "expires_in": self.expires_in}
            )
        return httpx.Response(200, json={"jobID": 42})

    def sent_to(self, host: str) -> list[httpx.Request]:
        return [request for request in self.requests if request.url.host == host]

    @property
    def bearers(self) -> list[str]:
        """The tokens of the refresh requests."""
        return [request.headers["Authorization"].removeprefix("Bearer ") for request in self.sent_to("oms.example")]


@dataclass
class Bench:
    """A client, the OMS it talks to, and the clock it reads."""

    oms: ScriptedOms
    clock: Clock
    client: HttpRefreshClient
    submitted: int = 0

    def submit(self, *skus: str, location: str = "Rome", age_seconds: float = 0.0, is_smart: bool = False) -> int:
        self.submitted += 1
        rows = frame(change(location, sku, offset=offset) for offset, sku in enumerate(skus or ("a",)))
        self.client.submit(
            Submission(self.submitted, location, Rows(rows), self.clock.now - age_seconds, is_smart=is_smart)
        )
        return self.submitted

    def answered(self) -> Answered:
        """Wait for the next answer."""
        self.client.wait(ANSWER_SECONDS_MAX)
        (answered,) = self.client.answers()
        return answered

    def asked(self, *job_ids: str) -> list[JobReport]:
        """Ask about these jobs at the same time, and wait for the reports."""
        assert self.client.jobs is not None
        for job_id in job_ids:
            self.client.jobs.ask(job_id)
        reports: list[JobReport] = []
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while len(reports) < len(job_ids):
            assert time.monotonic() < deadline, "no report came"
            time.sleep(0.002)
            reports += self.client.jobs.reports()
        return reports

    def send(self, *skus: str, age_seconds: float = 0.0, is_smart: bool = False) -> Answered:
        self.submit(*skus, age_seconds=age_seconds, is_smart=is_smart)
        return self.answered()


MakeBench = Callable[..., Bench]
