"""The parent process: carries out what `machine.Supervision` decides.

One poll waits for all there is: the pipe from the replica, and signals (SIGCHLD among them) as bytes that the
interpreter's C handler writes to a wake-up pipe.

The replica runs in a process group of its own. Ctrl-C in a terminal goes to the whole foreground group, so it
would otherwise get each signal twice, the second one perhaps when its own handlers are gone already. Ctrl-Z
stops the parent only; the replica goes on serving. As process 1 of a container it reaps orphans, too.
"""

import math
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import NoReturn

from coordd.supervisor.kernel import command_name, die_with, end_by_signal, read_sample, set_command_name
from coordd.supervisor.link import ParentLink
from coordd.supervisor.log_line import text_line, write_line
from coordd.supervisor.machine import (
    Ended,
    Event,
    Exit,
    Forward,
    Instruction,
    Kill,
    Log,
    LoopEnded,
    Reported,
    Say,
    Signalled,
    Start,
    Started,
    Supervision,
    Woke,
)
from coordd.supervisor.report import Decoder
from coordd.supervisor.systemd import OWN_VARIABLES, Feeder, NotifySocket

FORWARDED = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)
OWN_NAME = "coordd-watchdog"
_READ_BYTES = 65536

Handler = Callable[[int, FrameType | None], object] | int | None


def supervise() -> ParentLink:
    """Fork. Returns in the child, which is to go on as the replica, and never in the parent.

    Raises:
        SystemExit: in the parent, when the replica has ended; in the child, when the parent has gone.
    """
    return _Parent(os.environ).run()


class _Parent:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._machine = Supervision(Feeder(environment))
        self._manager = NotifySocket(environment)
        self._decoder = Decoder()
        self._name = command_name()
        self._pid: int | None = None
        self._reports = -1
        self._handlers: dict[int, Handler] = {}
        self._wakeup, self._wakeup_write = os.pipe()

    def run(self) -> ParentLink:
        self._take_signals()
        link = self._carry_out(self._machine.begin())
        while link is None:
            self._wait()
            # In this order: a beat that was sent before the sample was taken is seen before it is judged.
            now = time.monotonic()
            sample = read_sample(self._machine.pid) if self._machine.is_judging else None
            for event in self._events():
                self._carry_out(self._machine.handle(event, now))  # a replica is only started by `Woke`
            due = self._machine.due
            if due is not None and now >= due:
                link = self._carry_out(self._machine.handle(Woke(sample), now))
        return link

    # --- events ---

    def _take_signals(self) -> None:
        for fd in (self._wakeup, self._wakeup_write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        for number in (*FORWARDED, signal.SIGCHLD):
            self._handlers[number] = signal.signal(number, _only_wake)

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if self._reports >= 0:
            poll.register(self._reports, select.POLLIN)
        due = self._machine.due
        poll.poll(None if due is None else max(0, math.ceil((due - time.monotonic()) * 1000)))

    def _events(self) -> list[Event]:
        """All that has happened; what the replica said before its end comes before its end."""
        signals = [Signalled(number) for number in _read_all(self._wakeup)[0] if number in FORWARDED]
        ended = self._reap()
        return [*self._said(), *signals, *ended]

    def _said(self) -> list[Event]:
        if self._reports < 0:
            return []
        data, is_open = _read_all(self._reports)
        said: list[Event] = [Reported(report) for report in self._decoder.feed(data)]
        if not is_open:
            os.close(self._reports)
            self._reports = -1
            said.append(LoopEnded())
        return said

    def _reap(self) -> list[Event]:
        """Wait for every child that has ended; others than the replica are orphans left to process 1."""
        ended: list[Event] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            if pid == self._pid:
                self._pid = None  # from now on the number may be another process's
                ended.append(Ended(os.waitstatus_to_exitcode(status)))

    # --- instructions ---

    def _carry_out(self, instructions: list[Instruction]) -> ParentLink | None:
        """Returns something in a child that has just been forked."""
        for instruction in instructions:
            match instruction:
                case Start(hangs):
                    link = self._fork(hangs)
                    if link is not None:
                        return link
                case Kill():
                    self._send(signal.SIGKILL)
                case Forward(_, number):
                    self._send(number)
                case Say(message):
                    self._manager.send(message)
                case Log(message, facts, json_lines):
                    write_line(text_line(message, facts, json_lines=json_lines))
                case Exit(code):
                    _end(code)
        return None

    def _send(self, number: int) -> None:
        if self._pid is not None:
            os.kill(self._pid, number)

    def _fork(self, hangs: int) -> ParentLink | None:
        if self._reports >= 0:
            os.close(self._reports)
        self._decoder = Decoder()
        self._reports, write_end = os.pipe()
        os.set_blocking(self._reports, False)
        parent = os.getpid()
        # A signal that comes now must find either our handlers in the parent or its own in the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        try:
            pid = os.fork()
        except OSError as error:
            raise SystemExit(f"coordd: cannot start the replica: {error.strerror}") from error
        if pid == 0:
            self._become_replica(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return ParentLink(write_end, hangs=hangs)
        os.close(write_end)
        self._pid = pid
        set_command_name(OWN_NAME)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._carry_out(self._machine.handle(Started(pid), time.monotonic()))
        return None

    def _become_replica(self, parent: int) -> None:
        """Undo in the child what the parent has set up for itself."""
        die_with(parent)
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        # In a background group, a terminal with `stty tostop` would stop it at the first line it writes.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        for fd in (self._wakeup, self._wakeup_write, self._reports):
            os.close(fd)
        for name in OWN_VARIABLES:
            os.environ.pop(name, None)
        set_command_name(self._name)


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """Being handled at all is enough: the number has gone through the wake-up pipe."""


def _read_all(fd: int) -> tuple[bytes, bool]:
    """All that can be read without waiting, and whether more may come."""
    data = b""
    while True:
        try:
            piece = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return data, True
        if not piece:
            return data, False
        data += piece


def _end(code: int) -> NoReturn:
    if code < 0:
        end_by_signal(-code)
    raise SystemExit(code)
