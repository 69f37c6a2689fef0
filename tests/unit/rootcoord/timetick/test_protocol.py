"""Time ticks against a model of all who send: whatever happens, nothing follows a tick that it covers."""

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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
    made."""

    pending: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    reports: list[Report] = field(default_factory=list)

    def report(self, fresh: int) -> Report:
        return Report({name: min(sends) - 1 for name, sends in self.pending.items() if sends}, fresh)


WHO = st.integers(0, 1000)
CHANNEL = st.sampled_from([A, B])


class Cluster(RuleBasedStateMachine):
    """Proxies come, write, report late and out of order, crash and go; DDL is sent; terms follow each other.

    The logs are what readers see. `saved` is the end of the timestamps' saved window.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, list[tuple[str, int]]] = {A: [], B: []}
        self.proxies: dict[int, Proxy] = {}
        self.next_id = 1
        self.newest = self.saved = 0
        self.ddl: list[tuple[str, int]] = []
        self.open_holds = ExitStack()
        self.begin_term()

    def begin_term(self) -> None:
        floor = self.saved + 1
        self.newest = self.saved
        self.saved += 1000
        self.ddl = []
        self.open_holds = ExitStack()
        self.ticks = TimeTicks(floor)
        self.holds = DdlHolds(lambda: max(self.newest, floor - 1))
        self.ticks.set_proxies(self.proxies, 0.0)

    def fresh(self) -> int:
        self.newest += 1
        self.saved = max(self.saved, self.newest + 1)
        return self.newest

    def some(self, who: int) -> Proxy:
        return self.proxies[sorted(self.proxies)[who % len(self.proxies)]]

    @rule()
    def join(self) -> None:
        if len(self.proxies) < 4:
            self.proxies[self.next_id] = Proxy()
            self.next_id += 1
            self.ticks.set_proxies(self.proxies, 0.0)

    @precondition(lambda self: self.proxies)
    @rule(who=WHO)
    def leave(self, who: int) -> None:
        """Its process is gone, and what it had not sent never will be."""
        server_id = sorted(self.proxies)[who % len(self.proxies)]
        del self.proxies[server_id]
        self.ticks.set_proxies(self.proxies, 0.0)

    @precondition(lambda self: self.proxies)
    @rule(who=WHO, channel=CHANNEL)
    def write(self, who: int, channel: str) -> None:
        self.some(who).pending[channel].append(self.fresh())

    @precondition(lambda self: self.proxies)
    @rule(who=WHO, channel=CHANNEL, which=WHO)
    def send(self, who: int, channel: str, which: int) -> None:
        pending = self.some(who).pending[channel]
        if pending:
            self.logs[channel].append(("message", pending.pop(which % len(pending))))

    @precondition(lambda self: self.proxies)
    @rule(who=WHO)
    def make_report(self, who: int) -> None:
        proxy = self.some(who)
        proxy.reports.append(proxy.report(self.fresh()))

    @precondition(lambda self: self.proxies)
    @rule(who=WHO, which=WHO, again=st.booleans())
    def deliver_report(self, who: int, which: int, again: bool) -> None:
        server_id = sorted(self.proxies)[who % len(self.proxies)]
        reports = self.proxies[server_id].reports
        if reports:
            report = reports[which % len(reports)]
            if not again:
                reports.remove(report)
            self.ticks.report(server_id, report, 0.0)

    @rule()
    def everybody_reports(self) -> None:
        for server_id, proxy in self.proxies.items():
            self.ticks.report(server_id, proxy.report(self.fresh()), 0.0)

    @rule(channels=st.sets(CHANNEL, min_size=1))
    def begin_ddl(self, channels: set[str]) -> None:
        hold = self.open_holds.enter_context(self.holds.on(channels))
        timestamp = self.fresh()
        for channel in channels:
            hold.check(channel, timestamp)
            self.ddl.append((channel, timestamp))

    @rule(which=WHO)
    def send_ddl(self, which: int) -> None:
        if self.ddl:
            channel, timestamp = self.ddl.pop(which % len(self.ddl))
            self.logs[channel].append(("message", timestamp))

    @rule()
    def end_ddl(self) -> None:
        while self.ddl:
            self.send_ddl(0)
        self.open_holds.close()

    @rule(channels=st.sets(CHANNEL))
    def round(self, channels: set[str]) -> None:
        for channel, tick in self.ticks.round(self.holds.report(self.fresh()), channels).items():
            self.logs[channel].append(("tick", tick))
            self.ticks.sent(channel, tick)

    @rule()
    def take_over(self) -> None:
        """A crash: what RootCoord had not sent never will be. The proxies go on, with what they have."""
        self.begin_term()

    @invariant()
    def nothing_follows_a_tick_that_covers_it(self) -> None:
        for channel, log in self.logs.items():
            last = 0
            for kind, timestamp in log:
                assert timestamp > last, (channel, log)
                if kind == "tick":
                    last = timestamp

    @invariant()
    def ticks_agree_with_themselves(self) -> None:
        self.ticks.check_invariants()

    def teardown(self) -> None:
        """Once all have sent what they have and report, ticks go on."""
        self.end_ddl()
        for proxy in self.proxies.values():
            proxy.pending.clear()
        self.everybody_reports()
        sent = self.ticks.round(self.holds.report(self.fresh()), [A, B])
        assert set(sent) == {A, B}


Cluster.TestCase.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
TestCluster = Cluster.TestCase
