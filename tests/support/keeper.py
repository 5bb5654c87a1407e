"""Real servers for the tests, shared by every worker of a test run.

Each server has a *keeper*: a process that starts it, says where it is, and ends it when nobody uses it any more. Who
uses a server holds a shared lock on a file, which the system takes back however the user ends; the keeper waits for the
exclusive lock. So nothing is counted, and a killed test run leaves nothing behind. A server that needs another one uses
it like anybody else: its keeper holds that lock.
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
"""For what a server is made of."""
START_SECONDS_MAX = 240.0
POLL_SECONDS = 0.05
CHOSEN_PORTS = range(20_000, 32_768)
"""Below those that Linux, and other systems, take where a program leaves the choice to them."""


class PartMissingError(Exception):
    """A part of the tests' world cannot be had here. The message says why, and how to get it."""


@dataclass(frozen=True, slots=True)
class Server:
    """How to start a server, and how to know that it is up.

    ``address`` is what its users get. ``needs`` is closed when the server has ended.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    address: Mapping[str, str]
    is_up: Callable[[], bool]
    needs: ExitStack = field(default_factory=ExitStack)


def use(module: str, service: str, stack: ExitStack) -> dict[str, str]:
    """Use a server until ``stack`` is closed, and have it started if nobody uses it already.

    ``module`` has a dictionary SERVERS: by the service's name a function from a folder to a Server. Gives the server's
    address. Raises PartMissingError.
    """
    folder = BUILD / "services" / service
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "start.lock").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        users = stack.enter_context((folder / "users.lock").open("w"))
        fcntl.flock(users, fcntl.LOCK_SH)
        where = folder / "address.json"
        if not _is_kept(folder):
            where.unlink(missing_ok=True)
            _start_keeper(module, service, folder)
        answer: dict[str, str] = json.loads(where.read_text())
    if "missing" in answer:
        raise PartMissingError(answer["missing"])
    return answer


def _is_kept(folder: Path) -> bool:
    """Whether a keeper lives: an address may also be left over from one that was killed."""
    with (folder / "keeper.lock").open("w") as keeping:
        try:
            fcntl.flock(keeping, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _start_keeper(module: str, service: str, folder: Path) -> None:
    """Returns when the keeper has said where the service is, or why it is not."""
    with (folder / "keeper.log").open("w") as log:
        keeper = subprocess.Popen(  # noqa: S603 - this very module
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
"""Kept so that a keeper is not warned about as forgotten: it outlives us where others still use its service."""


# In the keeper's own process


def keep(module: str, service: str) -> None:
    """Start the service, write its address, wait until its last user is gone, end it."""
    folder = BUILD / "services" / service
    where = folder / "address.json"
    with ExitStack() as held:  # and let go of in the reverse order
        # Users last: whoever comes while the server ends waits for that lock, until a new keeper can begin.
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
            _publish(where, server.address)
        except PartMissingError as missing:
            _publish(where, {"missing": str(missing)})
        fcntl.flock(users, fcntl.LOCK_EX)
        where.unlink(missing_ok=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # what it holds is of no use to anyone any more
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
                f"the server did not come up within {START_SECONDS_MAX:.0f} s: see {relative(folder / 'server.log')}"
            )
        time.sleep(POLL_SECONDS)


def _publish(where: Path, answer: Mapping[str, str]) -> None:
    written = where.with_suffix(".new")
    written.write_text(json.dumps(dict(answer)))
    written.rename(where)


# For those who describe servers


def have(target: Path, fetch: Callable[[Path], None]) -> None:
    """Fetch into ``target`` unless it is there; it is there whole, or not at all."""
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
    """Free ports of the loopback interface, all different, for servers that bind them a while later.

    The system hands none of them to who asks for just any port, and no other call gives them as long as this process
    lives: of each the UDP port of the same number is held, which none of our servers uses.
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
            claim.detach()  # from Python: it stays open
            found.append(port)
    return found


def relative(path: Path) -> Path:
    """For messages: from the project's folder."""
    return path.relative_to(ROOT)


if __name__ == "__main__":
    # Not __main__'s own: servers raise and return what the module under its name defines.
    from tests.support import keeper

    keeper.keep(*sys.argv[1:])
