"""The members of the group are found by name."""

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from consumer.observe import members
from consumer.observe.members import KEPT_SECONDS, MEMBERS_MAX, MemberFinder, is_own
from consumer.observe.status.board import StatusBoard
from tests.support.fakes import FakeClock
from tests.support.status_server import running_status_server

WAIT_SECONDS_MAX = 60.0
NAME = "release.shop.svc:8080"

Lookup = Callable[[str], Sequence[str]]


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Callable[[Lookup], None]:
    """Names are resolved by a function of the test, to addresses in the order of preference."""

    def use(lookup: Lookup) -> None:
        def resolve(host: str, port: int, **_more: object) -> list[Any]:
            return [
                (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in lookup(host)
            ]

        monkeypatch.setattr("consumer.observe.members.socket.getaddrinfo", resolve)

    return use


def unknown(_host: str) -> Sequence[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_without_names_there_are_no_members_and_nothing_is_looked_up(name_server: Callable[[Lookup], None]) -> None:
    name_server(unknown)
    assert MemberFinder(()).find() == members.Members()


def test_every_address_of_a_name_is_a_member(name_server: Callable[[Lookup], None]) -> None:
    name_server(lambda _: ["10.0.0.9", "10.0.0.10", "10.0.0.9"])
    found = MemberFinder([NAME]).find()
    assert found.urls == ("http://10.0.0.10:8080", "http://10.0.0.9:8080")
    assert found.problems == ()


def test_ipv6_addresses_have_brackets(name_server: Callable[[Lookup], None]) -> None:
    name_server(lambda _: ["fd00::7"])
    assert MemberFinder([NAME]).find().urls == ("http://[fd00::7]:8080",)


def test_of_a_member_with_ipv6_and_ipv4_the_preferred_address_is_used(name_server: Callable[[Lookup], None]) -> None:
    name_server(lambda _: ["fd00::7", "fd00::8", "10.0.0.7", "10.0.0.8"])
    assert MemberFinder([NAME]).find().urls == ("http://[fd00::7]:8080", "http://[fd00::8]:8080")


def test_addresses_need_no_name_server_and_a_member_that_is_named_twice_counts_once() -> None:
    found = MemberFinder(["127.0.0.2:8081", "[::1]:8082", "127.0.0.2:8081"]).find()
    assert found.urls == ("http://127.0.0.2:8081", "http://[::1]:8082")


def test_a_name_that_cannot_be_resolved_is_said_in_words_and_others_are_found(
    name_server: Callable[[Lookup], None],
) -> None:
    name_server(lambda host: ["10.0.0.1"] if host == "here" else unknown(host))
    found = MemberFinder(["gone.shop.svc:8080", "here:8080"]).find()
    assert found.urls == ("http://10.0.0.1:8080",)
    assert found.problems == ("gone.shop.svc:8080: cannot be resolved: Name or service not known",)


def test_a_silent_name_server_costs_a_bounded_time_and_its_late_answer_is_used(
    name_server: Callable[[Lookup], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "LOOKUP_SECONDS_MAX", 0.01)
    asked, answers = threading.Semaphore(0), threading.Event()

    def lookup(host: str) -> Sequence[str]:
        if host == "fast":
            return ["10.0.0.2"]
        asked.release()
        answers.wait(WAIT_SECONDS_MAX)
        return ["10.0.0.1"]

    name_server(lookup)
    clock = FakeClock()
    finder = MemberFinder(["fast:1", "slow:1"], monotonic=clock.monotonic)
    finder.find()
    assert asked.acquire(timeout=WAIT_SECONDS_MAX)
    clock.now += 10 * KEPT_SECONDS  # waits no longer, and does not start a second lookup
    found = finder.find()
    assert found.urls == ("http://10.0.0.2:1",)
    assert found.problems == ("slow:1: the name server has not answered within 0.01 s",)

    answers.set()
    assert finder._lookup is not None
    assert finder._lookup.done.wait(WAIT_SECONDS_MAX)
    assert finder._lookup.members().urls == ("http://10.0.0.2:1", "http://10.0.0.1:1")
    assert not asked.acquire(blocking=False)


def test_members_are_looked_up_again_when_the_answer_is_old(name_server: Callable[[Lookup], None]) -> None:
    clock, addresses = FakeClock(), ["10.0.0.1"]
    name_server(lambda _: addresses)
    finder = MemberFinder([NAME], monotonic=clock.monotonic)
    assert len(finder.find().urls) == 1
    addresses.append("10.0.0.2")
    clock.now += KEPT_SECONDS / 2
    assert len(finder.find().urls) == 1
    clock.now += KEPT_SECONDS
    assert len(finder.find().urls) == 2


def test_members_beyond_the_limit_are_left_out_and_that_is_said(name_server: Callable[[Lookup], None]) -> None:
    name_server(lambda _: [f"10.0.{number // 250}.{number % 250}" for number in range(MEMBERS_MAX + 20)])
    found = MemberFinder([NAME]).find()
    assert len(found.urls) == MEMBERS_MAX
    assert found.problems == (f"{MEMBERS_MAX + 20} members were found; only {MEMBERS_MAX} are used",)


def test_names_are_looked_up_on_a_thread_of_their_own(name_server: Callable[[Lookup], None]) -> None:
    threads = []

    def lookup(_host: str) -> Sequence[str]:
        threads.append(threading.current_thread())
        return ["10.0.0.1"]

    name_server(lookup)
    MemberFinder([NAME]).find()
    assert [thread.daemon for thread in threads] == [True]
    assert threading.current_thread() not in threads


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("http://127.0.0.1:8081", False),
        ("http://192.0.2.1:8080", False),
        ("http://[2001:db8::1]:8080", False),
    ],
)
def test_the_own_status_page_is_the_one_with_an_address_of_this_machine_and_the_own_port(url: str, own: bool) -> None:  # noqa: FBT001
    assert is_own(url, 8080) is own


def test_the_status_server_names_the_members_and_which_of_them_answers() -> None:
    board = StatusBoard(
        FakeClock(), version="1", settings={}, stalled_after_seconds=60.0, members=["192.0.2.1:8080"], host="pod-a"
    )
    with running_status_server(board, CollectorRegistry()) as server:
        board.members = MemberFinder(["192.0.2.1:8080", f"127.0.0.1:{server.port}"])
        answer = httpx.get(f"{server.url}/api/members", timeout=WAIT_SECONDS_MAX).json()
        assert answer == {
            "host": "pod-a",
            "members": [
                {"url": "http://192.0.2.1:8080", "is_this": False},
                {"url": server.url, "is_this": True},
            ],
            "problems": [],
        }
