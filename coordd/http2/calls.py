"""The calls of one connection: which are under way, which wait for room, and what each is told. No I/O.

A call waits when the peer takes no more streams at once (SETTINGS_MAX_CONCURRENT_STREAMS), or when the socket
does not take what was written before; otherwise a peer that hangs would be written to without bound. Of a
call that waits nothing has been sent.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from coordd.http2.connection import Http2Connection, StreamsExhausted
from coordd.http2.exchange import Exchange, Headers
from coordd.http2.frames import CANCEL, NO_ERROR
from coordd.http2.outcome import after_sending, not_sent, of_reset
from coordd.http2.status import UNAVAILABLE

_LARGE: Final = 1 << 16
"""A request of more bytes is written at once: only then is it known whether the socket takes another one."""


class Calls:
    """The owner of a client's link (`coordd.http2.link.LinkOwner`).

    Args:
        core: the connection.
        write, write_now: have what the core has to say written soon, or now.
        changed: told when the peer has settled, when room may have come, when no call may begin any more, and
            when the last call has ended.

    Attributes:
        ready: the peer's first SETTINGS have arrived.
        blocked: the socket takes nothing more for now.
        refusal: why no call may begin any more; None while calls may.
        lost_by: why nothing will arrive any more; None while something may.
        gone: the connection is no more.
        error: what has ended it, if it was an error.
        write: have what the core has to say written soon.
    """

    def __init__(
        self,
        core: Http2Connection,
        write: Callable[[], None],
        write_now: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self.write = write
        self.ready = False
        self.refusal: str | None = None
        self.lost_by: str | None = None
        self.blocked = False
        self.gone = False
        self.error: Exception | None = None
        self._core = core
        self._write_now = write_now
        self._changed = changed
        self._begun: dict[int, Exchange] = {}
        self._waiting: OrderedDict[Exchange, None] = OrderedDict()

    def __len__(self) -> int:
        """How many there are, those that wait included."""
        return len(self._begun) + len(self._waiting)

    def enter(self, call: Exchange) -> None:
        """Begin a call, now or when there is room.

        Raises:
            CallFailed: no call may begin any more.
        """
        if self.refusal is not None:
            raise not_sent(UNAVAILABLE, self.refusal)
        if self._waiting or not self._has_room():
            self._waiting[call] = None
            self._begin_waiting()
        else:
            self._begin(call)

    def leave(self, call: Exchange) -> None:
        """Nobody wants the answer any more: the peer is told, if it knows of the call; the call is not."""
        if self._begun.pop(call.stream, None) is not None:
            self._core.reset_stream(call.stream, CANCEL)
            self.write()
            self._room_may_have_come()
        elif call in self._waiting:
            del self._waiting[call]
            self._room_may_have_come()

    def refuse(self, reason: str) -> None:
        """Begin no more calls. Those that wait fail: their turn will not come. Those under way go on."""
        waiting, self._waiting = self._waiting, OrderedDict()
        for call in waiting:
            call.finish(not_sent(UNAVAILABLE, reason))
        if self.refusal is None:
            self.refusal = reason
        self._changed()

    # --- told by the connection ---

    def headers(self, stream: int, headers: Headers, ended: bool) -> None:
        """Headers or trailers of an answer."""
        call = self._begun.get(stream)
        if call is not None:
            call.headers(headers, ended=ended)
            if call.over:
                self._over(call, by_peer=ended)

    def data(self, stream: int, data: bytes, ended: bool) -> None:
        """Part of an answer's messages."""
        call = self._begun.get(stream)
        if call is not None:
            call.data(data, ended=ended)
            if call.over:
                self._over(call, by_peer=ended)

    def reset(self, stream: int, code: int) -> None:
        """A stream was reset by the peer, or has broken a rule."""
        call = self._begun.pop(stream, None)
        if call is not None:
            call.finish(of_reset(code))
            self._room_may_have_come()

    def goaway(self, last_stream: int, code: int, text: bytes) -> None:
        """The peer takes no more calls. Those on streams above `last_stream` are reset right after this."""
        reason = "the peer is going away"
        if code != NO_ERROR:
            reason += f" with HTTP/2 error {code:#x} {text[:200].decode('utf-8', 'replace')}".rstrip()
        self.refuse(reason)

    def pong(self, payload: bytes) -> None:
        """Pings are the link's."""

    def settled(self) -> None:
        """The peer's SETTINGS have arrived."""
        self.ready = True
        self._room_may_have_come()

    def block(self, *, blocked: bool) -> None:
        """Whether the socket takes nothing more for now."""
        self.blocked = blocked
        if not blocked:
            for call in self._begun.values():
                call.resume(self._core)
            self.write()
        self._room_may_have_come()

    def lost(self, error: Exception | None) -> None:
        """The connection is no more; nothing will arrive."""
        self.gone = True
        self.error = error
        reason = (
            f"the connection was lost: {error}" if error is not None else "the peer closed the connection"
        )
        self.end(reason)

    def end(self, reason: str) -> None:
        """Fail all calls. What they have sent may be carried out."""
        if self.lost_by is None:
            self.lost_by = reason
        begun, self._begun = self._begun, {}
        for call in begun.values():
            call.finish(after_sending(UNAVAILABLE, reason))
        self.refuse(reason)

    # --- room ---

    def _over(self, call: Exchange, *, by_peer: bool) -> None:
        """An answer is complete, or of no use any more, in which case the peer need not go on with it."""
        if self._begun.pop(call.stream, None) is None:
            return
        if not by_peer:
            self._core.reset_stream(call.stream, CANCEL)
            self.write()
        if self._waiting or self.refusal is not None:
            self._room_may_have_come()

    def _room_may_have_come(self) -> None:
        self._begin_waiting()
        self._changed()

    def _has_room(self) -> bool:
        return self.ready and not self.blocked and len(self._begun) < self._core.peer_max_streams

    def _begin_waiting(self) -> None:
        while self._waiting and self._has_room():
            call, _ = self._waiting.popitem(last=False)
            self._begin(call)

    def _begin(self, call: Exchange) -> None:
        try:
            call.stream = self._core.new_stream()
        except StreamsExhausted:
            reason = "the connection has no streams left"
            call.finish(not_sent(UNAVAILABLE, reason))
            self.refuse(reason)
            return
        self._begun[call.stream] = call
        if call.on_begin is not None:
            call.on_begin()
        if call.begin(self._core) > _LARGE:
            self._write_now()
        else:
            self.write()
