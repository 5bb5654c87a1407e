"""The probe of the refresh endpoint."""

import httpx
import pytest

from consumer.core.oms.answers import AnswerKind
from consumer.oms.probe import PAUSES_SECONDS
from tests.unit.oms.oms_bench import Bench

REFUSAL = httpx.Response(400, json={"code": 5011, "message": "locationName is required"})


def test_the_probe_is_one_post_of_an_empty_object(bench: Bench) -> None:
    bench.oms.refreshes = [REFUSAL]

    found = bench.client.probe()

    assert (found.answer.kind, found.is_own) == (AnswerKind.REFUSED, True)
    (request,) = bench.oms.sent_to("oms.example")
    assert (request.method, request.content) == ("POST", b"{}")
    assert request.url.path == "/inv/api/v5/inventory/refresh"
    assert request.headers["Authorization"] == "Bearer token-1"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (httpx.Response(400, text="<html>Bad Request</html>"), AnswerKind.GATEWAY_PAGE),
        (
            httpx.Response(400, text="<h1>no</h1>", headers={"X-Mashery-Error-Code": "ERR_400_BAD_REQUEST"}),
            AnswerKind.REFUSED,
        ),
        (httpx.Response(200, json={"jobID": 7}), AnswerKind.ACCEPTED),
        (httpx.Response(404, json={"code": 404}), AnswerKind.GATEWAY_PAGE),
        (httpx.ConnectTimeout("late"), AnswerKind.UNAVAILABLE),
    ],
)
def test_what_a_gateway_says_is_not_the_own_word_of_the_oms(
    bench: Bench, reply: httpx.Response | Exception, kind: AnswerKind
) -> None:
    bench.oms.refreshes = [reply]
    found = bench.client.probe()
    assert (found.answer.kind, found.is_own) == (kind, False)


def test_a_new_token_that_is_refused_for_a_moment_is_used_again(bench: Bench) -> None:
    bench.oms.refreshes = [httpx.Response(401), httpx.Response(401), REFUSAL]
    pauses: list[float] = []

    found = bench.client.probe(pauses.append)

    assert found.answer.kind is AnswerKind.REFUSED
    assert tuple(pauses) == PAUSES_SECONDS
    assert bench.oms.bearers == ["token-1"] * 3


def test_a_token_that_stays_refused_is_an_answer_after_the_last_pause(bench: Bench) -> None:
    bench.oms.refreshes = [httpx.Response(401)] * 4
    assert bench.client.probe(lambda _: None).answer.kind is AnswerKind.UNAUTHORISED
    assert len(bench.oms.bearers) == len(PAUSES_SECONDS)
