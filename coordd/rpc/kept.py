"""What a server keeps for one client, how much of it, and for how long. Pure.

Requests that cannot be answered yet are those that have not come in full, and those that have and wait,
because their client does not take the answers that were made for it before.
"""

from collections.abc import Iterable
from typing import Final

ARRIVAL_LIMIT_S: Final = 300.0
"""What a request without a deadline may take, of any size: half a GB at 2 MB/s."""
_SPARE_BYTES: Final = 64 << 20


class Kept:
    """Bytes by stream, up to the largest request and some more.

    Attributes:
        total: of all of them.
    """

    __slots__ = ("_limit", "_limits_by", "_sizes", "total")

    def __init__(self, max_request_bytes: int) -> None:
        self.total = 0
        self._limit = max_request_bytes + _SPARE_BYTES
        self._sizes: dict[int, int] = {}
        self._limits_by: dict[int, float] = {}

    def add(self, stream: int, size: int) -> bool:
        """So many bytes more are kept for a stream. False: they are not, there are too many."""
        if not size:
            return True
        if self.total + size > self._limit:
            return False
        self.total += size
        self._sizes[stream] = self._sizes.get(stream, 0) + size
        return True

    def drop(self, stream: int) -> None:
        """Nothing is kept for it any more."""
        self.total -= self._sizes.pop(stream, 0)

    def overdue(self, now: float, deadlines: Iterable[tuple[int, float | None]]) -> list[int]:
        """The streams whose time is over.

        `deadlines` are those of all streams of which something is awaited, in the seconds of `now`. A stream
        without one has `ARRIVAL_LIMIT_S` from when it is seen here first.
        """
        found: list[int] = []
        before, self._limits_by = self._limits_by, {}
        for stream, deadline in deadlines:
            limit = deadline
            if limit is None:
                limit = self._limits_by[stream] = before.get(stream, now + ARRIVAL_LIMIT_S)
            if limit <= now:
                found.append(stream)
        return found


class Standstill:
    """How long something has not changed that ought to."""

    __slots__ = ("_since", "_state")

    def __init__(self) -> None:
        self._state: object = None
        self._since = 0.0

    def seconds(self, state: object, now: float) -> float:
        """Since when it is as it is `now`; None is as it should be."""
        if state is None or state != self._state:
            self._state, self._since = state, now
        return now - self._since
