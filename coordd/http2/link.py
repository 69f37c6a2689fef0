"""A connection on a socket of asyncio: what the core says is written, what comes is fed to it.

Everything that one piece of received data leads to at once leaves in one write. What comes about later is
written by `flush()`, or together with all else of the same turn of the loop by `flush_soon()`.

An answer to a PING waits for something to leave with, for `_PONG_S` at the longest. A Go peer pings behind
each piece of data that it gets, to measure the line, unless a ping of its own is under way. To answer each at
once would take as many writes as all calls do, and wake the peer as often. (RFC 9113, 6.7, would have such
answers go first. Nobody is misled who asks whether we are there; the line seems a little longer than it is.)

A server that the peer does not read from stops reading itself, so that a peer cannot fill the memory with
answers, and pings nobody meanwhile: its ping would lie behind the answers. The kernel still notices when the
peer is gone, or takes nothing at all (`Keepalive`). A client goes on reading, since two ends that wait for
each other would wait for ever.
"""

import asyncio
import contextlib
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from coordd.http2.connection import Http2Connection
from coordd.http2.owner import Http2Error, Owner, Side
from coordd.http2.parting import LINGER_S, Parting

H2: Final = "h2"
"""HTTP/2 as ALPN has it."""

_CALM_S: Final = 10.0
"""How often nuisances are forgiven: with the core's limit about a thousand per second are harmless."""
_TICK_S: Final = 0.1
"""A stream that is reset sooner was hardly meant."""
_LAST_CHANCE_S: Final = 0.1
"""After a ping was not answered in time: so long may our own loop have stood still with the answer unread."""
_TURN_BYTES: Final = 64 << 10
"""Read at once, after which other connections, and timers, have their turn: a quarter of what uvloop reads,
and some thousand calls. It would go on reading as long as a peer fills its buffer."""
_PONG_S: Final = 0.02
_KEEPALIVE_PAYLOAD: Final = b"keepaliv"
_IPV4_MAPPED: Final = "::ffff:"
"""How a socket that takes both kinds shows an IPv4 address."""


@dataclass(frozen=True, slots=True)
class Keepalive:
    """When a silent connection is pinged, and given up.

    Where the system can do that (TCP_USER_TIMEOUT), the connection also ends when the peer's kernel does not
    acknowledge for `timeout_s` what was written, or has no room for it for so long.

    Attributes:
        time_s: nothing was received for so long: PING.
        timeout_s: nothing came for so long after it: the connection is lost.
        without_calls: also while no stream is open.
    """

    time_s: float
    timeout_s: float
    without_calls: bool


class PeerSilent(ConnectionError):
    """The peer did not answer a keep-alive ping."""


class LinkOwner(Owner, Protocol):
    """An owner that is also told of the end. The link is closed by errors in it: they come back in `lost`."""

    def lost(self, error: Exception | None, /) -> None:
        """The connection is gone, and all its streams; called once. None: it was closed, by either side."""


class Link(asyncio.Protocol):
    """One connection.

    Args:
        make: makes the owner; called at once, when there is a `core` and no `transport`.
        side, window, max_streams, max_header_bytes: see `Http2Connection`.
        keepalive: None = never pings.

    Attributes:
        core: the connection; call `flush` or `flush_soon` after orders that were not given from within it.
        transport: None until the connection is made.
        peername: of the peer, as gRPC spells it; "" until the connection is made.
        alpn: what both sides have agreed upon in the TLS handshake, "" for nothing; None without TLS.
        lost: the connection is gone, or about to go: nothing is written any more.
    """

    def __init__(
        self,
        make: Callable[["Link"], LinkOwner],
        side: Side,
        *,
        keepalive: Keepalive | None = None,
        window: int = 4 << 20,
        max_streams: int | None = None,
        max_header_bytes: int = 16 << 10,
    ) -> None:
        self._side = side
        self.core = Http2Connection(
            side, None, window=window, max_streams=max_streams, max_header_bytes=max_header_bytes
        )
        self.core.owner = self._owner = make(self)
        self.transport: asyncio.Transport | None = None
        self.peername = ""
        self.alpn: str | None = None
        self.lost = False
        self._loop = asyncio.get_running_loop()
        self._keepalive = keepalive
        self._timer: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._tick_at = self._calm_at = 0.0
        self._flushing = False
        self._pong_due = False
        self._held_up = False
        self._error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self.transport = transport  # type: ignore[assignment]  # a socket's transport is one
        self.peername = format_peer(transport.get_extra_info("peername"))
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.alpn = tls.selected_alpn_protocol() or ""
        self._heard = self._loop.time()
        if self._keepalive is not None:
            _set_user_timeout(transport, self._keepalive.timeout_s)
            self._timer = self._loop.call_later(self._keepalive.time_s, self._check_silence, self._keepalive)
        self.core.start()
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Feed the core, then write what it has to say."""
        self._heard = now = self._loop.time()
        if now >= self._tick_at:
            self._pass_time(now)
        try:
            self.core.feed(data)
        except Http2Error as error:
            self._end(error)
        except Exception as error:  # noqa: BLE001 - a bug of the owner must not concern other connections
            self._end(error)
        else:
            if not self.lost:
                if self.core.only_pongs:
                    self.pinged()
                else:
                    self.fed()
                if len(data) >= _TURN_BYTES and self._side is Side.SERVER:
                    self._let_others_by()

    def fed(self) -> None:
        """What one read has led to is to be written."""
        self.flush()

    def pinged(self) -> None:
        """What one read has led to are answers to pings, and nothing else: they can wait a moment."""
        if not self._pong_due:
            self._pong_due = True
            self._loop.call_later(_PONG_S, self._pong)

    def eof_received(self) -> bool:
        """The peer sends no more. A connection that is open one way is of no use."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        self.lost = True
        self._stop_timer()
        self._owner.lost(self._error or exc)

    def pause_writing(self) -> None:
        """The peer does not read what we write."""
        if self._side is Side.SERVER and self.transport is not None:
            self._held_up = True
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        if self._side is Side.SERVER:
            self._held_up = False
            self._heard = self._loop.time()
            self._read_on()

    @property
    def unwritten(self) -> int:
        """Bytes that were written and that the socket has not taken.

        Over TLS those are missing that were encrypted before the transport below had too much: one write. All
        that is written after it counts.
        """
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def flush(self) -> None:
        """Write what the core has to say; nothing if the connection is not there, or gone."""
        data = self.core.take()
        if data and self.transport is not None and not self.lost:
            self.transport.write(data)

    def flush_soon(self) -> None:
        """`flush()` once, at the end of this turn of the loop, however often this is called."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_now)

    def close(self) -> None:
        """Write what there is, then close. The owner's `lost` follows."""
        if self.lost:
            return
        self.flush()
        self.lost = True
        self._stop_timer()
        if self.transport is not None:
            self.transport.close()
            self._timer = self._loop.call_later(LINGER_S, self.transport.abort)

    def finish(self) -> None:
        """Write what there is, and close so that the peer receives it. The owner's `lost` follows."""
        if self.lost:
            return
        self.flush()
        self.lost = True
        self._stop_timer()
        transport = self.transport
        if transport is None:
            return
        if transport.is_closing():  # the peer was faster
            self._timer = self._loop.call_later(LINGER_S, transport.abort)
        else:
            Parting(transport, self.connection_lost)

    def abort(self, error: Exception | None = None) -> None:
        """Close at once, without writing; `error` is what `lost` is told."""
        self._error = self._error or error
        self.lost = True
        self._stop_timer()
        if self.transport is not None:
            self.transport.abort()

    def _pass_time(self, now: float) -> None:
        self._tick_at = now + _TICK_S
        self.core.tick()
        if now >= self._calm_at:
            self._calm_at = now + _CALM_S
            self.core.calm()

    def _pong(self) -> None:
        """Nothing may have come that the answers to the peer's pings could leave with."""
        self._pong_due = False
        self.flush()

    def _let_others_by(self) -> None:
        if self.transport is not None and not self._held_up:
            self.transport.pause_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        transport = self.transport
        if transport is not None and not self._held_up and not transport.is_closing():
            transport.resume_reading()

    def _flush_now(self) -> None:
        self._flushing = False
        self.flush()

    def _end(self, error: Exception) -> None:
        self._error = error
        self.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_silence(self, keepalive: Keepalive) -> None:
        """Nothing may have come for `time_s`: ping."""
        now = self._loop.time()
        wait = self._heard + keepalive.time_s - now
        if self._held_up:
            self._timer = self._loop.call_later(keepalive.time_s, self._check_silence, keepalive)
        elif wait > 0:
            self._timer = self._loop.call_later(wait, self._check_silence, keepalive)
        elif self.core.streams or keepalive.without_calls:
            self.core.ping(_KEEPALIVE_PAYLOAD)
            self.flush()
            soon = min(keepalive.time_s, keepalive.timeout_s)
            self._timer = self._loop.call_later(soon, self._check_answer, keepalive, now)
        else:
            self._timer = self._loop.call_later(keepalive.time_s, self._check_silence, keepalive)

    def _heard_since(self, pinged: float) -> bool:
        """Whether something has come since a ping, or would not have been read if it had.

        Before it there was nothing for a while, and uvloop's clock has milliseconds: an answer may well come
        at the very time of the ping.
        """
        return self._held_up or self._heard >= pinged

    def _check_answer(self, keepalive: Keepalive, pinged: float) -> None:
        """Something must come between `pinged` and `timeout_s` later."""
        left = pinged + keepalive.timeout_s - self._loop.time()
        if self._heard_since(pinged):
            self._check_silence(keepalive)
        elif left > 0:
            self._timer = self._loop.call_later(left, self._check_answer, keepalive, pinged)
        else:
            self._timer = self._loop.call_later(_LAST_CHANCE_S, self._give_up, keepalive, pinged)

    def _give_up(self, keepalive: Keepalive, pinged: float) -> None:
        if self._heard_since(pinged):
            self._check_silence(keepalive)
        else:
            self.abort(PeerSilent(f"no answer to a ping for {keepalive.timeout_s} s"))


def format_peer(address: Any) -> str:
    """The address of a socket's peer, as gRPC spells it in its URIs."""
    if not isinstance(address, tuple):
        return "unix:"
    host, port = address[0].removeprefix(_IPV4_MAPPED), address[1]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _set_user_timeout(transport: asyncio.BaseTransport, timeout_s: float) -> None:
    """Have the kernel give up what is not acknowledged in time; a Unix socket knows no such thing."""
    opened = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None and opened is not None and opened.family in {socket.AF_INET, socket.AF_INET6}:
        with contextlib.suppress(OSError):  # a kernel that does not know it
            opened.setsockopt(socket.IPPROTO_TCP, option, math.ceil(timeout_s * 1000))
