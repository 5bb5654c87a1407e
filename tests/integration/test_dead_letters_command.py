"""The commands list, show and redrive as processes of their own, on a real Kafka."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from consumer.core.changes.items import RejectReason
from tests.support.dead_letters import ENCODER, Shop
from tests.support.service_process import ROOT, WAIT_SECONDS_MAX

pytestmark = pytest.mark.integration

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shop(kafka: str, topic: Callable[..., str]) -> Shop:
    return Shop(kafka, topic(), topic())


@pytest.fixture
def run(shop: Shop, tmp_path: Path) -> Run:
    path = tmp_path / "config.yaml"

    def run_command(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        path.write_text(yaml.safe_dump(shop.config))
        return subprocess.run(  # noqa: S603 - this project's own command
            [sys.executable, "-m", "consumer", "dead-letters", command, "--config", str(path), *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS_MAX,
            check=False,
        )

    return run_command


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def three(shop: Shop) -> Shop:
    """A job that failed, an event with a negative quantity, and bytes that are none."""
    shop.job_failed(shop.change("a", 5))
    value = ENCODER.encode({"locationName": "Oslo", "sku": "b", "quantity": -1})
    shop.rejected(shop.raw(value, "b"), value, RejectReason.NEGATIVE_QUANTITY, "b")
    shop.rejected(shop.raw(b"\xffjunk", "c"), b"\xffjunk", RejectReason.NOT_FRAMED, "c")
    return shop


def test_list_counts_by_reason_and_location_also_where_only_the_event_has_the_location(three: Shop, run: Run) -> None:
    done = run("list", "--each")
    assert done.returncode == 0, done.stderr
    lines, table = done.stdout.split("3 dead letters")
    assert [line.split("  ")[1:4] for line in lines.splitlines()] == [
        [f"{three.topic}/0/0", "job_failed", "Rome"],
        [f"{three.topic}/0/1", "negative_quantity", "Oslo"],
        [f"{three.topic}/0/2", "not_framed", "-"],
    ]
    assert "Oslo" in table


def test_list_gives_programs_one_object_a_letter_that_is_meant(three: Shop, run: Run) -> None:
    assert [each["offset"] for each in objects(run("list", "--json"))] == [0, 1, 2]
    assert [each["offset"] for each in objects(run("list", "--json", "--location", "Oslo"))] == [1]
    assert [each["offset"] for each in objects(run("list", "--json", "--since", "1h", "--limit", "2"))] == [0, 1]
    assert objects(run("list", "--json", "--until", "1h")) == []
    (told,) = objects(run("list", "--json", "--reason", "job_failed"))
    assert told["job_id"] == "12"
    assert told["detail"] == "no such location"


def test_show_gives_the_event_or_the_bytes(three: Shop, run: Run) -> None:
    failed, negative, junk = objects(run("show", "--json"))
    assert failed["event"] == {"locationName": "Rome", "sku": "a", "quantity": 5}
    assert negative["event"] == {"locationName": "Oslo", "sku": "b", "quantity": -1}
    assert junk["value_hex"] == b"\xffjunk".hex()
    assert str(junk["not_decoded"]).startswith("not_framed: ")
    page = run("show", "--topic", three.topic, "--partition", "0", "--offset", "1").stdout
    assert '"quantity": -1' in page
    assert 'headers:       [["trace", "abc"]]' in page


def test_show_of_what_is_not_there_says_so(three: Shop, run: Run) -> None:
    done = run("show", "--offset", "99")
    assert done.returncode == 5
    assert done.stderr == f'inventory-refresh: no dead letter in "{three.dead_topic}" is like that\n'


def test_redrive_shows_its_plan_and_sends_only_when_told_to(three: Shop, run: Run) -> None:
    before = len(three.read())
    looked = run("redrive", "--dry-run")
    assert looked.returncode == 0, looked.stderr
    assert "Nothing was sent." in looked.stdout
    assert f"stays: {three.topic}/0/1  negative_quantity  rejected again negative_quantity: quantity is -1" in (
        looked.stdout
    )
    assert len(three.read()) == before

    asked = run("redrive")
    assert asked.returncode == 2
    assert asked.stderr == (
        "inventory-refresh: redrive: there is nobody to ask: give --yes to send, or --dry-run to look only\n"
    )
    assert len(three.read()) == before

    done = run("redrive", "--yes", "--reason", "job_failed")
    assert done.returncode == 0, done.stderr
    assert "1 changes are back in their topics." in done.stdout
    assert len(three.read()) == before + 1

    again = run("redrive", "--yes", "--reason", "job_failed")
    assert "There is nothing to send." in again.stdout
    assert f"superseded by {three.topic}/0/3" in again.stdout
    assert len(three.read()) == before + 1


def test_what_cannot_be_is_said_in_one_line_with_the_usual_exit_codes(shop: Shop, run: Run) -> None:
    done = run("list", "--since", "yesterday")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    shop.dead_topic = "not-there"
    done = run("list")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert 'there is no topic "not-there"' in done.stderr
    shop.dead_topic = shop.topic + ".dead"
    shop.properties = {"isolation.level": "read_uncommitted"}
    done = run("redrive", "--yes")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "isolation.level" in done.stderr
