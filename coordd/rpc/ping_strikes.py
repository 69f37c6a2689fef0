"""How often a client may ping: the rule by which gRPC's servers end connections with `too_many_pings`. Pure.

Pings keep a connection alive and measure it; more often than agreed they are a nuisance. A ping that comes
too soon after the one before it is a strike, and the third strike is out. What the server sends in between
wipes the slate clean: clients ping to measure how fast an answer comes.

Source of truth: gRPC's A8 (client-side keepalive) and doc/keepalive.md.
"""

import math
from typing import Final

TOO_MANY_PINGS: Final = b"too_many_pings"
"""Debug text of the GOAWAY; Milvus' clients double their interval when they read it."""
_STRIKES_ALLOWED: Final = 2


class PingStrikes:
    """The pings of one client; `min_interval_s`: the agreed time between two of them."""

    __slots__ = ("_allowed_at", "_min_interval_s", "_strikes")

    def __init__(self, min_interval_s: float) -> None:
        self._min_interval_s = min_interval_s
        self._allowed_at = -math.inf
        self._strikes = 0

    def one_too_many(self, now: float) -> bool:
        """Count a ping that came `now` (seconds of any clock that goes forward); whether to end it all."""
        if now < self._allowed_at:
            self._strikes += 1
        self._allowed_at = now + self._min_interval_s
        return self._strikes > _STRIKES_ALLOWED

    def answered(self) -> None:
        """The server has sent headers or data."""
        self._strikes = 0
        self._allowed_at = -math.inf
