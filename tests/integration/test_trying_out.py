"""The commands ``sandbox``, ``produce`` and ``run`` as processes that work together."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.avro.bundled import schema_path
from tests.support.service_process import (
    REQUEST_SECONDS_MAX,
    ROOT,
    WAIT_SECONDS_MAX,
    Topic,
    free_port,
    running_service,
    service_config,
    wait_until,
)

pytestmark = pytest.mark.integration


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "consumer", *arguments]


@contextmanager
def sandbox_command() -> Iterator[str]:
    port = free_port()
    options = ("--port", str(port), "--seconds-per-chunk", "0", "--seconds-per-job", "0")
    with subprocess.Popen(command("sandbox", *options), cwd=ROOT, stderr=subprocess.PIPE) as process:  # noqa: S603
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: answers(url), "the sandbox answers")
            yield url
        finally:
            process.terminate()
    assert process.returncode == 0


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_changes_that_produce_publishes_from_a_file_and_generated_end_up_in_the_sandbox(
    kafka: str, topic: Callable[..., str], admin: AdminClient, tmp_path: Path
) -> None:
    name = topic(2)
    admin.create_topics([NewTopic(f"{name}.dead", 1, 1)])[f"{name}.dead"].result(30.0)
    changes = Topic(kafka, name, f"group-of-{name}")
    with sandbox_command() as url:
        config = service_config(kafka, name, url, avro={"schema_file": str(schema_path())})
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        lines = tmp_path / "changes.jsonl"
        lines.write_text('{"locationName": "Rome", "sku": "A-1", "quantity": 7, "attributes": ["NEW"]}\n')
        for source in (("--file", str(lines)), ("--count", "500", "--locations", "5")):
            produce = command("produce", "--config", str(path), *source)
            done = subprocess.run(  # noqa: S603 - this project's own command
                produce, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, check=True
            )
            assert "changes published to" in done.stderr
        with running_service(config, tmp_path) as service:
            wait_until(lambda: changes.committed() == changes.end(), "every offset is committed")
            held = httpx.get(f"{url}/sandbox/inventory", timeout=REQUEST_SECONDS_MAX).json()
            assert service.stop() == 0

    items = held.get("locations", held)
    assert len(items) == 6
    assert items["Rome"] == [{"sku": "A-1", "quantity": 7, "attributes": ["NEW"]}]
