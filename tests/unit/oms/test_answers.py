import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.oms.answers import classify, classify_error
from consumer.oms.apis import APIS
from consumer.oms.http import TunnelError
from consumer.text import DETAIL_CHARACTERS_MAX

WALL = 1_700_000_000.0
OVER_QPS = {"X-Mashery-Error-Code": "ERR_403_DEVELOPER_OVER_QPS"}
OVER_RATE = {"x-mashery-error-code": "ERR_403_DEVELOPER_OVER_RATE"}
INACTIVE = {"X-Mashery-Error-Code": "ERR_403_DEVELOPER_INACTIVE"}


def classified(status: int, body: Any = b"", headers: Mapping[str, str] | None = None) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(status, httpx.Headers(headers), raw, wall=WALL)


@pytest.mark.parametrize(
    ("body", "job_id"),
    [
        pytest.param(b'{"jobID": 1234567}', "1234567", id="a number"),
        pytest.param(b'{"jobID": "1234567"}', "1234567", id="a text"),
        pytest.param(b'{\n "jobID": 01234567\n}', "1234567", id="leading zeros, no JSON, as the OMS shows it"),
        pytest.param(b'{"jobID": "01234567"}', "1234567", id="leading zeros in a text"),
        pytest.param(b'{"status": "ok", "jobID" : 007, "more": [1]}', "7", id="among other fields"),
        pytest.param(b'\xef\xbb\xbf{"jobID": 5}', "5", id="after a byte order mark"),
        pytest.param(b'{"jobID": 4711.0}', "4711", id="a float"),
        pytest.param(b'{"jobID": 04711.0}', "4711", id="a float with a leading zero"),
        pytest.param(b'{"jobID": "4711.0"}', "4711", id="a float as text"),
        pytest.param(b'{"jobID": " 4711\\n"}', "4711", id="a text with blanks"),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_job_id_is_read_in_every_form(status: int, body: bytes, job_id: str) -> None:
    assert classified(status, body) == Answer(AnswerKind.ACCEPTED, job_id=job_id, status=status)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>Welcome</html>", id="a page"),
        pytest.param(b"1234567", id="a bare number"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"jobId": 1}', id="another name"),
        pytest.param(b'{"jobID": null}', id="null"),
        pytest.param(b'{"jobID": true}', id="true"),
        pytest.param(b'{"jobID": 0}', id="zero"),
        pytest.param(b'{"jobID": 000}', id="only zeros"),
        pytest.param(b'{"jobID": -5}', id="negative"),
        pytest.param(b'{"jobID": 1.5}', id="a fraction"),
        pytest.param(b'{"jobID": "1.5"}', id="a fraction as text"),
        pytest.param(b'{"jobID": 1e300}', id="a float that is not exact"),
        pytest.param(b'{"jobID": 0.0}', id="zero as a float"),
        pytest.param(b'{"jobID": NaN}', id="no number"),
        pytest.param(b'{"jobID": "4 711"}', id="blanks inside"),
        pytest.param(b'{"jobID": ""}', id="empty"),
        pytest.param(b'{"jobID": "12a"}', id="letters"),
        pytest.param('{"jobID": "\u0663"}'.encode(), id="digits of another script"),
        pytest.param(b'{"jobID": 12', id="cut off"),
        pytest.param(b'{"jobID": ' + b"9" * 5_000 + b"}", id="longer than Python reads"),
        pytest.param(b'{"jobID": ' + b"9" * 31 + b"}", id="too long for a jobID"),
        pytest.param(b"[" * 60_000, id="nested without end"),
        pytest.param(b'{"jobID": "\xff"}', id="no UTF-8"),
    ],
)
def test_success_without_a_readable_job_id_is_not_accepted(body: bytes) -> None:
    answer = classified(200, body)

    assert (answer.kind, answer.job_id, answer.status) == (AnswerKind.UNREADABLE, None, 200)


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind"),
    [
        *(
            pytest.param(400, {}, {"code": code, "message": "no"}, AnswerKind.REFUSED, id=f"400 with {code}")
            for code in (5003, 5011, 5012, 5013, 5014, 5015, 5016, 5017)
        ),
        pytest.param(400, {}, b"", AnswerKind.GATEWAY_PAGE, id="400 without a body"),
        pytest.param(400, {}, b"<html>Bad Request</html>", AnswerKind.GATEWAY_PAGE, id="400 with a page"),
        pytest.param(400, {}, {"code": 400, "message": "no"}, AnswerKind.GATEWAY_PAGE, id="400 with a gateway's code"),
        pytest.param(400, {}, {"message": "no"}, AnswerKind.GATEWAY_PAGE, id="400 without a code"),
        pytest.param(400, {}, {"errorCode": "NO"}, AnswerKind.GATEWAY_PAGE, id="400 in words of another API"),
        pytest.param(400, {}, [{"code": 5015}], AnswerKind.GATEWAY_PAGE, id="400 with a list"),
        pytest.param(404, {}, b"<html>Not Found</html>", AnswerKind.GATEWAY_PAGE, id="404 with a page"),
        pytest.param(401, {}, b"", AnswerKind.UNAUTHORISED, id="401"),
        pytest.param(403, OVER_QPS, b"", AnswerKind.OVER_QUOTA, id="403 over queries a second"),
        pytest.param(403, OVER_RATE, b"<h1>", AnswerKind.OVER_QUOTA, id="403 over rate"),
        pytest.param(403, INACTIVE, b"", AnswerKind.FORBIDDEN, id="403 inactive"),
        pytest.param(403, {}, {"code": 5004}, AnswerKind.FORBIDDEN, id="403 with 5004"),
        pytest.param(403, {}, b"", AnswerKind.GATEWAY_PAGE, id="403 bare"),
        pytest.param(404, {}, {"code": 5002}, AnswerKind.WRONG_ADDRESS, id="404"),
        pytest.param(405, {}, {"code": 5005}, AnswerKind.WRONG_ADDRESS, id="405"),
        pytest.param(410, {}, b"", AnswerKind.GATEWAY_PAGE, id="410 without the OMS's words"),
        pytest.param(410, {}, {"code": 5002}, AnswerKind.WRONG_ADDRESS, id="410"),
        pytest.param(301, {"Location": "/x"}, b"", AnswerKind.WRONG_ADDRESS, id="a redirect"),
        pytest.param(429, {}, b"", AnswerKind.OVER_QUOTA, id="429"),
        pytest.param(500, {}, {"code": 5006}, AnswerKind.UNAVAILABLE, id="500 with 5006"),
        pytest.param(503, {}, {"code": 5001}, AnswerKind.UNAVAILABLE, id="503 with 5001"),
        pytest.param(503, {}, {"code": "5001"}, AnswerKind.UNAVAILABLE, id="503 with the code as text"),
        pytest.param(407, {}, b"", AnswerKind.UNAVAILABLE, id="407 is a proxy's, which passes nothing on"),
        pytest.param(408, {}, b"", AnswerKind.UNKNOWN, id="408"),
        pytest.param(500, {}, b"oops", AnswerKind.UNKNOWN, id="500 without a code"),
        pytest.param(500, {}, {"code": 500}, AnswerKind.UNKNOWN, id="500 with a code not the OMS's"),
        pytest.param(500, {}, {"code": True}, AnswerKind.UNKNOWN, id="500 with a strange code"),
        pytest.param(500, {}, [5006], AnswerKind.UNKNOWN, id="500 with a list"),
        pytest.param(502, {}, {"code": 5001}, AnswerKind.UNKNOWN, id="502 is a gateway's, whatever it says"),
        pytest.param(503, OVER_QPS, b"", AnswerKind.UNKNOWN, id="503 without a code"),
        pytest.param(504, {}, b"", AnswerKind.UNKNOWN, id="504"),
        pytest.param(520, {}, b"", AnswerKind.UNKNOWN, id="520"),
        pytest.param(411, {}, b"", AnswerKind.GATEWAY_PAGE, id="411"),
        pytest.param(413, {}, b"", AnswerKind.TOO_LARGE, id="413"),
        pytest.param(413, {}, {"code": 5003}, AnswerKind.TOO_LARGE, id="413 of the OMS"),
        pytest.param(415, {}, {"code": 5003}, AnswerKind.REFUSED, id="415"),
        pytest.param(415, {}, b"", AnswerKind.GATEWAY_PAGE, id="415 with a page"),
        pytest.param(422, {}, {"code": 5015}, AnswerKind.REFUSED, id="422"),
        pytest.param(409, {}, b"", AnswerKind.UNKNOWN, id="409 proves nothing"),
        pytest.param(499, {}, b"", AnswerKind.UNKNOWN, id="499 proves nothing"),
    ],
)
def test_each_row_of_the_table(status: int, headers: dict[str, str], body: Any, kind: AnswerKind) -> None:
    answer = classified(status, body, headers)

    assert answer.kind is kind
    assert answer.status == status
    assert answer.job_id is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        pytest.param({"errorCode": "VALIDATION_CONFLICT", "message": "no"}, AnswerKind.REFUSED, id="its error fields"),
        pytest.param({"code": 5015, "message": "no"}, AnswerKind.REFUSED, id="the older codes"),
        pytest.param({"errorCode": ""}, AnswerKind.GATEWAY_PAGE, id="an empty field"),
        pytest.param({"errorCode": 7}, AnswerKind.GATEWAY_PAGE, id="no text"),
        pytest.param({"message": "no"}, AnswerKind.GATEWAY_PAGE, id="only a message"),
        pytest.param(b"<html>", AnswerKind.GATEWAY_PAGE, id="a page"),
    ],
)
def test_unified_commerce_has_words_of_its_own(body: Any, kind: AnswerKind) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    is_own = APIS["unified-commerce"].is_own

    assert classify(400, httpx.Headers(), raw, wall=WALL, is_own=is_own).kind is kind


def test_only_success_accepts_whatever_the_body_says() -> None:
    accepted = [status for status in range(100, 600) if classified(status, {"jobID": 1}).kind is AnswerKind.ACCEPTED]

    assert accepted == list(range(200, 300))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param(" 0 ", 0.0, id="none at all"),
        pytest.param(format_datetime(datetime.fromtimestamp(WALL + 90, UTC), usegmt=True), 90.0, id="a date to come"),
        pytest.param(format_datetime(datetime.fromtimestamp(WALL - 90, UTC), usegmt=True), 0.0, id="a date gone by"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0, id="a date far away"),
        pytest.param("9" * 400, 86_400.0, id="seconds beyond counting"),
        pytest.param("-5", None, id="negative"),
        pytest.param("1e3", None, id="no digits"),
        pytest.param("soon", None, id="words"),
        pytest.param("", None, id="empty"),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_a_day(value: str, seconds: float | None) -> None:
    assert classified(429, b"", {"Retry-After": value}).retry_after_seconds == seconds


def test_a_retry_after_date_counts_from_the_senders_own_clock() -> None:
    theirs = WALL - 3_600.0  # an hour behind ours
    headers = {
        "Date": format_datetime(datetime.fromtimestamp(theirs, UTC), usegmt=True),
        "Retry-After": format_datetime(datetime.fromtimestamp(theirs + 45.0, UTC), usegmt=True),
    }

    assert classified(503, b"", headers).retry_after_seconds == 45.0
    assert classified(503, b"", {**headers, "Date": "yesterday"}).retry_after_seconds == 0.0


def test_a_redirect_says_where_to() -> None:
    answer = classified(308, b"", {"Location": "https://login.example/x?y=\r\nz"})

    assert answer.kind is AnswerKind.WRONG_ADDRESS
    assert answer.detail == "redirected to https://login.example/x?y= z; redirects are not followed."


def test_the_detail_is_the_oms_message_in_one_short_printable_line() -> None:
    answer = classified(400, {"code": 5015, "message": "item 2:\n\tquantity\x00 is \u2028 'ä'"})

    assert answer.detail == """{"code": 5015, "message": "item 2:\\n\\tquantity\\u0000 is 'ä'"}"""
    assert classified(403, b"<h1>\r\nno\x1b[2J\xff</h1>", INACTIVE).detail == (
        "ERR_403_DEVELOPER_INACTIVE <h1> no [2J\ufffd</h1>"
    )
    assert len(classified(400, b"x" * 60_000).detail) == DETAIL_CHARACTERS_MAX


def subclasses(kind: type[httpx.HTTPError]) -> Iterator[type[httpx.HTTPError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


def raised(kind: type[httpx.HTTPError]) -> httpx.HTTPError:
    if kind is httpx.HTTPStatusError:
        request = httpx.Request("POST", "http://oms")
        return httpx.HTTPStatusError("no", request=request, response=httpx.Response(500))
    return kind("no")


BEFORE_THE_FIRST_BYTE = {httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, TunnelError}


@pytest.mark.parametrize("error", [pytest.param(kind, id=kind.__name__) for kind in subclasses(httpx.HTTPError)])
def test_every_error_of_httpx_is_mapped(error: type[httpx.HTTPError]) -> None:
    answer = classify_error(raised(error))

    if error is httpx.UnsupportedProtocol:
        assert answer.kind is AnswerKind.WRONG_ADDRESS
    elif error in BEFORE_THE_FIRST_BYTE:
        assert answer.kind is AnswerKind.UNAVAILABLE
    else:
        assert answer.kind is AnswerKind.UNKNOWN
    assert f"{error.__name__}: no" in answer.detail
    assert answer.status is None


def test_an_error_that_is_not_in_the_table_is_not_classified() -> None:
    class NewError(httpx.TransportError):
        pass

    with pytest.raises(KeyError):
        classify_error(NewError("?"))


def test_all_other_exceptions_of_httpx_are_bugs_in_this_service() -> None:
    """Fails if httpx has a new exception: add it to the table."""
    exceptions = {
        value for value in vars(httpx).values() if isinstance(value, type) and issubclass(value, Exception)
    } - set(subclasses(httpx.HTTPError))

    assert {kind.__name__ for kind in exceptions} == {
        "CookieConflict",
        "InvalidURL",
        "RequestNotRead",
        "ResponseNotRead",
        "StreamClosed",
        "StreamConsumed",
        "StreamError",
    }
