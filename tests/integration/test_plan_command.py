"""The command ``plan`` on a real Kafka: what would be sent, without a group and without the OMS."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from consumer.cli import app
from consumer.dead_letters.log_reader import LogReader
from consumer.plan.records import Wanted, by_time, range_of
from tests.support.dead_letters import ENCODER, Shop
from tests.support.status_server import running_status_server
from tests.support.status_story import Story

pytestmark = pytest.mark.integration

BEGIN_MS = 1_780_000_000_000
"""2026-05-28T20:26:40Z"""
MINUTE_MS = 60_000

Run = Callable[..., Result]


class Records(Shop):
    """A topic whose records have the timestamps that a test gives them."""

    def record(self, minute: float, sku: str, quantity: int = 1, *, partition: int = 0, location: str = "Rome") -> None:
        self.value(minute, ENCODER.encode({"locationName": location, "sku": sku, "quantity": quantity}), partition)

    def value(self, minute: float, value: bytes, partition: int = 0) -> None:
        with self.producing() as producer:
            timestamp = BEGIN_MS + int(minute * MINUTE_MS)
            producer.produce(self.topic, value=value, partition=partition, timestamp=timestamp)


@pytest.fixture
def records(kafka: str, topic: Callable[..., str]) -> Records:
    return Records(kafka, topic(2, {"retention.ms": "-1"}), "no-dead-letters")


@pytest.fixture
def run(records: Records, tmp_path: Path) -> Run:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(records.config), encoding="utf-8")
    return lambda *options: CliRunner().invoke(app, ["plan", "--config", str(path), *options])


@pytest.fixture
def planned(run: Run) -> Callable[..., dict[str, Any]]:
    def result(*options: str) -> dict[str, Any]:
        done = run("--json", *options)
        assert done.exit_code == 0, (done.output, done.exception)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return result


Planned = Callable[..., dict[str, Any]]


def test_records_of_all_partitions_are_played_in_the_order_of_their_timestamps(
    records: Records, planned: Planned
) -> None:
    for partition in (0, 1):
        for minute in range(10):
            records.record(minute, f"sku-{partition}-{minute}", partition=partition)

    today = planned("--from-start")["today"]

    # A window opens at minute 0 and leaves at minute 5 with both partitions' items of minutes 0 to 4; then the next.
    assert (today["requests"], today["items"], today["items_max"]) == (2, 20, 10)
    assert today["requests_by_reason"] == {"age": 2}
    assert today["age_seconds_p99"] == pytest.approx(300, abs=1)
    assert (today["first"], today["last"]) == ("2026-05-28T20:26:40.000Z", "2026-05-28T20:35:40.000Z")


def test_a_what_if_stands_next_to_todays_settings_for_the_same_records(records: Records, planned: Planned) -> None:
    for minute in range(10):
        records.record(minute, f"sku-{minute}")

    found = planned(
        "--from-start", "--set", "window.max_age=1m", "--set", "oms.chunk_items=1000", "--chunk-seconds", "2"
    )

    assert found["set"] == ["window.max_age=1m", "oms.chunk_items=1000"]
    assert [found[name]["messages"] for name in ("today", "what_if")] == [10, 10]
    assert [found[name]["chunks"] for name in ("today", "what_if")] == [2, 10]
    assert [found[name]["oms_seconds"] for name in ("today", "what_if")] == [4, 20]
    assert [found[name]["fewest_chunks"] for name in ("today", "what_if")] == [1, 1]


def test_as_a_backlog_all_records_are_there_at_once(records: Records, planned: Planned) -> None:
    for minute in range(10):
        records.record(minute, f"sku-{minute}")

    found = planned("--from-start", "--as-backlog")

    assert found["mode"] == "backlog"
    assert (found["today"]["requests"], found["today"]["items"]) == (1, 10)


def test_reading_begins_at_the_committed_offsets_and_neither_commits_nor_joins_the_group(
    records: Records, planned: Planned, admin: AdminClient
) -> None:
    for minute in range(6):
        records.record(minute, f"sku-{minute}")
    records.commit(0, 4)

    found = planned()

    assert found["today"]["messages"] == 2
    assert found["partitions"][0] == {"topic": records.topic, "partition": 0, "start": 4, "end": 6}
    group = admin.describe_consumer_groups([f"group-of-{records.topic}"])[f"group-of-{records.topic}"].result(30)
    assert list(group.members) == []
    assert planned()["partitions"] == found["partitions"]


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (("--since", "2026-05-28T20:28:40Z"), 8),
        (("--from-start", "--until", "2026-05-28T20:28:40Z"), 2),
        (("--from-start", "--messages-max", "5"), 5),
        (("--since", "2026-05-28T20:28:40Z", "--until", "2026-05-28T20:31:40Z"), 3),
    ],
    ids=["since", "until", "messages-max", "both"],
)
def test_the_records_are_bounded_by_time_and_number(
    records: Records, planned: Planned, options: tuple[str, ...], messages: int
) -> None:
    for minute in range(10):
        records.record(minute, f"sku-{minute}")

    assert planned(*options)["today"]["messages"] == messages


def test_rejects_are_counted_by_reason_and_are_not_sent(records: Records, planned: Planned) -> None:
    records.record(0, "a")
    records.record(1, "b", -1)
    records.value(2, b"\xffjunk")

    today = planned("--from-start")["today"]

    assert today["rejects"] == {"negative_quantity": 1, "not_framed": 1}
    assert today["items"] == 1


def test_the_bodies_are_written_as_they_would_be_sent(records: Records, planned: Planned, tmp_path: Path) -> None:
    records.record(0, "a", 1)
    records.record(1, "a", 2)
    records.record(10, "b", 3)
    out = tmp_path / "bodies"

    planned("--from-start", "--out", str(out))

    assert [json.loads(file.read_text(encoding="utf-8")) for file in sorted(out.iterdir())] == [
        {"locationName": "Rome", "items": [{"sku": "a", "quantity": 2}]},
        {"locationName": "Rome", "items": [{"sku": "b", "quantity": 3}]},
    ]


def test_the_table_has_a_column_for_todays_settings_and_one_for_the_others(records: Records, run: Run) -> None:
    records.record(0, "a")
    records.record(10, "a", -1)

    done = run("--from-start", "--set", "window.max_age=15m")

    shown = done.stdout
    assert done.stderr == ""  # a progress bar is for terminals
    lines = [line.split() for line in shown.splitlines()]
    assert ["today", "window.max_age=15m"] in lines
    assert ["chunks", "1", "0"] in lines
    assert ["superseded_by_reject", "0", "1"] in lines
    labels = [line[0] for line in lines if line]
    assert labels.index("superseded_by_reject") < labels.index("requests") < labels.index("chunks")
    assert (
        "OMS seconds: not known (oms.api inventory-specific has no list of jobs; no running process is known" in shown
    )
    assert "give --chunk-seconds" in shown


def test_the_seconds_of_a_chunk_are_those_of_ended_jobs_and_the_report_says_of_how_many(
    records: Records, run: Run, planned: Planned
) -> None:
    records.record(0, "a")
    story = Story(stores=10)
    story.send_requests()
    with running_status_server(story.board, CollectorRegistry()) as server:
        shown = run("--from-start", "--member", server.url).stdout
        found = planned("--from-start", "--member", server.url.removeprefix("http://"))
    assert "OMS seconds: 1.5 for a chunk, the median of 5 ended jobs in the latest requests of 1 running" in shown
    assert found["chunk_seconds"] == {
        "seconds": 1.5,
        "jobs": 5,
        "origin": "the latest requests of 1 running process",
    }
    assert found["today"]["oms_seconds"] == 1.5


def test_with_the_seconds_of_a_chunk_no_call_is_made(
    records: Records, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.plan.command.chunk_seconds_of", None)
    records.record(0, "a")
    found = planned("--from-start", "--chunk-seconds", "3", "--member", "127.0.0.1:1")
    assert found["chunk_seconds"] == {"seconds": 3.0, "jobs": None, "origin": "--chunk-seconds"}
    assert found["today"]["oms_seconds"] == 3.0


def test_a_secret_that_is_tried_is_not_shown(records: Records, run: Run) -> None:
    records.record(0, "a")

    done = run("--from-start", "--set", "oms.api_secret=do-not-show", "--json")

    assert json.loads(done.stdout)["set"] == ["oms.api_secret"]
    assert "do-not-show" not in done.output


def test_timestamps_that_go_back_change_neither_order_nor_number(records: Records, planned: Planned) -> None:
    for minute, quantity in ((5, 1), (3, 2), (30, 3), (2, 4)):
        records.record(minute, "a", quantity)

    today = planned("--from-start")["today"]

    assert (today["messages"], today["items"]) == (4, 2)
    assert (today["first"], today["last"]) == ("2026-05-28T20:31:40.000Z", "2026-05-28T20:56:40.000Z")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--since", "2026-11-01T00:00:00Z"), "there is nothing to read from 2026-11-01T00:00:00.000Z on"),
        (("--from-start", "--since", "2h"), "give either --since or --from-start"),
        (("--from-start", "--set", "kafka.topics=other"), "kafka.topics cannot be tried"),
        (("--from-start", "--set", "window.max_aeg=15m"), "did you mean window.max_age"),
        (("--from-start", "--set", "window.max_age"), "is not an assignment such as window.max_age=15m"),
        (("--from-start", "--set", "window.max_age=soon"), "window.max_age: 'soon' must be a number of seconds"),
        (("--from-start", "--set", "window.flush_items=auto"), "give --chunk-seconds"),
        (("--from-start", "--memory", "much"), "--memory: 'much' must be bytes"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(
    records: Records, run: Run, options: tuple[str, ...], message: str
) -> None:
    records.record(0, "a")

    done = run(*options)

    assert done.exit_code != 0
    assert message in str(done.exception)


def test_bodies_are_not_mixed_with_other_files(records: Records, run: Run, tmp_path: Path) -> None:
    records.record(0, "a")

    done = run("--from-start", "--out", str(tmp_path))

    assert "is not empty; name a new folder" in str(done.exception)


def test_so_many_records_are_read_at_a_time_as_fit_into_memory(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minute in range(20):
        for partition in (0, 1):
            records.record(minute, "a", partition=partition)
    monkeypatch.setattr("consumer.plan.records.SLICE_MESSAGES", 8)

    with closing(LogReader(records.settings.kafka, "test")) as log:
        found = range_of(log, [records.topic], Wanted(from_start=True))
        slices = list(by_time(log, found, tick_seconds=1e9))

    assert sum(len(piece.messages) for piece in slices) == 40
    assert all(2 <= len(piece.messages) <= 8 for piece in slices)
    assert all(before.last_seconds < after.first_seconds for before, after in pairwise(slices))


def test_what_does_not_fit_is_handed_on_as_it_comes_and_time_never_goes_back(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minute in range(20):
        for partition in (0, 1):
            records.record(minute, "a", partition=partition)
    monkeypatch.setattr("consumer.plan.records.SLICE_MESSAGES_MAX", 0)

    with closing(LogReader(records.settings.kafka, "test")) as log:
        found = range_of(log, [records.topic], Wanted(from_start=True))
        read = log.read

        def partition_by_partition(*bounds: Any) -> Iterator[list[Message]]:
            messages = [message for read_together in read(*bounds) for message in read_together]
            yield from ([message] for message in sorted(messages, key=lambda message: message.partition() or 0))

        monkeypatch.setattr(log, "read", partition_by_partition)
        slices = list(by_time(log, found, tick_seconds=60.0))

    assert sum(len(piece.messages) for piece in slices) == 40
    assert all(before.last_seconds <= after.first_seconds for before, after in pairwise(slices))
    assert all(piece.first_seconds <= piece.last_seconds for piece in slices)
