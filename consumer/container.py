"""The memory of the container that the process runs in: its limit, and how much of it is used. Linux only.

The kernel enforces limits by cgroup, in one of two versions, and kills a process when one is exceeded. A limit may be
set on the process's own cgroup or on any above it; the lowest counts. Where nothing can be read there is no limit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path, PurePosixPath
from typing import Final

PRESSURE_SHARE: Final = 0.85
"""With a larger share of the limit in use, memory is short: the rest is needed for what is not counted."""
READ_SECONDS_MIN: Final = 1.0
"""Use is read at most this often: the kernel adds it up over all CPUs."""

_NO_LIMIT_BYTES: Final = 2**60
"""Version 1 says "no limit" with a number at least this large."""


@dataclass(frozen=True, slots=True)
class _Version:
    """The names of a cgroup's files, and of the page cache in its statistics that can be dropped at any time."""

    filesystem: str
    limit: str
    used: str
    droppable: str


_V1: Final = _Version("cgroup", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2: Final = _Version("cgroup2", "memory.max", "memory.current", "inactive_file")


class ContainerMemory:
    """Limit and use of the cgroup with the lowest limit among those of this process."""

    def __init__(self, root: Path = Path("/")) -> None:
        """``root`` is where ``proc`` and ``sys`` are."""
        self._root = root
        self.limit_bytes: int | None = None
        """None: there is no limit."""
        self._limited: Path | None = None
        found = _memory_cgroup(root)
        self._version, folders = found or (_V2, [])
        for folder in folders:
            limit = _number(folder / self._version.limit)
            if limit is not None and limit < min(self.limit_bytes or _NO_LIMIT_BYTES, _NO_LIMIT_BYTES):
                self.limit_bytes, self._limited = limit, folder

    def used_bytes(self) -> int | None:
        """Bytes in use, without page cache that the kernel would drop; without a limit, those of this process alone.

        None: cannot be read.
        """
        if self._limited is None:
            return _own_bytes(self._root)
        used = _number(self._limited / self._version.used)
        if used is None:
            return None
        return max(used - _statistic(self._limited / "memory.stat", self._version.droppable), 0)


class MemoryWatch:
    """Whether memory is short, from a reading that is at most ``READ_SECONDS_MIN`` old. For the loop's thread."""

    def __init__(
        self, used_bytes: Callable[[], int | None], limit_bytes: int, *, monotonic: Callable[[], float]
    ) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes: int | None = None
        """At the last reading; None: not read yet, or cannot be read."""
        self._read = used_bytes
        self._monotonic = monotonic
        self._read_at = -inf

    def is_short(self) -> bool:
        """True while more than ``PRESSURE_SHARE`` of the limit is in use."""
        now = self._monotonic()
        if now - self._read_at >= READ_SECONDS_MIN:
            self._read_at = now
            self.used_bytes = self._read()
        return self.used_bytes is not None and self.used_bytes > PRESSURE_SHARE * self.limit_bytes


def _memory_cgroup(root: Path) -> tuple[_Version, list[Path]] | None:
    """The version and the folders of this process's memory cgroup, its own first, as far up as they are visible."""
    own: dict[_Version, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            own[_V1] = path
        elif number == "0" and not controllers:
            own[_V2] = path
    for version in (_V1, _V2):
        if version in own:
            for mounted_from, mount in _mounts(root, version):
                return version, _folders(mount, mounted_from, own[version])
    return None


def _mounts(root: Path, version: _Version) -> Iterator[tuple[str, Path]]:
    """Where the cgroups are mounted: the cgroup that is the mount's top, and the mount's folder."""
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, source = line.partition(" - ")
        filesystem, *_, options = source.split(" ")
        if filesystem == version.filesystem and (version is _V2 or "memory" in options.split(",")):
            fields = mount.split(" ")
            yield fields[3], root / fields[4].lstrip("/")


def _folders(mount: Path, mounted_from: str, path: str) -> list[Path]:
    """From the cgroup's folder up to the mount. A container may see only its own cgroup, mounted as the top."""
    try:
        below = PurePosixPath(path).relative_to(mounted_from)
    except ValueError:
        below = PurePosixPath()
    folder = mount / below
    if ".." in below.parts or not folder.is_dir():
        return [mount]
    return [folder, *list(folder.parents)[: len(below.parts)]]


def _own_bytes(root: Path) -> int | None:
    """Resident bytes of this process, without files; None if the system does not say."""
    for line in _lines(root / "proc/self/status"):
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    return None


def _statistic(file: Path, name: str) -> int:
    for line in _lines(file):
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    return 0


def _number(file: Path) -> int | None:
    """The number in a file; None if there is none, or the file says ``max``."""
    lines = _lines(file)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
