"""What GetMetrics tells of the machine: read without waiting, from /proc and cgroup files.

Not a monitor: one reading per call, the CPU figure is the average since the call before.

Source of truth: Milvus 2.3.5 pkg/util/hardware; the container's memory limit where there is one, this
process' resident memory, and constants for the disk (100 MiB, 2 MiB), kept because a dashboard may divide by
them.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
MEMORY_LIMIT_FILES = ("memory.max", "memory/memory.limit_in_bytes")
"""cgroup v2 and v1; v1 writes "no limit" as a number beyond any machine's memory."""

DISK_BYTES = 100 << 20
DISK_USED_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Hardware:
    """One reading. `cpu_usage` in percent of all cores, memory in bytes."""

    cpu_count: int
    cpu_usage: float
    memory: int
    memory_used: int


def read_hardware(cgroup: Path = CGROUP) -> Hardware:
    """Read the machine, or the container that this process is limited to."""
    limits = [limit for name in MEMORY_LIMIT_FILES if (limit := _read_number(cgroup / name)) is not None]
    return Hardware(
        cpu_count=psutil.cpu_count() or 1,
        cpu_usage=psutil.cpu_percent(interval=None),
        memory=min([psutil.virtual_memory().total, *limits]),
        memory_used=psutil.Process().memory_info().rss,
    )


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
