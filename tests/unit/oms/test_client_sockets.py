"""The client over real connections: behaviour that only sockets can show."""

import gc
import itertools
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from consumer.core.changes.blocks import Rows
from consumer.core.changes.items import ITEM_KEY
from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.job_schedule import JobReport, JobStatus
from consumer.oms.client import FenceClosedError, HttpRefreshClient, build_client
from consumer.oms.http import REPLY_BYTES_MAX, call, open_http
from consumer.ports import Answered, Submission
from tests.support.frames import change, frame
from tests.support.service_process import wait_until
from tests.unit.oms.oms_bench import SETTINGS

TIMEOUT_SECONDS = 60.0
SHORT_TIMEOUT_SECONDS = 1.0
"""For calls that only a timeout ends."""
WAIT_SECONDS_MAX = 90.0
Script = Callable[[socket.socket], None]


def respond(body: bytes, status: str = "200 OK", *headers: str) -> Script:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]

    def script(connection: socket.socket) -> None:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return script


JOB = respond(b'{"jobID": 9}')
TOKEN = respond(b'{"access_token": "the-token", "expires_in": 600}')


class RawServer:
    """Runs a script for each request, which writes any bytes it likes; token requests get a token."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.connections = 0
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while request := self._read(connection):
                if b"/token" in request.split(b"\r\n", 1)[0]:
                    TOKEN(connection)
                    continue
                self.requests.append(request)
                (self.scripts.pop(0) if self.scripts else JOB)(connection)

    def _read(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65_536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        length = next(lengths, 0)
        while len(body) < length:
            body += connection.recv(65_536)
        return head + b"\r\n\r\n" + body


@pytest.fixture
def server() -> Iterator[RawServer]:
    made = RawServer()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle connections are kept, even if a test takes long between two calls."""
    monkeypatch.setattr("consumer.oms.http.KEEP_ALIVE_SECONDS", 600.0)


class LateClock:
    """The machine's clock, ahead by ``late`` seconds."""

    def __init__(self) -> None:
        self.late = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.late


def make_client(url: str, *, clock: Callable[[], float] = time.monotonic, **settings: Any) -> HttpRefreshClient:
    fields = {"base_url": url, "token_url": f"{url}/token", "timeout": TIMEOUT_SECONDS, "max_in_flight": 1}
    return build_client(
        SETTINGS.model_copy(update=fields | settings),
        ITEM_KEY,
        monotonic=clock,
        wall=time.time,
        fence_seconds=300.0,
    )


@pytest.fixture
def client(server: RawServer) -> Iterator[HttpRefreshClient]:
    made = make_client(server.url)
    yield made
    made.close()


def send(client: HttpRefreshClient, number: int = 1) -> Answered:
    client.submit(Submission(number, "Rome", Rows(frame([change("Rome", "a")])), time.monotonic()))
    client.wait(WAIT_SECONDS_MAX)
    (answered,) = client.answers()
    return answered


def ask(client: HttpRefreshClient, job_id: str = "9") -> JobReport:
    assert client.jobs is not None
    client.jobs.ask(job_id)
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        for report in client.jobs.reports():
            return report
        time.sleep(0.002)
    raise AssertionError("no report came")


def hang(connection: socket.socket) -> None:
    connection.recv(1)


def close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def drip(clock: LateClock) -> Script:
    """An endless body, of which some is being read when the call times out."""

    def script(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for number in itertools.count():
            connection.sendall(b" ")
            time.sleep(0.02)
            if number == 10:
                clock.late = TIMEOUT_SECONDS + 1.0

    return script


def cut_off(status: str) -> Script:
    def script(connection: socket.socket) -> None:
        connection.sendall(f'HTTP/1.1 {status}\r\nContent-Length: 500\r\n\r\n{{"jobID": 12'.encode())
        connection.shutdown(socket.SHUT_RDWR)

    return script


def test_one_connection_serves_token_and_requests(server: RawServer, client: HttpRefreshClient) -> None:
    assert [send(client, number).answer.job_id for number in (1, 2, 3)] == ["9"] * 3

    assert server.connections == 1
    assert b"Accept-Encoding: identity" in server.requests[0]


def test_a_refused_connection_proves_that_nothing_was_queued(server: RawServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        client = make_client(url, token_url=f"{server.url}/token")

        answered = send(client)

    assert answered.answer.kind is AnswerKind.UNAVAILABLE
    assert "ConnectError" in answered.answer.detail
    client.close()


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        pytest.param(close, AnswerKind.UNKNOWN, id="closed after the request"),
        pytest.param(reset, AnswerKind.UNKNOWN, id="reset after the request"),
        pytest.param(lambda connection: connection.sendall(b"what?\r\n\r\n"), AnswerKind.UNKNOWN, id="no HTTP"),
        pytest.param(cut_off("200 OK"), AnswerKind.UNREADABLE, id="a jobID cut off"),
        pytest.param(cut_off("400 Bad Request"), AnswerKind.GATEWAY_PAGE, id="a refusal cut off"),
        pytest.param(cut_off("504 Gateway Timeout"), AnswerKind.UNKNOWN, id="a gateway cut off"),
        pytest.param(respond(b"", "307 Moved", "Location: /token"), AnswerKind.WRONG_ADDRESS, id="a redirect"),
    ],
)
def test_connection_failures_are_classified(
    server: RawServer, client: HttpRefreshClient, script: Script, kind: AnswerKind
) -> None:
    server.scripts = [script]

    assert send(client).answer.kind is kind
    assert len(server.requests) == 1


def impatient_client(url: str) -> HttpRefreshClient:
    """A client with a short timeout, which already has a token."""
    client = make_client(url, timeout=SHORT_TIMEOUT_SECONDS)
    wait_until(lambda: client.check_credentials() is None, "there is a token")
    return client


def test_a_request_without_an_answer_times_out(server: RawServer) -> None:
    client = impatient_client(server.url)
    server.scripts = [hang]

    answered = send(client)
    client.close()

    assert answered.answer.kind is AnswerKind.UNKNOWN
    assert answered.seconds > 0.9 * SHORT_TIMEOUT_SECONDS


def test_an_endless_body_is_read_until_the_request_times_out(server: RawServer) -> None:
    clock = LateClock()
    client = make_client(server.url, clock=clock)
    server.scripts = [drip(clock)]

    answered = send(client)
    client.close()

    assert answered.answer.kind is AnswerKind.UNREADABLE
    assert answered.seconds > TIMEOUT_SECONDS


def test_the_client_still_works_after_a_lost_connection(server: RawServer, client: HttpRefreshClient) -> None:
    server.scripts = [reset, close]

    kinds = [send(client, number).answer.kind for number in (1, 2, 3)]

    assert kinds == [AnswerKind.UNKNOWN, AnswerKind.UNKNOWN, AnswerKind.ACCEPTED]


def test_a_kept_connection_that_the_server_has_closed_is_not_used(server: RawServer, client: HttpRefreshClient) -> None:
    closed = threading.Event()

    def respond_and_close(connection: socket.socket) -> None:
        JOB(connection)
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    server.scripts = [respond_and_close]
    send(client)
    assert closed.wait(WAIT_SECONDS_MAX)

    assert send(client, 2).answer.kind is AnswerKind.ACCEPTED
    assert server.connections == 2


def test_proxies_of_the_environment_are_not_used(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    client = make_client(server.url)

    assert send(client).answer.kind is AnswerKind.ACCEPTED
    client.close()


def test_get_job_shares_the_connection_of_the_requests_and_has_no_body(
    server: RawServer, client: HttpRefreshClient
) -> None:
    server.scripts = [JOB, respond(b'{"jobID": 9, "status": "SUCCESS"}')]
    send(client)

    assert ask(client).status is JobStatus.SUCCESS
    assert server.connections == 1
    head, _, body = server.requests[1].partition(b"\r\n\r\n")
    assert head.startswith(b"GET /inv/api/v1/queue/9 HTTP/1.1\r\n")
    assert (body, b"content-length" in head.lower()) == (b"", False)


def test_a_job_with_a_message_per_item_is_read_completely(server: RawServer, client: HttpRefreshClient) -> None:
    messages = b",".join([b'"the part 0123456789 is not known at this location, nor anywhere else"'] * 12_000)
    server.scripts = [respond(b'{"jobID": 9, "status": "FAILED", "messages": [' + messages + b"]}")]

    assert ask(client).status is JobStatus.FAILED


def test_a_get_job_call_without_an_answer_times_out(server: RawServer) -> None:
    client = impatient_client(server.url)
    server.scripts = [hang]

    report = ask(client)
    client.close()

    assert report.status is None
    assert "ReadTimeout" in report.detail


def test_an_endless_get_job_answer_is_read_until_the_call_times_out(server: RawServer) -> None:
    clock = LateClock()
    client = make_client(server.url, clock=clock)
    server.scripts = [drip(clock)]

    report = ask(client)
    client.close()

    assert report.status is None
    assert "without a job" in report.detail


@pytest.mark.parametrize(
    "script",
    [pytest.param(close, id="closed"), pytest.param(respond(b"", "307 Moved", "Location: /token"), id="moved")],
)
def test_a_lost_get_job_call_is_not_repeated_and_redirects_are_not_followed(
    server: RawServer, client: HttpRefreshClient, script: Script
) -> None:
    server.scripts = [script]

    assert ask(client).status is None
    assert len(server.requests) == 1


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with open_http(timeout_seconds=TIMEOUT_SECONDS, connections_max=1, transport=None) as made:
        yield made


def exchange(http: httpx.Client, url: str, before_first_byte: Callable[[], None] = lambda: None) -> bytes:
    return call(
        http,
        "POST",
        url,
        headers={},
        body=b"body",
        seconds_max=TIMEOUT_SECONDS,
        monotonic=time.monotonic,
        before_first_byte=before_first_byte,
    ).body


def test_the_fence_can_close_while_a_connection_is_established(server: RawServer, http: httpx.Client) -> None:
    def closed() -> None:
        raise FenceClosedError

    with pytest.raises(FenceClosedError):
        exchange(http, server.url, closed)
    assert exchange(http, server.url) == b'{"jobID": 9}'

    # The first connection was established, but no byte of a request was written to it.
    assert server.connections == 2
    assert len(server.requests) == 1


def test_a_large_reply_is_read_up_to_the_limit(server: RawServer, http: httpx.Client) -> None:
    server.scripts = [respond(b"x" * 1_000_000)]

    assert exchange(http, server.url) == b"x" * REPLY_BYTES_MAX


@pytest.mark.parametrize("script", [JOB, respond(b"busy", "503 Busy"), reset], ids=["accepted", "unavailable", "reset"])
def test_a_request_frees_its_memory_without_the_garbage_collector(
    client: HttpRefreshClient, server: RawServer, script: Script
) -> None:
    """The service collects garbage once a minute: until then, requests of wide events took hundreds of megabytes."""
    server.scripts = [script, JOB]
    rows = frame([change("Rome", "a")])
    taken = weakref.ref(rows)
    gc.disable()
    try:
        client.submit(Submission(1, "Rome", Rows(rows), time.monotonic()))
        del rows
        client.wait(WAIT_SECONDS_MAX)
        client.answers()
        send(client, 2)  # a worker keeps its last request
        assert taken() is None
    finally:
        gc.enable()
