"""One client's connection: its requests as they arrive, its calls under way, and its answers.

A call that is answered from memory is answered within the very piece of input that brought it, without a
task; what takes time is a `ServedCall`. A call that is refused (no such method, too large, one too many) is a
failure of that call only. The connection ends when the client breaks HTTP/2's rules or pings too often.

A client may be slow to take its answers, by its windows or its socket. Once much has been made for it that it
has not taken, further requests wait: reading goes on, since what opens the windows must be read. Only who
takes nothing at all for a while is sent away.
"""

import asyncio
from typing import Final

from coordd.clock import boottime
from coordd.http2.frames import ENHANCE_YOUR_CALM, NO_ERROR
from coordd.http2.link import H2, Keepalive, Link
from coordd.http2.messages import MessageError, MessageReader, frame_message
from coordd.http2.owner import Http2Error, Side
from coordd.log import get_logger
from coordd.rpc import replies
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.kept import Kept, Standstill
from coordd.rpc.ping_strikes import TOO_MANY_PINGS, PingStrikes
from coordd.rpc.request_head import NotAnswerable, RequestHead, read_head
from coordd.rpc.served_call import ServedCall
from coordd.rpc.server_options import ServerOptions
from coordd.rpc.table import Method

log = get_logger("coordd.rpc")

_MAX_STREAMS: Final = 16_384
"""Calls at once on one connection, for a bound of what a client can make us keep; those above it wait at the
client. More than the calls that a server takes by default, so that the server's limit comes first."""
_UNSENT_LIMIT: Final = 64 << 20
"""With so many bytes of answers that a client has not taken, its further requests wait. Those under way may
still be answered, up to the largest single answer on top of it."""
_FLUSH_BYTES: Final = 1 << 20
"""Of answers made before they are written: one read may bring thousands of requests for large ones."""
_SMALL_ANSWER_BYTES: Final = 64 << 10
"""An answer to a change is no larger, and must not be told as a failure for want of room."""
_SWEEP_S: Final = 1.0
"""How often it is looked for requests that take too long."""
_STALLED_S: Final = 60.0
"""A client of whose answers so many wait may take nothing for so long."""
_MAX_KNOWN_STRANGERS: Final = 64
_STOPPING: Final = "this server is stopping"


class Shared:
    """What the connections of one server have in common.

    Attributes:
        connections: those that are open.
        under_way: calls of all connections that are not answered at once, to the end of their tasks.
        emptied: set when the last connection has gone.
        stopping: whoever comes is sent away.
    """

    def __init__(self, dispatcher: Dispatcher, options: ServerOptions) -> None:
        self.dispatcher = dispatcher
        self.options = options
        self.connections: set[ServedConnection] = set()
        self.under_way: set[ServedCall] = set()
        self.emptied = asyncio.Event()
        self.stopping = False
        self._strangers: set[str] = set()
        self._keepalive = Keepalive(
            options.keepalive_time_ms / 1000, options.keepalive_timeout_ms / 1000, without_calls=True
        )

    def new_link(self) -> Link:
        """What speaks on a connection that is being made."""
        return _ServedLink(self, self._keepalive)

    def connected(self, connection: "ServedConnection") -> None:
        """A connection is made."""
        self.connections.add(connection)
        self.emptied.clear()
        if self.stopping:  # it was under way before that
            asyncio.get_running_loop().call_soon(connection.leave)

    def disconnected(self, connection: "ServedConnection") -> None:
        """A link is gone."""
        self.connections.discard(connection)
        if not self.connections:
            self.emptied.set()

    def not_http2(self, link: Link, error: Http2Error) -> None:
        """A connection over TLS has ended by what was no HTTP/2, and the client had not offered any."""
        host = link.peername.rpartition(":")[0]
        if host not in self._strangers and len(self._strangers) < _MAX_KNOWN_STRANGERS:
            self._strangers.add(host)
            log.warning(
                "a client offers no HTTP/2 in its TLS handshake (ALPN)", peer=link.peername, reason=str(error)
            )

    def one_too_many(self) -> bool:
        """Whether no more calls may be taken now."""
        limit = self.options.max_concurrent_rpcs
        return limit is not None and len(self.under_way) >= limit


class _ServedLink(Link):
    """A link that its server knows from the moment in which it is a connection."""

    def __init__(self, shared: Shared, keepalive: Keepalive) -> None:
        self._shared = shared
        super().__init__(self._serve, Side.SERVER, max_streams=_MAX_STREAMS, keepalive=keepalive)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello, and tell the server."""
        super().connection_made(transport)
        self._shared.connected(self._served)

    def fed(self) -> None:
        """Write; perhaps the client has made room for more."""
        self.flush()
        self._look_after()

    def pinged(self) -> None:
        """Write later; of a request that has begun nothing is to be written either."""
        super().pinged()
        self._look_after()

    def _look_after(self) -> None:
        served = self._served
        if served.full or served.arriving:
            served.look_after()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._served.full:
            asyncio.get_running_loop().call_soon(self._served.go_on)

    def _serve(self, _link: Link) -> "ServedConnection":
        self._served = ServedConnection(self, self._shared)
        return self._served


class _Arriving:
    """A call whose request has not come in full."""

    __slots__ = ("body", "call", "method", "reader")

    def __init__(self, method: Method, call: Call, reader: MessageReader) -> None:
        self.method = method
        self.call = call
        self.reader = reader
        self.body: bytes | None = None


class ServedConnection:
    """The owner of one `Link`.

    Attributes:
        arriving: requests that have not come in full, by stream.
        full: so much is made for the client that its requests wait.
    """

    def __init__(self, link: Link, shared: Shared) -> None:
        options = shared.options
        self._link = link
        self._core = link.core
        self._core.on_ping = self._pinged
        self._shared = shared
        self._table = shared.dispatcher.table
        self._start = shared.dispatcher.start
        self._max_receive_bytes = options.max_receive_bytes
        self._max_send_bytes = options.max_send_bytes
        self._pings = PingStrikes(options.min_ping_interval_ms / 1000)
        self.arriving: dict[int, _Arriving] = {}
        self.full = False
        self._waiting: dict[int, _Arriving] = {}
        self._kept = Kept(options.max_receive_bytes)
        self._sweeper: asyncio.TimerHandle | None = None
        self._standstill = Standstill()
        self._calls: dict[int, ServedCall] = {}
        self._leaving = False
        self._unflushed = 0
        self._data_frames = 0
        self._last_headers: list[tuple[str, str]] = []
        self._last_head: RequestHead | None = None

    # --- what the link tells ---

    def settled(self) -> None:
        """The client speaks HTTP/2."""

    def headers(self, stream: int, headers: list[tuple[str, str]], ended: bool) -> None:
        """A request begins, or ends with trailers, which mean nothing."""
        arriving = self.arriving.get(stream)
        if arriving is None:
            arriving = self._begin(stream, headers)
        if ended and arriving is not None:
            self._complete(stream, arriving)

    def data(self, stream: int, data: bytes, ended: bool) -> None:
        """A piece of a request, unless the call was refused already."""
        arriving = self.arriving.get(stream)
        if arriving is None:
            return
        try:
            for body in arriving.reader.feed(data):
                if arriving.body is not None:
                    self._refuse(stream, RpcCode.INTERNAL, "more than one message")
                    return
                arriving.body = body
        except MessageError as error:
            self._refuse(stream, RpcCode(error.code), error.message)
            return
        if ended:
            self._complete(stream, arriving)
        elif not self._kept.add(stream, len(data)):
            self._refuse(stream, RpcCode.RESOURCE_EXHAUSTED, "too many requests are on their way")

    def reset(self, stream: int, _code: int) -> None:
        """The client gives a call up."""
        self._forget(stream)
        call = self._calls.pop(stream, None)
        if call is not None:
            call.give_up()
        if self._leaving:
            self.close_if_idle()

    def pong(self, payload: bytes) -> None:
        """An answer to a ping; the link sees to those."""

    def goaway(self, last_stream: int, code: int, text: bytes) -> None:
        """The client begins no more calls; those that it has begun are answered."""

    def lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        if error is not None and not isinstance(error, (OSError, Http2Error)):
            log.error("unexpected error in a connection", peer=self._link.peername, exc_info=error)
        if isinstance(error, Http2Error) and self._link.alpn not in (None, H2):
            self._shared.not_http2(self._link, error)
        self._leaving = True
        self.arriving.clear()
        self._waiting.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.give_up()
        self._shared.disconnected(self)

    # --- a call ---

    def _begin(self, stream: int, headers: list[tuple[str, str]]) -> _Arriving | None:
        """A call whose request is still to come; None if it was refused."""
        if self._link.lost:  # closed within the piece of input that brought this
            return None
        try:
            head = self._read_head(headers)
        except NotAnswerable as bad:
            self._refuse(stream, bad.code, bad.message, http_status=bad.http_status)
            return None
        method = self._table.get(head.path)
        if method is None:
            self._refuse(stream, RpcCode.UNIMPLEMENTED, f"unknown method {head.path}")
            return None
        reader = MessageReader(self._max_receive_bytes, head.encoding)
        deadline = None if head.timeout_s is None else boottime() + head.timeout_s
        call = Call(head.path, head.metadata, deadline, self._link.peername)
        arriving = self.arriving[stream] = _Arriving(method, call, reader)
        return arriving

    def _read_head(self, headers: list[tuple[str, str]]) -> RequestHead:
        """Equal blocks of headers come as one and the same list, and many clients say the same every time."""
        if headers is not self._last_headers or self._last_head is None:
            self._last_head = read_head(headers)
            self._last_headers = headers
        return self._last_head

    def _complete(self, stream: int, arriving: _Arriving) -> None:
        """The request is there: answer it, or begin to, or let it wait."""
        del self.arriving[stream]
        if self._kept.total:
            self._kept.drop(stream)
        if self._link.lost:
            return  # sent away within this very piece of input: nobody would learn what came of it
        body = arriving.body
        if body is None or arriving.reader.partial:
            what = "within a message" if arriving.reader.partial else "without a message"
            self._fail(stream, RpcCode.INTERNAL, f"the request ended {what}")
            return
        if self.full:
            self._wait(stream, arriving, len(body))
            return
        shared = self._shared
        if shared.one_too_many():
            self._fail(stream, RpcCode.RESOURCE_EXHAUSTED, "too many calls are under way")
            return
        call = arriving.call
        try:
            answer = self._start(arriving.method, body, call)
        except RpcFailure as failure:
            self._fail(stream, failure.code, str(failure))
        except Exception:
            log.exception("unexpected error in the RPC chain", method=call.method)
            self._fail(stream, RpcCode.UNKNOWN, f"unexpected error in {call.method}")
        else:
            if isinstance(answer, bytes):
                self._answer(stream, answer)
            else:
                self._calls[stream] = ServedCall(self, stream, call, answer, shared.under_way)

    # --- requests that are kept ---

    def _wait(self, stream: int, arriving: _Arriving, size: int) -> None:
        if self._kept.add(stream, size):
            self._waiting[stream] = arriving
        else:
            self._fail(stream, RpcCode.RESOURCE_EXHAUSTED, "too many requests wait for answers to be read")

    def _forget(self, stream: int) -> None:
        self.arriving.pop(stream, None)
        self._waiting.pop(stream, None)
        self._kept.drop(stream)

    def look_after(self) -> None:
        """See to the requests that are kept, now and as time passes."""
        if self.full:
            self.go_on()
        if self._sweeper is None and not self._link.lost:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def go_on(self) -> None:
        """Answer what waits, as far as there is room."""
        if self._untaken > _UNSENT_LIMIT:
            return
        self.full = False
        while self._waiting and not self.full and not self._link.lost:
            stream = next(iter(self._waiting))
            arriving = self.arriving[stream] = self._waiting.pop(stream)
            self._complete(stream, arriving)
        self._link.flush()

    @property
    def _untaken(self) -> int:
        """Bytes of answers that are here and not with the client."""
        return self._core.unsent + self._link.unwritten

    def _sweep(self) -> None:
        self._sweeper = None
        now = boottime()
        kept = [*self.arriving.items(), *self._waiting.items()]
        for stream in self._kept.overdue(now, ((number, one.call.deadline) for number, one in kept)):
            self._refuse(stream, RpcCode.DEADLINE_EXCEEDED, "the time was over before the call could begin")
        taken = (self._core.data_frames, self._link.unwritten) if self.full else None
        if self._standstill.seconds(taken, now) >= _STALLED_S:
            self._send_away(b"answers are not read")
            if self._link.unwritten:  # nor will that be read, and the answers before it need memory
                self._link.abort()
            return
        if self.full or self.arriving:
            self.look_after()
        self._told()

    # --- what calls under way tell ---

    def answer(self, stream: int, body: bytes) -> None:
        """See `Caller`."""
        del self._calls[stream]
        self._answer(stream, body)
        self._told()

    def fail(self, stream: int, code: RpcCode, text: str) -> None:
        """See `Caller`."""
        del self._calls[stream]
        self._fail(stream, code, text)
        self._told()

    def _told(self) -> None:
        if self._leaving:
            self.close_if_idle()
        self._link.flush_soon()

    # --- answers ---

    def _answer(self, stream: int, body: bytes) -> None:
        size, limit = len(body), self._max_send_bytes
        if size > limit:
            text = f"the answer has {size} bytes, the limit is {limit}"
            self._fail(stream, RpcCode.RESOURCE_EXHAUSTED, text)
            return
        if self.full and size > _SMALL_ANSWER_BYTES and self._untaken + size > limit + _UNSENT_LIMIT:
            self._fail(stream, RpcCode.RESOURCE_EXHAUSTED, "too many answers are not read")
            return
        core = self._core
        core.send_headers(stream, replies.HEADERS)
        core.send_last(stream, frame_message(body), replies.TRAILERS)
        self._pings.answered()
        if core.unsent > _UNSENT_LIMIT:
            self.full = True
        self._unflushed += size
        if self._unflushed > _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Write now, though more may be answered within this piece of input, and see whether it is read."""
        self._unflushed = 0
        self._link.flush()
        if self._link.unwritten > _UNSENT_LIMIT:
            self.full = True

    def _pinged(self) -> None:
        if self._core.data_frames != self._data_frames:
            # A large answer leaves piece by piece, as fast as the client takes it. Go's clients measure that
            # speed with a ping per piece.
            self._data_frames = self._core.data_frames
            self._pings.answered()
        if self._pings.one_too_many(boottime()):
            self._send_away(TOO_MANY_PINGS)

    def _send_away(self, why: bytes) -> None:
        self._core.goaway(ENHANCE_YOUR_CALM, why)
        self._link.finish()

    def _refuse(self, stream: int, code: RpcCode, text: str, *, http_status: int = 200) -> None:
        """Fail a call whose request may still be on its way; the core asks the client to stop that."""
        self._forget(stream)
        self._fail(stream, code, text, http_status=http_status)

    def _fail(self, stream: int, code: RpcCode, text: str, *, http_status: int = 200) -> None:
        self._core.send_headers(stream, replies.failure(code, text, http_status=http_status), end=True)
        self._pings.answered()

    # --- the end ---

    def leave(self) -> None:
        """Take no more calls; say so, and close once those under way are answered."""
        if not self._leaving:
            self._leaving = True
            self._core.goaway(NO_ERROR)
            self._link.flush_soon()
        self.close_if_idle()

    def close_if_idle(self) -> None:
        """Close if nothing is under way, in either direction."""
        if not self._core.streams:
            self._link.finish()

    def cut_off(self) -> None:
        """Fail what is under way, and close."""
        for stream in [*self.arriving, *self._waiting]:
            self._refuse(stream, RpcCode.UNAVAILABLE, _STOPPING)
        for call in list(self._calls.values()):
            call.cut_off(RpcCode.UNAVAILABLE, _STOPPING)
        self._link.finish()

    def abort(self) -> None:
        """Close at once, whatever has not been sent."""
        self._link.abort()
