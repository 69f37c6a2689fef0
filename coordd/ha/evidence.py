"""What proves that the process of an active replica is gone. Pure, no clock of its own.

On the same machine the kernel says so; see `same_machine` and `pid_was_reused`. From another machine it is
inferred: `ConnectionWitness` watches a TCP connection to the replica's port and, once that has ended, the
fresh connects that follow. Two refused ones in a row prove that nothing listens there any more (a replica
listens until it has given its leadership up, never less). Everything else proves nothing:

* no answer, no route, no address: the network may be at fault, or the machine just slow;
* a connect that is refused before any had succeeded: the address may be wrong, or translated on the way;
* a connection that ends while the next succeeds: gRPC servers end idle ones after two minutes.

A process that dies closes its sockets one after the other. So a connect may still succeed after the old
connection's end, into the backlog of a listener with an owner no more: for a moment a success counts for
nothing either.

What this does not promise: an intermediary that answers with RST in place of a live replica is believed.

All times are seconds on CLOCK_BOOTTIME of the observer.
"""

from dataclasses import dataclass
from typing import Literal

from coordd.ha.session import LocalIdentity, SessionRecord

RECHECK_S = 0.002
"""Between two refused connects, and before the first success after a connection's end is checked: a dying
process needs less to close what it had open."""
PROBATION_S = 0.1
"""For how long after a connection's end a success is checked again: a loaded machine may take its time."""
SETTLED_S = 1.0
"""A connection that lasted longer was one to a live listener; shorter ones that follow are retried slowly."""
RETRY_MIN_S = 0.1
RETRY_MAX_S = 1.0
"""Pauses between connects that prove nothing grow from one to the other."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A process is gone. `noticed_at`: the first sign of it came; `confirmed_at`: it was certain."""

    kind: Literal["life lock lost", "process exited", "connection refused"]
    noticed_at: float
    confirmed_at: float


@dataclass(frozen=True, slots=True)
class Connect:
    """Drop the connection if there is one, and try a new one after a pause."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the connection and watch it; `for_s` None = until it ends."""

    for_s: float | None


Step = Connect | Hold | Evidence


def same_machine(record: SessionRecord, us: LocalIdentity) -> bool:
    """Whether the record's pid means the same here: same host, boot and pid namespace, all of them known."""
    if record.safety is None:
        return False
    theirs = (record.host_name, record.safety.boot_id, record.safety.pid_namespace)
    return all(theirs) and theirs == (us.host_name, us.boot_id, us.pid_namespace)


def pid_was_reused(recorded_ticks: int, found_ticks: int) -> bool:
    """Whether the process found under a pid is another, later one. 0 = unknown, which decides nothing.

    An earlier start cannot be a reuse: it means that the two were read in different time namespaces.
    """
    return 0 < recorded_ticks < found_ticks


@dataclass(slots=True)
class ConnectionWitness:
    """One replica as seen by connecting to it. Feed what happened, do the step that comes back.

    Begin with `Connect(0.0)`. Once it has returned `Evidence` it must not be asked again.
    """

    _connected_at: float = 0.0
    _ended_at: float | None = None
    """The first sign: the end of the last connection that had lasted, else of the first one ever."""
    _check_after_s: float = RECHECK_S
    """How long the next success on probation is watched before another connect checks it."""
    _short_lived_pause_s: float = 0.0
    _retry_s: float = RETRY_MIN_S
    _refused: int = 0
    """Refused connects in a row."""

    def connected(self, now: float) -> Step:
        """A connect succeeded."""
        self._connected_at = now
        self._refused = 0
        self._retry_s = RETRY_MIN_S
        probation_s = self._probation_left_s(now)
        if probation_s <= 0:
            return Hold(None)
        watch_s, self._check_after_s = self._check_after_s, 2 * self._check_after_s
        return Hold(min(watch_s, probation_s))

    def lasted(self, now: float) -> Step:
        """The time of a `Hold` ran out and the connection is still there."""
        return Connect(0.0) if self._probation_left_s(now) > 0 else Hold(None)

    def ended(self, now: float) -> Step:
        """The connection ended: EOF, RST or no answer to keepalives."""
        if self._ended_at is None or now - self._connected_at >= SETTLED_S:
            self._ended_at = now
            self._check_after_s = RECHECK_S
            self._short_lived_pause_s = 0.0
            return Connect(0.0)
        self._short_lived_pause_s = min(max(2 * self._short_lived_pause_s, RECHECK_S), RETRY_MAX_S)
        return Connect(self._short_lived_pause_s)

    def refused(self, now: float) -> Step:
        """A connect was refused: RST in answer to SYN."""
        if self._ended_at is None:
            return self.failed()  # no connection yet: the address may be wrong
        self._refused += 1
        if self._refused == 1:
            return Connect(RECHECK_S)
        return Evidence("connection refused", noticed_at=self._ended_at, confirmed_at=now)

    def failed(self) -> Step:
        """A connect failed otherwise: time-out, no route, name not resolved."""
        self._refused = 0
        pause_s, self._retry_s = self._retry_s, min(2 * self._retry_s, RETRY_MAX_S)
        return Connect(pause_s)

    def _probation_left_s(self, now: float) -> float:
        return 0.0 if self._ended_at is None else self._ended_at + PROBATION_S - now
