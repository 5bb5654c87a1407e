"""Measures the throughput of ``run`` relative to a bare ``consume(10000)`` loop on the same topic.

A real Kafka topic is filled with distinct changes for 100 locations. Then, alternately, a bare loop reads all of them
(without decoding), and the command ``run`` reads, decodes, batches, sends and commits all of them, with a sandbox that
only counts. Both use the same consumer settings. The time of ``run`` is from the first change read to the last commit.

    python bench/throughput.py --changes 1000000 --rounds 3
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from consumer.avro.bundled import schema_path  # noqa: E402
from consumer.kafka.options import consumer_options  # noqa: E402
from consumer.sandbox.generator import distinct_changes  # noqa: E402
from consumer.sandbox.oms.app import TOKEN_PATH  # noqa: E402
from consumer.sandbox.oms.settings import SPECIFIC_KEY, SPECIFIC_SECRET  # noqa: E402
from consumer.sandbox.publisher import publish  # noqa: E402
from consumer.settings import KafkaSettings  # noqa: E402
from tests.support.service_process import free_port  # noqa: E402
from tests.support.services import use_kafka  # noqa: E402

SECONDS_MAX: Final = 180.0
"""For reading the topic once."""
POLL_SECONDS: Final = 0.05
console = Console(stderr=True)


@dataclass(frozen=True)
class Reading:
    """One pass over the whole topic; CPU seconds are user plus system time of the reading process."""

    seconds: float
    cpu_seconds: float


def main() -> None:
    arguments = _arguments()
    with ExitStack() as stack:
        servers = use_kafka(stack).bootstrap_servers
        topic = f"bench-{uuid.uuid4().hex[:8]}"
        _fill(servers, topic, arguments)
        sandbox = stack.enter_context(_sandbox())
        bare, run = [], []
        for turn in range(arguments.rounds):
            bare.append(_read_bare(servers, topic, arguments.changes))
            run.append(_read_with_run(servers, topic, arguments, sandbox))
            console.print(
                f"round {turn + 1}: bare {_rate(arguments, bare[-1])} M/s, run {_rate(arguments, run[-1])} M/s, "
                f"share {bare[-1].seconds / run[-1].seconds:.2f}"
            )
        _report(arguments, bare, run)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--locations", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", type=Path, help="write a cProfile of the last round's main thread")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output instead of a table")
    return parser.parse_args()


def _fill(servers: str, topic: str, arguments: argparse.Namespace) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    topics = [NewTopic(topic, arguments.partitions, 1), NewTopic(f"{topic}.dead", 1, 1)]
    for future in admin.create_topics(topics).values():
        future.result(30.0)
    started = time.monotonic()
    published = publish(
        distinct_changes(arguments.changes, locations=arguments.locations, seed=1),
        bootstrap_servers=servers,
        topic=topic,
    )
    console.print(f"published {published:,} changes in {time.monotonic() - started:.1f} s")


@contextmanager
def _sandbox() -> Iterator[str]:
    """The OMS sandbox as a separate process that only counts items; yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "consumer", "sandbox", "--count-only", "--port", str(port)]
    command += ["--seconds-per-chunk", "0", "--seconds-per-job", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - our own command
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(lambda: bool(_summary(url)), "the sandbox")
            yield url
        finally:
            process.terminate()


def _read_bare(servers: str, topic: str, changes: int) -> Reading:
    """The bare loop, which only touches each value, in a separate process so that CPU times are comparable."""
    script = [sys.executable, __file__, "--changes", str(changes)]
    environment = os.environ | {"BARE_SERVERS": servers, "BARE_TOPIC": topic}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=True, timeout=SECONDS_MAX)  # noqa: S603
    reading = json.loads(done.stdout)
    return Reading(reading["seconds"], reading["cpu_seconds"])


def bare_loop(servers: str, topic: str, changes: int) -> None:
    settings = KafkaSettings(bootstrap_servers=servers, topics=[topic], group_id=f"bare-{uuid.uuid4().hex}")
    consumer = Consumer(consumer_options(settings))
    consumer.subscribe([topic])
    read, started, cpu = 0, 0.0, 0.0
    deadline = time.monotonic() + SECONDS_MAX
    while read < changes and time.monotonic() < deadline:
        messages = consumer.consume(10_000, 0.02)
        if messages and not read:
            started, cpu = time.monotonic(), _cpu_seconds()
        read += sum(message.error() is None and message.value() is not None for message in messages)
    ended = time.monotonic()
    print(json.dumps({"seconds": ended - started, "cpu_seconds": _cpu_seconds() - cpu}))
    consumer.close()


def _read_with_run(servers: str, topic: str, arguments: argparse.Namespace, sandbox: str) -> Reading:
    port = free_port()
    items_per_location = arguments.changes // arguments.locations
    config = _config(servers, topic, sandbox, port, items_per_location)
    before = _summary(sandbox)["items"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "consumer", "run", "--config", str(path)]
        if arguments.profile:
            command = [sys.executable, "-m", "cProfile", "-o", str(arguments.profile), "-m", *command[2:]]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - our own command
            try:
                url = f"http://127.0.0.1:{port}/api/status"
                started = _wait_for(lambda: _totals(url, "messages_read") > 0, "the first change")
                read = _totals(url, "messages_read")
                cpu = _cpu_of(process.pid)
                ended = _wait_for(lambda: _committed(url) == arguments.changes, "the last commit")
                reading = Reading(ended - started, _cpu_of(process.pid) - cpu)
            finally:
                process.terminate()
                process.wait(30.0)
    sent = _summary(sandbox)["items"] - before
    if sent != arguments.changes:
        raise SystemExit(f"the sandbox counted {sent:,} items of {arguments.changes:,}")
    console.print(f"  ({read:,} changes had been read when the clock started; {_cpu_note(reading)})")
    return reading


def _config(servers: str, topic: str, sandbox: str, port: int, items_per_location: int) -> Mapping[str, Any]:
    """A window is full at half of its location's items, so that no change has to wait for ``window.max_age``.

    The default of 12,000 items would make fewer and larger requests, which are cheaper.
    """
    half = max(items_per_location // 2, 1)
    return {
        "kafka": {"bootstrap_servers": servers, "topics": [topic], "group_id": f"run-{uuid.uuid4().hex}"},
        "avro": {"schema_file": str(schema_path())},
        "window": {"flush_items": half},
        "oms": {
            "base_url": sandbox,
            "token_url": sandbox + TOKEN_PATH,
            "api_key": SPECIFIC_KEY,
            "api_secret": SPECIFIC_SECRET,
            "chunk_items": half,
        },
        "dead_letters": {"topic": f"{topic}.dead"},
        "http": {"host": "127.0.0.1", "port": port},
        "log": {"level": "error"},
    }


def _wait_for(condition: Callable[[], bool], what: str) -> float:
    """Returns the monotonic time at which the condition became true."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            if condition():
                return time.monotonic()
        except OSError:
            pass
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"timed out after {SECONDS_MAX:g} s: {what}")


def _json(url: str) -> Any:
    """Uses urllib: an httpx call loads certificates every time, which would be half of the measured load."""
    with urllib.request.urlopen(url, timeout=5.0) as response:  # noqa: S310 - loopback addresses of this script
        return json.load(response)


def _summary(url: str) -> dict[str, Any]:
    summary: dict[str, Any] = _json(f"{url}/sandbox/summary")
    return summary


def _totals(url: str, name: str) -> int:
    return int(_json(url)["totals"][name])


def _committed(url: str) -> int:
    partitions = _json(url)["snapshot"]["partitions"]
    return sum(max(partition["committed_offset"] or 0, 0) for partition in partitions)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_note(reading: Reading) -> str:
    return f"{reading.cpu_seconds:.1f} CPU s"


def _rate(arguments: argparse.Namespace, reading: Reading) -> str:
    return f"{arguments.changes / reading.seconds / 1e6:.2f}"


def _report(arguments: argparse.Namespace, bare: list[Reading], run: list[Reading]) -> None:
    shares = [bare_one.seconds / run_one.seconds for bare_one, run_one in zip(bare, run, strict=True)]
    if arguments.json:
        print(
            json.dumps(
                {
                    "changes": arguments.changes,
                    "bare_seconds": [reading.seconds for reading in bare],
                    "run_seconds": [reading.seconds for reading in run],
                    "share": shares,
                    "share_median": statistics.median(shares),
                }
            )
        )
        return
    table = Table("reader", "million changes/s", "share of bare loop", "CPU s per million", title="Throughput")
    millions = arguments.changes / 1e6
    for name, readings in (("bare consume(10000) loop", bare), ("run (the whole service)", run)):
        table.add_row(
            name,
            " ".join(_rate(arguments, reading) for reading in readings),
            "1"
            if readings is bare
            else f"{statistics.median(shares):.2f} (" + " ".join(f"{s:.2f}" for s in shares) + ")",
            " ".join(f"{reading.cpu_seconds / millions:.2f}" for reading in readings),
        )
    Console().print(table)


if __name__ == "__main__":
    if "BARE_SERVERS" in os.environ:
        bare_loop(os.environ["BARE_SERVERS"], os.environ["BARE_TOPIC"], _arguments().changes)
    else:
        main()
