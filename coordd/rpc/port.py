"""The TCP port of a server, claimed at the start of the process.

A standby must not listen (a client that dials it is to be refused at once), yet a port that is taken must be
an error when the process starts, not when it takes over. A reservation is a socket that is bound and never
listens: connects are refused, and Linux gives the port to no outgoing connection either (RootCoord's default
port lies in the ephemeral range). The server binds the same port while the reservation is held, which
SO_REUSEADDR allows as long as only one of the two listens; so there is no gap in which the port is anybody's,
and a reservation may be held for the whole life of the process.

SO_REUSEADDR would also let two reservations share a port. A lock beside it prevents that: a name in the
abstract namespace of Unix sockets, which has the extent of the network namespace and goes with the process.
"""

import errno
import socket
from types import TracebackType
from typing import Self

from coordd.errors import CoorddError


class ListenError(CoorddError):
    """An address cannot be listened on."""


class PortInUse(ListenError):
    """Another socket has the port."""


class PortReservation:
    """Holds `host:port` from construction to `release()`; `host` "" is all interfaces, port 0 any free one.

    Attributes:
        port: the port held; the chosen one when 0 was asked for.

    Raises:
        PortInUse: the port is taken; names address and setting.
        ListenError: the address cannot be bound for another reason.
    """

    def __init__(self, host: str, port: int, *, setting: str) -> None:
        self.host = host
        self._lock: socket.socket | None = None
        self._socket = bind(host, port, setting)
        self.port: int = self._socket.getsockname()[1]
        try:
            self._lock = _lock(host, self.port, setting)
        except BaseException:
            self._socket.close()
            raise

    def release(self) -> None:
        """Give the port up; may be called again."""
        self._socket.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.release()


def listen_error(host: str, port: int, setting: str, error: OSError) -> ListenError:
    """The error to raise for `error` of a bind or listen of `host:port`."""
    address = format_address(host, port)
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"port in use: {address} is taken by another process",
            hint=f"give this process another port with {setting}, or find the other one with `ss -ltnp`",
        )
    return ListenError(f"cannot listen on {address}: {error.strerror}", hint=f"the port is set by {setting}")


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A TCP socket bound to `host:port`, not listening, on which SO_REUSEADDR is set.

    Raises:
        PortInUse: the port is taken; names address and `setting`, the key that sets it.
        ListenError: the address cannot be bound for another reason.
    """
    claim: socket.socket | None = None
    try:
        claim = _socket_for(host)
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claim.bind((host, port))
    except OSError as error:
        if claim is not None:
            claim.close()
        raise listen_error(host, port, setting, error) from error
    return claim


def bind_all(host: str, port: int, setting: str) -> list[socket.socket]:
    """Sockets like that of `bind` for every address of `host`, all on one port; the first is that of `bind`.

    A name may have addresses of both families ("localhost"). One that this machine has no network for is
    left out. The sockets belong to the caller.

    Raises:
        PortInUse: the port is taken at one of the addresses; names address and `setting`.
        ListenError: the first address cannot be bound for another reason.
    """
    bound = [bind(host, port, setting)]
    first, port = bound[0].getsockname()[:2]
    try:
        for address in _addresses(host):
            if address != first:
                _bind_as_well(bound, address, port, setting)
    except BaseException:
        for one in bound:
            one.close()
        raise
    return bound


def _bind_as_well(bound: list[socket.socket], address: str, port: int, setting: str) -> None:
    try:
        bound.append(bind(address, port, setting))
    except PortInUse:
        raise
    except ListenError:
        return


def format_address(host: str, port: int) -> str:
    """`host:port`, as gRPC and humans read it; "" is `[::]`, all interfaces of both families."""
    if not host:
        return f"[::]:{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _addresses(host: str) -> list[str]:
    """The numeric addresses of a name, in the order in which they are to be tried; "" has none."""
    if not host:
        return []
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _socket_for(host: str) -> socket.socket:
    if host:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.socket(family, socket.SOCK_STREAM)
    if not socket.has_dualstack_ipv6():
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    both = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return both


def _lock(host: str, port: int, setting: str) -> socket.socket:
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0coordd-port/{host or '*'}/{port}")
    except OSError as error:
        lock.close()
        raise listen_error(host, port, setting, error) from error
    return lock
