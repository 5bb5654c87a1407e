"""SIGTERM at any time, to the service as process 1 of a container: a process namespace of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.avro.bundled import schema_path
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SandboxSettings
from tests.support.service_process import (
    REQUEST_SECONDS_MAX,
    ROOT,
    WAIT_SECONDS_MAX,
    ServiceProcess,
    end_with_parent,
    service_config,
    wait_until,
)

pytestmark = pytest.mark.integration

UNREACHABLE = "127.0.0.1:9"
NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")
TERM = 1 << (signal.SIGTERM - 1)
"""SIGTERM in a signal mask of /proc."""


@dataclass
class ContainerProcess:
    """Process 1 of a namespace; ``pid`` is its id outside."""

    outer: subprocess.Popen[bytes]
    pid: int
    service: ServiceProcess

    def terminate(self) -> float:
        """Send SIGTERM, wait for exit code 0, and return how long it took, in seconds."""
        os.kill(self.pid, signal.SIGTERM)
        begun = time.monotonic()
        assert self.outer.wait(WAIT_SECONDS_MAX) == 0, self.service.output()
        return time.monotonic() - begun

    def is_waiting_for_signals(self) -> bool:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return any(int(line.split()[1], 16) & TERM for line in status.splitlines() if line.startswith("SigBlk:"))

    def has_loaded(self, library: str) -> bool:
        return library in Path(f"/proc/{self.pid}/maps").read_text(encoding="utf-8")


@contextmanager
def container(config: dict[str, Any], folder: Path, *arguments: str) -> Iterator[ContainerProcess]:
    path, log = folder / "config.yaml", folder / "log"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [*NAMESPACE, sys.executable, "-m", "consumer", *(arguments or ("run", "--config", str(path)))]
    with log.open("wb") as output:
        outer = subprocess.Popen(  # noqa: S603 - this project's own command
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - a single system call that takes no lock
        )
        try:
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
            wait_until(lambda: bool(children.read_text()), "process 1 exists")
            pid = int(children.read_text().split()[0])
            yield ContainerProcess(outer, pid, ServiceProcess(outer, log, f"http://127.0.0.1:{config['http']['port']}"))
        finally:
            outer.kill()
            outer.wait(REQUEST_SECONDS_MAX)


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], check=False).returncode:  # noqa: S603
        pytest.skip("this machine does not permit new process namespaces")


def unreachable_config() -> dict[str, Any]:
    """Nothing answers, and the service waits for it longer than the test does."""
    config: dict[str, Any] = service_config(UNREACHABLE, "changes", "http://127.0.0.1:9")
    config["kafka"]["unreachable_timeout"] = 2 * WAIT_SECONDS_MAX
    config["avro"] = {"schema_file": str(schema_path())}
    return config


REACHED: dict[str, Callable[[ContainerProcess], bool]] = {
    "as soon as signals are handled": lambda process: process.is_waiting_for_signals(),
    "while libraries are imported": lambda process: process.has_loaded("librdkafka"),
    "while it waits for Kafka": lambda process: bool(process.service.events("memory_budget")),
}


@pytest.mark.parametrize("moment", REACHED)
def test_sigterm_while_starting_ends_process_1_in_order(moment: str, tmp_path: Path) -> None:
    with container(unreachable_config(), tmp_path) as process:
        wait_until(lambda: REACHED[moment](process), moment)
        process.terminate()
        assert "Traceback" not in process.service.output()


def test_signals_are_handled_before_anything_large_is_imported() -> None:
    report = "import sys, consumer.__main__\nprint(*sys.modules)"
    command = [sys.executable, "-c", report]
    loaded = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout.split()  # noqa: S603
    assert {name for name in loaded if name.startswith("consumer")} == {
        "consumer",
        "consumer.__main__",
        "consumer.signals",
    }
    assert not {"typer", "pydantic", "structlog", "logging", "asyncio", "socket"} & set(loaded)


@pytest.mark.parametrize("arguments", [("sandbox", "--port", "0"), ("check",)], ids=" ".join)
def test_sigterm_ends_process_1_of_other_commands_too(arguments: tuple[str, ...], tmp_path: Path) -> None:
    config = unreachable_config()
    if arguments[0] == "check":
        arguments = (*arguments, "--config", str(tmp_path / "config.yaml"))
    with container(config, tmp_path, *arguments) as process:
        wait_until(lambda: process.has_loaded("pydantic_core"), "it starts")
        os.kill(process.pid, signal.SIGTERM)
        assert process.outer.wait(WAIT_SECONDS_MAX) in {0, 128 + signal.SIGTERM}, process.service.output()


def test_sigterm_ends_an_idle_member_in_order(
    kafka: str, topic: Callable[..., str], admin: AdminClient, tmp_path: Path
) -> None:
    name = topic(4)
    admin.create_topics([NewTopic(f"{name}.dead", 1, 1)])[f"{name}.dead"].result(30.0)
    with ExitStack() as stack:
        sandbox = stack.enter_context(SandboxServer(SandboxSettings(time_scale=0.0)))
        config = service_config(kafka, name, sandbox, avro={"schema_file": str(schema_path())})
        process = stack.enter_context(container(config, tmp_path))
        wait_until(process.service.is_ready, "ready")
        process.terminate()
        (stopping,) = process.service.events("stopping")
        (stopped,) = process.service.events("stopped")
        assert (stopping["signal"], stopped["level"]) == ("SIGTERM", "info")
