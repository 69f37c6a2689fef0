"""Telling systemd how a service is doing: READY, STATUS and STOPPING datagrams on $NOTIFY_SOCKET.

Does nothing when not started by systemd with Type=notify. Source: sd_notify(3).
"""

import os
import socket
from collections.abc import Mapping


class SystemdNotifier:
    """Sends state changes to the service manager named by `NOTIFY_SOCKET`, if there is one."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        address = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
        # "@" stands for an abstract socket, whose name starts with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._ready = False
        self._last_status = ""

    def status(self, text: str, *, ready: bool) -> None:
        """Show `text` in `systemctl status`; the first call that is `ready` says that the service is up."""
        if ready and not self._ready:
            self._ready = True
            self._send("READY=1")
        if text != self._last_status:
            self._last_status = text
            self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """The service is on its way down."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            ) as notify:
                notify.sendto(message.encode(), self._address)
        except OSError:
            return  # a full or closed socket of the service manager must not disturb the service
