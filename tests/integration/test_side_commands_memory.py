"""Commands next to a running service stay within the memory that its limit leaves for them, at 100,000 records."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from confluent_kafka.admin import AdminClient

from consumer.core.changes.items import RejectReason
from consumer.dead_letters.format import DeadLetter, write_headers
from consumer.dead_letters.record import RecordPosition
from consumer.settings.memory import SIDE_COMMAND_BYTES
from tests.support.cgroup import limited
from tests.support.dead_letters import ENCODER, SCHEMA_ID, Shop
from tests.support.service_process import ROOT
from tests.support.topics import make_topic

pytestmark = pytest.mark.integration

RECORDS = 100_000
PARTITIONS = 4
SPAN_MS = 3 * 3_600_000
SECONDS_MAX = 250.0
ALLOCATORS = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0",
    "POLARS_MAX_THREADS": "2",
}
"""As in the image and in the chart."""


@pytest.fixture(scope="module")
def shop(kafka: str, admin: AdminClient) -> Shop:
    """Records of 1,000 locations over some hours, each of which has become a dead letter, too."""
    run = uuid.uuid4().hex[:12]
    shop = Shop(kafka, f"changes-{run}", f"dead-letters-{run}")
    for name in (shop.topic, shop.dead_topic):
        make_topic(admin, name, PARTITIONS, {"retention.ms": "-1"})
    begin_ms = int(time.time() * 1000) - SPAN_MS
    offsets = [0] * PARTITIONS
    with shop.producing(**{"linger.ms": 50, "queue.buffering.max.messages": 3 * RECORDS}) as producer:
        for number in range(RECORDS):
            location, partition = f"Store {number % 1_000}", number % PARTITIONS
            event = {"locationName": location, "sku": f"SKU-{number:08}", "quantity": number % 50}
            value = ENCODER.encode(event | {"attributes": [f"attribute-{at}=value" for at in range(8)]})
            timestamp = begin_ms + number * SPAN_MS // RECORDS
            producer.produce(shop.topic, value, location, partition, timestamp=timestamp)
            source = RecordPosition(shop.topic, partition, offsets[partition])
            offsets[partition] += 1
            detail = f"HTTP 400: the item {number} is not known at {location}"
            letter = DeadLetter(
                source,
                RejectReason.REFUSED_BY_OMS,
                detail,
                location.encode(),
                value,
                (),
                None,
                timestamp,
                SCHEMA_ID,
                location,
            )
            producer.produce(shop.dead_topic, value, location, partition, headers=write_headers(letter))
    return shop


@pytest.mark.parametrize(
    "command",
    [
        ["plan", "--from-start", "--set", "window.max_age=15m", "--chunk-seconds", "1"],
        ["plan", "--from-start", "--as-backlog", "--member", "127.0.0.1:1"],
        ["decode", "--last", "10000", "--json"],
        ["check", "--json"],
        ["dead-letters", "list"],
        ["dead-letters", "list", "--json"],
        ["dead-letters", "show", "--json", "--limit", "10000"],
        ["dead-letters", "redrive", "--dry-run", "--limit", "8000"],
        ["trace", "--location", "Store 500", "--sku", "SKU-00000500", "--since", "5h", "--json"],
    ],
    ids=" ".join,
)
def test_a_command_next_to_the_service_takes_no_more_than_is_left_for_it(
    command: Sequence[str], shop: Shop, tmp_path: Path
) -> None:
    done = run_within(SIDE_COMMAND_BYTES, command, shop, tmp_path)
    # The OMS of these settings does not answer, which `check` says.
    assert done.returncode == (4 if command[0] == "check" else 0), (done.returncode, done.stderr[-2_000:])


def test_more_dead_letters_than_fit_are_refused_before_they_take_that_memory(shop: Shop, tmp_path: Path) -> None:
    done = run_within(SIDE_COMMAND_BYTES, ["dead-letters", "redrive", "--dry-run"], shop, tmp_path)
    assert done.returncode == 2, done.stderr
    assert "these dead letters take more than 24MiB; select fewer" in done.stderr


def run_within(limit_bytes: int, command: Sequence[str], shop: Shop, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(shop.config))
    # The kernel kills what takes more. It counts files in memory, too, but drops these first.
    with limited(limit_bytes) as within:
        return subprocess.run(  # noqa: S603 - this project's own command
            [*within, sys.executable, "-m", "consumer", *command, "--config", str(path)],
            cwd=ROOT,
            env=os.environ | ALLOCATORS,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
