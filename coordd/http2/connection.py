"""One HTTP/2 connection as a pure machine: bytes in, calls of the owner; orders in, bytes out.

It keeps the rules of RFC 9113, both sides' windows, and header compression. It knows nothing of gRPC, does no
I/O and reads no clock. Whoever has a clock calls `calm()` now and then: between two calls a peer may send
only so many frames that cost work and bring nothing (`flood_limit`). And `tick()`, more often, which tells a
client that gives up what takes too long from one that begins streams only to reset them: the first may have
many deadlines pass at once, the second has a server work for nothing, whatever `max_streams` says.

Received data is handed to the owner at once, so it is given back to the peer's windows at once as well. How
much of it is kept is the owner's business, how much the peer may have in flight is `window`. An owner that
keeps too much of one stream can let the window of that stream run dry (`hold_window`).

How a stream ends:
- A server's stream ends with our END_STREAM. If the request has not ended by then, the rest of it is not
  wanted: RST_STREAM with NO_ERROR follows (RFC 9113, section 8.1).
- A client's stream ends with the peer's END_STREAM, with the same RST_STREAM if our side was still open.
- Either may end by `reset_stream`, by the peer's RST_STREAM, or by an error of the peer.
Orders for a stream that has ended do nothing: its owner need not know yet.
"""

from collections.abc import Callable
from typing import Final

from coordd.http2 import frames
from coordd.http2.hpack import Decoder, HeadersRefused, HpackError
from coordd.http2.owner import Field, Http2Error, Owner, Side, StreamsExhausted
from coordd.http2.reading import FrameReader
from coordd.http2.sending import MAX_SENT_FRAME_BYTES, Sender
from coordd.http2.streams import GivenUp, Stream

_CONNECTION_WINDOW: Final = 64 << 20
"""What may be in flight on all streams of a connection together, at least."""
_BLOCK_FACTOR: Final = 4
"""A header block is read up to so many times the size that its fields may have: fields that are too large
are an error of the stream, a block that is too large is one of the connection."""
_CALM_PER_FRAME: Final = 2
"""What is forgiven for each piece of data that we send: a Go peer answers data with PINGs, to find out how
much fits into the line. And for each stream that ends without: a client's reset may have crossed that."""
_STREAMS_PER_NUISANCE: Final = 64
"""A change of all streams' windows counts as one nuisance for so many streams that are open."""
_UNLIMITED: Final = (1 << 32) - 1

__all__ = ["Http2Connection", "Http2Error", "Owner", "Side", "StreamsExhausted"]


class Http2Connection(FrameReader):
    """One end of a connection.

    Args:
        owner: None if it is set later, before anything is fed.
        window: bytes of data that may be in flight to us per stream.
        max_streams: how many streams a client may have open with us, others are refused; None = any number.
        max_header_bytes: size of the headers of one message, counted as in SETTINGS_MAX_HEADER_LIST_SIZE.
        flood_limit: PINGs, SETTINGS, hasty resets, empty and unknown frames between two `calm()`.

    Attributes:
        going_away: we have said GOAWAY.
        peer_going_away: the peer has.
        broken: `feed()` has raised; what else comes is ignored.
        peer_max_streams: how many streams the peer allows us.
        on_ping: is called for each PING of the peer, as the owner is, if somebody counts them.
    """

    owner: Owner

    __slots__ = (
        "_accepted_up_to",
        "_allowed",
        "_calm_limit",
        "_connection_window",
        "_decoder",
        "_given_up",
        "_last_ours",
        "_last_theirs",
        "_max_header_bytes",
        "_max_streams",
        "_nuisance",
        "_old_up_to",
        "_received",
        "_sender",
        "_server",
        "_streams",
        "_window",
        "_young_up_to",
        "broken",
        "going_away",
        "on_ping",
        "owner",
        "peer_going_away",
        "peer_max_streams",
    )

    def __init__(
        self,
        side: Side,
        owner: Owner | None,
        *,
        window: int = 4 << 20,
        max_streams: int | None = None,
        max_header_bytes: int = 16 << 10,
        flood_limit: int = 10_000,
    ) -> None:
        self._server = side is Side.SERVER
        super().__init__(frames.PREFACE if self._server else b"", _BLOCK_FACTOR * max_header_bytes)
        if owner is not None:
            self.owner = owner
        self._window = window
        self._connection_window = max(_CONNECTION_WINDOW, window)
        self._allowed = max(window, frames.DEFAULT_WINDOW)
        self._max_streams = max_streams
        self._max_header_bytes = max_header_bytes
        self._decoder = Decoder(max_header_bytes=max_header_bytes)
        self._sender = Sender()
        self._streams: dict[int, Stream] = {}
        self._given_up = GivenUp()
        self._last_ours = -1
        self._last_theirs = 0
        self._accepted_up_to = frames.MAX_STREAM
        self._received = 0
        self._nuisance = 0
        self._old_up_to = self._young_up_to = 0
        self._calm_limit = flood_limit
        self.peer_max_streams = _UNLIMITED
        self.on_ping: Callable[[], None] | None = None
        self.going_away = self.peer_going_away = self.broken = False

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    @property
    def data_frames(self) -> int:
        """How many frames of data have been sent."""
        return self._sender.data_frames

    @property
    def unsent(self) -> int:
        """Bytes of data that wait for the peer's windows."""
        return self._sender.unsent

    @property
    def only_pongs(self) -> bool:
        """Whether the output is answers to PINGs and nothing else. They can wait a little for company."""
        sender = self._sender
        return bool(sender.pongs) and not sender.output

    def start(self) -> None:
        """Say what comes first; once, before anything else."""
        values = {
            frames.INITIAL_WINDOW_SIZE: self._window,
            frames.MAX_HEADER_LIST_SIZE: self._max_header_bytes,
        }
        if not self._server:
            self._sender.output.append(frames.PREFACE)
            values[frames.ENABLE_PUSH] = 0
        elif self._max_streams is not None:
            values[frames.MAX_CONCURRENT_STREAMS] = self._max_streams
        more = self._connection_window - frames.DEFAULT_WINDOW
        self._sender.output += (frames.settings(values), frames.window_update(0, more))

    def calm(self) -> None:
        """Some time has passed (seconds): what a peer did before is forgiven."""
        self._nuisance = 0

    def tick(self) -> None:
        """Some time has passed (a fraction of a second): to reset a stream that was open a tick ago is not
        hasty. One that is open now may have come this very moment."""
        self._old_up_to, self._young_up_to = self._young_up_to, self._last_theirs

    # Orders.

    def new_stream(self) -> int:
        """The number of a new stream of a client. Its headers must be sent before those of the next one.

        Raises:
            StreamsExhausted: a new connection is needed.
        """
        number = self._last_ours + 2
        if number > frames.MAX_STREAM:
            raise StreamsExhausted("all streams of this connection are used up")
        self._last_ours = number
        self._streams[number] = Stream(self._sender.initial_window, from_peer=False)
        return number

    def send_headers(self, stream: int, block: bytes, *, end: bool = False) -> None:
        """Headers; `end`: and nothing after them. `block` is made by `hpack.encode`."""
        state = self._streams.get(stream)
        if state is None or state.ending:
            return
        state.known = True
        if state.queue:
            state.ending = end
            state.trailers = block
            return
        self._sender.headers(stream, block, end=end)
        if end:
            self._forgive()
            self._our_end(stream, state)

    def send_data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Data, as the peer's windows allow; the rest follows when they do. `end`: nothing after it."""
        self._send(stream, data, end=end, trailers=None)

    def send_last(self, stream: int, data: bytes, trailers: bytes) -> None:
        """Data, if there is any, then trailers, with which our side ends."""
        self._send(stream, data, end=False, trailers=trailers)

    def reset_stream(self, stream: int, code: int) -> None:
        """End the stream at once, both ways; what is queued for it is dropped."""
        state = self._streams.get(stream)
        if state is not None:
            self.forget(stream)
            if state.known:
                self._sender.output.append(frames.rst_stream(stream, code))

    def forget(self, stream: int) -> None:
        """Hear no more of the stream, without a word to the peer. What still comes for it is ignored."""
        state = self._streams.pop(stream, None)
        if state is not None:
            self._sender.drop(stream, state)
            if not state.peer_ended:
                self._given_up.add(stream)

    def hold_window(self, stream: int) -> None:
        """Let the peer send what the stream's window has room for, and no more until `open_window`."""
        state = self._streams.get(stream)
        if state is not None:
            state.held = True

    def open_window(self, stream: int) -> None:
        """Give the stream's window back to the peer again, beginning with what came meanwhile."""
        state = self._streams.get(stream)
        if state is not None and state.held:
            state.held = False
            if 2 * state.received >= self._window:
                self._give_back(stream, state, ended=state.peer_ended)

    def ping(self, payload: bytes) -> None:
        """PING with eight bytes, which come back as `pong`."""
        self._sender.output.append(frames.frame(frames.PING, 0, 0, payload))

    def goaway(self, code: int, text: bytes = b"", last_stream: int | None = None) -> None:
        """Take no streams of the peer above `last_stream`; None: none but those that have come.

        May be said again, with a smaller `last_stream`.
        """
        last = self._last_theirs if last_stream is None else last_stream
        self._accepted_up_to = min(self._accepted_up_to, last)
        self.going_away = True
        self._sender.output.append(frames.goaway(self._accepted_up_to, code, text))

    def take(self) -> bytes:
        """The output so far; b"" if there is none."""
        return self._sender.take()

    def feed(self, data: bytes) -> None:
        """Take what the peer has sent, in pieces of any size.

        Raises:
            Http2Error: the connection is broken. The output ends with a GOAWAY: write it, then close.
        """
        if self.broken:
            return
        try:
            self._parse(data)
        except Http2Error as error:
            self.broken = True
            last = min(self._last_theirs, self._accepted_up_to)
            self._sender.output.append(frames.goaway(last, error.code, error.text.encode()))
            raise

    # Frames.

    def _on_data(self, number: int, size: int, payload: bytes, *, ended: bool) -> None:
        self._received += size
        if 2 * self._received >= self._connection_window:
            self._sender.output.append(frames.window_update(0, self._received))
            self._received = 0
        stream = self._streams.get(number)
        if stream is None:
            self._on_stray(number, ended=ended)
            return
        if stream.peer_ended or not stream.answered:
            self._fail(number, frames.STREAM_CLOSED if stream.peer_ended else frames.PROTOCOL_ERROR)
            return
        stream.received += size
        if 2 * stream.received >= self._window and not self._give_back(number, stream, ended=ended):
            return
        if ended:
            self._their_end(number, stream)
        elif not size:
            self._bother()
        self.owner.data(number, payload, ended)

    def _give_back(self, number: int, stream: Stream, *, ended: bool) -> bool:
        """Open the stream's window again, if anything may come. Returns whether the peer has kept to it."""
        size = stream.received
        if size > self._allowed:
            self._fail(number, frames.FLOW_CONTROL_ERROR)
            return False
        if size and not ended and not stream.held:
            stream.received = 0
            self._sender.output.append(frames.window_update(number, size))
        return True

    def _on_block(self, number: int, block: bytes, *, ended: bool) -> None:
        """A whole header block: of a new stream of a client, or the headers or trailers of a known one."""
        headers: list[Field] | None = None
        refusal = frames.NO_ERROR
        try:
            headers = self._decoder.decode(block)
        except HpackError as error:
            raise Http2Error(frames.COMPRESSION_ERROR, str(error)) from error
        except HeadersRefused as error:
            refusal = frames.ENHANCE_YOUR_CALM if error.too_large else frames.PROTOCOL_ERROR
        stream = self._streams.get(number)
        if stream is None:
            if not self._is_new(number):
                self._on_stray(number, ended=ended)
                return
            stream = self._accept(number, refusal, ended=ended)
            if stream is None or headers is None:
                return
        elif headers is None or stream.peer_ended:
            self._fail(number, refusal or frames.STREAM_CLOSED)
            return
        elif not ended:
            if not self._server and not stream.answered and _informational(headers):
                return
            if stream.answered:
                self._fail(number, frames.PROTOCOL_ERROR)
                return
        stream.answered = True
        if ended:
            self._their_end(number, stream)
        self.owner.headers(number, headers, ended)

    def _is_new(self, number: int) -> bool:
        """Whether a client begins a stream by this number."""
        return self._server and number > self._last_theirs and number & 1 == 1

    def _accept(self, number: int, refusal: int, *, ended: bool) -> Stream | None:
        """A new stream of a client; None if it is refused."""
        self._last_theirs = number
        too_many = self._max_streams is not None and len(self._streams) >= self._max_streams
        if too_many or number > self._accepted_up_to:
            refusal = frames.REFUSED_STREAM
        if refusal:
            self._bother()
            self._sender.output.append(frames.rst_stream(number, refusal))
            if not ended:
                self._given_up.add(number)
            return None
        stream = self._streams[number] = Stream(self._sender.initial_window, from_peer=True)
        return stream

    def _on_other(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        match kind:
            case frames.WINDOW_UPDATE:
                self._on_window_update(number, payload)
            case frames.PING:
                self._on_ping(number, flags, payload)
            case frames.RST_STREAM:
                self._on_rst(number, payload)
            case frames.SETTINGS:
                self._on_settings(number, flags, payload)
            case frames.GOAWAY:
                self._on_goaway(number, payload)
            case frames.PUSH_PROMISE:
                raise Http2Error(frames.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody asked for")
            case frames.PRIORITY:
                _check_size(kind, payload, 5)
                _check_stream(kind, number, of_connection=False)
                self._bother()
            case _:
                self._bother()

    def _on_window_update(self, number: int, payload: bytes) -> None:
        _check_size(frames.WINDOW_UPDATE, payload, 4)
        more = frames.WORD.unpack(payload)[0] & frames.MAX_WINDOW
        sender = self._sender
        if not number:
            sender.window += more
            if not more or sender.window > frames.MAX_WINDOW:
                raise Http2Error(
                    frames.FLOW_CONTROL_ERROR if more else frames.PROTOCOL_ERROR,
                    "WINDOW_UPDATE by nothing, or by too much",
                )
            self._our_ends(sender.release_all())
            return
        stream = self._streams.get(number)
        if stream is None:
            self._check_not_idle(number, frames.WINDOW_UPDATE)
            return
        stream.window += more
        if not more or stream.window > frames.MAX_WINDOW:
            self._fail(number, frames.FLOW_CONTROL_ERROR if more else frames.PROTOCOL_ERROR)
        elif stream.queue and sender.release(number, stream):
            self._our_end(number, stream)

    def _on_ping(self, number: int, flags: int, payload: bytes) -> None:
        _check_size(frames.PING, payload, 8)
        _check_stream(frames.PING, number, of_connection=True)
        self._bother()
        if flags & frames.ACK:
            self.owner.pong(payload)
        else:
            self._sender.pongs.append(frames.frame(frames.PING, frames.ACK, 0, payload))
            if self.on_ping is not None:
                self.on_ping()

    def _on_rst(self, number: int, payload: bytes) -> None:
        _check_size(frames.RST_STREAM, payload, 4)
        _check_stream(frames.RST_STREAM, number, of_connection=False)
        self._check_not_idle(number, frames.RST_STREAM)
        self._given_up.ended(number)
        stream = self._streams.pop(number, None)
        if stream is None or (self._server and number > self._old_up_to):
            self._bother()
        if stream is not None:
            self._sender.drop(number, stream)
            self.owner.reset(number, frames.WORD.unpack(payload)[0])

    def _on_goaway(self, number: int, payload: bytes) -> None:
        if len(payload) < 8:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "GOAWAY too short")
        _check_stream(frames.GOAWAY, number, of_connection=True)
        self._bother()
        last, code = frames.TWO_WORDS.unpack_from(payload)
        last &= frames.MAX_STREAM
        self.peer_going_away = True
        self.owner.goaway(last, code, payload[8:])
        if not self._server:
            for lost in [stream for stream in self._streams if stream > last]:
                self._end_by_peer(lost, frames.REFUSED_STREAM)

    def _on_settings(self, number: int, flags: int, payload: bytes) -> None:
        _check_stream(frames.SETTINGS, number, of_connection=True)
        first = self._only is not None
        if flags & frames.ACK:
            if payload or first:
                raise Http2Error(
                    frames.FRAME_SIZE_ERROR if payload else frames.PROTOCOL_ERROR, "a bad SETTINGS ACK"
                )
            self._bother()
            self._allowed = self._window
            return
        if len(payload) % frames.SETTING.size:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "SETTINGS of a broken size")
        self._only = None
        self._bother()
        values = list(frames.SETTING.iter_unpack(payload))
        for name, value in values:
            _check_setting(name, value, from_server=not self._server)
        for name, value in dict(values).items():  # of several for one name only the last one counts
            self._set(name, value)
        self._sender.output.append(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        self.owner.settled()

    def _set(self, name: int, value: int) -> None:
        """One setting of the peer. The size of its header table does not matter: `hpack.encode` uses none."""
        match name:
            case frames.INITIAL_WINDOW_SIZE:
                self._set_window(value)
            case frames.MAX_FRAME_SIZE:
                self._sender.max_frame_bytes = min(value, MAX_SENT_FRAME_BYTES)
            case frames.MAX_CONCURRENT_STREAMS:
                self.peer_max_streams = value
            case _:
                pass

    def _set_window(self, size: int) -> None:
        """The window of each stream changes by as much as the initial one does."""
        more = size - self._sender.initial_window
        if not more:
            return
        self._bother(1 + len(self._streams) // _STREAMS_PER_NUISANCE)
        self._sender.initial_window = size
        for number, stream in list(self._streams.items()):
            stream.window += more
            if stream.window > frames.MAX_WINDOW:
                raise Http2Error(frames.FLOW_CONTROL_ERROR, f"an initial window of {size} bytes is too much")
            if stream.queue and self._sender.release(number, stream):
                self._our_end(number, stream)

    # Streams.

    def _send(self, number: int, data: bytes, *, end: bool, trailers: bytes | None) -> None:
        stream = self._streams.get(number)
        if stream is None or stream.ending:
            return
        if self._nuisance:
            self._forgive()
        if self._sender.data(number, stream, data, end=end, trailers=trailers):
            self._our_end(number, stream)

    def _our_ends(self, numbers: list[int]) -> None:
        for number in numbers:
            self._our_end(number, self._streams[number])

    def _our_end(self, number: int, stream: Stream) -> None:
        """END_STREAM is in the output."""
        stream.ending = True
        if self._server:
            del self._streams[number]
            if not stream.peer_ended:
                self._given_up.add(number)
                self._sender.output.append(frames.rst_stream(number, frames.NO_ERROR))

    def _their_end(self, number: int, stream: Stream) -> None:
        """END_STREAM has come."""
        stream.peer_ended = True
        if not self._server:
            del self._streams[number]
            if not stream.ending or stream.queue:
                self._sender.drop(number, stream)
                self._sender.output.append(frames.rst_stream(number, frames.NO_ERROR))

    def _fail(self, number: int, code: int) -> None:
        """The peer broke a rule on an open stream: reset it."""
        self._bother()
        self._sender.output.append(frames.rst_stream(number, code))
        self._end_by_peer(number, code)

    def _end_by_peer(self, number: int, code: int) -> None:
        """A stream ends through the peer, and the owner is told; nothing if it ended meanwhile."""
        if number in self._streams:
            self.forget(number)
            self.owner.reset(number, code)

    def _on_stray(self, number: int, *, ended: bool) -> None:
        """HEADERS or DATA for a stream that is not open: no error if we gave it up."""
        self._check_not_idle(number, frames.DATA)
        if number not in self._given_up:
            raise Http2Error(frames.STREAM_CLOSED, f"stream {number} goes on after its end")
        self._bother()
        if ended:
            self._given_up.ended(number)

    def _check_not_idle(self, number: int, kind: int) -> None:
        last = self._last_ours if (number & 1 == 0) == self._server else self._last_theirs
        if not number or number > last:
            raise Http2Error(
                frames.PROTOCOL_ERROR, f"frame type {kind} for stream {number}, which was never opened"
            )

    def _bother(self, count: int = 1) -> None:
        """Count a frame that costs work and brings nothing."""
        self._nuisance += count
        if self._nuisance > self._calm_limit:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "too many frames that bring nothing")

    def _forgive(self) -> None:
        self._nuisance = max(0, self._nuisance - _CALM_PER_FRAME)


def _check_setting(name: int, value: int, *, from_server: bool) -> None:
    """Whether a setting may have this value (RFC 9113, section 6.5.2)."""
    if name == frames.INITIAL_WINDOW_SIZE and value > frames.MAX_WINDOW:
        raise Http2Error(frames.FLOW_CONTROL_ERROR, f"an initial window of {value} bytes")
    if name == frames.MAX_FRAME_SIZE and not frames.MAX_FRAME_BYTES <= value < 1 << 24:
        raise Http2Error(frames.PROTOCOL_ERROR, f"frames of up to {value} bytes")
    if name == frames.ENABLE_PUSH and (value > 1 or (value and from_server)):
        raise Http2Error(frames.PROTOCOL_ERROR, f"ENABLE_PUSH of {value}")


def _informational(headers: list[Field]) -> bool:
    """Whether these are the headers of a 1xx answer, which the final ones follow."""
    return bool(headers) and headers[0][0] == ":status" and headers[0][1].startswith("1")


def _check_size(kind: int, payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise Http2Error(frames.FRAME_SIZE_ERROR, f"frame type {kind} of {len(payload)} bytes")


def _check_stream(kind: int, number: int, *, of_connection: bool) -> None:
    """Whether the frame is about the connection, stream 0, or about a stream."""
    if (number == 0) != of_connection:
        raise Http2Error(frames.PROTOCOL_ERROR, f"frame type {kind} on stream {number}")
