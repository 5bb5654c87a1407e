"""What probes, operators and programs get from the status server, over real sockets."""

import errno
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import structlog
from prometheus_client import CollectorRegistry

from consumer.core.changes.items import RejectReason
from consumer.core.limits import EngineLimits
from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.breaker import BreakerState
from consumer.errors import SettingsError
from consumer.facts import (
    Heartbeat,
    LocationViews,
    MessagesRead,
    PartitionsAssigned,
    PartitionsLost,
    PartitionsRevoked,
    Snapshot,
)
from consumer.observe.metrics import Metrics
from consumer.observe.status import connection
from consumer.observe.status.board import StatusBoard
from consumer.observe.status.connection import CONNECTIONS_MAX, REQUEST_BYTES_MAX, REQUEST_LINE_BYTES_MAX
from consumer.observe.status.page import FILE_TYPES, file_bytes
from consumer.observe.status.problems import PROBLEMS_MAX
from consumer.observe.status.server import WORKERS, StatusServer
from consumer.ports import CommitRefused
from consumer.settings import HttpSettings
from tests.support.facts import accepted, assignment, decoded, failed, partition_view, reject, request
from tests.support.fakes import FakeClock
from tests.support.frames import change
from tests.support.service_process import wait_until
from tests.support.status_server import running_status_server

WAIT_SECONDS_MAX = 60.0


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: str


@dataclass
class Station:
    clock: FakeClock
    board: StatusBoard
    server: StatusServer

    def get(self, path: str, method: str = "GET") -> Answer:
        client = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=WAIT_SECONDS_MAX)
        try:
            client.request(method, path)
            response = client.getresponse()
            return Answer(response.status, response.headers, response.read().decode())
        finally:
            client.close()


@pytest.fixture
def station() -> Iterator[Station]:
    clock = FakeClock()
    settings = {"oms": {"base_url": "https://oms.example", "api_secret": "***"}}
    board = StatusBoard(clock, version="1.2.3", settings=settings, stalled_after_seconds=60.0)
    metrics = Metrics(clock, limits=EngineLimits(), ready=board.ready, build={"version": "1.2.3"})
    with running_status_server(board, metrics.registry) as server:
        yield Station(clock, board, server)


def test_the_process_is_alive_while_the_loop_shows_signs_of_life(station: Station) -> None:
    station.clock.now += 60
    assert station.get("/healthz").status == 200
    station.clock.now += 1
    answer = station.get("/healthz")
    assert (answer.status, answer.body) == (503, "the loop has shown no sign of life for 61 s\n")
    station.board.observe(Heartbeat(station.clock.now))
    assert station.get("/healthz").status == 200


def test_a_snapshot_is_a_sign_of_life_too(station: Station) -> None:
    station.clock.now += 100
    station.board.observe(Snapshot(at=station.clock.now))
    assert station.get("/healthz").body == "ok\n"


def test_the_process_is_ready_from_its_first_assignment_until_it_leaves_the_group(station: Station) -> None:
    assert station.get("/readyz").body == "not in the consumer group, waiting for partitions\n"
    station.board.observe(PartitionsAssigned([assignment()]))
    assert station.get("/readyz").status == 200
    station.board.observe(PartitionsRevoked([assignment()], unanswered_requests=0))
    assert station.get("/readyz").status == 200
    station.board.observe(PartitionsLost([]))
    assert station.get("/readyz").status == 503


def test_a_spare_member_without_partitions_is_ready(station: Station) -> None:
    station.board.observe(PartitionsAssigned([]))
    assert station.get("/readyz").status == 200


def test_a_process_that_needs_an_operator_is_not_ready_and_says_why(station: Station) -> None:
    station.board.observe(PartitionsAssigned([assignment()]))
    station.board.observe(Snapshot(at=station.clock.now, sending_stopped="correct oms.api_key"))
    answer = station.get("/readyz")
    assert (answer.status, answer.body) == (503, "correct oms.api_key\n")


def test_an_outage_of_the_oms_or_the_registry_does_not_make_the_process_unready(station: Station) -> None:
    station.board.observe(PartitionsAssigned([assignment()]))
    station.board.observe(
        Snapshot(at=station.clock.now, oms_consecutive_failures=9, decoding_blocked="schema registry: timed out")
    )
    assert station.get("/readyz").status == 200
    assert "Decoding is blocked: schema registry: timed out" in station.get("/").body


@pytest.mark.parametrize(
    ("snapshot", "words"),
    [
        pytest.param(
            Snapshot(at=0.0, breaker=BreakerState.OPEN), "requests are paused and will be retried", id="breaker open"
        ),
        pytest.param(Snapshot(at=0.0, breaker=BreakerState.HALF_OPEN), "one request at a time", id="half-open"),
        pytest.param(Snapshot(at=0.0, memory_pressure=True), "Memory is short", id="memory short"),
        pytest.param(
            Snapshot(at=0.0, job_status_unavailable="HTTP 403"),
            "does not report the status of jobs: HTTP 403",
            id="job status unavailable",
        ),
        pytest.param(
            Snapshot(at=0.0, job_queue_full="1,000 jobs are unfinished", job_status_unavailable="HTTP 403"),
            "Waiting for the OMS to finish jobs: 1,000 jobs are unfinished",
            id="job queue full",
        ),
        pytest.param(Snapshot(at=0.0), "All is well", id="well"),
    ],
)
def test_the_page_begins_with_the_state_of_the_oms(station: Station, snapshot: Snapshot, words: str) -> None:
    station.board.observe(PartitionsAssigned([assignment()]))
    station.board.observe(replace(snapshot, at=station.clock.now))
    page = station.get("/")

    assert words in page.body
    assert station.get("/readyz").status == 200


def test_metrics_are_served_for_prometheus(station: Station) -> None:
    answer = station.get("/metrics")
    assert answer.status == 200
    assert "inventory_refresh_ready 0.0" in answer.body


def test_the_status_has_totals_partitions_and_problems_as_json(station: Station) -> None:
    station.board.observe(MessagesRead(3))
    station.board.observe(decoded(reject(RejectReason.CORRUPT, detail="truncated")))
    station.board.observe(accepted(request([change("shop", "a", arrived=1.0), change("shop", "b", arrived=1.0)])))
    station.board.observe(failed(request(), kind=AnswerKind.UNKNOWN, status=504, detail="gateway"))
    station.board.observe(CommitRefused(fenced=True, detail="unknown member"))
    station.board.observe(Snapshot(at=station.clock.now, partitions=(partition_view(),), pending_changes=5))
    answer = station.get("/api/status")
    status = json.loads(answer.body)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert status["totals"] == {
        "messages_read": 3,
        "changes_dead_lettered": 1,
        "changes_accepted": 2,
        "items_accepted": 2,
        "requests_accepted": 1,
    }
    assert status["snapshot"]["partitions"][0]["committable_offset"] == 5
    assert [problem["what"] for problem in status["problems"]] == [
        "commit refused",
        "request unknown",
        "changes rejected",
    ]
    assert status["problems"][1]["detail"] == "1 items of shop: 504 gateway"


def test_only_the_latest_problems_are_kept(station: Station) -> None:
    for number in range(PROBLEMS_MAX + 5):
        station.board.observe(CommitRefused(fenced=False, detail=f"number {number}"))
    problems = station.board.status()["problems"]
    assert len(problems) == PROBLEMS_MAX
    assert problems[0]["detail"] == f"number {PROBLEMS_MAX + 4}"


def test_the_page_escapes_text_from_upstream_and_the_oms(station: Station) -> None:
    station.board.observe(
        failed(request([change("<b>shop</b>", "a", arrived=1.0)]), kind=AnswerKind.REFUSED, detail="<script>")
    )
    page = station.get("/")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "&lt;b&gt;shop" in page.body
    assert "<script>" not in page.body
    assert "https://oms.example" in page.body


@pytest.mark.parametrize("path", ["/", "/api/status", "/healthz", "/readyz", "/metrics"])
def test_every_path_is_read_only(station: Station, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = station.get(path, method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    head, get = station.get(path, "HEAD"), station.get(path)
    assert (head.status, head.body) == (get.status, "")


def test_an_unknown_path_is_not_found(station: Station) -> None:
    assert station.get("/admin").status == 404


def test_a_port_in_use_is_a_settings_error(station: Station) -> None:
    taken = HttpSettings(host="127.0.0.1", port=station.server.port)
    with pytest.raises(SettingsError, match=rf"http.port: cannot listen on 127.0.0.1:{taken.port}: .*in use"):
        StatusServer(taken, station.board, CollectorRegistry())


def health(host: str, port: int) -> int | None:
    """The status of /healthz at an address; None if nothing answers there."""
    client = http.client.HTTPConnection(host, port, timeout=WAIT_SECONDS_MAX)
    try:
        client.request("GET", "/healthz")
        return client.getresponse().status
    except OSError:
        return None
    finally:
        client.close()


def host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


@pytest.mark.parametrize(
    ("host", "ipv6", "ipv4"),
    [(None, 200, 200), ("::", 200, 200), ("::1", 200, None), ("127.0.0.1", None, 200)],
    ids=str,
)
def test_without_a_host_both_families_are_answered(
    host: str | None, ipv6: int | None, ipv4: int | None, station: Station
) -> None:
    interfaces = Path("/proc/net/if_inet6")
    if not interfaces.exists() or not interfaces.read_text():
        pytest.skip("this machine has no IPv6")
    with running_status_server(station.board, CollectorRegistry(), host) as server:
        assert (health("::1", server.port), health("127.0.0.1", server.port)) == (ipv6, ipv4)
        assert health(*host_and_port(server.url)) == 200


class SocketWithoutIpv6(socket.socket):
    """What a kernel without IPv6 answers (ipv6.disable=1)."""

    def __init__(self, family: int = -1, *arguments: Any, **more: Any) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *arguments, **more)


def test_without_a_host_ipv4_is_answered_by_a_kernel_without_ipv6(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket", SocketWithoutIpv6)
    with running_status_server(station.board, CollectorRegistry(), None) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert health("127.0.0.1", server.port) == 200


def test_ipv6_that_the_kernel_does_not_have_is_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket", SocketWithoutIpv6)
    board = StatusBoard(FakeClock(), version="1", settings={}, stalled_after_seconds=60.0)
    with pytest.raises(SettingsError, match=r"cannot listen on \[::\]:0: Address family not supported"):
        StatusServer(HttpSettings(host="::", port=0), board, CollectorRegistry())


WITHOUT_IPV6 = ("unshare", "--user", "--map-root-user", "--net", "sh", "-ec")
LISTEN = """
import urllib.request
from prometheus_client import CollectorRegistry
from consumer.observe.status.board import StatusBoard
from tests.support.fakes import FakeClock
from tests.support.service_process import wait_until
from tests.support.status_server import running_status_server
board = StatusBoard(FakeClock(), version="1", settings={}, stalled_after_seconds=60.0)
with running_status_server(board, CollectorRegistry(), None) as server:
    assert urllib.request.urlopen(server.url + "/healthz").status == 200
"""


def test_without_a_host_ipv4_is_answered_where_ipv6_is_switched_off() -> None:
    prepare = "ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"
    if shutil.which("unshare") is None or subprocess.run([*WITHOUT_IPV6, prepare], check=False).returncode:  # noqa: S603
        pytest.skip("this machine does not permit new network namespaces")
    command = [*WITHOUT_IPV6, f'{prepare}; exec "$0" -c "$1"', sys.executable, LISTEN]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX)  # noqa: S603
    assert ran.returncode == 0, ran.stderr


def test_a_client_without_a_complete_request_is_disconnected(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECTION_SECONDS_MAX", 0.1)
    assert talk(station, b"GET / HT") == b""


def talk(station: Station, sent: bytes) -> bytes:
    """Everything that the server sends back for these bytes."""
    with socket.create_connection(("127.0.0.1", station.server.port), timeout=WAIT_SECONDS_MAX) as client:
        client.sendall(sent)
        received = b""
        with suppress(ConnectionResetError):  # it closes with unread bytes, which resets the connection
            while part := client.recv(65_536):
                received += part
        return received


def test_a_client_that_trickles_bytes_once_held_its_connection_for_ever(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECTION_SECONDS_MAX", 0.3)
    with socket.create_connection(("127.0.0.1", station.server.port), timeout=WAIT_SECONDS_MAX) as client:
        client.settimeout(0.05)
        for _ in range(1_000):
            try:
                client.sendall(b"G")
                assert client.recv(1) == b""
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                pass
            break
        else:
            pytest.fail("it was not disconnected")


def test_idle_clients_on_all_connections_once_shut_the_probes_out(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECTION_SECONDS_MAX", 600.0)  # none is disconnected for being slow
    address = ("127.0.0.1", station.server.port)
    idle = [socket.create_connection(address, timeout=WAIT_SECONDS_MAX) for _ in range(CONNECTIONS_MAX)]
    try:
        for _ in range(3):
            assert station.get("/healthz").status == 200
        # The oldest were closed; the youngest are still open.
        assert idle[0].recv(1) == b""
        idle[-1].sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert idle[-1].recv(12) == b"HTTP/1.1 200"
    finally:
        for client in idle:
            client.close()


LARGE_PAGE_BYTES = 20_000_000
"""More than the kernel keeps for a client that does not read."""


def test_a_client_that_does_not_take_its_response_is_disconnected(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECTION_SECONDS_MAX", 0.3)
    station.board.observe(Snapshot(at=station.clock.now, sending_stopped="x" * LARGE_PAGE_BYTES))
    with socket.create_connection(("127.0.0.1", station.server.port), timeout=WAIT_SECONDS_MAX) as client:
        client.sendall(b"GET /api/status HTTP/1.0\r\n\r\n")
        assert client.recv(1) == b"H"
        wait_until(lambda: not station.server.connections, "it is disconnected")


def test_a_page_that_takes_long_keeps_neither_probes_nor_scrapes_waiting(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, threads = threading.Event(), []
    monkeypatch.setattr(station.board, "status", lambda: may_go_on.wait(WAIT_SECONDS_MAX) and {})
    for _ in range(2 * WORKERS):
        threads.append(threading.Thread(target=station.get, args=["/api/status"]))
        threads[-1].start()
    wait_until(lambda: station.server.connections == len(threads), "all workers are busy")

    assert station.get("/healthz").status == 200
    assert station.get("/metrics").status == 200
    may_go_on.set()
    for thread in threads:
        thread.join(WAIT_SECONDS_MAX)


def test_a_bug_of_a_page_is_logged_and_answered(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station.board, "status", lambda: 1 / 0)
    with structlog.testing.capture_logs() as logged:
        answer = station.get("/api/status")

    assert answer.status == 500
    assert "division" not in answer.body
    assert [event["event"] for event in logged if event["log_level"] == "error"] == ["status_page_failed"]
    assert answer.headers["Content-Security-Policy"]
    assert station.get("/healthz").status == 200


def test_a_connection_serves_one_request(station: Station) -> None:
    twice = b"GET /healthz HTTP/1.1\r\nHost: pod\r\nConnection: keep-alive\r\n\r\n" * 2

    answer = talk(station, twice)

    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close\r\n" in answer.lower()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_malformed_body_does_not_spoil_the_answer(station: Station, method: bytes) -> None:
    head = b" /healthz HTTP/1.1\r\nHost: pod\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = talk(station, method + head + b"no chunk\r\nat all\r\n")

    assert answer.startswith(b"HTTP/1.1 200 " if method == b"GET" else b"HTTP/1.1 405 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_an_upgrade_is_ignored_and_not_logged(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    upgrade = b"GET /healthz HTTP/1.1\r\nHost: pod\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

    assert talk(station, upgrade).startswith(b"HTTP/1.1 200 ")
    assert not caplog.records


def test_a_request_that_is_too_large_is_refused(station: Station) -> None:
    long_line = b"GET /" + b"x" * REQUEST_LINE_BYTES_MAX + b" HTTP/1.1\r\n\r\n"
    large_header = b"GET / HTTP/1.1\r\nX: " + b"x" * REQUEST_BYTES_MAX
    many_headers = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n"

    assert talk(station, long_line).startswith(b"HTTP/1.1 414 ")
    assert talk(station, large_header).startswith(b"HTTP/1.1 431 ")
    assert talk(station, many_headers).startswith(b"HTTP/1.1 431 ")


def test_a_body_is_not_read(station: Station) -> None:
    began = b"HEAD /healthz HTTP/1.1\r\nHost: pod\r\nContent-Length: 1000000000000\r\n\r\nbody"

    assert talk(station, began).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "line",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
        b"<script>alert(1)</script> / x\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9.9\r\n\r\n",
        b"\x00\xff\r\n\r\n",
    ],
)
def test_a_malformed_request_is_refused_and_not_quoted_unescaped(
    station: Station, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECTION_SECONDS_MAX", 0.3)  # some of them could still become a request
    answer = talk(station, line)

    assert b"<script>" not in answer
    assert not answer or answer.startswith(b"HTTP/1.1 4")
    assert station.get("/healthz").status == 200


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/pyproject.toml", "//etc/passwd", "/metrics/../x", "/api/status/"]
)
def test_no_path_serves_a_file(station: Station, path: str) -> None:
    answer = talk(station, f"GET {path} HTTP/1.0\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"not found\n")


def test_the_page_loads_only_its_own_files_and_they_may_be_kept(station: Station) -> None:
    page = station.get("/").body
    addresses = re.findall(r'(?:src|href)="(static/[^"]+)"', page)
    assert len(addresses) == len(FILE_TYPES)
    for address in addresses:
        answer = station.get(f"/{address}")
        assert answer.status == 200
        assert answer.body
        assert "immutable" in answer.headers["Cache-Control"]
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert station.get("/static/uPlot.LICENSE.txt").status == 404
    assert sum(len(file_bytes(name)) for name in FILE_TYPES) < 100_000


@pytest.mark.parametrize("path", ["/", "/api/locations"])
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=501", "limit: Input should be less than or equal to 500"),
        ("limit=x", "limit: Input should be a valid integer"),
        ("offset=-1", "offset: "),
        ("sort=sku", "sort: Input should be 'name', 'pending', "),
        ("search=" + "x" * 201, "search: String should have at most 200 characters"),
        ("page=2", "page: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_is_allowed(station: Station, path: str, query: str, said: str) -> None:
    answer = station.get(f"{path}?{query}")
    assert answer.status == 400
    assert answer.body.startswith(said)


@pytest.mark.parametrize("path", ["/", "/api/status", "/healthz", "/metrics", "/nowhere"])
def test_every_response_has_the_security_headers(station: Station, path: str) -> None:
    headers = station.get(path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Server"] == "inventory-refresh"


def test_an_error_page_has_the_security_headers_too_and_names_no_versions(station: Station) -> None:
    answer = talk(station, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n").lower()

    assert b"content-security-policy: default-src 'none'" in answer
    assert b"server: inventory-refresh\r\n" in answer
    assert b"python" not in answer


@pytest.mark.parametrize(
    "header", ["Accept: */*;q=x,application/openmetrics-text;version=99", "Accept-Encoding: gzip;q=x", "Accept: \xff"]
)
def test_a_scrape_with_strange_headers_is_answered(station: Station, header: str) -> None:
    answer = talk(station, f"GET /metrics?name[]=x&&=%ff HTTP/1.0\r\n{header}\r\n\r\n".encode("latin-1"))

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_templates_and_models_are_loaded_when_the_page_is_first_opened() -> None:
    script = "import sys, consumer.app; print({'jinja2', 'consumer.observe.status.api'} & sys.modules.keys())"
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX
    )
    assert ran.stdout == "set()\n"


@pytest.mark.parametrize("path", ["/", "/api/overview", "/metrics", "/readyz"])
@pytest.mark.parametrize("host", [b"[", b"x?y=/", b"a/b", b"\xff", b""])
def test_a_strange_host_changes_no_answer(station: Station, path: str, host: bytes) -> None:
    station.board.observe(PartitionsAssigned([assignment()]))
    station.board.observe(Snapshot(at=station.clock.now))
    station.board.observe(LocationViews((), station.clock.now))
    answer = talk(station, b"GET " + path.encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ") or (host == b"\xff" and answer.startswith(b"HTTP/1.1 400 "))


def test_topic_names_and_text_from_the_oms_are_escaped_on_the_page(station: Station) -> None:
    view = replace(partition_view(), topic="<img src=x onerror=alert(1)>")
    stopped = '"><script>alert(2)</script>'
    station.board.observe(PartitionsAssigned([assignment()]))
    station.board.observe(
        Snapshot(at=station.clock.now, partitions=(view,), sending_stopped=stopped, decoding_blocked=stopped)
    )
    station.board.observe(
        failed(request([change("<i>shop", "a", arrived=1.0)]), kind=AnswerKind.REFUSED, detail="</td><iframe>")
    )
    page = station.get("/").body

    for hostile in ("<img", "<script>", "<i>", "<iframe"):
        assert hostile not in page
    assert page.count("<script") == page.count('<script src="static/')
    status = station.get("/api/status")
    assert status.headers["Content-Type"].startswith("application/json")
    assert json.loads(status.body)["snapshot"]["sending_stopped"] == stopped
