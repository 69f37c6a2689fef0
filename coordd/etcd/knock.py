"""Noticing at once that an endpoint which was away is back, at next to no cost.

A whole dial is a clumsy tool for that: it looks at one address after the other, and sits
in the retries of the kernel (1 s, 3 s, 7 s, ...) when packets vanish. A bare TCP connect is refused in a
fraction of a millisecond, and a new one every `KNOCK_EVERY_S` beside those that still hang has its first
packet out as soon as the host is there again.

Not promised: that etcd serves there. Whoever was let in dials properly.
"""

import asyncio
import errno
import select
import socket
import time
from contextlib import closing

from coordd.etcd.endpoints import Endpoint

LOOK_EVERY_S = 0.015
KNOCK_EVERY_S = 0.1
"""A host that drops packets is knocked at this often; one that refuses, whenever it is looked at."""
PATIENCE_S = 2.0
"""How long one connect may take: longer than the round trip of any network that etcd works over."""
RESOLVE_EVERY_S = 2.0
"""Names may point elsewhere after a restart."""
_UNDER_WAY = {errno.EINPROGRESS, errno.EWOULDBLOCK}

Address = tuple[socket.AddressFamily, tuple[object, ...]]


async def knock(endpoint: Endpoint) -> None:
    """Return when something takes a TCP connection at `endpoint`, or when only a proper dial can tell.

    That is so for Unix sockets, and for names that do not resolve. Waits for ever; safe to cancel.
    """
    if not endpoint.port:
        return
    while True:
        addresses = await _resolve(endpoint)
        if not addresses:
            return
        with closing(_Knocking(addresses)) as knocking:
            until = time.monotonic() + RESOLVE_EVERY_S
            while time.monotonic() < until:
                if knocking.let_in(time.monotonic()):
                    return
                await asyncio.sleep(LOOK_EVERY_S)


async def _resolve(endpoint: Endpoint) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in found]


class _Knocking:
    """Connects under way to the addresses of one endpoint."""

    def __init__(self, addresses: list[Address]) -> None:
        self._addresses = addresses
        self._pending: dict[socket.socket, float] = {}
        self._last = -KNOCK_EVERY_S

    def let_in(self, now: float) -> bool:
        """Look after the connects under way, begin new ones if it is time; True if one got through."""
        if self._one_got_through(now):
            return True
        if self._pending and now - self._last < KNOCK_EVERY_S:
            return False
        self._last = now
        return any(self._begin(family, address, now) for family, address in self._addresses)

    def close(self) -> None:
        """Give up what is under way."""
        for one in self._pending:
            one.close()
        self._pending.clear()

    def _begin(self, family: socket.AddressFamily, address: tuple[object, ...], now: float) -> bool:
        try:
            one = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            return False
        one.setblocking(False)  # noqa: FBT003 - its only form
        try:
            code = one.connect_ex(address)
        except OSError:
            code = errno.EINVAL
        if code in _UNDER_WAY:
            self._pending[one] = now
            return False
        one.close()
        return code == 0

    def _one_got_through(self, now: float) -> bool:
        poll = select.poll()
        by_number = {one.fileno(): one for one in self._pending}
        for number in by_number:
            poll.register(number, select.POLLOUT)
        for number, _ in poll.poll(0):
            one = by_number[number]
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                return True
            self._forget(one)
        for one in [one for one, since in self._pending.items() if now - since > PATIENCE_S]:
            self._forget(one)
        return False

    def _forget(self, one: socket.socket) -> None:
        del self._pending[one]
        one.close()
