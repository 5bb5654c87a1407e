"""Real servers for the tests, shared by every worker of a test run.

Each server has a *keeper*: a process that starts it, publishes its address, and ends it after its last user. A user
holds a shared lock on a file, which the operating system releases however the user ends; the keeper waits for the
exclusive lock. So no users are counted, and a killed test run leaves no server behind. A server that depends on another
one is an ordinary user of it: its keeper holds that lock.
"""

import fcntl
import importlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"

FETCH_SECONDS_MAX = 300.0
"""How long the download of a server may take."""
START_SECONDS_MAX = 240.0
POLL_SECONDS = 0.05
CHOSEN_PORTS = range(20_000, 32_768)
"""Below the ephemeral ports, from which Linux and other systems choose for a program that does not."""


class PartMissingError(Exception):
    """Something that a test depends on is missing. The message says why, and how to get it."""


@dataclass(frozen=True, slots=True)
class Server:
    """How to start a server, and how to check that it is up.

    ``address`` is given to its users. ``needs`` is closed when the server has ended.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    address: Mapping[str, str]
    is_up: Callable[[], bool]
    needs: ExitStack = field(default_factory=ExitStack)


def use(module: str, service: str, stack: ExitStack) -> dict[str, str]:
    """Use a server until ``stack`` is closed; starts it if it is not running. Returns its address.

    ``module`` has a dictionary SERVERS, from the service's name to a function from a folder to a Server. Raises
    PartMissingError.
    """
    folder = BUILD / "services" / service
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "start.lock").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        users = stack.enter_context((folder / "users.lock").open("w"))
        fcntl.flock(users, fcntl.LOCK_SH)
        address = folder / "address.json"
        if not _is_kept(folder):
            address.unlink(missing_ok=True)
            _start_keeper(module, service, folder)
        answer: dict[str, str] = json.loads(address.read_text())
    if "missing" in answer:
        raise PartMissingError(answer["missing"])
    return answer


def _is_kept(folder: Path) -> bool:
    """Whether a keeper is running. The address file does not show that: a killed keeper leaves it behind."""
    with (folder / "keeper.lock").open("w") as keeping:
        try:
            fcntl.flock(keeping, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _start_keeper(module: str, service: str, folder: Path) -> None:
    """Returns when the keeper has published the address, or the reason why the service is missing."""
    with (folder / "keeper.log").open("w") as log:
        keeper = subprocess.Popen(  # noqa: S603 - this module
            [sys.executable, "-m", "tests.support.keeper", module, service],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + FETCH_SECONDS_MAX + START_SECONDS_MAX
    while not (folder / "address.json").exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise PartMissingError(f"{service} did not start: see {relative(folder / 'keeper.log')}")
        time.sleep(POLL_SECONDS)
    _KEEPERS.append(keeper)


_KEEPERS: list[subprocess.Popen[bytes]] = []
"""Referenced so that Python does not warn about them: a keeper outlives this process if its server has other users."""


# In the keeper's own process


def keep(module: str, service: str) -> None:
    """Start the service, publish its address, wait for its last user to end, then end the service."""
    folder = BUILD / "services" / service
    address = folder / "address.json"
    with ExitStack() as held:  # released in the reverse order
        # The users' lock is released last: a user that arrives while the server ends waits for it, until a new keeper
        # can start.
        users = held.enter_context((folder / "users.lock").open("w"))
        keeping = held.enter_context((folder / "keeper.lock").open("w"))
        fcntl.flock(keeping, fcntl.LOCK_EX)
        held.callback(shutil.rmtree, folder / "data", ignore_errors=True)
        try:
            server: Server = importlib.import_module(module).SERVERS[service](folder)
            held.push(server.needs)
            with (folder / "server.log").open("wb") as log:
                process = _start(server, log)
            held.callback(_end, process)
            _wait_until_up(server, process, folder)
            _publish(address, server.address)
        except PartMissingError as missing:
            _publish(address, {"missing": str(missing)})
        fcntl.flock(users, fcntl.LOCK_EX)
        address.unlink(missing_ok=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # its data is not needed any more
    process.wait()


def _start(server: Server, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - commands of this file
        server.command,
        env=os.environ | server.environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def _wait_until_up(server: Server, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not server.is_up():
        if process.poll() is not None or time.monotonic() > deadline:
            raise PartMissingError(
                f"the server is not up after {START_SECONDS_MAX:.0f} s: see {relative(folder / 'server.log')}"
            )
        time.sleep(POLL_SECONDS)


def _publish(path: Path, answer: Mapping[str, str]) -> None:
    written = path.with_suffix(".new")
    written.write_text(json.dumps(dict(answer)))
    written.rename(path)


# For modules that define servers


def have(target: Path, fetch: Callable[[Path], None]) -> None:
    """Fetch into ``target`` unless it exists; it exists only if the fetch was complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as fetching:
        fcntl.flock(fetching, fcntl.LOCK_EX)
        if target.exists():
            return
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        fetch(partial)
        partial.rename(target)


def free_ports(count: int) -> list[int]:
    """Different free ports of the loopback interface, for servers that bind them later.

    They are outside the ephemeral range, so the system gives them to no program that asks for any free port. No other
    call returns them while this process runs: it holds the UDP port of the same number, which none of our servers uses.
    """
    found: list[int] = []
    for port in random.sample(CHOSEN_PORTS, len(CHOSEN_PORTS)):
        if len(found) == count:
            break
        with ExitStack() as stack:
            claim = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            probe = stack.enter_context(socket.socket())
            try:
                claim.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            claim.detach()  # from the Python object: the socket stays open
            found.append(port)
    return found


def relative(path: Path) -> Path:
    """The path relative to the project's folder, for messages."""
    return path.relative_to(ROOT)


if __name__ == "__main__":
    # Imported by name: servers use the classes of that module, not those of __main__.
    from tests.support import keeper

    keeper.keep(*sys.argv[1:])
