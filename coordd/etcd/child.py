"""Child processes that cannot outlive this one.

The child is started through a minimal Python interpreter that asks the kernel for SIGKILL on the death of its
parent (PR_SET_PDEATHSIG) and then becomes the program. Doing this in a `preexec_fn` would run Python between
fork and exec of a process with threads (gRPC has some), which can deadlock. Linux only, as CLOCK_BOOTTIME.

What it does not do: the signal comes when the *thread* that started the child ends, so start children from a
thread that lives as long as the process (the event loop's, usually the main thread).
"""

import os
import sys
from collections.abc import Sequence

# argv: parent's pid, program, arguments. A parent that died before prctl took effect is noticed by its pid.
_BECOME = """
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).prctl(1, 9, 0, 0, 0) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG): " + os.strerror(ctypes.get_errno()))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent process is gone")
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


def bound_to_parent(argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` (argv[0] an absolute path) and dies with the calling process.

    The pid of the process that is started is that of the program itself.
    """
    return [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *argv]
