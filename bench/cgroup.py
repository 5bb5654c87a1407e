"""A memory cgroup for one run of the service, where one can be made: as root, with cgroup v1 or v2."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_V1: Final = Path("/sys/fs/cgroup/memory")
_V2: Final = Path("/sys/fs/cgroup")


class CgroupMissingError(Exception):
    """No memory cgroup can be made here; the message says why."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A memory cgroup."""

    folder: Path

    def command(self, command: list[str]) -> list[str]:
        """The same command, started in this cgroup: a shell moves itself there and becomes the command."""
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"), *command]

    def out_of_memory_kills(self) -> int:
        """How many processes the kernel killed here for memory."""
        for name in ("memory.events", "memory.oom_control"):
            file = self.folder / name
            if file.exists():
                values = dict(line.split() for line in file.read_text().splitlines())
                return int(values.get("oom_kill", 0))
        return 0


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[Cgroup]:
    """A cgroup that is removed after the block, when its processes have ended. Raises CgroupMissingError."""
    is_v1 = _V1.is_dir()
    folder = (_V1 if is_v1 else _V2) / f"inventory-refresh-{uuid.uuid4().hex[:8]}"
    limit = folder / ("memory.limit_in_bytes" if is_v1 else "memory.max")
    try:
        folder.mkdir()
    except OSError as error:
        raise CgroupMissingError(f"no memory cgroup can be made here: {error.strerror}") from None
    try:
        if not limit.exists():
            raise CgroupMissingError("no memory cgroup can be made here: the controller is not enabled")
        _write(limit, limit_bytes)
        if not os.access(folder / "cgroup.procs", os.W_OK):
            raise CgroupMissingError("no process can be moved into a memory cgroup here")
        yield Cgroup(folder)
    finally:
        folder.rmdir()


def _write(file: Path, value: int) -> None:
    try:
        file.write_text(str(value))
    except OSError as error:
        raise CgroupMissingError(f"no memory cgroup can be limited here: {error.strerror}") from None
