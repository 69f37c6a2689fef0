"""How a replica tells systemd of its state by itself, when no parent process speaks for it."""

import os
import time
from collections.abc import Mapping
from typing import Protocol

from coordd.supervisor.report import Report
from coordd.supervisor.systemd import Feeder, NotifySocket, Words


class ServiceManager(Protocol):
    """Who is told how the service is doing: systemd, or the supervising process."""

    def status(self, text: str, *, ready: bool) -> None:
        """Show `text`; the first call that is `ready` says that the service is up."""

    def stopping(self) -> None:
        """The service is on its way down."""


class SystemdNotifier:
    """Sends state changes to the service manager named by `NOTIFY_SOCKET`, if there is one."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        given = os.environ if environment is None else environment
        self._socket = NotifySocket(given)
        self._feeder = Feeder(given)
        self._words = Words()
        self._report = Report(timeout_ms=0)

    def status(self, text: str, *, ready: bool) -> None:
        """As `ServiceManager`. Each call, changed or not, is also a sign of life for systemd's watchdog."""
        self._tell(self._report._replace(status=text, ready=self._report.ready or ready))

    def stopping(self) -> None:
        """As `ServiceManager`."""
        self._tell(self._report._replace(stopping=True))

    def _tell(self, report: Report) -> None:
        self._report = report
        for message in (*self._words.hear(report), *self._feeder.feed(time.monotonic())):
            self._socket.send(message)
