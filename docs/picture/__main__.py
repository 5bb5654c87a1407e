"""Run the demo, and the service through a busy few minutes, and draw what they show.

``python -m docs.picture`` writes the files of ``PICTURES`` into docs/. It takes about nine minutes, and needs Debian's
prometheus, chromium, fonts-inter and fonts-dejavu. With ``--demo`` it draws only the end of the demo, in one.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from plotly.offline import get_plotlyjs

from docs.picture.chromium import take_picture
from docs.picture.panels import Grid, drawn
from docs.picture.scenario import catching_up, running_scenario
from docs.picture.terminal import draw_terminal, last_screen
from tests.support.browser import PHONE, running_browser
from tests.support.dashboards import dashboards
from tests.support.prometheus import NAMESPACE, RELEASE, Prometheus, Series, running_prometheus, with_values
from tests.support.terminals import on_terminal

DOCS: Final = Path(__file__).parents[1]
DASHBOARD_PICTURE: Final = DOCS / "dashboard.png"
STATUS_PAGE_PICTURE: Final = DOCS / "status-page.png"
PHONE_PICTURE: Final = DOCS / "status-page-phone.png"
TERMINAL_PICTURE: Final = DOCS / "status-terminal.png"
DEMO_PICTURE: Final = DOCS / "demo.png"
CATCHING_UP_PICTURE: Final = DOCS / "status-page-catching-up.png"
PICTURES: Final = (
    DASHBOARD_PICTURE,
    STATUS_PAGE_PICTURE,
    PHONE_PICTURE,
    CATCHING_UP_PICTURE,
    TERMINAL_PICTURE,
    DEMO_PICTURE,
)
PAGE: Final = Path(__file__).with_name("page.html")
DASHBOARD: Final = "inventory-refresh"
SECONDS: Final = 300
POINTS: Final = 150
RATE_SECONDS: Final = 16
"""Used as Grafana's ``$__rate_interval``: at about one request every two seconds, it covers several requests."""
DASHBOARD_WIDTH: Final = 1_500
STATUS_PAGE_SIZE: Final = (1_060, 1_330)
TERMINAL: Final = (132, 40)
DEMO_TERMINAL: Final = (80, 24)
"""Columns and lines."""
POD: Final = "inventory-refresh-5d8f7c6b9-x2x7p"
"""Shown on the status page in place of the name of the machine that draws it."""
POD_URL: Final = "http://10.1.2.34:8080"
NAME_POD: Final = f"document.querySelector('h1 small').textContent = 'on {POD}'"
SETTLE_MS: Final = 500
"""For the charts to be drawn."""
BYTES_MAX: Final = 500_000


def main() -> int:
    """Draw all; return 1 if one is too large for a README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="how long the pictured time is (%(default)s)")
    parser.add_argument("--demo", action="store_true", help="draw only the end of the demo")
    options = parser.parse_args()
    _draw_demo()
    if options.demo:
        return _report([DEMO_PICTURE])
    seconds = options.seconds
    with tempfile.TemporaryDirectory() as folder:
        with catching_up(Path(folder) / "backlog") as url:
            _draw_status_page(url, {CATCHING_UP_PICTURE: STATUS_PAGE_SIZE})
        data = _watch(dashboards()[DASHBOARD], Path(folder), seconds)
    take_picture(_page(data), DASHBOARD_PICTURE, width=DASHBOARD_WIDTH)
    return _report(PICTURES)


def _report(pictures: Sequence[Path]) -> int:
    sizes = {picture.name: picture.stat().st_size for picture in pictures}
    for name, size in sizes.items():
        print(f"wrote docs/{name}, {size / 1_000:.0f} kB")
    return 0 if max(sizes.values()) <= BYTES_MAX else 1


def _draw_demo() -> None:
    columns, lines = DEMO_TERMINAL
    exit_code, written = on_terminal([sys.executable, "-m", "consumer", "demo"], columns=columns, lines=lines)
    if exit_code:
        sys.exit(f"the demo ended with exit code {exit_code}: {written}")
    draw_terminal("inventory-refresh demo", last_screen(written, "Came in"), DEMO_PICTURE, columns=columns)


def _watch(dashboard: Mapping[str, Any], folder: Path, seconds: int) -> dict[str, Any]:
    """Run the scenario, and draw the status page during the outage; return the data of the dashboard's panels."""
    with running_scenario(folder / "service") as scenario:
        address = scenario.service.url.removeprefix("http://")
        with running_prometheus(folder / "prometheus", address) as prometheus:
            scenario.warm_up()
            started = time.time()
            scenario.play(seconds, partial(_draw_status, scenario.service.url))
            return _data(dashboard, prometheus, started, seconds)


def _draw_status_page(url: str, pictures: Mapping[Path, tuple[int, int]]) -> None:
    with running_browser() as browser:
        for picture, size in pictures.items():
            page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme="light")
            page.goto(url)
            page.wait_for_selector("#chart-rates canvas")
            page.evaluate(NAME_POD)
            page.wait_for_timeout(SETTLE_MS)
            page.screenshot(path=picture)
            page.close()


def _draw_status(url: str) -> None:
    """The page and the command at the same moment."""
    _draw_status_page(url, {STATUS_PAGE_PICTURE: STATUS_PAGE_SIZE, PHONE_PICTURE: (PHONE["width"], PHONE["height"])})
    columns, lines = TERMINAL
    command = [sys.executable, "-m", "consumer", "status", url, "--once", "--locations", "8"]
    _, written = on_terminal(command, columns=columns, lines=lines)
    shown = written.replace(url, POD_URL.ljust(len(url)))
    draw_terminal("inventory-refresh status --locations 8", shown, TERMINAL_PICTURE, columns=columns)


def _page(data: Mapping[str, Any]) -> str:
    return PAGE.read_text(encoding="utf-8").replace("DATA", json.dumps(data)).replace("PLOTLY", get_plotlyjs())


def _data(dashboard: Mapping[str, Any], prometheus: Prometheus, started: float, seconds: int) -> dict[str, Any]:
    step = max(seconds // POINTS, 1)
    grid = Grid(start=round(started), step=step, count=seconds // step)
    end = grid.start + grid.step * (grid.count - 1)

    def ask(expr: str, instant: bool) -> list[Series]:  # noqa: FBT001 - as Ask has it
        filled = with_values(expr, range_seconds=seconds, __rate_interval=f"{RATE_SECONDS}s")
        return prometheus.now(filled, end) if instant else prometheus.over(filled, grid.start, end, step)

    labels = {variable["name"]: variable["label"] for variable in dashboard["templating"]["list"]}
    values = {"datasource": "Prometheus", "cluster": "", "namespace": NAMESPACE, "release": RELEASE, "pod": "All"}
    times = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}" for at in (grid.start, end))
    return {
        "title": dashboard["title"],
        "variables": [(labels[name], values[name]) for name in labels],
        "time": " to ".join(times),
        "panels": drawn(dashboard, ask, grid),
    }


if __name__ == "__main__":
    sys.exit(main())
