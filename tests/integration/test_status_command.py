"""The command ``status`` against real status servers."""

import os
import pty
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from consumer import status_command
from consumer.core.oms.breaker import BreakerState
from consumer.errors import SettingsError
from consumer.status_command import known_urls, show_status
from tests.support.service_process import free_port
from tests.support.status_server import running_status_server
from tests.support.status_story import STORES, Story, store

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
WAIT_SECONDS_MAX = 60.0
SETTINGS = {
    "INVENTORY_REFRESH_KAFKA__BOOTSTRAP_SERVERS": "localhost:1",
    "INVENTORY_REFRESH_KAFKA__TOPICS": "stock",
    "INVENTORY_REFRESH_AVRO__REGISTRY_URL": "http://localhost:1",
    "INVENTORY_REFRESH_OMS__BASE_URL": "http://localhost:1",
    "INVENTORY_REFRESH_OMS__TOKEN_URL": "http://localhost:1/token",
    "INVENTORY_REFRESH_OMS__API_KEY": "key",
    "INVENTORY_REFRESH_OMS__API_SECRET": "secret",
}


@pytest.fixture
def stories() -> list[Story]:
    found = [Story(), Story(stores=2)]
    for story in found:
        story.send_requests()
        story.wait(100)
    found[1].go_wrong()
    found[1].happen(breaker=BreakerState.OPEN, oms_consecutive_failures=3)
    return found


@pytest.fixture
def urls(stories: list[Story]) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(running_status_server(story.board, CollectorRegistry())).url for story in stories]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - this project's own command
        [sys.executable, "-m", "consumer", "status", *arguments],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"} | environ,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS_MAX,
        check=False,
    )


def test_one_process_is_shown_once(urls: list[str]) -> None:
    ran = run(urls[0], "--once", "--locations", "3")
    assert ran.returncode == 0, ran.stderr
    assert "All is well: " in ran.stdout
    assert "until a request is worth sending: 12,000 items" in ran.stdout
    shown = re.findall(r"Store \d+", ran.stdout)
    assert shown == [store(STORES), store(STORES - 1), store(STORES - 2)]
    assert "7119: applied" in ran.stdout
    assert "\x1b" not in ran.stdout


def test_several_processes_are_shown_together(urls: list[str]) -> None:
    ran = run(*urls)  # not on a terminal, so once
    assert ran.returncode == 0, ran.stderr
    assert "All is well: " in ran.stdout
    assert "OMS unavailable: requests are paused" in ran.stdout
    assert "refused by the OMS: 14 changes of Store 021" in ran.stdout
    assert all(url in ran.stdout for url in urls)


def test_a_process_that_does_not_answer_is_named_and_the_others_are_shown(urls: list[str]) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    ran = run(urls[0], nowhere, "--once")
    assert ran.returncode == 1
    assert f"http://{nowhere}" in ran.stdout
    assert "does not answer" in ran.stdout
    assert "All is well: " in ran.stdout


def test_without_any_answer_nothing_is_said_about_what_waits() -> None:
    ran = run(f"127.0.0.1:{free_port()}", "--once")
    assert ran.returncode == 1
    assert "does not answer" in ran.stdout
    assert "Nothing waits" not in ran.stdout


def test_text_from_outside_cannot_steer_the_terminal(
    stories: list[Story], urls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stories[0].happen(sending_stopped="\x1b[2Jcorrect [bold]oms.api_key")
    show_status(urls[:1], once=True, locations_max=1)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[bold]" in shown


def test_a_name_with_several_addresses_has_several_processes(
    stories: list[Story], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def resolve(host: str, port: int, **_more: object) -> list[Any]:
        assert host == "release.shop.svc"
        addresses = ("127.0.0.2", "127.0.0.1", "127.0.0.2")
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]
        return [*found, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))]

    with running_status_server(stories[0].board, CollectorRegistry(), "0.0.0.0") as server:  # noqa: S104 - a test of loopback addresses
        monkeypatch.setattr("consumer.observe.members.socket.getaddrinfo", resolve)
        members = status_command.members_of([f"http://release.shop.svc:{server.port}"])
        monkeypatch.undo()
        assert members == [f"http://127.0.0.1:{server.port}", f"http://127.0.0.2:{server.port}"]
        assert show_status(members, once=True, locations_max=0)
    assert all(member in capsys.readouterr().out for member in members[:1])


def test_one_address_or_a_certificate_for_a_name_is_asked_by_its_name() -> None:
    assert status_command.members_of(["http://localhost:8080", "https://release.example"]) == [
        "http://localhost:8080",
        "https://release.example",
    ]


def test_without_addresses_the_members_of_the_settings_are_shown(urls: list[str]) -> None:
    members = ",".join(url.removeprefix("http://") for url in urls)
    ran = run("--once", **SETTINGS, INVENTORY_REFRESH_HTTP__MEMBERS=members)
    assert ran.returncode == 0, ran.stderr
    assert all(url in ran.stdout for url in urls)


def test_without_members_or_settings_the_process_on_this_machine_is_shown() -> None:
    assert known_urls(None, SETTINGS | {"INVENTORY_REFRESH_HTTP__PORT": "9090"}) == ["127.0.0.1:9090"]
    assert known_urls(None, SETTINGS | {"INVENTORY_REFRESH_HTTP__HOST": "fd00::7"}) == ["[fd00::7]:8080"]
    assert known_urls(None, {}) == ["127.0.0.1:8080"]


def test_a_settings_file_that_cannot_be_used_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.yaml"):
        known_urls(tmp_path / "missing.yaml", {})
    with pytest.raises(SettingsError, match=r"missing\.yaml"):
        known_urls(None, {"INVENTORY_REFRESH_CONFIG": str(tmp_path / "missing.yaml")})


@pytest.mark.parametrize("url", ["ftp://pod", "http://", "http://pod:99999999"])
def test_a_wrong_address_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match="is not the address of a status page"):
        show_status([url], once=True, locations_max=1)


def test_on_a_terminal_it_is_live_until_interrupted(stories: list[Story], urls: list[str]) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603 - this project's own command
        [sys.executable, "-m", "consumer", "status", urls[0]],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200", "LINES": "50", "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = ""
    gave_up = threading.Timer(WAIT_SECONDS_MAX, process.kill)
    gave_up.start()
    try:
        while "All is well" not in seen:
            seen += os.read(ours, 65_536).decode(errors="replace")
        stories[0].happen(breaker=BreakerState.OPEN)
        while "OMS unavailable" not in seen:
            seen += os.read(ours, 65_536).decode(errors="replace")
        process.send_signal(2)
        assert process.wait(WAIT_SECONDS_MAX) == 0
    finally:
        gave_up.cancel()
        process.kill()
        os.close(ours)
