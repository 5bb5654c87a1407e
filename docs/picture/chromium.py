"""Pages as PNG files, drawn by a headless Chromium."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",  # the pages are our own, and Chromium refuses to sandbox root
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--virtual-time-budget=20000",
)
_SECONDS_MAX: Final = 120
_HEIGHT_SCRIPT: Final = "<script>document.body.dataset.height = document.documentElement.scrollHeight</script>"


def take_picture(html: str, picture: Path, *, width: int) -> None:
    """Draw the whole page, as high as it is, into a PNG file. Exits where Chromium is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(html + _HEIGHT_SCRIPT, encoding="utf-8")
        found = re.search(r'data-height="(\d+)"', _run_chromium(page, f"--window-size={width},200", "--dump-dom"))
        if found is None:
            sys.exit("Chromium did not report the height of the page")
        _run_chromium(page, f"--window-size={width},{found[1]}", f"--screenshot={picture}")


def _run_chromium(page: Path, *arguments: str) -> str:
    browser = shutil.which("chromium")
    if browser is None:
        sys.exit("Chromium is not installed: apt-get install chromium fonts-inter")
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *_FLAGS, f"--user-data-dir={profile}", *arguments, page.as_uri()]
        done = subprocess.run(command, check=True, timeout=_SECONDS_MAX, capture_output=True, text=True)  # noqa: S603 - found above
    return done.stdout
