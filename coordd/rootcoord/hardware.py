"""What GetMetrics tells of the machine: read without waiting, from /proc, cgroup files and statvfs.

Not a monitor: one reading per call, the CPU figure is the average since the call before.

Source of truth: Milvus 2.3.5 pkg/util/hardware; it also reports the container's limits where there are any,
and constants for the disk (100 and 2), which are kept because a dashboard may divide by them.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
NO_LIMIT_BYTES = 1 << 60
"""cgroup v1 writes "no limit" as a huge number."""

DISK_GB = 100.0
DISK_USED_GB = 2.0


@dataclass(frozen=True, slots=True)
class Hardware:
    """One reading. `cpu_usage` in percent of all cores, memory in bytes."""

    cpu_count: int
    cpu_usage: float
    memory: int
    memory_used: int


def read_hardware(cgroup: Path = CGROUP) -> Hardware:
    """Read the machine, or the container that this process is limited to."""
    memory = psutil.virtual_memory()
    total, used = memory.total, memory.total - memory.available
    limit, limited_use = _memory_limit(cgroup)
    if limit is not None and limit < total:
        total = limit
        used = limited_use if limited_use is not None else min(used, limit)
    return Hardware(
        cpu_count=psutil.cpu_count() or 1,
        cpu_usage=psutil.cpu_percent(interval=None),
        memory=total,
        memory_used=used,
    )


def _memory_limit(cgroup: Path) -> tuple[int | None, int | None]:
    for limit_file, used_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        limit = _read_number(cgroup / limit_file)
        if limit is not None and limit < NO_LIMIT_BYTES:
            return limit, _read_number(cgroup / used_file)
    return None, None


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
