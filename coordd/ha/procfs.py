"""What names a process to observers on the same machine, as /proc tells it.

A pid means something only within one boot of one machine and one pid namespace, and there only together with
the moment its process was started: pids are used again.

Source: proc_pid_stat(5).
"""

from pathlib import Path

_AFTER_THE_NAME = 22 - 3
"""Index of `starttime`, field 22, among the fields that follow the command name, which is field 2."""


def boot_id() -> str:
    """A random UUID of this boot of the kernel; "" when it cannot be read."""
    return _read_text(Path("/proc/sys/kernel/random/boot_id"))


def pid_namespace() -> str:
    """The pid namespace of this process, `pid:[4026531836]`; "" when it cannot be read."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def start_ticks(pid: int) -> int:
    """When the process was started, in clock ticks since boot; 0 when there is none or it cannot be read.

    A zombie has it until it is reaped. The value is relative to the reader's time namespace.
    """
    return parse_start_ticks(_read_text(Path(f"/proc/{pid}/stat")))


def parse_start_ticks(stat: str) -> int:
    """`starttime` of the line in /proc/<pid>/stat; 0 when it is none. The command name may hold anything."""
    fields = stat.rpartition(")")[2].split()
    try:
        return int(fields[_AFTER_THE_NAME])
    except (IndexError, ValueError):
        return 0


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
