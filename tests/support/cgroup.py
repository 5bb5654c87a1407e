"""A memory cgroup of our own, to run a process in with a limit that the kernel enforces."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

PARENTS = {
    Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
    Path("/sys/fs/cgroup"): "memory.max",
}
"""Where the cgroups of version 1 and 2 are mounted, and the file that sets a limit."""


@contextmanager
def limited(limit_bytes: int) -> Iterator[Sequence[str]]:
    """Make a cgroup; yields the beginning of a command line that runs the rest in it. Skips where none can be made."""
    folder = _made(f"inventory-refresh-{uuid4().hex[:8]}", limit_bytes)
    try:
        yield ["/bin/sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """A cgroup can be removed a moment after its last process has ended."""
    for _ in range(50):
        with suppress(OSError):
            return folder.rmdir()
        time.sleep(0.02)
    raise AssertionError(f"{folder} is still in use")


def _made(name: str, limit_bytes: int) -> Path:
    for parent, limit_file in PARENTS.items():
        folder = parent / name
        with suppress(OSError):
            folder.mkdir()
            try:
                (folder / limit_file).write_text(str(limit_bytes))
            except OSError:  # the memory controller is not enabled here
                folder.rmdir()
            else:
                return folder
    pytest.skip("no memory cgroup can be made here: run as root where /sys/fs/cgroup is writable")
