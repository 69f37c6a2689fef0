"""Watching a process on another machine by a TCP connection to its port; `evidence` says what that proves.

Nothing is sent, and what the server sends (HTTP/2 settings) is thrown away. Until a first connect succeeds
the name is resolved each time and all its addresses are tried; from then on only the one that was connected
to counts, so that a name which moves elsewhere proves nothing.
"""

import asyncio
import socket
from typing import Any

from coordd.clock import boottime
from coordd.ha.evidence import Connect, ConnectionWitness, Evidence, Hold, Step
from coordd.ha.trouble import Trouble
from coordd.log import get_logger

log = get_logger("coordd.ha.held_connection")

CONNECT_TIMEOUT_S = 1.0
"""A connect takes one round trip, or one more second if its SYN is lost. Then rather begin anew."""
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A machine that vanished is noticed within about 4 s, so that its return without the process is, too."""
_READ_BYTES = 4096


async def wait_refused(host: str, port: int) -> Evidence:
    """Hold a connection to `host:port` until there is evidence that nobody listens there any more.

    Never ends otherwise. Safe to cancel; nothing stays open then.
    """
    connection = _Connection(host, port)
    step: Step = Connect(0.0)
    try:
        while True:
            match step:
                case Connect(after_s):
                    connection.drop()
                    await asyncio.sleep(after_s)
                    step = await connection.connect()
                case Hold(for_s):
                    step = await connection.hold(for_s)
                case Evidence():
                    return step
    finally:
        connection.drop()


class _Connection:
    """Does the steps and tells the witness how they went."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._witness = ConnectionWitness()
        self._trouble = Trouble()
        self._peer: tuple[int, Any] | None = None
        """Address family and socket address that a connect succeeded with."""
        self._socket: socket.socket | None = None

    def drop(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def connect(self) -> Step:
        """Try to connect, once per address."""
        try:
            await self._dial()
        except ConnectionRefusedError as error:
            self._note(error)
            return self._witness.refused(boottime())
        except (ConnectionResetError, BrokenPipeError):  # it was established, and ended before we looked
            self._witness.connected(boottime())
            return self._witness.ended(boottime())
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be one
            self._note(error)
            return self._witness.failed()
        self._trouble.over()
        return self._witness.connected(boottime())

    async def hold(self, for_s: float | None) -> Step:
        """Read the connection to its end, or for `for_s` seconds."""
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(for_s)
        try:
            async with limit:
                while self._socket is not None and await loop.sock_recv(self._socket, _READ_BYTES):
                    pass
        except OSError:  # reset, or one of two time-outs: this one, or that of the keepalives
            if limit.expired():
                return self._witness.lasted(boottime())
        return self._witness.ended(boottime())

    async def _dial(self) -> None:
        failure = OSError("the name has no address")
        for family, address in await self._addresses():
            try:
                await self._dial_address(family, address)
            except (ConnectionResetError, BrokenPipeError):
                self._peer = family, address
                raise
            except OSError as error:
                failure = error
            else:
                self._peer = family, address
                return
        raise failure

    async def _addresses(self) -> list[tuple[int, Any]]:
        if self._peer is not None:
            return [self._peer]
        # Without a time limit: the resolver has its own, and its thread would outlive ours.
        found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _type, _protocol, _name, address in found]

    async def _dial_address(self, family: int, address: Any) -> None:
        self.drop()
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(0)
        for option in _KEEPALIVE:
            self._socket.setsockopt(*option)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(self._socket, address)
        if self._socket.getsockname() == address:
            # A port of this machine on which nobody listens can be given to the very socket that dials it.
            self.drop()
            raise ConnectionRefusedError("connected to itself")

    def _note(self, error: Exception) -> None:
        if self._trouble.is_news(error):
            log.info("cannot connect to the active replica", address=self._address, error=str(error))
