"""When the next heartbeat is due. Pure, no clock of its own.

One each interval while they are acknowledged. As soon as none was for a while, they follow each other
quickly, whether or not the ones before have been answered: an etcd that was away, or had no leader, may have
lost all that it was sent before, and service resumes with the first heartbeat that it commits.
"""

from dataclasses import dataclass

TROUBLE_INTERVAL_S = 0.05
LATE = 1.5
"""Intervals without an acknowledgement after which there is trouble: an answer may come late now and then."""


@dataclass(slots=True)
class Pace:
    """Of the heartbeats of one term. Times are seconds on CLOCK_BOOTTIME; `acked_at` is when the last
    acknowledgement arrived, at first when the term was won."""

    interval_s: float
    acked_at: float

    def acked(self, now: float) -> None:
        """A heartbeat was acknowledged."""
        self.acked_at = max(self.acked_at, now)

    def after_s(self, now: float) -> float:
        """How long after the heartbeat sent at `now` the next one is due, unless that one fails sooner."""
        if now - self.acked_at > LATE * self.interval_s:
            return min(TROUBLE_INTERVAL_S, self.interval_s)
        return self.interval_s
