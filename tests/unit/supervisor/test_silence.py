"""When silence is a hang, and when it is only a busy machine."""

import pytest

from coordd.supervisor.silence import Sample, Silence

TIMEOUT_S = 1.0


class Watched:
    """A replica as the kernel shows it, looked at whenever it is due, on a clock that only this moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.ran_s = 5.0
        self.waited_s = 1.0
        self.silence = Silence()
        self.silence.broken(self.now, TIMEOUT_S)

    def look(self, *, runnable: bool, ran: float = 0.0, waited: float = 0.0, late_s: float = 0.0) -> bool:
        """Look when due. `ran`, `waited`: shares of the time since the last look that the kernel reports."""
        at = self.silence.due + late_s
        self.ran_s += ran * (at - self.now)
        self.waited_s += waited * (at - self.now)
        self.now = at
        return self.silence.look(self.now, Sample(runnable, self.ran_s, self.waited_s), TIMEOUT_S)

    def until_hang(self, limit_s: float = 60.0, **look: float) -> float | None:
        """Seconds until it is found to hang, None if it is not within the limit."""
        start = self.now
        while self.now < start + limit_s:
            if self.look(runnable=bool(look.get("runnable")), ran=look["ran"], waited=look["waited"]):
                return self.now - start
        return None


def test_a_stopped_process_is_found_after_the_timeout() -> None:
    assert Watched().until_hang(ran=0, waited=0) == pytest.approx(TIMEOUT_S)


def test_a_spinning_process_is_found_after_the_timeout() -> None:
    assert Watched().until_hang(runnable=True, ran=1, waited=0) == pytest.approx(TIMEOUT_S)


def test_a_spinning_process_with_a_third_of_a_processor_is_found_by_its_own_time() -> None:
    found = Watched().until_hang(runnable=True, ran=1 / 3, waited=2 / 3)
    assert found is not None
    # The part up to the first look is counted by the clock: there is nothing to compare it with yet.
    assert 2.0 < found <= 3.1


def test_one_that_waits_for_a_processor_is_never_taken_for_hung() -> None:
    # The kernel adds a wait to its count only when it is over.
    assert Watched().until_hang(runnable=True, ran=0, waited=0) is None
    assert Watched().until_hang(ran=0, waited=1) is None


def test_a_beat_begins_anew() -> None:
    watched = Watched()
    for _ in range(50):
        for _ in range(3):
            assert not watched.look(runnable=False)
        watched.silence.broken(watched.now, TIMEOUT_S)
    assert watched.until_hang(ran=0, waited=0) == pytest.approx(TIMEOUT_S)


def test_an_observer_that_was_held_up_gives_another_timeout() -> None:
    watched = Watched()
    for _ in range(3):
        assert not watched.look(runnable=False)
    assert not watched.look(runnable=False, late_s=3600.0), "the machine was suspended"
    assert watched.until_hang(ran=0, waited=0) == pytest.approx(TIMEOUT_S)


def test_an_observer_that_is_a_little_late_still_judges() -> None:
    watched = Watched()
    looks = [watched.look(runnable=False, late_s=0.1) for _ in range(4)]
    assert looks == [False, False, True, True]


def test_without_the_kernels_help_the_clock_counts() -> None:
    silence = Silence()
    silence.broken(10.0, TIMEOUT_S)
    looks = [silence.look(silence.due, None, TIMEOUT_S) for _ in range(4)]
    assert looks == [False, False, False, True]
    assert silence.lasted_s(11.0) == pytest.approx(1.0)
