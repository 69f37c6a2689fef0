"""What the parent does at each event: pure, on a clock of its own."""

import signal
from collections.abc import Iterable, Mapping

import pytest

from coordd.supervisor.machine import (
    EXIT_LIMIT_S,
    START_LIMIT_S,
    STEADY_AFTER_S,
    Ended,
    Event,
    Exit,
    Forward,
    Instruction,
    Kill,
    Log,
    LoopEnded,
    Phase,
    Reported,
    Say,
    Signalled,
    Start,
    Started,
    Supervision,
    Woke,
)
from coordd.supervisor.report import Report
from coordd.supervisor.systemd import Feeder

STOPPED = Woke(None)
BEAT = Report(timeout_ms=1000)
SYSTEMD = {"WATCHDOG_USEC": "3000000"}


class Run:
    """A machine with its instructions gathered; a replica is forked as soon as it asks for one."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.now = 1000.0
        self.machine = Supervision(Feeder(environment or {}))
        self.done: list[Instruction] = []
        self.starts: list[float] = []
        self._take(self.machine.begin())

    def _take(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            self.done.append(instruction)
            if isinstance(instruction, Start):
                self.starts.append(self.now)
                self._take(self.machine.handle(Started(100 + len(self.starts)), self.now))

    def tell(self, *events: Event) -> list[Instruction]:
        """The instructions that come of `events`."""
        before = len(self.done)
        for event in events:
            self._take(self.machine.handle(event, self.now))
        return self.done[before:]

    def pass_time(self, seconds: float, *, beating: Report | None = None) -> list[Instruction]:
        """Let time go by: wake it when due, with a beat every 0.2 s if it is beating."""
        before, end = len(self.done), self.now + seconds
        beat_at = self.now if beating else float("inf")
        for _ in range(100_000):
            due = self.machine.due
            at = min(beat_at, end if due is None else due, end)
            self.now = max(self.now, at)
            if self.now >= end:
                return self.done[before:]
            if self.now >= beat_at and beating:
                beat_at = self.now + 0.2
                self.tell(Reported(beating))
            else:
                self.tell(STOPPED)
        raise AssertionError("it never rests")

    def hang(self) -> list[Instruction]:
        """One beat, then silence until it is killed and reaped."""
        self.tell(Reported(BEAT))
        killed = self.pass_time(1.01)
        assert Kill(self.machine.pid) in killed
        return killed + self.tell(Ended(-signal.SIGKILL))

    def said(self) -> list[str]:
        return [one.message for one in self.done if isinstance(one, Say)]


def test_a_replica_that_beats_is_left_alone() -> None:
    run = Run()
    assert run.done == [Start(hangs=0)]
    assert run.pass_time(600, beating=BEAT) == []


def test_nothing_is_judged_before_the_first_beat() -> None:
    run = Run()
    assert run.machine.due is None
    assert run.pass_time(3600) == []


def test_a_silent_replica_is_killed_first_and_then_written_about() -> None:
    run = Run()
    run.pass_time(10, beating=BEAT)
    kill, log, status = run.pass_time(1.01)
    assert kill == Kill(101)
    assert isinstance(log, Log)
    assert log.message == "the replica hangs, killing it"
    assert dict(log.facts) == {"pid": 101, "silent_s": pytest.approx(1.0, abs=0.21), "restart": True}
    assert isinstance(status, Say)
    assert run.machine.phase is Phase.KILLED
    assert run.pass_time(60) == [], "it is killed once, and another is started when it is reaped"
    run.tell(Ended(-signal.SIGKILL))
    assert run.pass_time(0.001) == [Start(hangs=1)]


def test_the_timeout_is_the_replicas() -> None:
    run = Run()
    run.tell(Reported(BEAT._replace(timeout_ms=5000)))
    assert run.pass_time(4.99) == []
    assert Kill(101) in run.pass_time(0.1)


def test_the_back_off_doubles_up_to_its_limit_and_is_forgotten_after_a_steady_minute() -> None:
    run = Run()
    rests = []
    for _ in range(9):
        run.hang()
        reaped, starts = run.now, len(run.starts)
        while len(run.starts) == starts:
            run.pass_time(0.1)
        rests.append(run.starts[-1] - reaped)
    assert rests == pytest.approx([0, 0.5, 1, 2, 4, 8, 16, 30, 30], abs=0.01)
    run.pass_time(STEADY_AFTER_S, beating=BEAT)
    run.hang()
    assert run.pass_time(0.001) == [Start(hangs=10)]


@pytest.mark.parametrize("code", [0, 1, 2, 130, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGTERM])
@pytest.mark.parametrize("beats", [False, True])
def test_it_ends_as_the_replica_ends(code: int, beats: bool) -> None:
    run = Run()
    if beats:
        run.tell(Reported(BEAT))
    assert run.tell(LoopEnded(), Ended(code)) == [Exit(code)]


def test_one_that_ended_just_before_it_was_killed_ended_by_itself() -> None:
    run = Run()
    run.tell(Reported(BEAT))
    assert Kill(101) in run.pass_time(1.1)
    assert run.tell(Ended(3)) == [Exit(3)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_forwarded_whatever_the_replica_does(number: int) -> None:
    run = Run()
    assert run.tell(Signalled(number)) == [Forward(101, number)]
    run.tell(Reported(BEAT))
    assert run.tell(Signalled(number), Signalled(number)) == [Forward(101, number)] * 2
    run.tell(LoopEnded())
    assert run.tell(Signalled(number)) == [Forward(101, number)]


@pytest.mark.parametrize("stop", [Signalled(signal.SIGINT), Reported(BEAT._replace(stopping=True))])
def test_one_that_hangs_while_it_stops_is_killed_and_not_started_again(stop: Event) -> None:
    run = Run()
    run.tell(Reported(BEAT), stop)
    killed = run.pass_time(1.1)
    assert Kill(101) in killed
    assert [dict(one.facts)["restart"] for one in killed if isinstance(one, Log)] == [False]
    assert run.tell(Ended(-signal.SIGKILL)) == [Exit(128 + signal.SIGKILL)]


def test_a_signal_that_stops_nothing_does_not_keep_a_hung_one_from_being_started_again() -> None:
    run = Run()
    run.tell(Reported(BEAT), Signalled(signal.SIGUSR1))
    run.hang()
    assert run.pass_time(0.001) == [Start(hangs=1)]


def test_a_stop_during_the_back_off_ends_it() -> None:
    run = Run()
    run.hang()
    run.pass_time(0.001)
    run.hang()
    assert run.machine.phase is Phase.RESTING
    assert run.tell(Signalled(signal.SIGUSR1)) == []
    assert run.tell(Signalled(signal.SIGTERM)) == [Say("STOPPING=1"), Exit(0)]


def test_after_its_loop_a_replica_has_a_while_to_end() -> None:
    run = Run()
    run.tell(Reported(BEAT), LoopEnded())
    assert run.pass_time(EXIT_LIMIT_S - 0.01) == []
    assert Kill(101) in run.pass_time(0.1)
    assert run.tell(Ended(-signal.SIGKILL)) == [Exit(128 + signal.SIGKILL)]


def test_switched_off_it_only_forwards() -> None:
    run = Run()
    run.tell(Reported(BEAT._replace(enabled=False)))
    assert run.pass_time(3600) == []
    assert run.tell(Signalled(signal.SIGHUP)) == [Forward(101, signal.SIGHUP)]
    run.tell(LoopEnded())
    assert run.pass_time(3600) == []
    assert run.tell(Ended(0)) == [Exit(0)]


# --- systemd ---


def test_ready_is_said_once_and_hangs_are_in_the_status() -> None:
    run = Run()
    standby = BEAT._replace(status="rootcoord STANDBY (server 3)", ready=True)
    run.tell(Reported(BEAT), Reported(standby), Reported(standby))
    assert run.said() == ["READY=1", "STATUS=rootcoord STANDBY (server 3)"]
    run.pass_time(1.1)
    run.tell(Ended(-signal.SIGKILL))
    assert run.said()[2:] == ["STATUS=replica 101 hung for 1.0 s and was killed"]
    run.pass_time(0.001)
    later = standby._replace(status="rootcoord STANDBY (server 4)")
    run.tell(Reported(later), Reported(later._replace(stopping=True)), Reported(later))
    assert run.said()[3:] == [
        "STATUS=rootcoord STANDBY (server 4); hung and was restarted: 1 x",
        "STOPPING=1",
    ]


def test_systemds_watchdog_is_fed_more_often_than_it_asks_for_while_beats_come() -> None:
    run = Run(SYSTEMD)
    run.pass_time(30, beating=BEAT)
    feeds = run.said().count("WATCHDOG=1")
    assert feeds >= 2 * 30 / 3
    run.pass_time(600)
    assert run.machine.phase is Phase.KILLED
    assert run.said().count("WATCHDOG=1") == feeds, "no beats, no food"


@pytest.mark.parametrize("judged", [True, False])
def test_systemds_watchdog_is_fed_while_it_is_no_wonder_that_no_beats_come(judged: bool) -> None:
    run = Run(SYSTEMD)
    run.pass_time(10)
    assert run.said().count("WATCHDOG=1") == 10
    run.tell(Reported(BEAT._replace(enabled=judged)))
    run.pass_time(60)
    assert (run.said().count("WATCHDOG=1") > 60) is not judged


def test_a_replica_that_does_not_come_up_is_left_to_systemd() -> None:
    run = Run(SYSTEMD)
    run.pass_time(START_LIMIT_S + 1)
    fed = len(run.said())
    assert fed >= START_LIMIT_S
    run.pass_time(3600)
    assert len(run.said()) == fed


def test_systemds_watchdog_is_fed_during_the_back_off() -> None:
    run = Run(SYSTEMD)
    for _ in range(6):
        run.hang()
        while run.machine.phase is Phase.RESTING:
            run.pass_time(0.1)
    run.hang()
    fed = run.said().count("WATCHDOG=1")
    run.pass_time(15)
    assert run.machine.phase is Phase.RESTING
    assert run.said().count("WATCHDOG=1") >= fed + 14


def test_another_process_watched_by_systemd_is_not_ours_to_feed() -> None:
    assert Feeder({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "12"}, pid=13).due is None
    assert Feeder({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "13"}, pid=13).due is not None
    assert Feeder({"WATCHDOG_USEC": "soon"}).due is None
