"""The container's memory limit and use, read from cgroups of both versions as Linux shows them."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from consumer.container import PRESSURE_SHARE, ContainerMemory, MemoryWatch

UNLIMITED_V1 = 9_223_372_036_854_771_712
MOUNT_V1 = "36 32 0:31 {root} /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory"
MOUNT_V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
OTHER_MOUNTS = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n35 32 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"


@dataclass
class System:
    """A machine's ``proc`` and ``sys``, as far as they tell of memory."""

    root: Path

    def cgroup(self, own: str, mount: str, mounted_from: str = "/") -> None:
        """The lines of /proc/self/cgroup, and where the cgroups are mounted."""
        proc = self.root / "proc" / "self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text(own)
        (proc / "mountinfo").write_text(OTHER_MOUNTS + mount.format(root=mounted_from) + "\n")
        (proc / "status").write_text("Name:\tpython\nVmRSS:\t90 kB\nRssAnon:\t      70 kB\n")

    def write(self, folder: str, **files: object) -> None:
        """Files of a cgroup; ``memory_max`` is ``memory.max``."""
        path = self.root / "sys/fs/cgroup" / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (path / name.replace("_", ".", 1)).write_text(f"{text}\n")

    def memory(self) -> ContainerMemory:
        return ContainerMemory(self.root)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_the_limit_and_use_of_a_container_with_version_2(system: System) -> None:
    system.cgroup("0::/\n", MOUNT_V2)
    system.write("", memory_max=1000, memory_current=700, memory_stat="anon 100\ninactive_file 250\nactive_file 9")
    assert (system.memory().limit_bytes, system.memory().used_bytes()) == (1000, 450)


def test_the_limit_and_use_of_a_container_with_version_1(system: System) -> None:
    system.cgroup("5:cpu,cpuacct:/\n4:memory:/kube/pod1/box\n0::/kube\n", MOUNT_V1, mounted_from="/kube/pod1/box")
    system.write(
        "memory",
        memory_limit_in_bytes=1000,
        memory_usage_in_bytes=700,
        memory_stat="inactive_file 1\ntotal_inactive_file 250",
    )
    assert (system.memory().limit_bytes, system.memory().used_bytes()) == (1000, 450)


@pytest.mark.parametrize(
    ("limits", "limit", "used"),
    [
        (("max", "max", "3000"), 3000, 30),
        (("max", "2000", "3000"), 2000, 20),
        (("1000", "2000", "3000"), 1000, 10),
        (("2000", "2000", "max"), 2000, 10),
        (("max", "max", "max"), None, 70 * 1024),
    ],
)
def test_the_lowest_limit_on_the_way_up_counts_and_its_use(
    system: System, limits: tuple[str, str, str], limit: int | None, used: int
) -> None:
    system.cgroup("0::/top/middle/own\n", MOUNT_V2)
    for number, folder in enumerate(("top/middle/own", "top/middle", "top")):
        system.write(folder, memory_max=limits[number], memory_current=10 * (number + 1), memory_stat="inactive_file 0")
    assert (system.memory().limit_bytes, system.memory().used_bytes()) == (limit, used)


def test_the_number_that_means_no_limit_is_none(system: System) -> None:
    system.cgroup("4:memory:/\n", MOUNT_V1)
    system.write("memory", memory_limit_in_bytes=UNLIMITED_V1, memory_usage_in_bytes=700)
    assert (system.memory().limit_bytes, system.memory().used_bytes()) == (None, 70 * 1024)


def test_a_container_that_sees_another_path_than_its_mount_has_is_at_the_mounts_top(system: System) -> None:
    system.cgroup("0::/../../host/path\n", MOUNT_V2)
    system.write("", memory_max=1000, memory_current=700)
    assert system.memory().limit_bytes == 1000


def test_without_cgroups_there_is_no_limit_and_no_use(system: System) -> None:
    assert (system.memory().limit_bytes, system.memory().used_bytes()) == (None, None)


@pytest.mark.parametrize(("used", "short"), [(None, False), (850, False), (851, True)])
def test_memory_is_short_above_a_share_of_the_limit(used: int | None, short: bool) -> None:  # noqa: FBT001
    assert PRESSURE_SHARE == 0.85
    assert MemoryWatch(lambda: used, 1000, monotonic=lambda: 0.0).is_short() is short


def test_use_is_read_once_a_second_at_most() -> None:
    now, readings = 10.0, [900, 100, 950]
    watch = MemoryWatch(lambda: readings.pop(0), 1000, monotonic=lambda: now)
    seen = []
    for second in (10.0, 10.0, 10.9, 11.0, 11.5, 12.0):
        now = second
        is_short = watch.is_short()
        seen.append((is_short, watch.used_bytes))
    assert seen == [(True, 900)] * 3 + [(False, 100)] * 2 + [(True, 950)]
