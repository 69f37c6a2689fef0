"""What GetMetrics tells of the machine: read without waiting, from /proc and cgroup files.

Not a monitor: one reading per call, the CPU figure is the average since the call before.

Source of truth: Milvus 2.3.5 pkg/util/hardware: the container's limits of processor time and memory where
there are any, this process' resident memory, and constants for the disk (100 MiB, 2 MiB), kept because a
dashboard may divide by them. Cores are counted as by go.uber.org/automaxprocs, which Milvus asks: whole ones
that the quota pays for.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
MEMORY_LIMIT_FILES = ("memory.max", "memory/memory.limit_in_bytes")
"""cgroup v2 and v1; v1 writes "no limit" as a number beyond any machine's memory."""

QUOTA_FILE = "cpu.max"
"""Of cgroup v2: quota and period in one file, "max" for no quota."""
OLD_QUOTA_FILES = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
"""Of cgroup v1; a quota of -1 is none."""
PERIOD_US = 100_000
"""Where none is given."""

DISK_BYTES = 100 << 20
DISK_USED_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Hardware:
    """One reading. `cpu_count`: cores that may be used. `cpu_usage` in percent, memory in bytes."""

    cpu_count: int
    cpu_usage: float
    memory: int
    memory_used: int


def read_hardware(cgroup: Path = CGROUP, own_groups: Path = OWN_GROUPS) -> Hardware:
    """Read the machine, or the container that this process is limited to."""
    limits = [limit for name in MEMORY_LIMIT_FILES if (limit := _read_number(cgroup / name)) is not None]
    return Hardware(
        cpu_count=cpu_count(cgroup, _read(own_groups), cores=len(os.sched_getaffinity(0))),
        cpu_usage=psutil.cpu_percent(interval=None),
        memory=min([psutil.virtual_memory().total, *limits]),
        memory_used=psutil.Process().memory_info().rss,
    )


def cpu_count(cgroup: Path, own_groups: str, *, cores: int) -> int:
    """How many cores the quota of processor time pays for, rounded down, at least one; `cores` without one.

    `cgroup`: where the file system of control groups lies. `own_groups`: the groups of this process, as in
    /proc/self/cgroup.
    """
    for directory in _cpu_groups(cgroup, own_groups):
        quota, _, period = _read(directory / QUOTA_FILE).partition(" ")
        if not quota:
            quota, period = (_read(directory / name) for name in OLD_QUOTA_FILES)
        if quota:
            paid, each = _number(quota), _number(period) or PERIOD_US
            return max(1, paid // each) if paid is not None and paid > 0 and each > 0 else cores
    return cores


def _cpu_groups(cgroup: Path, own_groups: str) -> Iterator[Path]:
    """Where the quota may lie, the likeliest place first. In a container its own group is often the root, and
    called as it is outside of it.
    """
    for line in own_groups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield cgroup / path.lstrip("/")
        elif "cpu" in controllers.split(","):
            yield cgroup / "cpu" / path.lstrip("/")
    yield cgroup
    yield cgroup / "cpu"


def _read(path: Path) -> str:
    """The text of a file; "" if it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _read_number(path: Path) -> int | None:
    return _number(_read(path))
