"""The seconds that the OMS takes for a chunk, as ended jobs took: of the sandbox's list, and of status servers."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from consumer.avro.bundled import schema_path
from consumer.core.oms.job_schedule import Job, JobOutcome, JobResult
from consumer.facts import JobEnded
from consumer.observe.status.board import StatusBoard
from consumer.plan import chunk_seconds
from consumer.plan.chunk_seconds import JOBS_MIN, ChunkSeconds, chunk_seconds_of
from consumer.sandbox.oms.app import UNIFIED_TOKEN_PATH
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import UNIFIED_KEY, UNIFIED_SECRET, Package, SandboxSettings
from consumer.settings import Settings
from tests.support.facts import accepted, request
from tests.support.fakes import FakeClock
from tests.support.frames import change
from tests.support.status_server import running_status_server
from tests.unit.sandbox.oms_caller import ManualClock, OmsCaller

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def oms(clock: ManualClock) -> Iterator[OmsCaller]:
    """A chunk of 1,000 items takes 2 s, and a job nothing more."""
    options = SandboxSettings(seconds_per_chunk=2.0, seconds_per_job=0.0, chunk_items=1_000)
    with SandboxServer(options, clock=clock) as server, httpx.Client(base_url=server.url, trust_env=False) as http:
        yield OmsCaller(server, http, Package.UNIFIED)


def settings(url: str = NOWHERE, *, api: str = "unified-commerce", **sections: Any) -> Settings:
    oms: dict[str, Any] = {"base_url": url, "token_url": url + UNIFIED_TOKEN_PATH, "api": api, "chunk_items": 1_000}
    oms |= {"api_key": UNIFIED_KEY, "api_secret": UNIFIED_SECRET, "tenant": SandboxSettings().tenant}
    if api != "unified-commerce":
        del oms["tenant"]
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": "127.0.0.1:1", "topics": ["stock"]},
            "avro": {"schema_file": str(schema_path())},
            "oms": oms,
            **sections,
        }
    )


def send(oms: OmsCaller, count: int, items: int) -> None:
    for number in range(count):
        answer = oms.refresh(f"Store {number}", [{"sku": f"B-{at}", "quantity": 1} for at in range(items)])
        assert answer.status_code == 200, answer.text


def board_with_jobs(*seconds: float | None, chunks: int = 1) -> StatusBoard:
    """Requests whose jobs took so long; None: the OMS did not say."""
    board = StatusBoard(FakeClock(), version="1", settings={}, stalled_after_seconds=60.0)
    for number, taken in enumerate(seconds):
        sent = replace(request([change("Rome", f"B-{number}", arrived=1.0)]), chunks=chunks)
        board.observe(accepted(sent, job_id=str(number)))
        job = Job(str(number), "Rome", items=1, chunks=chunks)
        board.observe(JobEnded(JobResult(job, JobOutcome.SUCCESS, processing_seconds=taken)))
    return board


def test_of_the_list_of_jobs_the_median_of_those_that_succeeded_counts(oms: OmsCaller, clock: ManualClock) -> None:
    oms.add_rules({"fault": "fail_job", "location": ["Store 4"]})
    send(oms, 5, items=1_001)  # 2 chunks, 4 s
    send(oms, 1, items=1)
    clock.advance(1_000)
    send(oms, 2, items=1)  # not ended yet
    assert chunk_seconds_of(settings(oms.server.url), ()) == ChunkSeconds(2.0, 5, "the OMS's list of jobs")


def test_few_ended_jobs_say_nothing_and_the_members_are_asked(oms: OmsCaller, clock: ManualClock) -> None:
    send(oms, JOBS_MIN - 1, items=1)
    clock.advance(1_000)
    with running_status_server(board_with_jobs(3.0, 9.0, 6.0, None, chunks=2), CollectorRegistry()) as server:
        found = chunk_seconds_of(settings(oms.server.url), [server.url])
    assert found == ChunkSeconds(3.0, 3, "the latest requests of 1 running process")
    found = chunk_seconds_of(settings(oms.server.url), ())
    assert found.seconds is None
    assert found.origin.startswith("the OMS's list of jobs: 2 ended jobs with times, of 3 needed; no running process")


def test_members_of_the_settings_are_asked_if_none_is_named() -> None:
    with (
        running_status_server(board_with_jobs(1.0, 2.0), CollectorRegistry()) as one,
        running_status_server(board_with_jobs(2.0, 3.0, 4.0), CollectorRegistry()) as two,
    ):
        names = [server.url.removeprefix("http://") for server in (one, two)]
        found = chunk_seconds_of(settings(api="inventory-v5", http={"members": names}), ())
    assert found == ChunkSeconds(2.0, 5, "the latest requests of 2 running processes")


def test_what_does_not_answer_is_said_in_words_within_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_seconds, "ANSWER_SECONDS_MAX", 60.0)
    found = chunk_seconds_of(settings(), [NOWHERE])
    assert (found.seconds, found.jobs) == (None, None)
    assert "the OMS does not list jobs: " in found.origin
    assert f"no running process answers: {NOWHERE} does not answer: " in found.origin
    found = chunk_seconds_of(settings(api="inventory-v5"), ())
    assert found.origin == (
        "oms.api inventory-v5 has no list of jobs; no running process is known (--member, http.members)"
    )


def test_refused_credentials_are_said_and_are_no_error(oms: OmsCaller) -> None:
    right = settings(oms.server.url)
    for changed, said in (
        ({"tenant": 1}, "the OMS does not list jobs: HTTP 4"),
        ({"api_secret": SecretStr("wrong")}, "the OMS was not asked: "),
    ):
        found = chunk_seconds_of(right.model_copy(update={"oms": right.oms.model_copy(update=changed)}), ())
        assert found.seconds is None
        assert said in found.origin
