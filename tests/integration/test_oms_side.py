"""Failures between reading a change and the correct quantity in the OMS, each injected by the sandbox."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SandboxSettings
from tests.support.service_process import wait_until
from tests.support.shop import changes, open_shop

pytestmark = pytest.mark.integration

MakeTopic = Callable[..., str]

MAX_AGE_SECONDS = 1.5
HOLD_SECONDS = 2.0
"""As in ``open_shop``."""
LONG_AGE_SECONDS = 600
"""As ``window.max_age``: no window is sent because of its age while a test runs."""


def flush_at(items: int) -> dict[str, Any]:
    """Settings with which a location sends exactly ``items`` together, however late the last of them is read."""
    return {"oms": {"chunk_items": items}, "window": {"flush_items": items, "max_age": LONG_AGE_SECONDS}}


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(SandboxSettings(time_scale=0)) as running:
        yield running


# Refused requests


def test_an_oms_with_a_lower_item_limit_than_configured_still_gets_every_quantity(kafka: str, topic: MakeTopic) -> None:
    with (
        SandboxServer(SandboxSettings(time_scale=0, max_items=1_000)) as sandbox,
        open_shop(
            kafka,
            topic(4),
            sandbox,
            changes(6_000),
            window={"flush_items": 6_000, "max_age": LONG_AGE_SECONDS},
        ) as shop,
    ):
        shop.finish()

        assert shop.differences() == []
        assert shop.sizes() == [750] * 8
        assert shop.dead_letters() == []


# Locations that are refused whole


def unknown(location: str, *, text: str | None = None) -> dict[str, Any]:
    """The OMS does not know this location, or with ``text`` a gateway answers so."""
    words = {"code": 5002, "message": f"Location '{location}' was not found"} if text is None else {"text": text}
    return {"fault": "answer", "status": 404, "location": [location], **words}


@pytest.mark.parametrize("text", [None, "<html>not found</html>"], ids=["the OMS", "a gateway"])
def test_a_location_that_is_refused_whole_is_set_aside_and_dead_lettered_and_the_others_go_on(
    kafka: str, topic: MakeTopic, sandbox: SandboxServer, text: str | None
) -> None:
    closed = changes(3, location="Closed Store")
    with open_shop(kafka, topic(4), sandbox, oms={"dead_letter_locations": ["Closed Store"]}) as shop:
        shop.add_faults(rules=[unknown("Closed Store", text=text)])
        shop.publish(*closed, *changes(2, location="Rome"))
        wait_until(lambda: bool(shop.metric("requests_answered_total", outcome=outcome_of(text))), "it is refused")
        for number in range(100):
            if shop.metric("dead_letters_confirmed_total") >= len(closed):
                break
            before = len(shop.sizes())
            shop.publish(*changes(2, location="Rome", quantity=number))
            wait_until(lambda before=before: len(shop.sizes()) > before, "Rome goes on")  # type: ignore[misc]
            assert shop.probe("/readyz") == 200
        shop.finish()

        assert shop.differences(*closed) == []
        letters = shop.dead_letters()
        assert [letter["reason"] for letter in letters] == ["refused_by_oms"] * 3
        assert all("404" in letter["detail"] for letter in letters)
        assert shop.metric("set_aside_locations") == 0


def outcome_of(text: str | None) -> str:
    return "wrong_address" if text is None else "gateway_page"


def test_a_location_that_the_oms_learns_of_later_has_all_its_quantities(
    kafka: str, topic: MakeTopic, sandbox: SandboxServer
) -> None:
    with open_shop(kafka, topic(4), sandbox, changes(5, location="Rome")) as shop:
        wait_until(lambda: bool(shop.sizes()), "Rome is accepted")
        shop.add_faults(answers=[{"status": 404, "body": {"code": 5002, "message": "no such location"}}] * 2)
        shop.publish(*changes(3, location="New Store", quantity=1))
        wait_until(lambda: shop.metric("requests_answered_total", outcome="wrong_address") == 2, "it is refused twice")
        shop.publish(*changes(3, location="New Store", quantity=2))
        shop.finish()

        assert shop.differences() == []
        assert shop.dead_letters() == []


# Breaker and quota


def test_during_an_outage_single_probes_are_sent_and_the_service_stays_ready(
    kafka: str, topic: MakeTopic, sandbox: SandboxServer
) -> None:
    with open_shop(kafka, topic(4), sandbox) as shop:
        shop.add_faults(answers=[{"status": 503, "body": {"code": 5001, "message": "unavailable"}}] * 14)
        shop.publish(*(change for number in range(20) for change in changes(5, location=f"store {number}")))
        wait_until(lambda: shop.metric("oms_breaker_state", state="closed") == 0, "the breaker is not closed")
        assert (shop.probe("/healthz"), shop.probe("/readyz")) == (200, 200)
        shop.finish()

        assert shop.differences() == []
        assert shop.metric("requests_answered_total", outcome="unavailable") == 14
        wait_until(lambda: shop.metric("oms_breaker_state", state="closed") == 1, "the breaker is closed")


def test_after_over_quota_the_retry_after_is_respected_and_the_rate_is_lowered(
    kafka: str, topic: MakeTopic, sandbox: SandboxServer
) -> None:
    with open_shop(kafka, topic(4), sandbox) as shop:
        shop.add_faults(answers=[{"quota": True, "retry_after": 3}])
        published_at = sandbox.state.clock()
        shop.publish(*changes(5))
        wait_until(lambda: bool(shop.sizes()), "the request is accepted")

        assert sandbox.state.jobs()[0].added - published_at >= MAX_AGE_SECONDS + 3
        assert shop.metric("requests_answered_total", outcome="over_quota") == 1
        shop.finish()
        assert shop.metric("oms_requests_per_second_max") < 10.0
        assert shop.differences() == []


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param({"reset": "before_queue"}, id="reset before it was queued"),
        pytest.param({"reset": "after_queue"}, id="reset after it was queued"),
        pytest.param({"close": "after_queue"}, id="closed after it was queued"),
        pytest.param({"status": 504, "queue": True}, id="a gateway timeout although it was queued"),
        pytest.param({"status": 200, "queue": True, "body": {}}, id="no jobID although it was queued"),
        pytest.param({"status": 200, "body": {}}, id="no jobID and not queued"),
    ],
)
def test_an_unknown_outcome_holds_the_location_and_the_newest_quantity_wins(
    kafka: str, topic: MakeTopic, sandbox: SandboxServer, lost: dict[str, object]
) -> None:
    with open_shop(kafka, topic(1), sandbox) as shop:
        shop.add_faults(answers=[lost])
        published_at = sandbox.state.clock()
        shop.publish(*changes(3, quantity=1))
        wait_until(lambda: sandbox.state.summary().scripted_answers_left == 0, "the scripted answer is used")
        shop.publish(*changes(3, quantity=2))
        shop.finish()

        assert shop.differences() == []
        assert sandbox.state.jobs()[-1].added - published_at >= MAX_AGE_SECONDS + HOLD_SECONDS, "it was not held"
        assert {item["quantity"] for item in shop.held()["Rome"].values()} == {2}


def test_a_revoked_token_is_renewed_and_a_job_id_with_leading_zeros_is_accepted(kafka: str, topic: MakeTopic) -> None:
    with (
        SandboxServer(SandboxSettings(time_scale=0, job_id_style="leading-zero")) as sandbox,
        open_shop(kafka, topic(1), sandbox) as shop,
    ):
        shop.publish(*changes(3))
        shop.finish()
        shop.add_faults(revoke_tokens=True)
        shop.publish(*changes(3, quantity=9))
        shop.finish()

        assert shop.differences() == []
        assert shop.metric("oms_tokens_fetched_total") == 2


# Job outcomes


def test_jobs_are_followed_to_success_with_few_calls(kafka: str, topic: MakeTopic) -> None:
    with (
        SandboxServer(SandboxSettings(seconds_per_chunk=0.2, seconds_per_job=0.1)) as sandbox,
        open_shop(kafka, topic(4), sandbox, **flush_at(5)) as shop,
    ):
        shop.publish(*(change for number in range(10) for change in changes(5, location=f"store {number}")))
        wait_until(lambda: shop.metric("jobs_ended_total", outcome="success") == 10, "all jobs have ended")

        asked = sum(sandbox.state.summary().requests[path]["200"] for path in job_paths(sandbox))
        assert asked <= 20
        assert shop.metric("job_processing_seconds_count") == 10


def job_paths(sandbox: SandboxServer) -> list[str]:
    return [path for path in sandbox.state.summary().requests if "queue" in path]


def test_the_changes_of_a_failed_job_are_dead_lettered_unchanged_with_job_id_and_messages(
    kafka: str, topic: MakeTopic, sandbox: SandboxServer
) -> None:
    with open_shop(kafka, topic(4), sandbox, **flush_at(3)) as shop:
        shop.add_faults(answers=[{"location": "Rome", "fail_job": True}])
        shop.publish(*changes(3), *changes(3, location="Oslo"))
        wait_until(lambda: shop.metric("jobs_ended_total", outcome="failed") == 1, "the failed job is reported")
        wait_until(lambda: shop.metric("dead_letters_confirmed_total") == 3, "its changes are dead-lettered")
        shop.finish()

        failed = next(job for job in sandbox.state.jobs() if job.location == "Rome")
        dead_letters = shop.dead_letters()
        assert {letter["reason"] for letter in dead_letters} == {"job_failed"}
        assert {letter["job_id"] for letter in dead_letters} == {str(failed.job_id)}
        assert {letter["detail"] for letter in dead_letters} == {failed.messages[0]}
        assert all(int(letter["value"]) > 5 for letter in dead_letters)
        assert list(shop.held()) == ["Oslo"]


def test_windows_grow_while_the_oms_is_behind(kafka: str, topic: MakeTopic) -> None:
    with (
        SandboxServer(SandboxSettings(seconds_per_chunk=3_600)) as sandbox,  # no job ends during the test
        open_shop(kafka, topic(1), sandbox, window={"flush_items": "auto", "max_age": LONG_AGE_SECONDS}) as shop,
    ):
        shop.publish(*changes(3_000))
        wait_until(lambda: shop.sizes() == [3_000], "one chunk is sent at once while the OMS is idle")
        wait_until(lambda: shop.metric("flush_items") == 6_000, "one chunk more because of one unfinished job")
        shop.publish(*changes(6_000, location="Oslo"))
        wait_until(lambda: shop.sizes() == [3_000, 6_000], "two chunks are sent as one request")
