"""Sandboxes on real sockets."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import Package, SandboxSettings
from tests.unit.sandbox.oms_caller import MakeOms, ManualClock, OmsCaller

ANSWER_SECONDS_MAX = 60.0


def connect(server: SandboxServer) -> httpx.Client:
    return httpx.Client(base_url=server.url, trust_env=False, timeout=ANSWER_SECONDS_MAX)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def stopper() -> Iterator[ThreadPoolExecutor]:
    """Stops servers in the background: stopping one takes about 0.3 s."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture(scope="module")
def stopping(stopper: ThreadPoolExecutor) -> Iterator[list[Future[None]]]:
    """Servers that are being stopped; the module's teardown waits for all of them."""
    futures: list[Future[None]] = []
    yield futures
    for future in futures:
        future.result(ANSWER_SECONDS_MAX)


@pytest.fixture
def make_oms(stopper: ThreadPoolExecutor, stopping: list[Future[None]]) -> Iterator[MakeOms]:
    """Starts sandboxes with the given settings; they are stopped after the test."""
    started: list[tuple[SandboxServer, httpx.Client]] = []

    def make(*, clock: ManualClock | None = None, package: Package = Package.SPECIFIC, **settings: Any) -> OmsCaller:
        server = SandboxServer(SandboxSettings(**settings), clock=clock)
        server.start()
        http = connect(server)
        started.append((server, http))
        return OmsCaller(server, http, package)

    yield make
    for server, http in started:
        http.close()
        stopping.append(stopper.submit(server.stop))


@pytest.fixture(scope="module")
def quick_oms() -> Iterator[OmsCaller]:
    """One sandbox for all tests of a module that leave no state behind; its jobs finish at once."""
    with SandboxServer(SandboxSettings(time_scale=0)) as server, connect(server) as http:
        yield OmsCaller(server, http, Package.SPECIFIC)
