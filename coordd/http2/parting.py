"""The end of a connection whose peer is to hear the last words.

To close a socket in which something is unread, or at which something arrives afterwards, resets the
connection, and what the peer has not received by then is lost, an answer perhaps. So our side ends first, and
what the peer still sends is read and dropped until it has closed its own.

Over TLS, asyncio can only end both sides at once: there the peer, which was told GOAWAY, closes by itself.
"""

import asyncio
from collections.abc import Callable
from typing import Final

LINGER_S: Final = 20.0
"""What was written last has so long to go out when the connection is closed: a peer may never read it."""
_PARTING_S: Final = 0.5
"""A peer that has received everything has so long to close. One that is there needs a round trip."""


class Parting(asyncio.Protocol):
    """Takes the place of a transport's protocol, which has written its last; `gone` is told of the end."""

    def __init__(self, transport: asyncio.Transport, gone: Callable[[Exception | None], None]) -> None:
        self._transport = transport
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + LINGER_S
        self._timer = self._loop.call_later(_PARTING_S, self._look)
        transport.set_protocol(self)
        try:
            if transport.can_write_eof():
                transport.write_eof()
            transport.resume_reading()
        except OSError:  # the peer has reset it, and the loop has not come to see that
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """It does not matter any more."""

    def eof_received(self) -> bool:
        """The peer has ended too: close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._timer.cancel()
        self._gone(exc)

    def _look(self) -> None:
        """Whether everything is out."""
        transport = self._transport
        if not transport.get_write_buffer_size():
            transport.close()
            self._timer = self._loop.call_later(_PARTING_S, transport.abort)
        elif self._loop.time() < self._end:
            self._timer = self._loop.call_later(_PARTING_S, self._look)
        else:
            transport.abort()
