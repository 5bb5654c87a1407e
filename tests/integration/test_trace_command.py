"""The command ``trace``, with real Kafka, processes of the service and the OMS sandbox: the fates of an item."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from consumer.cli import app
from consumer.sandbox.oms.settings import TENANT, UNIFIED_KEY, UNIFIED_SECRET
from consumer.sandbox.publisher import Encoder
from tests.support.fleet import Fleet, OpenFleet
from tests.support.service_process import ServiceProcess

pytestmark = pytest.mark.integration

STORE = "Store 12"
NEVER = 3_600
TRANSCRIPTS = os.environ.get("TRACE_TRANSCRIPTS")
"""A file to which the printed texts are added, for the docs."""


@dataclass
class Shop:
    """A topic with one partition, members of the service, and the sandbox."""

    fleet: Fleet
    folder: Path

    def start(self, name: str = "a", **sections: Any) -> ServiceProcess:
        member = self.fleet.start(name, **{"window": {"max_age": 0.5}, **sections})
        self.fleet.wait_until(lambda: bool(member.held()), "the member has the partition")
        return member

    def publish(self, *quantities: int, sku: str = "B-1", partition: int = 0) -> None:
        encoder = Encoder(1)
        producer = Producer({"bootstrap.servers": self.fleet.servers})
        for quantity in quantities:
            value = encoder.value({"locationName": STORE, "sku": sku, "quantity": quantity})
            producer.produce(self.fleet.topic, value=value, key=sku, partition=partition)
        assert producer.flush(60) == 0

    def trace(self, *options: str, sku: str = "B-1", members: list[ServiceProcess] | None = None) -> dict[str, Any]:
        """The command's JSON; its text is written to the transcripts."""
        asked = list(self.fleet.members.values()) if members is None else members
        arguments = ["--location", STORE, "--sku", sku, *options]
        arguments += [part for member in asked for part in ("--member", member.url)]
        found: dict[str, Any] = json.loads(self.run(*arguments, "--json"))
        return found

    def run(self, *arguments: str) -> str:
        config = self.fleet.folder / next(iter(self.fleet._sections)) / "config.yaml"
        done = CliRunner().invoke(app, ["trace", "--config", str(config), *arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    def states(self, **more: Any) -> list[str]:
        return [change["state"] for change in self.trace(**more)["changes"]]

    def wait_for(self, *states: str) -> dict[str, Any]:
        """Wait until the item's changes have these states, oldest first, and return what is said then."""
        self.fleet.wait_until(lambda: self.states() == list(states), f"the changes are {', '.join(states)}")
        return self.trace()

    def transcript(self, title: str) -> str:
        """What a person sees."""
        members = [part for member in self.fleet.members.values() for part in ("--member", member.url)]
        shown = self.run("--location", STORE, "--sku", "B-1", *members)
        if TRANSCRIPTS:
            with Path(TRANSCRIPTS).open("a", encoding="utf-8") as file:
                file.write(f"## {title}\n\n$ inventory-refresh trace --location 'Store 12' --sku B-1\n{shown}\n")
        return shown


@pytest.fixture
def shop(fleet: OpenFleet, tmp_path: Path) -> Shop:
    return Shop(fleet(partitions=1), tmp_path)


def test_a_change_waits_with_the_time_by_which_it_leaves_and_an_older_one_is_coalesced_into_it(shop: Shop) -> None:
    shop.start(window={"max_age": NEVER})
    shop.publish(3, 4)

    found = shop.wait_for("pending", "pending")
    older, newer = found["changes"]
    assert [change["item"]["quantity"] for change in found["changes"]] == [3, 4]
    assert (newer["topic"], newer["partition"], newer["offset"], newer["line"]) == (shop.fleet.topic, 0, 1, 0)
    assert newer["at"] < found["now"] < newer["leaves_by"]
    assert older["coalesced_into"]["offset"] == 1
    assert older["text"].startswith("coalesced into the newer change at offset 1, whose count is sent in its place")
    assert found["notes"] == []

    shown = shop.transcript("Waiting, and coalesced into a newer one")
    assert 'offset 1  {"sku": "B-1", "quantity": 4}' in shown
    assert re.search(r"this change leaves at the latest at .* UTC \(in 60 minutes\)", shown)


def test_a_change_is_in_flight_or_not_read_yet_and_held_once_its_outcome_is_unknown(shop: Shop) -> None:
    member = shop.start(oms={"unknown_hold": 600}, kafka={"max_uncommitted_offsets": 1})
    shop.fleet.add_faults(answers=[{"hang_seconds": 30, "status": 504}])
    shop.publish(3)
    shop.wait_for("in_flight")
    shop.publish(4)
    shop.fleet.wait_until(lambda: member.snapshot()["partitions"][0]["paused"], "the partition is paused")
    shop.publish(5)

    found = shop.wait_for("in_flight", "pending", "not_read")
    request_id = found["changes"][0]["request"]["request_id"]
    unread = found["changes"][2]
    assert unread["text"].startswith("not read yet, or being decoded: 0 records before it; the partition is paused")
    assert unread["item"]["quantity"] == 5
    shown = shop.transcript("In flight, behind it, and not read yet")
    assert f"in request {request_id}, which the OMS has not answered since" in shown

    found = shop.wait_for("pending", "pending", "not_read")
    assert "the last request may have been queued" in found["changes"][0]["text"]
    shown = shop.transcript("Held, because the outcome of its request is unknown")
    assert f"last not accepted: request {request_id}: unknown (504)" in shown


def test_an_accepted_change_names_its_request_and_job_and_whether_it_was_applied(shop: Shop) -> None:
    member = shop.start()
    shop.publish(3)
    shop.fleet.wait_until(lambda: "and applied" in str(shop.trace()["changes"]), "the job has ended")
    shop.fleet.add_faults(answers=[{"fail_job": True, "job_messages": ["queue item could not be processed"]}])
    shop.publish(4, 5)
    shop.fleet.wait_until(lambda: "which failed" in str(shop.trace()["changes"]), "the job has failed")
    shop.fleet.wait_until(
        lambda: all(change["dead_letter"] for change in shop.trace()["changes"][1:]), "the dead letters are written"
    )

    found = shop.trace()
    applied, coalesced, failed = found["changes"]
    (accepted, second) = member.events("request_accepted")
    assert applied["request"]["request_id"] == accepted["request_id"]
    assert applied["request"]["job_id"] == str(accepted["job_id"])
    assert applied["request"]["job_outcome"] == "success"
    assert coalesced["coalesced_into"]["offset"] == failed["offset"] == 2
    assert failed["request"]["request_id"] == second["request_id"]
    assert "queue item could not be processed" in failed["text"]
    assert failed["next_step"].endswith(f"dead-letters redrive --job {second['job_id']}")
    assert failed["dead_letter"]["reason"] == "job_failed"
    shop.transcript("Applied, coalesced, and of a failed job")


def test_a_dead_letter_has_its_reason_from_the_member_and_after_a_restart_from_the_topic(shop: Shop) -> None:
    shop.start()
    shop.fleet.add_faults(rules=[{"fault": "refuse", "quantity": 999}])
    shop.publish(-1)
    shop.fleet.wait_until(lambda: bool(shop.trace()["changes"][0]["dead_letter"]), "the dead letter is written")
    shop.publish(999)
    shop.fleet.wait_until(
        lambda: len(shop.trace()["changes"]) == 2 and bool(shop.trace()["changes"][1]["dead_letter"]), "refused"
    )

    rejected, refused = shop.trace()["changes"]
    assert rejected["state"] == refused["state"] == "dead_lettered"
    assert rejected["text"].startswith("dead-lettered (negative_quantity): ")
    assert refused["text"].startswith("dead-lettered (refused_by_oms): HTTP 400")
    assert refused["next_step"].endswith(f"redrive --topic {shop.fleet.topic} --partition 0 --offset 1")
    shop.transcript("Dead-lettered")

    shop.fleet.members.pop("a").stop()
    shop.start("b")
    rejected, refused = shop.trace()["changes"]
    assert rejected["text"].startswith("dead-lettered (negative_quantity): ")
    assert refused["text"].startswith("dead-lettered (refused_by_oms): HTTP 400")
    assert refused["dead_letter"]["position"] in refused["text"]


def test_past_the_memory_it_is_accepted_with_an_unknown_job_and_jobs_are_candidates(shop: Shop) -> None:
    unified = {
        "api": "unified-commerce",
        "tenant": TENANT,
        "token_url": f"{shop.fleet.sandbox.url}/api/platform/applications/authtickets/oauth",
        "api_key": UNIFIED_KEY,
        "api_secret": UNIFIED_SECRET,
    }
    member = shop.start(oms=unified)
    shop.publish(3)
    shop.fleet.wait_until(lambda: "and applied" in str(shop.trace()["changes"]), "the job has ended")
    (accepted,) = member.events("request_accepted")
    shop.fleet.members.pop("a").stop()

    found = shop.trace(members=[])
    (change,) = found["changes"]
    assert change["state"] == "accepted_job_unknown"
    assert [job["job_id"] for job in found["candidates"]["jobs"]] == [str(accepted["job_id"])]
    assert "does not answer" in found["notes"][0]

    shop.start("b", oms=unified)
    found = shop.wait_for("accepted_job_unknown")
    assert "when the member's memory begins" in found["changes"][0]["text"]
    shown = shop.transcript("Accepted, past the members' memory")
    assert f"job {accepted['job_id']}  SUCCESS" in shown


def test_all_members_are_asked_and_one_that_does_not_answer_is_named(fleet: OpenFleet, tmp_path: Path) -> None:
    shop = Shop(fleet(partitions=2), tmp_path)
    members = [shop.fleet.start(name, window={"max_age": NEVER}) for name in ("a", "b")]
    shop.fleet.wait_until_shared("a", "b")
    shop.publish(3, partition=0)
    shop.publish(4, partition=1)

    found = shop.wait_for("pending", "pending")
    assert {change["partition"] for change in found["changes"]} == {0, 1}
    assert [member["problem"] for member in found["members"]] == [None, None]

    members[1].stop()
    found = shop.trace(members=members)
    assert any("does not answer" in note for note in found["notes"])


def test_without_an_answer_of_members_what_is_committed_is_known_and_the_rest_is_said_to_be_unknown(
    shop: Shop,
) -> None:
    shop.start()
    shop.publish(3)
    shop.fleet.wait_until(lambda: shop.fleet.committed() == {0: 1}, "the offset is committed")
    shop.fleet.members.pop("a").stop()
    shop.publish(4)

    found = shop.trace()
    assert [change["state"] for change in found["changes"]] == ["accepted_job_unknown", "unknown"]
    assert "Whether it was read is not known" in found["changes"][1]["text"]
    assert found["candidates"]["problem"].startswith("this API of the OMS lists no jobs")


def test_an_item_without_changes_and_records_that_may_be_of_any_item_are_said(shop: Shop) -> None:
    shop.start()
    producer = Producer({"bootstrap.servers": shop.fleet.servers})
    producer.produce(shop.fleet.topic, value=b"\xffjunk")
    assert producer.flush(60) == 0

    found = shop.trace(sku="none")
    assert found["changes"] == []
    assert found["records_read"] == 1
    assert any("1 not_framed; any may be of this item" in note for note in found["notes"])
    assert "No change of this item was found" in shop.run("--location", STORE, "--sku", "none")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--location", "Rome"], "name the item: --sku, --upc or --part-number"),
        (["--location", "Rome", "--sku", "a", "--since", "soon"], "--since: 'soon' is not a time"),
        (["--location", "Rome", "--sku", "a", "--member", "ftp://x"], "is not the address of a status page"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(shop: Shop, arguments: list[str], message: str) -> None:
    shop.start()
    config = shop.fleet.folder / "a" / "config.yaml"
    done = CliRunner().invoke(app, ["trace", "--config", str(config), *arguments])
    assert done.exit_code != 0
    assert message in str(done.exception)


def test_the_status_server_of_a_process_answers_where_an_item_is(shop: Shop) -> None:
    member = shop.start(window={"max_age": NEVER})
    shop.publish(3)
    shop.wait_for("pending")

    (change,) = shop.trace(members=[])["changes"]
    assert change["state"] == "pending"  # without any address, the process on this machine is asked

    answer = httpx.get(f"{member.url}/api/trace", params={"location": STORE, "item": "B-1"}, timeout=60).json()
    (change,) = answer["changes"]
    assert (change["state"], change["value"]) == ("pending", '{"sku": "B-1", "quantity": 3}')
