"""npm packages for tests: installed once into ``.build``, as a lock file says, without running any of their scripts."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from tests.support.keeper import BUILD, FETCH_SECONDS_MAX, PartMissingError, have

NODE_RELEASE_MIN = 18
_HASH_CHARACTERS = 12


def node() -> Path:
    """The command ``node``. Raises PartMissingError."""
    found = shutil.which("node")
    if found is None:
        raise PartMissingError("Node.js is not installed (node is not on the PATH): apt-get install nodejs npm")
    printed = subprocess.run([found, "--version"], capture_output=True, check=True, text=True, timeout=60)  # noqa: S603
    release = re.match(r"v(\d+)\.", printed.stdout)
    if release is None or int(release[1]) < NODE_RELEASE_MIN:
        raise PartMissingError(f"Node.js {NODE_RELEASE_MIN} or newer is needed, not {printed.stdout.strip()}")
    return Path(found)


def node_modules(source: Path) -> Path:
    """A ``node_modules`` with what ``source``, a folder with package.json and package-lock.json, says.

    Raises PartMissingError.
    """
    # A folder for each lock file: one that was changed is never mistaken for what is installed.
    digest = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()[:_HASH_CHARACTERS]
    home = BUILD / "npm" / f"{source.name}-{digest}"
    have(home, lambda target: _install(source, target))
    return home / "node_modules"


def _install(source: Path, target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise PartMissingError("npm is not installed (npm is not on the PATH): apt-get install npm")
    target.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, target)
    try:
        subprocess.run(  # noqa: S603 - found on the path
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"],
            cwd=target,
            check=True,
            timeout=FETCH_SECONDS_MAX,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.CalledProcessError as error:
        raise PartMissingError(f"npm failed with exit code {error.returncode}: see its output") from error
    except subprocess.TimeoutExpired as error:
        raise PartMissingError(f"npm did not finish within {FETCH_SECONDS_MAX:.0f} s") from error
