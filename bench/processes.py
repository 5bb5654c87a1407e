"""The processes of a run: the service, the sink, the bare loop; and what /proc and /metrics say about them."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from bench.machine import ROOT
from bench.results import Bare
from bench.sink import BODIES
from tests.support.service_process import end_with_parent

STOP_SECONDS_MAX: Final = 60.0
CALL_SECONDS_MAX: Final = 30.0
BARE_SECONDS_MAX: Final = 240.0
_REASON: Final = re.compile(r'^inventory_refresh_requests_sent_total\{reason="(\w+)"\} (\S+)$', re.MULTILINE)
_ALLOCATOR: Final = re.compile(r"\b(MALLOC_\w+|_RJEM_MALLOC_CONF)=(\S+)")
_ASSIGNED: Final = b'"event": "partitions_assigned"'
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Service:
    """A running ``inventory-refresh run``."""

    process: "subprocess.Popen[bytes]"
    log: Path
    url: str

    def is_assigned(self) -> bool:
        """Whether the group has assigned partitions to it. Asks its log, which costs the service nothing."""
        return _ASSIGNED in self.log.read_bytes()

    def ended(self) -> int | None:
        """The exit code; None while it runs."""
        return self.process.poll()

    def cpu_seconds(self) -> float:
        """Since its start; 0 once it has ended."""
        return cpu_seconds(self.process.pid)

    def memory_bytes(self, name: str) -> int:
        """``VmRSS`` or ``VmHWM``; 0 once it has ended."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def reasons(self) -> Counter[str]:
        """Requests by send reason; empty if it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=CALL_SECONDS_MAX) as response:  # noqa: S310 - loopback
                text = response.read().decode()
        except OSError:
            return Counter()
        return Counter({name: int(float(count)) for name, count in _REASON.findall(text)})

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS_MAX)


@contextmanager
def running_service(
    config: Mapping[str, Any],
    folder: Path,
    *,
    wrap: Sequence[str] | None = None,
    pending_bytes_max: int | None = None,
) -> Iterator[Service]:
    """Start the service; kill it after the block if it still runs.

    ``wrap`` is a command that starts it; ``pending_bytes_max`` is a limit for its engine (``bench.small_room``).
    """
    name = f"service-{config['http']['port']}"
    path, log = folder / f"{name}.yaml", folder / f"{name}.log"
    path.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    program = ["consumer"] if pending_bytes_max is None else ["bench.small_room", str(pending_bytes_max)]
    command = [*(wrap or ()), sys.executable, "-m", *program, "run", "--config", str(path)]
    environment = os.environ | _image_environment()
    with log.open("wb") as output, _running(command, output, environment) as process:
        yield Service(process, log, f"http://127.0.0.1:{config['http']['port']}")


def _image_environment() -> dict[str, str]:
    """The settings of the memory allocators in the Dockerfile, by name."""
    found = dict(_ALLOCATOR.findall((ROOT / "Dockerfile").read_text(encoding="utf-8")))
    if not found:
        raise RuntimeError("the Dockerfile no longer sets the memory allocators; change _ALLOCATOR")
    return found


@dataclass
class SinkProcess:
    """A running ``bench.sink``."""

    url: str
    bodies: Path

    def stats(self) -> dict[str, float]:
        """``sink.Stats``."""
        content: dict[str, float] = self._get("/stats")
        return content

    def requests(self) -> list[list[float]]:
        """``[received, answered, items]`` of each request."""
        content: list[list[float]] = self._get("/requests")
        return content

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=CALL_SECONDS_MAX) as response:  # noqa: S310 - loopback
            return json.load(response)


@contextmanager
def running_sink(folder: Path, *options: str) -> Iterator[SinkProcess]:
    command = [sys.executable, "-m", "bench.sink", str(folder), *options]
    with _running(command, subprocess.PIPE) as process:
        if process.stdout is None:
            raise RuntimeError("the sink has no output")
        yield SinkProcess(f"http://127.0.0.1:{int(process.stdout.readline())}", folder / BODIES)


@contextmanager
def _running(
    command: Sequence[str], output: Any, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    errors = subprocess.STDOUT if output is not subprocess.PIPE else None
    with subprocess.Popen(  # noqa: S603 - our own commands
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - a single system call that takes no lock
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def read_bare(servers: str, topic: str, events: int) -> Bare:
    """Run the bare loop over the whole topic. Raises RuntimeError if it fails."""
    command = [sys.executable, "-m", "bench.bare", servers, topic, str(events), "--seconds-max", f"{BARE_SECONDS_MAX}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        raise RuntimeError(f"the bare loop failed: {done.stderr.strip().splitlines()[-1]}")
    return Bare(**json.loads(done.stdout))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; 0 if it has ended."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(values[11]) + int(values[12])) / _TICKS
