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
    """The whole file, validated against the specification, with references resolved and defaults filled in.

    Skips, or fails in CI, if the loader cannot be built.
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
    content: dict[str, Any] = json.loads(loaded.stdout)
    return content


def services() -> dict[str, Any]:
    found: dict[str, Any] = composition()["services"]
    return found


def mounts(service: str) -> dict[str, Path]:
    """Mounted paths of this machine, by the path in the container."""
    return {volume["target"]: Path(volume["source"]) for volume in services()[service].get("volumes", [])}
