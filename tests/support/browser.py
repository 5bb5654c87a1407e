"""A real headless Chromium, driven by Playwright. The system's is used, so nothing is downloaded."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.keeper import PartMissingError

FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
"""The pages are our own, and Chromium refuses to sandbox root."""
DESKTOP: Final = {"width": 1_280, "height": 900}
PHONE: Final = {"width": 390, "height": 844}
SECONDS_MAX: Final = 60.0
"""Waits end as soon as their condition is true; only a failure takes this long."""


def chromium_path() -> str:
    """The system's Chromium. Raises PartMissingError."""
    found = shutil.which("chromium")
    if found is None:
        raise PartMissingError("Chromium is missing: apt-get install chromium")
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Raises PartMissingError where Chromium is not installed."""
    chromium = chromium_path()
    expect.set_options(timeout=SECONDS_MAX * 1_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS], timeout=SECONDS_MAX * 1_000)
        try:
            yield browser
        finally:
            browser.close()


def violations(page: Page) -> list[str]:
    """What axe finds wrong with the accessibility of the page: rule, and the elements that break it."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - it reads its script when it is imported

    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html']}: {node['failureSummary']}" for rule in found for node in rule["nodes"]]
