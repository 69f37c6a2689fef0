"""What the parent does: a state machine without a clock or a system call of its own.

Events and the time go in, instructions come out; `parent` carries them out. Times are CLOCK_MONOTONIC in
seconds, which stands still while the machine is suspended, as the replica does.

    STARTING --first report--> WATCHED --no beat for the time-out--> KILLED --reaped--> RESTING --> STARTING
    WATCHED or STARTING --the loop has ended--> LEAVING --(EXIT_LIMIT_S)--> KILLED
    any --the replica has ended by itself, or is not to be started again--> OVER

A replica that ends by itself ends its parent in the same way: exit code for exit code, signal for signal, so
that whoever started it (systemd, a container engine, a shell) sees what it would see without a parent.
"""

import signal
from enum import Enum, auto
from typing import NamedTuple

from coordd.supervisor.report import Report
from coordd.supervisor.silence import Sample, Silence
from coordd.supervisor.systemd import Feeder, Words

EXIT_LIMIT_S = 10.0
"""What is left of a process after its event loop (other threads, the interpreter) takes milliseconds."""
START_LIMIT_S = 60.0
"""For this long a replica without a first beat counts as well for systemd's watchdog. It is not killed after
that, since it may wait for a disk, but systemd may do so."""
BACK_OFF_S = 0.5
MAX_BACK_OFF_S = 30.0
STEADY_AFTER_S = 60.0
"""A replica that ran for so long before it hung is started again at once."""
STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})


class Phase(Enum):
    """Where the replica is."""

    STARTING = auto()
    WATCHED = auto()
    LEAVING = auto()
    KILLED = auto()
    RESTING = auto()
    OVER = auto()


class Started(NamedTuple):
    """A replica has been forked."""

    pid: int


class Reported(NamedTuple):
    """A beat has come, and what it says."""

    report: Report


class LoopEnded(NamedTuple):
    """The replica has closed its end of the pipe."""


class Signalled(NamedTuple):
    """The parent got a signal that is meant for the replica."""

    number: int


class Ended(NamedTuple):
    """The replica has been reaped: its exit code, or minus the signal that killed it."""

    code: int


class Woke(NamedTuple):
    """`due` has come. `sample`: what the kernel says of the replica, None if it does not tell."""

    sample: Sample | None


class Start(NamedTuple):
    """Fork a replica; `hangs` is for it to know."""

    hangs: int


class Kill(NamedTuple):
    """SIGKILL to the replica."""

    pid: int


class Forward(NamedTuple):
    """A signal to the replica."""

    pid: int
    number: int


class Say(NamedTuple):
    """A message to systemd."""

    message: str


class Log(NamedTuple):
    """A warning in the log: a constant message and its facts."""

    message: str
    facts: tuple[tuple[str, int | float | bool], ...]
    json_lines: bool


class Exit(NamedTuple):
    """End with this exit code; if negative, by this signal."""

    code: int


Event = Started | Reported | LoopEnded | Signalled | Ended | Woke
Instruction = Start | Kill | Forward | Say | Log | Exit


class Supervision:
    """The life of one parent. Begin with `begin`, then `handle` every event; call again at `due`."""

    def __init__(self, feeder: Feeder) -> None:
        self.phase = Phase.RESTING
        self.pid = 0
        self.hangs = 0
        self._feeder = feeder
        self._words = Words()
        self._silence = Silence()
        self._report = Report(timeout_ms=0, enabled=False)
        self._back_off_s = 0.0
        self._started_at = 0.0
        self._limit = 0.0
        self._stopping = False

    @property
    def due(self) -> float | None:
        """When to send `Woke`, unless something else happens before; None: not at all."""
        mine: float | None = None
        if self.is_judging:
            mine = self._silence.due
        elif self.phase is Phase.RESTING or (self.phase is Phase.LEAVING and self._report.enabled):
            mine = self._limit
        times = [time for time in (mine, self._feed_due) if time is not None]
        return min(times) if times else None

    @property
    def is_judging(self) -> bool:
        """Whether `Woke` needs a sample."""
        return self.phase is Phase.WATCHED and self._report.enabled

    @property
    def _feed_due(self) -> float | None:
        """When to feed systemd's watchdog without a beat: while it is no wonder that none comes."""
        due = self._feeder.due
        match self.phase:
            case Phase.RESTING:
                return due
            case Phase.WATCHED if not self._report.enabled:
                return due
            case Phase.STARTING if due is not None and due < self._started_at + START_LIMIT_S:
                return due
            case _:
                return None

    def begin(self) -> list[Instruction]:
        """The first instructions."""
        return [Start(hangs=0)]

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """What to do about `event`, in this order. After `Exit` no more events are taken."""
        match event:
            case Started(pid):
                return self._start(pid, now)
            case Reported(report):
                return self._hear(report, now)
            case LoopEnded():
                if self.phase in (Phase.STARTING, Phase.WATCHED):
                    self.phase = Phase.LEAVING
                    self._limit = now + EXIT_LIMIT_S
                return []
            case Signalled(number):
                return self._pass_on(number)
            case Ended(code):
                return self._bury(code, now)
            case Woke(sample):
                return self._wake(sample, now)

    def _start(self, pid: int, now: float) -> list[Instruction]:
        self.phase = Phase.STARTING
        self.pid = pid
        self._started_at = now
        self._report = Report(timeout_ms=0, enabled=False, json_lines=self._report.json_lines)
        return []

    def _hear(self, report: Report, now: float) -> list[Instruction]:
        if self.phase not in (Phase.STARTING, Phase.WATCHED):
            return []
        self.phase = Phase.WATCHED
        self._report = report
        self._stopping = self._stopping or report.stopping
        self._silence.broken(now, report.timeout_ms / 1000)
        words = self._words.hear(report, hangs=self.hangs) + self._feeder.feed(now)
        return [Say(word) for word in words]

    def _pass_on(self, number: int) -> list[Instruction]:
        self._stopping = self._stopping or number in STOP_SIGNALS
        if self.phase is Phase.RESTING:
            return [Say("STOPPING=1"), *self._exit(0)] if self._stopping else []
        return [Forward(self.pid, number)]

    def _wake(self, sample: Sample | None, now: float) -> list[Instruction]:
        if self.phase is Phase.RESTING and now >= self._limit:
            return [Start(hangs=self.hangs)]
        if self.phase is Phase.LEAVING and self._report.enabled and now >= self._limit:
            return self._kill("the replica does not end, killing it", EXIT_LIMIT_S)
        if self.is_judging and now >= self._silence.due:
            timeout_s = self._report.timeout_ms / 1000
            if self._silence.look(now, sample, timeout_s):
                return self._kill("the replica hangs, killing it", self._silence.lasted_s(now))
        return [] if self._feed_due is None else [Say(word) for word in self._feeder.feed(now)]

    def _kill(self, why: str, silent_s: float) -> list[Instruction]:
        was_leaving = self.phase is Phase.LEAVING
        self.phase = Phase.KILLED
        self._stopping = self._stopping or was_leaving
        facts = (("pid", self.pid), ("silent_s", round(silent_s, 3)), ("restart", not self._stopping))
        status = f"replica {self.pid} hung for {silent_s:.1f} s and was killed"
        # Killed first: what comes after may find a log that nobody reads.
        return [
            Kill(self.pid),
            Log(why, facts, self._report.json_lines),
            *(Say(word) for word in self._words.status(status)),
        ]

    def _bury(self, code: int, now: float) -> list[Instruction]:
        if self.phase is not Phase.KILLED or code != -signal.SIGKILL:
            return self._exit(code)  # also if it ended by itself just before it was killed
        if self._stopping:
            return self._exit(128 + signal.SIGKILL)
        if now - self._started_at >= STEADY_AFTER_S:
            self._back_off_s = 0.0
        self.hangs += 1
        self.phase = Phase.RESTING
        self._limit = now + self._back_off_s
        self._back_off_s = min(max(BACK_OFF_S, 2 * self._back_off_s), MAX_BACK_OFF_S)
        return []

    def _exit(self, code: int) -> list[Instruction]:
        self.phase = Phase.OVER
        return [Exit(code)]
