"""The way to one endpoint when its name has several addresses: they are tried side by side.

Some may lead nowhere: an IPv6 address without a route, a member that was moved or that hangs. In the
resolver's order, each has a head start of `HEAD_START_S` over the next, less if it fails sooner; the first
over which the other side speaks HTTP/2 is used. That TCP connects means little: the kernel does that for a
process that hangs, too.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from coordd.etcd.endpoints import Endpoint
from coordd.etcd.errors import TlsError, Unavailable
from coordd.http2.client import Channel
from coordd.http2.race import NoneWonError, Race

HEAD_START_S = 0.25
"""RFC 8305, section 5 (Connection Attempt Delay)."""

Connect = Callable[[str], Coroutine[Any, Any, Channel]]


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
    if len(addresses) == 1:
        return await connect(addresses[0])
    race: Race[Channel] = Race(HEAD_START_S, Channel.close, (Unavailable, TlsError))
    try:
        return await race.run([partial(connect, address) for address in addresses])
    except NoneWonError as none:
        raise _why(none.errors) from none


def _why(errors: Sequence[Exception]) -> Exception:
    """An error of TLS is given up on sooner than others, so it must be the only kind."""
    others = [error.message for error in errors if isinstance(error, Unavailable)]
    return Unavailable("; ".join(dict.fromkeys(others))) if others else errors[0]


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
