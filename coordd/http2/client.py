"""The client's side of gRPC: one connection to one server, and the calls on it.

A `Channel` is made when the server has spoken HTTP/2, and is of no more use once either side has said goodbye
or the connection was lost: it never connects again by itself. Whoever calls decides what a failure means, and
is told for it whether the server can have seen the call (`CallFailed.sent`).
"""

import asyncio
import select
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from coordd.http2.calls import Calls
from coordd.http2.client_stream import ClientStream
from coordd.http2.dial import open_path, open_socket
from coordd.http2.exchange import TOO_LATE, Exchange, Unary
from coordd.http2.link import H2, Keepalive, Link
from coordd.http2.outcome import CallFailed, not_sent
from coordd.http2.owner import Side
from coordd.http2.request_head import Metadata, RequestHeads
from coordd.http2.status import DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED

__all__ = ["CallFailed", "Channel", "ClientSettings", "ClientStream", "Http2NotOffered", "Keepalive"]

_CLOSED_HERE: Final = "the connection was closed on this side"
_LINGER_S: Final = 1.0
"""What was written before a connection is closed has this long to go out."""


class Http2NotOffered(ConnectionError):
    """The server speaks TLS, and has not agreed to HTTP/2 in its handshake (ALPN)."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How a connection is kept and what goes through it.

    Attributes:
        max_receive_bytes: largest message of an answer; None = no limit.
        max_send_bytes: largest message of a request; None = no limit.
        keepalive: pings that find out when the peer is gone; None = none.
        user_agent: header `user-agent`.
        at_once: a call leaves when it begins, not at the end of that turn of the loop together with others:
            for a server whom few ask, each waiting for the answer.
    """

    max_receive_bytes: int | None = None
    max_send_bytes: int | None = None
    keepalive: Keepalive | None = None
    user_agent: str = "coordd"
    at_once: bool = False


class _ClientLink(Link):
    """A link whose calls wait while the socket takes nothing."""

    def __init__(self, changed: Callable[[], None], settings: ClientSettings) -> None:
        self._changed = changed
        self._at_once = settings.at_once
        super().__init__(lambda _link: self.calls, Side.CLIENT, keepalive=settings.keepalive)
        self._poll = select.poll()

    @cached_property
    def calls(self) -> Calls:
        """The owner; calls wait in it until there is a connection."""
        write = self.flush if self._at_once else self.flush_soon
        return Calls(self.core, write, self.flush, self._changed)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to look for the peer's end of it."""
        opened = transport.get_extra_info("socket")
        if opened is not None:
            self._poll.register(opened.fileno(), select.POLLRDHUP)
        super().connection_made(transport)

    def fed(self) -> None:
        """Who was answered often makes the next call: it leaves together with what the peer is owed."""
        self.flush_soon()

    def hung_up(self) -> bool:
        """Whether the peer's goodbye lies in the socket, and the loop has not come to read it yet."""
        return bool(self._poll.poll(0))

    def pause_writing(self) -> None:
        """The peer does not read what is written."""
        self.calls.block(blocked=True)

    def resume_writing(self) -> None:
        """It reads again."""
        self.calls.block(blocked=False)


class Channel:
    """One connection, made by `connect`. Belongs to the event loop that made it.

    Attributes:
        closed: set when the connection is no more, whoever ended it.
    """

    def __init__(self, settings: ClientSettings, *, scheme: str, authority: str) -> None:
        """For `connect`."""
        self.closed = asyncio.Event()
        self._ready = asyncio.Event()
        self._closing = False
        self._linger: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._heads = RequestHeads(scheme, authority, settings.user_agent)
        self._link = _ClientLink(self._changed, settings)
        self._calls = self._link.calls

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        settings: ClientSettings,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        authority: str | None = None,
    ) -> Self:
        """A channel to `host:port`, once the server's SETTINGS have arrived. Safe to cancel.

        With `port` 0, `host` is the path of a Unix socket; give an `authority` then.

        It waits for as long as that takes, for example for a server that listens and does not accept yet:
        bound it with `asyncio.timeout`. `tls` must offer "h2" by ALPN; the certificate must name
        `server_hostname`, by default `host`. `authority` is `host:port` by default.

        Raises:
            ConnectionRefusedError: nobody listens.
            ssl.SSLError: the two sides do not agree on TLS.
            Http2NotOffered: they do, and not on HTTP/2.
            ConnectionError: the connection was lost, or what answers does not speak HTTP/2.
            OSError: no such host, or no way there.
        """
        if authority is None:
            authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        channel = cls(settings, scheme="http" if tls is None else "https", authority=authority)
        opened = await (open_socket(host, port) if port else open_path(host))
        secure: dict[str, Any] = {}
        if tls is not None:
            secure = {
                "ssl": tls,
                "server_hostname": server_hostname or host,
                "ssl_shutdown_timeout": _LINGER_S,
            }
        try:
            await channel._loop.create_connection(lambda: channel._link, sock=opened, **secure)
        except BaseException:
            channel._link.abort()  # uvloop closes under it without a word when this is cancelled in time
            opened.close()
            raise
        await channel._until_ready()
        return channel

    @property
    def usable(self) -> bool:
        """Whether calls may begin: the connection stands, and neither side has said goodbye."""
        return self._calls.refusal is None and not self._link.lost

    @property
    def hung_up(self) -> bool:
        """Whether the peer has closed the connection, though the loop may not have noticed. A system call.

        Of a call made now the peer would see nothing, but that could not be told afterwards.
        """
        return self._link.lost or self._link.hung_up()

    @property
    def under_way(self) -> int:
        """Calls that have not ended, those included that wait for room."""
        return len(self._calls)

    @property
    def peername(self) -> str:
        """The server's address as gRPC spells it, e.g. `ipv4:10.0.0.1:53100`."""
        return self._link.peername

    async def unary(
        self,
        path: str,
        body: bytes,
        *,
        metadata: Metadata = (),
        timeout_s: float,
        on_begin: Callable[[], None] | None = None,
    ) -> bytes:
        """Call the method at `path` once, with one message for one. Safe to cancel: the server is told.

        While the server takes no more calls at once, or no more bytes, the call waits, within `timeout_s`.
        `on_begin` is called when it waits no longer, in the step in which it is written.

        Raises:
            CallFailed: there is no answer; says why, and whether the server can have seen the call.
        """
        limit = self._settings.max_send_bytes
        if limit is not None and len(body) > limit:
            raise not_sent(RESOURCE_EXHAUSTED, f"a request of {len(body)} bytes, the limit is {limit}")
        if timeout_s <= 0:
            raise not_sent(DEADLINE_EXCEEDED, TOO_LATE)
        loop = self._loop
        deadline = loop.time() + timeout_s
        call = Unary(
            self._heads.head(path, metadata, timeout_s),
            body,
            loop.create_future(),
            deadline=deadline,
            max_receive_bytes=self._settings.max_receive_bytes,
        )
        call.on_begin = on_begin
        self._calls.enter(call)
        timer = loop.call_at(deadline, self._expire, call)
        try:
            return await call.answer
        finally:
            timer.cancel()
            if not call.over:  # cancelled
                call.over = True
                self._calls.leave(call)

    def stream(self, path: str, *, metadata: Metadata = ()) -> ClientStream:
        """Call the method at `path` with messages both ways; cancel the stream in the end.

        Raises:
            CallFailed: no call may begin any more.
        """
        call = ClientStream(
            self._calls,
            self._link.core,
            self._heads.head(path, metadata),
            max_receive_bytes=self._settings.max_receive_bytes,
            max_send_bytes=self._settings.max_send_bytes,
        )
        self._calls.enter(call)
        return call

    def retire(self) -> None:
        """Begin no more calls, and close when the last one under way has ended, at once if there is none.

        Calls that wait for room fail at once, unsent: another connection may have room.
        """
        self._calls.refuse(_CLOSED_HERE)

    def close(self) -> None:
        """Close now; calls under way fail with UNAVAILABLE."""
        self._closing = True
        self._calls.end(_CLOSED_HERE)
        self._link.abort()

    async def _until_ready(self) -> None:
        """Wait for the server's SETTINGS.

        Raises:
            Http2NotOffered: nor do they come: what else the server says, or that it closes, is no news.
            ssl.SSLError: the server does not accept us, which TLS 1.3 says only after its handshake.
            ConnectionError: they cannot come any more.
        """
        try:
            self._check_protocol()
            await self._ready.wait()
            self._check_peer()
        except BaseException:
            self._link.abort()
            raise

    def _check_protocol(self) -> None:
        """See `_until_ready`."""
        chosen = self._link.alpn
        if chosen not in (None, H2):
            text = f"the server chose {chosen or 'nothing'} in its TLS handshake (ALPN), not HTTP/2"
            raise Http2NotOffered(text)

    def _check_peer(self) -> None:
        """See `_until_ready`."""
        error = self._calls.error
        if isinstance(error, ssl.SSLError):
            raise error
        if self._calls.lost_by is not None:
            raise ConnectionError(self._calls.lost_by) from error

    def _changed(self) -> None:
        """Something has happened to the calls as a whole."""
        calls = self._calls
        if calls.ready or calls.lost_by is not None:
            self._ready.set()
        if calls.gone:
            self.closed.set()
            if self._linger is not None:
                self._linger.cancel()
        elif calls.refusal is not None and not len(calls) and not self._closing:
            self._closing = True
            self._link.close()
            self._linger = self._loop.call_later(_LINGER_S, self._link.abort)

    def _expire(self, call: Exchange) -> None:
        """The call's time is up."""
        if not call.over:
            self._calls.leave(call)
            call.finish(CallFailed(DEADLINE_EXCEEDED, TOO_LATE, sent=call.stream > 0))
