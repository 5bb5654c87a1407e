"""compose.yaml as ``docker compose`` understands it."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.support import go_tools
from tests.support.keeper import ROOT
from tests.support.parts import or_skip

COMPOSE: Final = ROOT / "compose.yaml"
LOAD_SECONDS_MAX: Final = 100.0


@cache
def composition() -> dict[str, Any]:
    """The whole file, checked against the specification, with references followed and defaults filled in.

    Skips, or fails in CI, where the loader cannot be built.
    """
    loader = or_skip(go_tools.compose)
    loaded = subprocess.run(  # noqa: S603 - a binary of ours
        [str(loader), "--format", "json", str(COMPOSE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LOAD_SECONDS_MAX,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    told: dict[str, Any] = json.loads(loaded.stdout)
    return told


def services() -> dict[str, Any]:
    found: dict[str, Any] = composition()["services"]
    return found


def mounts(service: str) -> dict[str, Path]:
    """What of this machine a service sees: by the path in its container."""
    return {each["target"]: Path(each["source"]) for each in services()[service].get("volumes", [])}
