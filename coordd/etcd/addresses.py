"""The way to one endpoint when its name has several addresses: they are tried side by side.

Some may lead nowhere: an IPv6 address without a route, a member that was moved or that hangs. In the
resolver's order, each has a head start of `HEAD_START_S` over the next, less if it fails sooner; the first
over which the other side speaks HTTP/2 is used. That TCP connects means little: the kernel does that for a
process that hangs, too.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from coordd.etcd.endpoints import Endpoint
from coordd.etcd.errors import EtcdError, TlsError, Unavailable
from coordd.http2.client import Channel

HEAD_START_S = 0.25
"""RFC 8305, section 5 (Connection Attempt Delay)."""

Connect = Callable[[str], Awaitable[Channel]]


async def resolve(endpoint: Endpoint) -> Sequence[str]:
    """The IP addresses of an endpoint, best first; for one that needs no resolving, its host.

    Raises:
        Unavailable: the name does not resolve.
    """
    if endpoint.is_path or _is_address(endpoint.host):
        return (endpoint.host,)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a host name at all
        reason = getattr(error, "strerror", None) or "it is no host name"
        raise Unavailable(f"{endpoint.host} does not resolve: {reason}") from error
    return tuple(dict.fromkeys(_text(address) for _, _, _, _, address in found))


async def first_of(addresses: Sequence[str], connect: Connect) -> Channel:
    """The first channel to be had over `addresses`. Safe to cancel.

    Raises:
        Unavailable: none is to be had; says why for each reason once.
        TlsError: none is to be had, and all failed for such a reason.
    """
    return await connect(addresses[0]) if len(addresses) == 1 else await _Race(addresses, connect).run()


class _Race:
    """One attempt at several addresses."""

    def __init__(self, addresses: Sequence[str], connect: Connect) -> None:
        self._addresses = addresses
        self._connect = connect
        self._failed = [asyncio.Event() for _ in addresses]
        self._errors: list[EtcdError] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._winner: Channel | None = None

    async def run(self) -> Channel:
        """See `first_of`."""
        try:
            async with asyncio.TaskGroup() as group:
                self._tasks = [
                    group.create_task(self._try(number), name=f"etcd dial {address}")
                    for number, address in enumerate(self._addresses)
                ]
        except BaseException:
            if self._winner is not None:
                self._winner.close()
            raise
        if self._winner is None:
            raise self._why()
        return self._winner

    async def _try(self, number: int) -> None:
        await self._wait_turn(number)
        try:
            channel = await self._connect(self._addresses[number])
        except (Unavailable, TlsError) as error:
            self._errors.append(error)
            self._failed[number].set()
            return
        if self._winner is not None:
            channel.close()
            return
        self._winner = channel
        for other, task in enumerate(self._tasks):
            if other != number:
                task.cancel()

    async def _wait_turn(self, number: int) -> None:
        """Until each address before this one has failed, or had its head start."""
        for failed in self._failed[:number]:
            try:
                async with asyncio.timeout(HEAD_START_S):
                    await failed.wait()
            except TimeoutError:
                continue

    def _why(self) -> EtcdError:
        """An error of TLS is given up on sooner than others, so it must be the only kind."""
        others = [error for error in self._errors if not isinstance(error, TlsError)]
        if not others:
            return self._errors[0]
        return Unavailable("; ".join(dict.fromkeys(error.message for error in others)))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _text(address: tuple[object, ...]) -> str:
    """An address as one writes it; a link-local one of IPv6 (host, port, flow, scope) with its scope."""
    host = str(address[0])
    return f"{host}%{address[3]}" if len(address) == 4 and address[3] and "%" not in host else host
