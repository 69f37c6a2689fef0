"""The serve guard: how long an active replica may go on answering. Pure, no clock of its own.

An active replica may answer, or send anything outward, only before both of these moments:

* send time of its last acknowledged heartbeat + the serve guard;
* send time of its last acknowledged lease keepalive + the lease's TTL.

Both run from the moment *before* the request was sent, never from the answer: etcd may have acted on the
request at any moment in between, and an observer counts from when it saw the effect, which is later.

The guard does not promise that the replica still holds its epoch; it promises that nobody else may serve
yet. It assumes only a bound on the difference of clock *rates*, which the observers' margin covers. All
times are seconds on CLOCK_BOOTTIME of one machine.
"""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class ServeGuard:
    """Deadline arithmetic for one term.

    `serve_guard_s` is this replica's own promise, published in its heartbeat so that observers wait it out.
    """

    serve_guard_s: float
    _heartbeat_until: float = -math.inf
    _lease_until: float = -math.inf
    _closed: bool = False

    def heartbeat_acked(self, sent_at: float) -> None:
        """A heartbeat sent at `sent_at` was committed. Acks come in any order; the latest send counts."""
        self._heartbeat_until = max(self._heartbeat_until, sent_at + self.serve_guard_s)

    def keepalive_acked(self, sent_at: float, ttl_s: float) -> None:
        """A lease keepalive sent at `sent_at` was answered with `ttl_s` left."""
        self._lease_until = max(self._lease_until, sent_at + ttl_s)

    def close(self) -> None:
        """The term is over: never valid again, whatever acknowledgement still arrives."""
        self._closed = True

    def valid(self, now: float) -> bool:
        """Whether an answer may leave at `now`."""
        return not self._closed and now < self._heartbeat_until and now < self._lease_until

    def remaining_s(self, now: float) -> float:
        """Seconds until the guard passes; 0 if it has, or before the first acknowledgement."""
        if self._closed:
            return 0.0
        return max(0.0, min(self._heartbeat_until, self._lease_until) - now)
