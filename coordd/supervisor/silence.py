"""How long a replica has been silent, counted so that a busy machine is not taken for a hang.

Pure: the times and what the kernel says of the process come in, seconds come out. Two rules make the count
differ from the clock:

- **The replica did not get a processor.** Time that its main thread spent ready to run, but waiting for a
  processor, is not counted: a loop that is starved catches up, and to kill it would only add to the load. A
  stopped, sleeping or spinning process does not wait, so its silence counts in full. (A process that spins
  on a crowded machine is therefore found later: after `timeout` of its own processor time.)
- **The observer did not get a processor**, or the whole machine stood still (a suspended VM): if a look comes
  much later than it was due, the count starts again from zero.

Not promised: that a replica that never gets a processor at all is ever found. systemd's watchdog, which is
fed by beats, and the other replicas, which see no heartbeat in etcd, do not wait for it.
"""

from typing import NamedTuple

LOOKS_PER_TIMEOUT = 4
LATE_SHARE = 0.25
"""A look this share of the time-out overdue says that the observer was held up."""
LEAST_STEP_SHARE = 0.05
"""Looks are never closer together than this share of the time-out."""


class Sample(NamedTuple):
    """The main thread of a process, as the kernel has it.

    `runnable`: it runs or waits for a processor. `ran_s`, `waited_s`: seconds spent so, since its start.
    """

    runnable: bool
    ran_s: float
    waited_s: float


class Silence:
    """The silence since the last beat. `now` is CLOCK_MONOTONIC, in seconds, and never goes back."""

    def __init__(self) -> None:
        self._since = 0.0
        self._looked_at = 0.0
        self._counted_s = 0.0
        self._sample: Sample | None = None
        self.due = 0.0
        """When to look next."""

    def broken(self, now: float, timeout_s: float) -> None:
        """A beat has come."""
        self._since = now
        self._restart(now, timeout_s)

    def look(self, now: float, sample: Sample | None, timeout_s: float) -> bool:
        """Whether the silence has lasted for `timeout_s`. `sample` is None if the kernel does not tell."""
        if now - self.due > LATE_SHARE * timeout_s:
            self._restart(now, timeout_s)
            return False
        self._counted_s += _counted(now - self._looked_at, self._sample, sample)
        self._sample = sample
        self._looked_at = now
        left = max(timeout_s - self._counted_s, LEAST_STEP_SHARE * timeout_s)
        self.due = now + min(left, timeout_s / LOOKS_PER_TIMEOUT)
        return self._counted_s >= timeout_s

    def lasted_s(self, now: float) -> float:
        """Seconds since the last beat by the clock."""
        return now - self._since

    def _restart(self, now: float, timeout_s: float) -> None:
        self._looked_at = now
        self._counted_s = 0.0
        self._sample = None
        self.due = now + timeout_s / LOOKS_PER_TIMEOUT


def _counted(passed_s: float, before: Sample | None, after: Sample | None) -> float:
    if before is None or after is None:
        return passed_s
    if after.runnable:
        # It may be waiting at this moment, which `waited_s` shows only once the wait is over.
        return min(passed_s, after.ran_s - before.ran_s)
    return max(0.0, passed_s - (after.waited_s - before.waited_s))
