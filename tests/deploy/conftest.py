"""Fixtures of the deployment tests: helm, a real Kubernetes API server, and a namespace on it."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import go_tools
from tests.support.api_server import ApiServer, use_api_server
from tests.support.parts import or_skip
from tests.support.release import Release

FIRST_BUILD_SECONDS_MAX = int(2 * go_tools.BUILD_SECONDS_MAX)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Extend the timeout: the first test may have to build helm and the API server (``make tools``), for minutes."""
    for item in items:
        if {"helm", "api_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(FIRST_BUILD_SECONDS_MAX))


@pytest.fixture(scope="session")
def helm() -> Path:
    """The command ``helm``."""
    return or_skip(go_tools.helm)


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    with ExitStack() as stack:
        yield or_skip(lambda: use_api_server(stack))


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """A new namespace with the strictest Pod Security level."""
    name = f"shop-{uuid.uuid4().hex[:12]}"
    api_server.make_namespace(name, {"pod-security.kubernetes.io/enforce": "restricted"})
    return name


@pytest.fixture
def release(helm: Path, api_server: ApiServer, namespace: str) -> Callable[..., Release]:
    """Returns a function that creates a release in the namespace, not yet installed."""
    return lambda name="refresh": Release(helm, api_server, namespace, name)
