"""Hostile answers: they are read within bounds, crash nothing, and reveal no secret."""

import gzip
import json
import sys
import time
import tracemalloc
import zlib

import httpx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.core.changes.items import ITEM_COLUMNS, ITEM_KEY
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.oms.answers import classify
from consumer.oms.http import REPLY_BYTES_MAX, Reply, call, open_http
from consumer.oms.job_reports import MESSAGES_MAX, read_report
from consumer.oms.named_items import NAMED_MAX, find_named
from consumer.oms.reply_parsing import RETRY_AFTER_SECONDS_MAX, read_json
from consumer.text import DETAIL_CHARACTERS_MAX
from tests.unit.oms.oms_bench import Bench

JOB_ID = "1234567"


def items(*skus: str) -> pl.DataFrame:
    columns = [
        pl.Series(name, skus if name == "sku" else [None] * len(skus), dtype) for name, dtype in ITEM_COLUMNS.items()
    ]
    return pl.DataFrame(columns)


def judged(status: int, headers: dict[str, str], body: bytes) -> None:
    """Let every function that reads answers read this one, and check the bounds of the result."""
    found = httpx.Headers(headers)
    answer = classify(status, found, body, wall=1.7e9)
    assert len(answer.detail) <= DETAIL_CHARACTERS_MAX
    assert answer.detail.isprintable()
    assert 0 <= (answer.retry_after_seconds or 0) <= RETRY_AFTER_SECONDS_MAX
    report = read_report(JOB_ID, status, found, body, wall=1.7e9)
    assert len(report.messages) <= MESSAGES_MAX + 1
    assert all(len(message) <= DETAIL_CHARACTERS_MAX and message.isprintable() for message in report.messages)
    assert len(find_named(body, items("A-1", "B-2"), ITEM_KEY)) <= NAMED_MAX


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(["SUCCESS", "A-1"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["jobID", "code", "status", "messages", "added", "finished", "item", "errors"])
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
BODIES = (
    st.binary(max_size=60)
    | ANY_JSON.map(lambda content: json.dumps(content).encode())
    | st.text(max_size=40).map(str.encode)
)
HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "X-Mashery-Error-Code", "Content-Type"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
    | st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(100, 599), HEADERS, BODIES)
def test_any_answer_is_read_within_bounds(status: int, headers: dict[str, str], body: bytes) -> None:
    judged(status, headers, body)


LARGE = [
    b"[" * REPLY_BYTES_MAX,
    b'"jobID"' + b" " * REPLY_BYTES_MAX,
    b'{"jobID":' + b"0" * 60_000 + b"}",
    b'{"jobID": ' + b"9" * 60_000 + b"}",
    b"items[" * 10_900,
    b"items[1]." * 7_000,
    b'"' * REPLY_BYTES_MAX,
    b"\xff" * REPLY_BYTES_MAX,
    b'["items[0].sku",' * 4_000,
]


@pytest.mark.parametrize("body", LARGE, ids=lambda body: body[:12].decode("latin-1"))
def test_a_large_answer_is_read_quickly(body: bytes) -> None:
    began = time.process_time()
    judged(400, {"Retry-After": "9" * 5_000}, body)

    assert time.process_time() - began < 5.0


@pytest.mark.parametrize("shape", ['{"status": "SUCCESS", "messages": %s}', '{"message": %s}'])
def test_a_deeply_nested_answer_once_crashed_the_service(shape: str) -> None:
    """JSON that could just be read could not be written again: the writer's limit is a few levels lower."""
    deepest = next(
        depth
        for depth in range(sys.getrecursionlimit() + 50, 0, -1)
        if read_json(b"[" * depth + b"]" * depth) is not None
    )
    for depth in range(deepest - 12, deepest + 3):
        for nested in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            judged(400, {}, (shape % nested).encode())
            judged(200, {}, (shape % nested).encode())


def test_a_lone_surrogate_in_a_refusal_once_crashed_the_service() -> None:
    for body in (b'{"message": "\\ud800"}', b'{"\\udfff": 1}', b'["A-1 \\ud83d", "B-2"]'):
        judged(400, {}, body)
    (named,) = find_named(b'["A-1 \\ud83d"]', items("A-1", "B-2"), ITEM_KEY)
    assert "A-1" in named


def spellings(secret: str) -> list[str]:
    units = secret.encode("utf-16-be").hex().upper()
    by_number = "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
    slashed = secret.replace("/", "\\/")
    return [secret, by_number, slashed, slashed.replace("=", "\\u003d"), json.dumps(secret)[1:-1]]


@pytest.mark.parametrize("secret", ["c2VjcmV0/Pz8/+w==", 'quo"te\\back', "größe😀=1"])
def test_a_secret_with_json_escapes_once_appeared_in_the_log(secret: str) -> None:
    for spelt in spellings(secret):
        for body in (f'{{"error": "bad token {spelt}"}}', f"<p>bad token {spelt}"):
            reply = Reply(400, httpx.Headers({"X-Mashery-Error-Code": "ERR"}), body.encode()).without(secret)
            answer = classify(reply.status, reply.headers, reply.body, wall=0.0)

            assert "bad token ***" in answer.detail


def test_a_token_echoed_in_a_header_once_appeared_in_the_log(bench: Bench) -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            400, headers={"X-Mashery-Error-Code": request.headers["Authorization"]}, json={"code": 5003}
        )

    bench.oms.refreshes = [echo]
    answered = bench.send("a")

    assert answered.answer.kind is AnswerKind.REFUSED
    assert answered.answer.detail.startswith("Bearer ***")


def fetched(*, content: bytes, encoding: str, bytes_max: int = REPLY_BYTES_MAX) -> bytes:
    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": encoding}, stream=httpx.ByteStream(content))

    with open_http(timeout_seconds=5.0, connections_max=1, transport=httpx.MockTransport(respond)) as http:
        return call(
            http,
            "GET",
            "https://oms.example/",
            headers={},
            body=None,
            seconds_max=5.0,
            monotonic=time.monotonic,
            reply_bytes_max=bytes_max,
        ).body


def test_a_decompression_bomb_takes_no_more_memory_than_the_limit() -> None:
    """httpx would decompress every part completely, to a thousand times its size."""
    packed = zlib.compress(b"x" * 50_000_000, 9)
    tracemalloc.start()
    try:
        assert fetched(content=packed, encoding="deflate") == b"x" * REPLY_BYTES_MAX
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZip"])
def test_a_compressed_answer_is_read_although_none_was_requested(encoding: str) -> None:
    pack = zlib.compress if encoding == "deflate" else gzip.compress

    assert fetched(content=pack(b'{"jobID": 9}'), encoding=encoding) == b'{"jobID": 9}'


def test_deflate_without_the_wrapper_of_zlib_is_read() -> None:
    def pack(content: bytes) -> bytes:
        raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return raw.compress(content) + raw.flush()

    assert fetched(content=pack(b'{"jobID": 9}'), encoding="deflate") == b'{"jobID": 9}'
    assert fetched(content=pack(b"x" * 1_000_000), encoding="deflate") == b"x" * REPLY_BYTES_MAX
    assert fetched(content=b'{"jobID": 9}', encoding="deflate") == b'{"jobID": 9}'


def test_a_body_that_is_not_compressed_as_declared_is_left_as_it_is() -> None:
    assert fetched(content=b"no gzip", encoding="gzip") == b"no gzip"
    assert classify(200, httpx.Headers(), fetched(content=b"\x8b\x05", encoding="br"), wall=0.0) == Answer(
        AnswerKind.UNREADABLE, status=200, detail="\ufffd"
    )
