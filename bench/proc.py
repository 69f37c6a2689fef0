"""What /proc tells about processes and the machine. Linux only."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)
_CALLS_DEPTH = 20
_CALLS_TRIES = 50


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used so far, user and system, all threads."""
    return sum(_times(pid)[:2])


def _times(pid: int) -> list[float]:
    """CPU seconds: user, system, and both of the children that have ended and were waited for."""
    # The name in parentheses may hold spaces; after it come the fields from the third on.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) * TICK_S for field in fields[11:15]]


def busy_s() -> float:
    """CPU seconds used on the whole machine since it started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(value for index, value in enumerate(fields) if index not in _IDLE) * TICK_S


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory in MB (10^6 bytes): ``rss`` all of it, ``anonymous`` without mapped files."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "RssAnon"):
            found[name] = int(value.split()[0]) * 1024 / 1e6
    return {"rss": found["VmRSS"], "anonymous": found["RssAnon"]}


def pin(pid: int, cpus: Iterable[int]) -> None:
    """Keep all threads of a process on these CPUs; threads made later inherit it."""
    allowed = set(cpus)
    for _ in range(2):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), allowed)


def machine() -> str:
    """CPU model, number of CPUs, kernel, Python and how fast that is: one line."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cpus = len(os.sched_getaffinity(0))
    model = models[0] if models else platform.machine()
    python = f"Python {platform.python_version()} ({calls_per_s() / 1e6:.0f} million calls a second)"
    return f"{cpus} x {model}, Linux {platform.release()}, {python}"


def calls_per_s() -> float:
    """Python functions that this interpreter calls in a second: one that was built without a profile is not
    much more than half as fast as one of a distribution, and no configuration variable tells."""

    def calls(depth: int) -> int:
        return 1 if depth < 2 else 1 + calls(depth - 1) + calls(depth - 2)

    def taken_s() -> float:
        began = time.perf_counter()
        calls(_CALLS_DEPTH)
        return time.perf_counter() - began

    return calls(_CALLS_DEPTH) / min(taken_s() for _ in range(_CALLS_TRIES))


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def service_pid(pid: int) -> int:
    """The largest of a process and its descendants: the one that does the work."""
    return max([pid, *descendants(pid)], key=lambda one: memory_mb(one)["rss"])


def cpu_wait_s(pid: int) -> float:
    """Seconds that the first thread of a process has waited for a CPU, ready to run, since it started."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def service_mb(pid: int) -> dict[str, float]:
    """Memory of the largest of a process and its descendants; ``parents_rss``: that of the others."""
    every = sorted(map(memory_mb, [pid, *descendants(pid)]), key=lambda one: one["rss"])
    return {**every[-1], "parents_rss": sum(one["rss"] for one in every[:-1])}


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and of its descendants, those that have ended and were waited for included."""
    total = 0.0
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            total += sum(_times(one))
    return total


class Usage:
    """CPU time of a server, of this process and of the whole machine, and wall clock, since it was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._at = self._read()

    def _read(self) -> tuple[float, float, float, float]:
        return time.monotonic(), cpu_s(self._pid), time.process_time(), busy_s()

    def result(self) -> dict[str, float]:
        """Seconds: ``wall_s``, and of CPU time ``server_cpu_s``, ``client_cpu_s``, ``others_cpu_s``."""
        wall, server, client, machine = (b - a for a, b in zip(self._at, self._read(), strict=True))
        others = max(0.0, machine - server - client)
        return {"wall_s": wall, "server_cpu_s": server, "client_cpu_s": client, "others_cpu_s": others}
