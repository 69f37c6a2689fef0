"""The replica's end of the pipe to its parent: the event loop's beats, and what systemd is to be told.

Writes never block: a pipe that is full, because the parent is stopped, costs beats and nothing else. The
first beat is sent when `watch` is called, so the time before the event loop runs (imports, settings) is not
judged; neither is the time after `close`, but the parent allows it `machine.EXIT_LIMIT_S` only.
"""

import os
from collections.abc import Callable
from typing import Protocol

from coordd.supervisor.report import Report, encode

BEATS_PER_TIMEOUT = 5
"""A beat may come late by most of the time-out before anything is wrong."""
MAX_BEAT_INTERVAL_S = 1.0
"""However long the time-out is: systemd's watchdog is fed by beats too."""


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None:
        """Do not call."""


class Loop(Protocol):
    """The part of an asyncio event loop that is used."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call in `delay` seconds."""


class ParentLink:
    """Owns the write end `fd` of the pipe. To be used from the event loop's thread only.

    `hangs`: how many predecessors of this process were killed because they hung.
    """

    def __init__(self, fd: int, *, hangs: int = 0) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self.hangs = hangs
        self._report = Report(timeout_ms=0, enabled=False)
        self._timer: Timer | None = None

    def watch(self, loop: Loop, *, enabled: bool, timeout_ms: int, json_lines: bool) -> None:
        """Begin to beat on `loop`, or change what was said before."""
        self._report = self._report._replace(enabled=enabled, timeout_ms=timeout_ms, json_lines=json_lines)
        if self._timer is not None:
            self._timer.cancel()
        self._beat(loop)

    def status(self, text: str, *, ready: bool) -> None:
        """`text` for `systemctl status`; `ready`: the service is up (said once, never taken back)."""
        self._tell(self._report._replace(status=text, ready=self._report.ready or ready))

    def stopping(self) -> None:
        """The service is on its way down, and is not to be started again if it hangs on that way."""
        self._tell(self._report._replace(stopping=True))

    def close(self) -> None:
        """No more beats: the event loop is about to end. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _tell(self, report: Report) -> None:
        if report != self._report:
            self._report = report
            self._send()

    def _beat(self, loop: Loop) -> None:
        self._send()
        interval_s = min(self._report.timeout_ms / 1000 / BEATS_PER_TIMEOUT, MAX_BEAT_INTERVAL_S)
        self._timer = loop.call_later(interval_s, lambda: self._beat(loop))

    def _send(self) -> None:
        if self._fd < 0:
            return
        try:
            os.write(self._fd, encode(self._report))
        except OSError:
            return  # full: the next beat says the same; without a reader we are about to be killed
