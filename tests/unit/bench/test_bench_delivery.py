"""The sink counts and keeps what it gets, and nothing that is missing, stale or repeated goes unseen."""

import json
from array import array
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench.cases import Case
from bench.processes import SinkProcess, running_sink
from bench.verify import Delivered, change_ages, compare, read_items, refused_bodies
from consumer.avro.bundled import schema_path

CASE = Case("", "", locations=2, items_per_location=2)
QUANTITIES = array("H", [10, 11, 12, 13])


def body(location: int, **quantities: int) -> bytes:
    items = [{"partNumber": part, "floor": 2, "quantity": quantity} for part, quantity in quantities.items()]
    return json.dumps({"locationName": f"store-{location:05}", "items": items}, separators=(",", ":")).encode()


FIRST = body(0, P00000000=10, P00000002=12)
SECOND = body(1, P00000001=11, P00000003=13)


def delivered(tmp_path: Path, *bodies: bytes, case: Case = CASE) -> Delivered:
    file = tmp_path / "bodies.ndjson"
    file.write_bytes(b"".join(one + b"\n" for one in bodies))
    return compare(case, read_items(file), QUANTITIES, refused_bodies(file))


def test_everything_once_with_its_newest_quantity_is_complete(tmp_path: Path) -> None:
    got = delivered(tmp_path, FIRST, SECOND)
    assert got == Delivered(items=4, distinct=4, missing=0, stale=0, misplaced=0)
    assert got.problems(CASE) == []


@pytest.mark.parametrize(
    ("bodies", "problem"),
    [
        ((FIRST,), "2 items never came"),
        ((), "4 items never came"),
        ((FIRST, SECOND, body(1, P00000001=99)), "1 items do not have their newest quantity"),
        ((FIRST, SECOND, body(1, P00000001=11)), "1 items came more than once"),
        ((FIRST, body(0, P00000001=11, P00000003=13)), "2 items came for another location"),
        ((FIRST, SECOND.replace(b'"floor":2', b'"floor":"2"')), "1 of the bodies checked break a rule of the OMS"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, bodies: tuple[bytes, ...], problem: str) -> None:
    assert problem in delivered(tmp_path, *bodies).problems(CASE)


def test_an_older_quantity_may_come_first_where_an_item_has_several_changes(tmp_path: Path) -> None:
    case = Case("", "", locations=2, items_per_location=2, changes_per_item=2)
    assert delivered(tmp_path, body(0, P00000000=7), FIRST, SECOND, case=case).problems(case) == []


def test_the_age_of_a_change_ends_with_the_answer_to_its_request(tmp_path: Path) -> None:
    file = tmp_path / "bodies.ndjson"
    file.write_bytes(FIRST + b"\n" + SECOND + b"\n")
    ages = change_ages(
        read_items(file, block_bytes=1), answered_at=[105.0, 107.0], published_at=[100.0, 101.0, 102.0, 103.0]
    )
    assert ages == [5.0, 3.0, 6.0, 4.0]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SinkProcess]:
    with running_sink(tmp_path, "--chunk-items", "1", "--schema", f"1={schema_path()}") as running:
        yield running


def test_the_sink_answers_counts_and_keeps_every_body(sink: SinkProcess) -> None:
    with httpx.Client(base_url=sink.url) as http:
        assert http.post("/token", content=b"grant_type=client_credentials").json()["access_token"]
        assert http.post("/inv/api/v5/inventory/refresh", content=FIRST).json() == {"jobID": 1}
        assert http.post("/inv/api/v5/inventory/refresh", content=SECOND).json() == {"jobID": 2}
        assert http.get("/inv/api/v1/queue/2").json()["status"] == "SUCCESS"
        assert http.get("/schemas/ids/1").json()["schema"] == schema_path().read_text(encoding="utf-8")
        assert http.get("/schemas/ids/9").status_code == 404
    stats = sink.stats()
    assert (stats["requests"], stats["items"], stats["chunks"]) == (2, 4, 4)
    assert [items for _, _, items in sink.requests()] == [2, 2]
    assert sink.bodies.read_bytes() == FIRST + b"\n" + SECOND + b"\n"


def test_a_slow_sink_works_on_one_request_at_a_time(tmp_path: Path) -> None:
    with running_sink(tmp_path, "--chunk-items", "1", "--seconds-per-chunk", "0.05") as sink:
        with httpx.Client(base_url=sink.url) as http:
            http.post("/refresh", content=FIRST)
            http.post("/refresh", content=SECOND)
        (received, answered, _), (_, second, _) = sink.requests()
    assert answered - received >= 0.1
    assert second - answered >= 0.1
