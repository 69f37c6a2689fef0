"""What a connection knows of its streams: those that are open, and those that were given up."""

from collections import deque


class Stream:
    """One open stream.

    Attributes:
        window: bytes that the peer takes on this stream; may be negative after a change of its settings.
        queue: data that waits for the windows.
        trailers: header block that follows the queue and ends our side.
        ending: no more may be handed in: the last of it was sent or is in the queue.
        known: the peer knows of the stream.
        answered: the peer's (final) headers have arrived.
        peer_ended: the peer has sent its last frame.
        received: bytes that came and were not given back to the peer's window yet.
        held: they are not to be given back for now.
    """

    __slots__ = (
        "answered",
        "ending",
        "held",
        "known",
        "peer_ended",
        "queue",
        "received",
        "trailers",
        "window",
    )

    def __init__(self, window: int, *, from_peer: bool) -> None:
        self.window = window
        self.queue: deque[memoryview] | None = None
        self.trailers: bytes | None = None
        self.ending = False
        self.known = from_peer
        self.answered = from_peer
        self.peer_ended = False
        self.received = 0
        self.held = False


class GivenUp:
    """Streams that this side ended before the peer did: what is still under way for them is no error.

    Remembers `limit` of them; when there are more, every older stream counts as one of them.
    """

    __slots__ = ("_below", "_limit", "_numbers")

    def __init__(self, limit: int = 2048) -> None:
        self._limit = limit
        self._numbers: set[int] = set()
        self._below = 0

    def __contains__(self, number: int) -> bool:
        return number in self._numbers or number < self._below

    def add(self, number: int) -> None:
        """This side wants no more of it."""
        if len(self._numbers) >= self._limit:
            self._below = max(self._below, number, max(self._numbers) + 1)
            self._numbers.clear()
        self._numbers.add(number)

    def ended(self, number: int) -> None:
        """The peer has ended it too: nothing more may come."""
        self._numbers.discard(number)
