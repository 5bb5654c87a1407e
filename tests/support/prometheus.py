"""A real Prometheus that scrapes the demo with faults, so that tests can evaluate expressions on real data.

``running_prometheus`` starts Debian's binary on a loopback port with its own data folder; ``running_demo`` starts the
demo that it scrapes. ``with_values`` replaces Grafana's variables.
"""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.keeper import PartMissingError
from tests.support.service_process import ROOT, free_port, wait_until

NAMESPACE = "demo"
RELEASE = "inventory-refresh"
POD = "inventory-refresh-0"
SCRAPE_SECONDS = 1
RATE_SECONDS = 5 * SCRAPE_SECONDS
"""Grafana sets $__rate_interval to at least four scrapes."""
START_SECONDS_MAX = 120.0
END_SECONDS_MAX = 60.0

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a result: its labels, and its samples as (time, value)."""

    labels: Labels
    samples: Sequence[tuple[float, float]]

    @property
    def has_data(self) -> bool:
        """Whether it has a number: 0 / 0 is NaN, which is none."""
        return any(not math.isnan(value) for _, value in self.samples)


class RefusedQueryError(Exception):
    """Prometheus rejects an expression; the message is its own."""


class Prometheus:
    """The HTTP API of one Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def now(self, expr: str, at: float | None = None) -> list[Series]:
        """The result of an instant query; a scalar is a series without labels. Raises RefusedQueryError."""
        data = self._get("query", {"query": expr} | ({} if at is None else {"time": at}))
        if data["resultType"] == "scalar":
            return [Series({}, [_sample(data["result"])])]
        return [Series(series["metric"], [_sample(series["value"])]) for series in data["result"]]

    def over(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """The result of a range query. Raises RefusedQueryError."""
        data = self._get("query_range", {"query": expr, "start": start, "end": end, "step": step})
        return [Series(series["metric"], [_sample(sample) for sample in series["values"]]) for series in data["result"]]

    def metric_names(self) -> set[str]:
        """The names of all series."""
        return set(self._get("label/__name__/values", {}))

    def rules(self) -> list[dict[str, Any]]:
        """The rules of its rule files, with the result of their last evaluation."""
        return [rule for group in self._get("rules", {})["groups"] for rule in group["rules"]]

    def _get(self, path: str, parameters: Mapping[str, Any]) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=dict(parameters), timeout=60.0)
        reply = answer.json()
        if reply["status"] != "success":
            raise RefusedQueryError(f"{reply['error']}: {parameters.get('query', path)}")
        return reply["data"]


def with_values(expr: str, *, range_seconds: int, **values: str) -> str:
    """The expression with values for Grafana's variables: the demo's, unless ``values`` has others."""
    known = {
        "cluster": "",
        "namespace": NAMESPACE,
        "release": RELEASE,
        "pod": ".*",
        "__rate_interval": f"{RATE_SECONDS}s",
        "__interval": f"{SCRAPE_SECONDS}s",
        "__range": f"{range_seconds}s",
    } | values
    return re.sub(r"\$(\w+)|\$\{(\w+)(?::\w+)?\}", lambda found: known[found[1] or found[2]], expr)


@contextmanager
def running_prometheus(
    folder: Path, target: str, *, rule_files: Sequence[Path] = (), scrape_seconds: int = SCRAPE_SECONDS
) -> Iterator[Prometheus]:
    """Start a Prometheus that scrapes ``target`` (host:port) as the release's only pod. Raises PartMissingError.

    Its settings, data and log are in ``folder``.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        raise PartMissingError(
            "Prometheus is not installed (prometheus is not on the PATH): apt-get install prometheus"
        )
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(_config(target, rule_files, scrape_seconds)))
    address = f"127.0.0.1:{free_port()}"
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603 - found above
    prometheus = Prometheus(f"http://{address}")
    try:
        wait_until(lambda: _is_ready(prometheus.url, process, log.name), "Prometheus is ready", START_SECONDS_MAX)
        yield prometheus
    finally:
        process.terminate()
        process.wait(END_SECONDS_MAX)


@contextmanager
def running_demo(folder: Path, *, seed: int) -> Iterator[str]:
    """Start the demo with faults, which then runs on without them. Yields the host:port of its metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "consumer", "demo", "--faults", "--forever", "--seed", str(seed)]
    with (folder / "demo.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - this project's own command
            [*command, "--port", address.partition(":")[2]],
            cwd=ROOT,
            env=os.environ | {"RUST_BACKTRACE": "0"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _serves_metrics(address, process, log.name), "the demo serves metrics", START_SECONDS_MAX)
        yield address
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(END_SECONDS_MAX)
        finally:
            process.kill()


def _config(target: str, rule_files: Sequence[Path], scrape_seconds: int) -> dict[str, Any]:
    labels = {"namespace": NAMESPACE, "pod": POD}
    return {
        "global": {
            "scrape_interval": f"{scrape_seconds}s",
            "scrape_timeout": f"{scrape_seconds}s",
            "evaluation_interval": f"{scrape_seconds}s",
        },
        "rule_files": [str(path) for path in rule_files],
        "scrape_configs": [{"job_name": RELEASE, "static_configs": [{"targets": [target], "labels": labels}]}],
    }


def _is_ready(url: str, process: subprocess.Popen[bytes], log: str) -> bool:
    return _answers(f"{url}/-/ready", process, log)


def _serves_metrics(address: str, process: subprocess.Popen[bytes], log: str) -> bool:
    return _answers(f"http://{address}/metrics", process, log)


def _answers(url: str, process: subprocess.Popen[bytes], log: str) -> bool:
    assert process.poll() is None, f"it has ended: {Path(log).read_text(errors='replace')[-2_000:]}"
    try:
        return httpx.get(url, timeout=2.0).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _sample(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
