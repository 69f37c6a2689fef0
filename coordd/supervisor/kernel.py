"""What the kernel is asked for and told about the replica. Linux only."""

import os
import signal
from contextlib import suppress

from coordd.supervisor.silence import Sample

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def read_sample(pid: int) -> Sample | None:
    """State and scheduling times of the main thread; None without CONFIG_SCHED_INFO, or if it is gone.

    Source: proc_pid_stat(5); schedstat: Documentation/scheduler/sched-stats.rst of the kernel.
    """
    try:
        with open(f"/proc/{pid}/task/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs a megabyte
            state = file.read().rpartition(b")")[2].split()[0]
        with open(f"/proc/{pid}/schedstat", "rb") as file:  # noqa: PTH123
            ran_ns, waited_ns = file.read().split()[:2]
        return Sample(runnable=state == b"R", ran_s=int(ran_ns) / 1e9, waited_s=int(waited_ns) / 1e9)
    except (OSError, ValueError, IndexError):
        return None


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies.

    Raises:
        SystemExit: the parent has died already, or the kernel refuses.
    """
    import ctypes  # noqa: PLC0415 - in the child only, the parent stays small

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise SystemExit(f"coordd: prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        raise SystemExit("coordd: the supervising process is gone")


def command_name() -> str:
    """The name under which `ps` and `top` show this process; "" if it cannot be told."""
    try:
        with open("/proc/self/comm") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return ""


def set_command_name(name: str) -> None:
    """Show another name (15 characters at most); of no consequence if that fails."""
    try:
        with open("/proc/self/comm", "w") as file:  # noqa: PTH123
            file.write(name)
    except OSError:
        return


def end_by_signal(number: int) -> None:
    """Die of a signal without a core of our own; exit with 128 + n where that does not kill (process 1)."""
    import resource  # noqa: PLC0415 - at the very end only

    with suppress(OSError, ValueError):  # the systemd unit does not allow it; then there may be a core
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)
