"""Memory for bodies, shared by the worker threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest

from consumer.core.changes.items import ITEM_KEY
from consumer.oms.body_room import BodyRoom
from consumer.oms.client import build_client
from tests.unit.oms.oms_bench import SETTINGS, Bench, Clock, ScriptedOms

SECONDS_MAX = 10.0


def test_claims_that_fit_do_not_wait() -> None:
    room = BodyRoom(10)
    with room.claim(5), room.claim(5):
        pass


@pytest.mark.parametrize("is_shrunk", [True, False], ids=["it shrinks", "it ends"])
def test_a_claim_waits_until_another_gives_back_what_it_needs(is_shrunk: bool) -> None:  # noqa: FBT001
    room, entered = BodyRoom(10), threading.Event()

    def enter() -> None:
        with room.claim(6):
            entered.set()

    with ThreadPoolExecutor() as pool:
        with room.claim(8) as claim:
            done = pool.submit(enter)
            assert not entered.wait(0.05)
            claim.shrink(5)
            assert not entered.wait(0.05)
            if is_shrunk:
                claim.shrink(4)
                assert entered.wait(SECONDS_MAX)
        done.result(SECONDS_MAX)


def test_requests_whose_bodies_do_not_fit_together_are_made_one_after_the_other() -> None:
    oms, clock, sent, may_answer = ScriptedOms(), Clock(), threading.Semaphore(0), threading.Semaphore(0)

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/token"):
            sent.release()
            assert may_answer.acquire(timeout=SECONDS_MAX)
        return oms(request)

    client = build_client(
        SETTINGS.model_copy(update={"max_in_flight": 2}),
        ITEM_KEY,
        monotonic=clock.monotonic,
        wall=clock.wall,
        fence_seconds=5.0,
        transport=httpx.MockTransport(answer),
        bodies_bytes=1,
    )
    with closing(client):
        bench = Bench(oms, clock, client)
        bench.submit(location="Rome")
        bench.submit(location="Oslo")
        assert sent.acquire(timeout=SECONDS_MAX)
        assert not sent.acquire(timeout=0.1)
        may_answer.release(2)
        assert sent.acquire(timeout=SECONDS_MAX)


def test_a_body_larger_than_the_room_is_made_alone() -> None:
    room = BodyRoom(10)
    with room.claim(100):
        pass
    with room.claim(10):
        pass


def test_room_is_given_back_after_an_error() -> None:
    room = BodyRoom(10)
    with pytest.raises(ValueError, match="bug"), room.claim(10):
        raise ValueError("bug")
    with room.claim(10):
        pass
