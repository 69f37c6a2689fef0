"""One child process of the lab: start, watch, signal, end by pid, and show its log when something is wrong.

Output goes to a file (a pipe that nobody reads would stop the child). A child is killed by the kernel when
this process ends, however it ends.
"""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from coordd.etcd.child import bound_to_parent
from tests.lab.install import LabError

T = TypeVar("T")
TAIL_LINES = 40
TAIL_WIDTH = 300
POLL_S = 0.05
# Below the kernel's ephemeral range (32768 up): no outgoing connection can take such a port meanwhile.
PORT_RANGE = (20000, 32000)
_PORT_TRIES = 1000


class Ports:
    """Hands out ports on 127.0.0.1 that are free now, none of them twice.

    Time passes until a server binds its port, and two clusters may start at once: nobody else on the machine
    is given it while this object is there. What says so is a name in the abstract namespace, which ends with
    its process.
    """

    def __init__(self) -> None:
        self._random = random.Random()
        self._taken = ExitStack()
        weakref.finalize(self, self._taken.close)

    def take(self) -> int:
        """Return a free port. Raises: LabError when there seems to be none."""
        for _ in range(_PORT_TRIES):
            port = self._random.randrange(*PORT_RANGE)
            if self._claim(port) and _bindable(port):
                return port
        raise LabError(f"no free port in {PORT_RANGE}")

    def _claim(self, port: int) -> bool:
        with ExitStack() as stack:
            claim = stack.enter_context(socket.socket(socket.AF_UNIX))
            try:
                claim.bind(f"\0coordd-lab-port-{port}")
            except OSError:
                return False
            self._taken.push(stack.pop_all())
        return True


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class LabProcess:
    """A running child. ``name`` is for messages, ``log`` is where stdout and stderr go."""

    def __init__(
        self, name: str, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path | None = None
    ) -> None:
        self.name = name
        self.log = log or cwd / f"{name}.log"
        self.started_at = time.monotonic()
        cwd.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as sink:
            self._popen = subprocess.Popen(
                bound_to_parent(command),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Process id (the launcher becomes the program, so it is the program's own)."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative signal number, or None while it runs."""
        return self._popen.poll()

    def alive(self) -> bool:
        """Tell whether it still runs."""
        return self.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""
        if self.alive():
            self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL and wait for the end. Idempotent."""
        self.signal(signal.SIGKILL)
        self._popen.wait(timeout=10)

    def wait(self, timeout_s: float) -> int:
        """Wait for the end by itself. Raises: LabError with the log's tail when it does not come."""
        try:
            return self._popen.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} did not end within {timeout_s} s\n{self.tail()}") from None

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Last lines of the log, with a heading."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError as error:
            text = str(error)
        kept = [line[:TAIL_WIDTH] for line in text.splitlines()[-lines:]]
        return f"--- {self.name} ({self.log}), last {lines} lines\n" + "\n".join(kept)

    def wait_until(self, probe: Callable[[], T | None], *, timeout_s: float, what: str) -> T:
        """Poll until the probe returns something true.

        Raises: LabError when the process ends or the time is over, with the log's tail.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = probe()
            if found:
                return found
            if not self.alive():
                raise LabError(f"{self.name} ended ({self.returncode}) before: {what}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: not within {timeout_s} s: {what}\n{self.tail()}")
            time.sleep(POLL_S)
