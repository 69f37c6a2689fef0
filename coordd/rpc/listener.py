"""The sockets on which a server listens, and what is accepted from them.

asyncio's own server loses a connection that it has just accepted when it is closed in that moment, and leaves
its socket open. Here what was accepted is either a connection or closed. And uvloop tells nobody of the
end of a connection whose making was cancelled in its last moment: so that is not cancelled.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

from coordd.log import get_logger

log = get_logger("coordd.rpc")

_BACKLOG: Final = 4096
"""Connections that wait until they are accepted; Linux keeps no more than net.core.somaxconn, by default as
many."""
_AT_ONCE: Final = 64
"""Accepted in one turn of the loop, so that a flood of connections does not hold up the calls."""
_PAUSE_S: Final = 0.5
"""After an accept that failed, most likely for want of file descriptors: what waits goes on waiting."""
_TLS_HANDSHAKE_LIMIT_S: Final = 20.0
_TLS_SHUTDOWN_LIMIT_S: Final = 1.0


class Listener:
    """Accepts from bound sockets, which are its own from now on. `tls`: None = plain text."""

    def __init__(self, bound: list[socket.socket], tls: ssl.SSLContext | None) -> None:
        self._bound = bound
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._failing = False
        self._connecting: set[asyncio.Task[None]] = set()
        self._fresh: set[socket.socket] = set()
        """Accepted, and still ours: closing those that the loop has is left to the loop."""

    def listen(self) -> None:
        """Let clients connect; they wait until `accept`.

        Raises:
            OSError: another socket listens on the port.
        """
        for one in self._bound:
            one.settimeout(0.0)
            one.listen(_BACKLOG)

    def accept(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Make connections from now on, one `protocol()` each; nothing once it is closed."""
        for one in self._bound:
            self._loop.add_reader(one, self._take, one, protocol)

    def close(self) -> None:
        """Refuse connections; drop those that are still being made."""
        for one in self._bound:
            self._loop.remove_reader(one)
            one.close()
        self._bound = []
        for accepted in self._fresh:
            accepted.close()
        self._fresh.clear()
        if self._tls is not None:  # a handshake may take long; all else is a connection in a moment
            for task in self._connecting:
                task.cancel()

    async def closed(self, limit_s: float) -> None:
        """After `close()`: return when the last one has been dropped."""
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=limit_s)

    def _take(self, one: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _address = one.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if not self._failing:
                    log.error("cannot accept connections, trying again", reason=str(error))
                self._failing = True
                self._loop.remove_reader(one)
                self._loop.call_later(_PAUSE_S, self._resume, one, protocol)
                return
            self._failing = False
            accepted.settimeout(0.0)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._fresh.add(accepted)
            task = self._loop.create_task(self._connect(accepted, protocol), name="accepted connection")
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _resume(self, one: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        if one in self._bound:
            self._loop.add_reader(one, self._take, one, protocol)

    async def _connect(self, accepted: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        if accepted not in self._fresh:  # closed since
            return
        self._fresh.discard(accepted)
        tls = self._tls
        try:
            await self._loop.connect_accepted_socket(
                protocol,
                accepted,
                ssl=tls,
                ssl_handshake_timeout=_TLS_HANDSHAKE_LIMIT_S if tls else None,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_LIMIT_S if tls else None,
            )
        except OSError as error:
            log.debug("a connection came to nothing", reason=str(error))
