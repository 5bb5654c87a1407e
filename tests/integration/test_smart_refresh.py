"""Smart refresh against the sandbox: small requests are applied at once, and never before an older job."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from consumer.sandbox.oms.app import UNIFIED_TOKEN_PATH
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import TENANT, UNIFIED_KEY, UNIFIED_SECRET, SandboxSettings
from tests.support.service_process import REQUEST_SECONDS_MAX, WAIT_SECONDS_MAX, wait_until
from tests.support.shop import Shop, changes, open_shop

pytestmark = pytest.mark.integration

MakeTopic = Callable[..., str]

LONG_AGE_SECONDS = 600
"""As ``window.max_age``: only small windows leave while a test runs."""
TOGETHER_SECONDS = 5.0
"""As ``window.small_max_age``: what is published together leaves together."""


@contextmanager
def open_smart_shop(kafka: str, topic: str, sandbox: SandboxServer, **window: Any) -> Iterator[Shop]:
    oms = {
        "api": "unified-commerce",
        "tenant": TENANT,
        "endpoint": "smart-refresh",
        "token_url": sandbox.url + UNIFIED_TOKEN_PATH,
        "api_key": UNIFIED_KEY,
        "api_secret": UNIFIED_SECRET,
    }
    with open_shop(kafka, topic, sandbox, oms=oms, window=window) as shop:
        yield shop


def applied(shop: Shop) -> float:
    """Requests that were applied at once."""
    return shop.metric("requests_answered_total", outcome="applied")


def publish_until_applied(shop: Shop, quantity: int) -> None:
    """Publish a few changes again and again, until some are applied at once: no job of theirs is unfinished."""
    before = applied(shop)

    def is_applied() -> bool:
        if applied(shop) == before and shop.committed_to_the_end():
            shop.publish(*changes(3, quantity=quantity))
        return applied(shop) > before

    wait_until(is_applied, "some changes are applied at once")


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(SandboxSettings(time_scale=0)) as running:
        yield running


def test_a_lone_change_is_applied_at_once_without_a_job(kafka: str, topic: MakeTopic, sandbox: SandboxServer) -> None:
    with open_smart_shop(kafka, topic(4), sandbox, max_age=LONG_AGE_SECONDS, small_max_age=0.2) as shop:
        shop.publish(*changes(1))
        wait_until(lambda: applied(shop) == 1, "it is applied at once")
        shop.finish()

        assert shop.sizes() == []
        assert shop.differences() == []
        assert shop.service.url is not None
        assert "applied at once" in httpx.get(shop.service.url, timeout=REQUEST_SECONDS_MAX).text
        shown = subprocess.run(  # noqa: S603 - this project's own command
            [sys.executable, "-m", "consumer", "status", "--once", shop.service.url],
            capture_output=True,
            text=True,
            check=True,
            timeout=WAIT_SECONDS_MAX,
            env=os.environ | {"COLUMNS": "200"},
        )
        assert "applied at once" in shown.stdout


def test_an_item_that_smart_refresh_refuses_is_sent_again_alone(
    kafka: str, topic: MakeTopic, sandbox: SandboxServer
) -> None:
    with open_smart_shop(kafka, topic(1), sandbox, max_age=LONG_AGE_SECONDS, small_max_age=TOGETHER_SECONDS) as shop:
        shop.publish(*changes(1, location="Oslo"))
        wait_until(lambda: applied(shop) == 1, "a list has cleared all locations")
        shop.add_faults(answers=[{"sync_form": "item-error"}])
        shop.publish(*changes(3))
        shop.finish()

        assert shop.metric("requests_sent_total", reason="bisection") == 1
        assert shop.differences() == []
        assert shop.dead_letters() == []


def test_an_answer_that_lacks_an_item_holds_the_location_until_a_list_has_cleared_it(
    kafka: str, topic: MakeTopic, sandbox: SandboxServer
) -> None:
    with open_smart_shop(kafka, topic(1), sandbox, max_age=LONG_AGE_SECONDS, small_max_age=0.2) as shop:
        shop.publish(*changes(1, location="Oslo"))
        wait_until(lambda: applied(shop) == 1, "a list has cleared all locations")
        shop.add_faults(answers=[{"sync_form": "missing-result"}])
        shop.publish(*changes(3))
        wait_until(lambda: shop.metric("requests_answered_total", outcome="unreadable") == 1, "the result is missing")
        shop.publish(*changes(1, location="Oslo"))
        shop.finish()

        assert shop.differences() == []
        assert sandbox.state.summary().backward_items == 0


def test_no_request_overtakes_an_older_job_of_its_location(kafka: str, topic: MakeTopic) -> None:
    """Large and small requests with the same items alternate, while a job takes a while."""
    with (
        SandboxServer(SandboxSettings(seconds_per_chunk=0.5, seconds_per_job=0.1, sync_items_max=5)) as sandbox,
        open_smart_shop(kafka, topic(1), sandbox, max_age=0.3, small_max_age=0.1, small_items=5) as shop,
    ):
        for quantity in range(10, 60, 10):
            publish_until_applied(shop, quantity)
            jobs = len(shop.sizes())
            shop.publish(*changes(20, quantity=quantity + 1))
            wait_until(lambda jobs=jobs: len(shop.sizes()) > jobs, "it becomes a job")  # type: ignore[misc]
            shop.publish(*changes(3, quantity=quantity + 2))
            wait_until(shop.committed_to_the_end, "it is queued behind the job, or applied after it")
        shop.finish()

        assert sandbox.state.summary().backward_items == 0
        assert shop.differences() == []
