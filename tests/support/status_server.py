"""A status server on loopback, for tests of what it answers."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from consumer.observe.status.board import StatusBoard
from consumer.observe.status.server import StatusServer
from consumer.settings import HttpSettings
from tests.support.service_process import wait_until


@contextmanager
def running_status_server(
    board: StatusBoard, registry: CollectorRegistry, host: str | None = "127.0.0.1"
) -> Iterator[StatusServer]:
    """Answers within the block; after it, its connections are closed.

    They log after they have answered, and the next test may check what is logged or printed. Clients must have closed
    their connections by then.
    """
    server = StatusServer(HttpSettings(host=host, port=0), board, registry)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        wait_until(lambda: not server.connections, "every connection is closed")
