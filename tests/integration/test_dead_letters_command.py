"""The commands list, show and redrive as processes, on a real Kafka."""

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
    """A failed job, an event with a negative quantity, and bytes that are not an event."""
    shop.job_failed(shop.change("a", 5))
    value = ENCODER.encode({"locationName": "Oslo", "sku": "b", "quantity": -1})
    shop.rejected(shop.raw(value, "b"), value, RejectReason.NEGATIVE_QUANTITY, "b")
    shop.rejected(shop.raw(b"\xffjunk", "c"), b"\xffjunk", RejectReason.NOT_FRAMED, "c")
    return shop


def test_list_counts_by_reason_and_location_even_if_only_the_event_has_the_location(three: Shop, run: Run) -> None:
    done = run("list", "--lines")
    assert done.returncode == 0, done.stderr
    lines, table = done.stdout.split("3 dead letters")
    assert [line.split("  ")[1:4] for line in lines.splitlines()] == [
        [f"{three.topic}/0/0", "job_failed", "Rome"],
        [f"{three.topic}/0/1", "negative_quantity", "Oslo"],
        [f"{three.topic}/0/2", "not_framed", "-"],
    ]
    assert "Oslo" in table


def test_list_prints_one_json_object_per_matching_dead_letter(three: Shop, run: Run) -> None:
    assert [fields["offset"] for fields in objects(run("list", "--json"))] == [0, 1, 2]
    assert [fields["offset"] for fields in objects(run("list", "--json", "--location", "Oslo"))] == [1]
    assert [fields["offset"] for fields in objects(run("list", "--json", "--since", "1h", "--limit", "2"))] == [0, 1]
    assert objects(run("list", "--json", "--until", "1h")) == []
    (failed,) = objects(run("list", "--json", "--reason", "job_failed"))
    assert failed["job_id"] == "12"
    assert failed["detail"] == "no such location"


def test_show_prints_the_event_or_the_bytes(three: Shop, run: Run) -> None:
    failed, negative, junk = objects(run("show", "--json"))
    assert failed["event"] == {"locationName": "Rome", "sku": "a", "quantity": 5}
    assert negative["event"] == {"locationName": "Oslo", "sku": "b", "quantity": -1}
    assert junk["value_hex"] == b"\xffjunk".hex()
    assert str(junk["not_decoded"]).startswith("not_framed: ")
    page = run("show", "--topic", three.topic, "--partition", "0", "--offset", "1").stdout
    assert '"quantity": -1' in page
    assert 'headers:     [["trace", "abc"]]' in page


def test_show_says_that_no_dead_letter_matches(three: Shop, run: Run) -> None:
    done = run("show", "--offset", "99")
    assert done.returncode == 5
    assert done.stderr == f'inventory-refresh: no dead letter in "{three.dead_topic}" matches\n'


def test_redrive_prints_its_plan_and_sends_only_when_confirmed(three: Shop, run: Run) -> None:
    before = len(three.read())
    planned = run("redrive", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "Nothing was redriven." in planned.stdout
    assert f"skipped: {three.topic}/0/1  negative_quantity  rejected again: negative_quantity: quantity is -1" in (
        planned.stdout
    )
    assert len(three.read()) == before

    unconfirmed = run("redrive")
    assert unconfirmed.returncode == 2
    assert unconfirmed.stderr == (
        "inventory-refresh: redrive: there is no terminal to ask for confirmation: "
        "use --yes to redrive, or --dry-run to only look\n"
    )
    assert len(three.read()) == before

    done = run("redrive", "--yes", "--reason", "job_failed")
    assert done.returncode == 0, done.stderr
    assert "Redrove 1 dead letter." in done.stdout
    assert len(three.read()) == before + 1

    again = run("redrive", "--yes", "--reason", "job_failed")
    assert "There is nothing to redrive." in again.stdout
    assert f"superseded: see {three.topic}/0/3" in again.stdout
    assert len(three.read()) == before + 1


def test_errors_are_one_line_with_the_exit_code_of_their_kind(shop: Shop, run: Run) -> None:
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
