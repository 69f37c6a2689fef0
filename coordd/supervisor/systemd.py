"""Talking to systemd: READY, STATUS, STOPPING and WATCHDOG datagrams on $NOTIFY_SOCKET.

Does nothing when not started by systemd with Type=notify. Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import os
import socket
from collections.abc import Mapping

from coordd.supervisor.report import Report

WATCHDOG = "WATCHDOG=1"
FEEDS_PER_LIMIT = 3
"""sd_watchdog_enabled(3) asks for a sign of life at half of the limit; a third leaves room to be late."""
OWN_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class NotifySocket:
    """Sends to the service manager named by `NOTIFY_SOCKET`, if there is one. Never blocks, never raises."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for an abstract socket, whose name starts with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def send(self, message: str) -> None:
        """One datagram, such as `READY=1`."""
        if not self._address:
            return
        try:
            with socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            ) as notify:
                notify.sendto(message.encode(), self._address)
        except OSError:
            return  # a full or closed socket of the service manager must not disturb the service


class Feeder:
    """When to feed systemd's watchdog (`WatchdogSec=`); never, if it does not watch this process."""

    def __init__(self, environment: Mapping[str, str], pid: int | None = None) -> None:
        limit = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid() if pid is None else pid))
        self._interval_s = int(limit) / 1e6 / FEEDS_PER_LIMIT if mine and limit.isdigit() else 0.0
        self._due = 0.0

    @property
    def due(self) -> float | None:
        """When to feed it next, on the clock of `feed`; None if it is not to be fed at all."""
        return self._due if self._interval_s else None

    def feed(self, now: float) -> list[str]:
        """What to send now, if it is time: to be called while all is well."""
        if not self._interval_s or now < self._due:
            return []
        self._due = now + self._interval_s
        return [WATCHDOG]


class Words:
    """What is to be said to systemd, given what a replica reports: each change once."""

    def __init__(self) -> None:
        self._ready = False
        self._stopping = False
        self._status = ""

    def hear(self, report: Report, *, hangs: int = 0) -> list[str]:
        """`hangs`: how often the replica has been killed because it hung; the status says so."""
        words: list[str] = []
        if report.ready and not self._ready:
            self._ready = True
            words.append("READY=1")
        if report.status:
            words += self.status(
                f"{report.status}; hung and was restarted: {hangs} x" if hangs else report.status
            )
        if report.stopping and not self._stopping:
            self._stopping = True
            words.append("STOPPING=1")
        return words

    def status(self, text: str) -> list[str]:
        """A status that is not the replica's own."""
        if text == self._status:
            return []
        self._status = text
        return [f"STATUS={text}"]
