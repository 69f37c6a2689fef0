"""Time ticks against a model of all who send: whatever happens, nothing follows a tick that it covers."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordd.rootcoord.timetick import DdlHolds, Report, TimeTicks
from coordd.rootcoord.timetick.protocol import UnknownSourceError

A, B = "a", "b"


def ticks(*proxies: int, floor: int = 10) -> TimeTicks:
    made = TimeTicks(floor)
    made.set_proxies(proxies, 0.0)
    return made


class TestRounds:
    def test_without_proxies_only_rootcoord_counts(self) -> None:
        assert ticks().round(Report({B: 12}, 15), [A, B]) == {A: 15, B: 12}

    def test_nothing_before_every_proxy_has_reported(self) -> None:
        made = ticks(1, 2)
        made.report(1, Report({}, 30), 0.0)
        assert not made.complete
        assert made.round(Report({}, 40), [A]) == {}
        made.report(2, Report({A: 21}, 35), 0.0)
        assert made.round(Report({}, 40), [A, B]) == {A: 21, B: 30}

    def test_ticks_only_rise(self) -> None:
        made = ticks(1)
        made.report(1, Report({}, 30), 0.0)
        assert made.round(Report({}, 40), [A]) == {A: 30}
        assert made.round(Report({}, 41), [A, B]) == {B: 30}
        made.report(1, Report({A: 29}, 50), 0.0)
        assert made.round(Report({}, 60), [A, B]) == {B: 50}

    def test_a_report_that_comes_late_says_nothing_new(self) -> None:
        made = ticks(1)
        made.report(1, Report({}, 30), 0.0)
        made.report(1, Report({}, 20), 0.0)
        assert made.round(Report({}, 40), [A]) == {A: 30}

    def test_no_tick_lies_below_the_term(self) -> None:
        made = ticks(1, floor=100)
        made.report(1, Report({A: 99}, 99), 0.0)
        assert made.round(Report({}, 120), [A]) == {}
        made.report(1, Report({A: 99}, 110), 0.0)
        assert made.round(Report({}, 120), [A, B]) == {B: 110}

    def test_who_joins_must_report_first_and_who_leaves_counts_no_more(self) -> None:
        made = ticks(1)
        made.report(1, Report({}, 30), 0.0)
        made.set_proxies([1, 2], 1.0)
        assert made.round(Report({}, 40), [A]) == {}
        made.set_proxies([1], 2.0)
        assert made.round(Report({}, 40), [A]) == {A: 30}

    def test_a_proxy_that_left_is_unknown(self) -> None:
        made = ticks(1)
        made.set_proxies([], 0.0)
        with pytest.raises(UnknownSourceError):
            made.report(1, Report({}, 30), 0.0)

    def test_complete_means_heard_since_the_last_round(self) -> None:
        made = ticks(1)
        made.report(1, Report({}, 30), 0.0)
        assert made.complete
        made.round(Report({}, 40), [A])
        assert not made.complete
        assert not ticks().complete


def test_silence_is_counted_from_the_last_report_or_from_joining() -> None:
    made = ticks(1)
    made.set_proxies([1, 2], 3.0)
    assert made.silent(4.0, 2.0) == {1: (4.0, False)}
    made.report(1, Report({}, 30), 4.0)
    assert made.silent(7.0, 2.0) == {1: (3.0, True), 2: (4.0, False)}


def test_who_holds_the_ticks_back() -> None:
    made = ticks(1, 2, 3)
    made.report(2, Report({}, 30), 0.0)
    assert made.holding_back == [1, 3]
    made.report(1, Report({}, 20), 0.0)
    made.report(3, Report({A: 5}, 20), 0.0)
    assert made.holding_back == [1, 3]
    assert ticks().holding_back == []


def test_what_was_sent_is_known_by_channel() -> None:
    made = ticks()
    made.round(Report({}, 15), [A])
    made.sent(A, 15)
    assert (made.last_sent(A), made.last_sent(B)) == (15, 0)
    made.check_invariants()


class TestHolds:
    def test_a_hold_lies_below_what_is_handed_out_inside(self) -> None:
        holds = DdlHolds(lambda: 50)
        with holds.on([A]) as hold:
            assert holds.report(60) == Report({A: 50}, 60)
            hold.check(A, 51)
        assert holds.report(60) == Report({}, 60)

    def test_of_several_the_lowest_counts(self) -> None:
        newest = 50
        holds = DdlHolds(lambda: newest)
        with holds.on([A]):
            newest = 55
            with holds.on([A, B]):
                assert holds.report(60) == Report({A: 50, B: 55}, 60)
            assert holds.report(60) == Report({A: 50}, 60)

    def test_it_ends_with_the_block_however_that_ends(self) -> None:
        holds = DdlHolds(lambda: 50)

        def fail() -> None:
            with holds.on([A]):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert holds.report(60) == Report({}, 60)

    def test_what_it_does_not_cover_must_not_be_sent(self) -> None:
        with DdlHolds(lambda: 50).on([A]) as hold:
            with pytest.raises(ValueError, match="not held back"):
                hold.check(B, 51)
            with pytest.raises(ValueError, match="older than the hold"):
                hold.check(A, 50)


@dataclass
class Proxy:
    """A proxy as Milvus has it: a message gets its timestamp and is pending in one step, and so is a report
    made. `reports` are those that are still on their way."""

    pending: list[tuple[str, int]] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    def report(self, fresh: int) -> Report:
        lowest: dict[str, int] = {}
        for channel, timestamp in self.pending:
            lowest[channel] = min(timestamp - 1, lowest.get(channel, timestamp))
        return Report(lowest, fresh)


class Readers:
    """What is seen on the channels: nothing may follow a tick that covers it."""

    def __init__(self) -> None:
        self.ticks = {A: 0, B: 0}
        self.story: list[str] = []

    def message(self, channel: str, timestamp: int) -> None:
        self.story.append(f"message {timestamp} on {channel}")
        assert timestamp > self.ticks[channel], self.story

    def tick(self, channel: str, timestamp: int) -> None:
        self.story.append(f"tick {timestamp} on {channel}")
        assert timestamp > self.ticks[channel], self.story
        self.ticks[channel] = timestamp


class Cluster:
    """Proxies come, write, report late and out of order, crash and go; DDL is sent; terms follow each other.

    `saved` is the end of the timestamps' saved window, which outlives a term. Each step takes a number, from
    which it takes its choices.
    """

    def __init__(self) -> None:
        self.readers = Readers()
        self.proxies: dict[int, Proxy] = {}
        self.next_id = 1
        self.newest = self.saved = 0
        self.take_over(0)

    def take_over(self, _choice: int) -> None:
        """After a crash: what RootCoord had not sent never will be. The proxies go on with what they have."""
        self.readers.story.append("takeover")
        floor = self.saved + 1
        self.newest = self.saved
        self.saved += 10
        self.ddl: list[tuple[str, int]] = []
        self.open_holds = ExitStack()
        self.ticks = TimeTicks(floor)
        self.holds = DdlHolds(lambda: max(self.newest, floor - 1))
        self.ticks.set_proxies(self.proxies, 0.0)

    def fresh(self) -> int:
        self.newest += 1
        if self.newest >= self.saved:
            self.saved = self.newest + 10
        return self.newest

    def some_id(self, choice: int) -> int:
        if not self.proxies:
            self.join(choice)
        return sorted(self.proxies)[choice % len(self.proxies)]

    def join(self, _choice: int) -> None:
        if len(self.proxies) < 3:
            self.proxies[self.next_id] = Proxy()
            self.next_id += 1
            self.ticks.set_proxies(self.proxies, 0.0)

    def leave(self, choice: int) -> None:
        """Its process is gone, and what it had not sent never will be."""
        del self.proxies[self.some_id(choice)]
        self.ticks.set_proxies(self.proxies, 0.0)

    def write(self, choice: int) -> None:
        channel = (A, B)[choice // 3 % 2]
        self.proxies[self.some_id(choice)].pending.append((channel, self.fresh()))

    def send(self, choice: int) -> None:
        pending = self.proxies[self.some_id(choice)].pending
        if pending:
            self.readers.message(*pending.pop(choice // 3 % len(pending)))

    def report_now(self, choice: int) -> None:
        server_id = self.some_id(choice)
        self.ticks.report(server_id, self.proxies[server_id].report(self.fresh()), 0.0)

    def report_later(self, choice: int) -> None:
        proxy = self.proxies[self.some_id(choice)]
        proxy.reports.append(proxy.report(self.fresh()))

    def late_report(self, choice: int) -> None:
        """One of those on their way arrives, perhaps not for the last time."""
        server_id = self.some_id(choice)
        reports = self.proxies[server_id].reports
        if reports:
            self.ticks.report(server_id, reports[choice // 3 % len(reports)], 0.0)

    def all_report(self, _choice: int) -> None:
        for server_id in self.proxies:
            self.report_now(sorted(self.proxies).index(server_id))

    def round(self, _choice: int) -> None:
        for channel, tick in self.ticks.round(self.holds.report(self.fresh()), [A, B]).items():
            self.readers.tick(channel, tick)
            self.ticks.sent(channel, tick)
        self.ticks.check_invariants()

    def begin_ddl(self, choice: int) -> None:
        channels = ((A,), (B,), (A, B))[choice % 3]
        hold = self.open_holds.enter_context(self.holds.on(channels))
        timestamp = self.fresh()
        for channel in channels:
            hold.check(channel, timestamp)
            self.ddl.append((channel, timestamp))

    def send_ddl(self, choice: int) -> None:
        if self.ddl:
            self.readers.message(*self.ddl.pop(choice % len(self.ddl)))

    def end_ddl(self, _choice: int) -> None:
        while self.ddl:
            self.send_ddl(0)
        self.open_holds.close()

    def calm(self) -> None:
        """All send what they have and report."""
        self.end_ddl(0)
        for proxy in self.proxies.values():
            while proxy.pending:
                self.readers.message(*proxy.pending.pop())
        self.all_report(0)


STEPS = (
    *(Cluster.write, Cluster.write, Cluster.send, Cluster.send, Cluster.round, Cluster.round, Cluster.round),
    *(Cluster.report_now, Cluster.report_now, Cluster.report_later, Cluster.late_report, Cluster.all_report),
    *(Cluster.join, Cluster.leave, Cluster.begin_ddl, Cluster.send_ddl, Cluster.end_ddl, Cluster.take_over),
)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 11)), min_size=20, max_size=80))
def test_nothing_follows_a_tick_that_covers_it(
    steps: list[tuple[Callable[[Cluster, int], None], int]],
) -> None:
    cluster = Cluster()
    for step, choice in steps:
        step(cluster, choice)
    cluster.calm()
    before = dict(cluster.readers.ticks)
    cluster.round(0)
    assert all(cluster.readers.ticks[channel] > before[channel] for channel in (A, B))
