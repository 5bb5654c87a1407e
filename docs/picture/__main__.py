"""Run the demo with faults beside a Prometheus, and draw the main dashboard with what it answers.

``python -m docs.picture`` writes docs/dashboard.png. It takes some minutes, and Debian's prometheus, chromium and
fonts-inter.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from plotly.offline import get_plotlyjs

from consumer.sandbox.demo_faults import demo_faults
from docs.picture.panels import Grid, drawn
from tests.support.dashboards import dashboards
from tests.support.prometheus import (
    NAMESPACE,
    RELEASE,
    Prometheus,
    Series,
    running_demo,
    running_prometheus,
    with_values,
)
from tests.support.service_process import wait_until

PICTURE: Final = Path(__file__).parents[1] / "dashboard.png"
PAGE: Final = Path(__file__).with_name("page.html")
DASHBOARD: Final = "inventory-refresh"
SECONDS: Final = 300
SECOND_FAULTS_SHARE: Final = 0.75
"""Of that time, after which there are faults again: by then what over-quota answers have taught is forgotten."""
POINTS: Final = 120
SEED: Final = 2
FAULTS_SECONDS_MAX: Final = 180.0
WIDTH: Final = 1_500
HEADER_HEIGHT: Final = 60
UNIT_HEIGHT: Final = 32
"""Of the grid, with the gap below it; page.html has the same."""
BYTES_MAX: Final = 500_000


def main() -> int:
    """Draw it; 1 if it came out too large for a README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="how long to watch the demo (%(default)s)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        dashboard = dashboards()[DASHBOARD]
        data = _watched(dashboard, Path(folder), seconds)
        page.write_text(_page(data), encoding="utf-8")
        _photograph(page, max(panel["place"]["y"] + panel["place"]["h"] for panel in data["panels"]))
    size = PICTURE.stat().st_size
    print(f"wrote {PICTURE.name}, {size / 1_000:.0f} kB")
    return 0 if size <= BYTES_MAX else 1


def _watched(dashboard: Mapping[str, Any], folder: Path, seconds: int) -> dict[str, Any]:
    """The panels' data, of a demo that has run for so long."""
    with running_demo(folder / "demo", seed=SEED) as address, running_prometheus(folder, address) as prometheus:
        started = time.time()
        _second_faults(folder / "demo" / "demo.log", started + SECOND_FAULTS_SHARE * seconds)
        time.sleep(max(started + seconds - time.time(), 0))
        return _data(dashboard, prometheus, started, seconds)


def _page(data: Mapping[str, Any]) -> str:
    return PAGE.read_text(encoding="utf-8").replace("DATA", json.dumps(data)).replace("PLOTLY", get_plotlyjs())


def _second_faults(log: Path, at: float) -> None:
    """After the demo's own faults all is well for a while; then the OMS goes wrong once more, but for the quota."""
    wait_until(lambda: "OMS sandbox: " in log.read_text(errors="replace"), "the faults are over", FAULTS_SECONDS_MAX)
    (sandbox,) = re.findall(r"OMS sandbox: (\S+);", log.read_text(errors="replace"))
    httpx.delete(f"{sandbox}/sandbox/faults").raise_for_status()
    time.sleep(max(at - time.time(), 0))
    answers = demo_faults(SEED + 1).model_dump(mode="json", exclude_unset=True)["answers"]
    order = {"answers": [answer for answer in answers if "retry_after" not in answer]}
    httpx.post(f"{sandbox}/sandbox/faults", json=order).raise_for_status()


def _data(dashboard: Mapping[str, Any], prometheus: Prometheus, started: float, seconds: int) -> dict[str, Any]:
    step = max(seconds // POINTS, 1)
    grid = Grid(start=round(started), step=step, count=seconds // step)
    end = grid.start + grid.step * (grid.count - 1)

    def ask(expr: str, instant: bool) -> list[Series]:  # noqa: FBT001 - as Ask has it
        filled = with_values(expr, range_seconds=seconds, __rate_interval=f"{max(4 * step, 5)}s")
        return prometheus.now(filled, end) if instant else prometheus.over(filled, grid.start, end, step)

    labels = {each["name"]: each["label"] for each in dashboard["templating"]["list"]}
    values = {"datasource": "Prometheus", "namespace": NAMESPACE, "release": RELEASE, "pod": "All"}
    times = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}" for at in (grid.start, end))
    return {
        "title": dashboard["title"],
        "variables": [(labels[name], values[name]) for name in labels],
        "time": " to ".join(times),
        "panels": drawn(dashboard, ask, grid),
    }


def _photograph(page: Path, rows: int) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        sys.exit("Chromium is not installed: apt-get install chromium fonts-inter")
    command = [
        browser,
        "--headless=new",
        "--no-sandbox",  # it shows a page of our own, and root may not have a sandbox
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={page.parent / 'browser'}",
        f"--window-size={WIDTH},{HEADER_HEIGHT + rows * UNIT_HEIGHT}",
        "--virtual-time-budget=20000",
        f"--screenshot={PICTURE}",
        page.as_uri(),
    ]
    subprocess.run(command, check=True, timeout=120, capture_output=True)  # noqa: S603 - found above


if __name__ == "__main__":
    sys.exit(main())
