"""A memory cgroup of our own, to run a process in with a limit that the kernel enforces."""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    name = f"inventory-refresh-{uuid4().hex[:8]}"
    for parent, limit_file in PARENTS.items():
        folder = parent / name
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit_file).write_text(str(limit_bytes))
            yield ["/bin/sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
            return
        except PermissionError:
            continue  # the memory controller is not enabled for it
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()
    pytest.skip("no memory cgroup can be made here: run as root where /sys/fs/cgroup is writable (docker --privileged)")
