"""A TCP connection to a host, whichever of its addresses takes it first.

The addresses of a name are tried in the resolver's order, the next one when the one before has failed or has
not answered for `STAGGER_S`: one that swallows packets costs that long and no more.

Source of the idea: RFC 8305 (Happy Eyeballs), without its sorting, which is the resolver's.
"""

import asyncio
import socket
from functools import partial
from typing import Any, Final, TypeAlias

from coordd.http2.race import NoneWonError, Race

STAGGER_S: Final = 0.25
"""RFC 8305's recommendation."""
_MAX_ADDRESSES: Final = 16
"""More are not tried."""

_Address: TypeAlias = tuple[int, Any]
"""Family and socket address."""


async def open_socket(host: str, port: int) -> socket.socket:
    """A connected socket that does not block, without Nagle's delay. The caller bounds it. Safe to cancel.

    A peer that listens and does not accept is connected to all the same.

    Raises:
        ConnectionRefusedError: nobody listens, at none of the addresses.
        OSError: no such host, or no way there.
    """
    addresses = await _resolve(host, port)
    if len(addresses) == 1:
        return await _connect(addresses[0])
    return await _first_of(addresses)


async def open_path(path: str) -> socket.socket:
    """A socket connected to the Unix socket at `path`. Safe to cancel.

    Raises:
        OSError: there is none, or nobody listens.
    """
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)  # noqa: FBT003 - the name of the method says what it is
        await asyncio.get_running_loop().sock_connect(opened, path)
    except BaseException:
        opened.close()
        raise
    return opened


async def _resolve(host: str, port: int) -> list[_Address]:
    if not host or not 0 < port < 1 << 16:
        raise OSError(f"{host!r} and {port} are no host and port")
    try:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:  # a name, which takes a resolver
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except ValueError as error:  # UnicodeError too: what cannot be a name
        raise OSError(f"{host!r} is no host: {error}") from error
    addresses = list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))
    if not addresses:
        raise OSError(f"{host!r} has no address")
    return addresses[:_MAX_ADDRESSES]


async def _first_of(addresses: list[_Address]) -> socket.socket:
    """Race the addresses.

    Raises:
        OSError: all failed; the first error that is no refusal, if there is one.
    """
    race: Race[socket.socket] = Race(STAGGER_S, lambda opened: opened.close(), (OSError,))
    try:
        return await race.run([partial(_connect, address) for address in addresses])
    except NoneWonError as none:
        others = [error for error in none.errors if not isinstance(error, ConnectionRefusedError)]
        raise [*others, *none.errors][0] from none


async def _connect(address: _Address) -> socket.socket:
    family, where = address
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)  # noqa: FBT003 - the name of the method says what it is
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(opened, where)
        _check_other_end(opened)
    except BaseException:
        opened.close()
        raise
    return opened


def _check_other_end(opened: socket.socket) -> None:
    """A port of this machine on which nobody listens can be given to the very socket that dials it.

    Raises:
        ConnectionRefusedError: the socket is connected to itself.
    """
    if opened.getsockname() == opened.getpeername():
        raise ConnectionRefusedError(f"nobody listens at {opened.getpeername()}")
