"""Whatever comes, in whatever order: the election never contradicts itself nor breaks a promise.

The events are drawn without regard to what a real etcd could send; the promises are recomputed here from the
events alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coordd.ha import election as el
from coordd.ha import election_events as ev

ME = 5
GUARD_S = 2.0
MARGIN_S = 0.5

REVISIONS = st.integers(0, 12)
HOLDERS = st.sampled_from([None, ME, 3])
STEPS = st.floats(0.0, 3.0)
GUARDS = st.sampled_from([None, 0.5, 2.0, 6.0])

Build = tuple[str, tuple[Any, ...]]
EVENTS: st.SearchStrategy[Build] = st.one_of(
    st.tuples(st.just("observed"), st.tuples(REVISIONS, REVISIONS, REVISIONS, GUARDS, HOLDERS)),
    st.tuples(st.just("lost"), st.tuples(REVISIONS, HOLDERS, REVISIONS)),
    st.tuples(st.just("won"), st.tuples(st.integers(1, 12))),
    st.tuples(
        st.sampled_from(
            [
                "unanswered", "activated", "activation failed", "fence refused", "lease lost", "stop",
                "drained", "resigned", "tick", "tick", "tick at deadline",
            ]
        ),
        st.just(()),
    ),
)  # fmt: skip


def event_of(build: Build, now: float) -> ev.Event:
    name, arguments = build
    match name:
        case "observed":
            revision, active, heartbeat, guard_s, holder = arguments
            return ev.Observed(now, revision, active, heartbeat, guard_s, holder if active else None)
        case "lost":
            revision, holder, heartbeat = arguments
            return ev.CampaignLost(now, revision, holder if revision else None, heartbeat)
        case "won":
            return ev.CampaignWon(now, arguments[0], now)
    simple: dict[str, ev.Event] = {
        "unanswered": ev.CampaignFailed(now),
        "activated": ev.Activated(now),
        "activation failed": ev.ActivationFailed(),
        "fence refused": ev.FenceLost(),
        "lease lost": ev.LeaseLost(),
        "stop": ev.StopRequested(),
        "drained": ev.Drained(),
        "resigned": ev.Resigned(),
    }
    return simple.get(name, ev.Tick(now))


@dataclass
class Witness:
    """Judges instructions by the events that came before."""

    exclusive: bool
    view: ev.Observed | None = None
    heartbeat_received_at: float = 0.0
    wait_until: float = 0.0
    longest_guard_s: float = GUARD_S
    orders: list[type] = field(default_factory=list)
    seen: list[type] = field(default_factory=list)

    def told(self, event: ev.Event) -> None:
        """An event was taken."""
        self.seen.append(type(event))
        if isinstance(event, ev.Observed) and (self.view is None or event.revision >= self.view.revision):
            if self.view is None or self.view.heartbeat_mod_revision != event.heartbeat_mod_revision:
                self.heartbeat_received_at = event.now
            self.view = event

    def ordered(self, instruction: ev.Instruction, event: ev.Event, now: float) -> None:
        """An instruction followed."""
        assert ev.EndSession not in self.orders, "an order after the end"
        match instruction:
            case ev.Campaign(expected):
                assert ev.BeginTerm not in self.orders
                assert self.view is not None
                assert self.exclusive or not self.view.active_mod_revision, "the role is known to be held"
                assert expected == self.view.heartbeat_mod_revision
                self._campaigns(self.view)
            case ev.BeginTerm(epoch):
                assert ev.BeginTerm not in self.orders
                assert epoch == self._won_by(event)
            case ev.Serve():
                assert self.orders.count(ev.BeginTerm) == 1
                assert ev.Serve not in self.orders
                assert ev.Drain not in self.orders
                assert ev.Activated in self.seen
                assert now >= self.wait_until, "within the previous holder's guard"
            case ev.Drain():
                assert ev.BeginTerm in self.orders
                assert ev.Drain not in self.orders
            case ev.Resign():
                assert self.orders[-1] is ev.Drain
                assert ev.Drained in self.seen
                assert now >= self.wait_until, "the heartbeat is deleted within the previous holder's guard"
        self.orders.append(type(instruction))

    def _campaigns(self, view: ev.Observed) -> None:
        if view.heartbeat_mod_revision:
            guard_s = GUARD_S if view.holder_guard_s is None else view.holder_guard_s
            self.wait_until = max(self.wait_until, self.heartbeat_received_at + guard_s + MARGIN_S)
            self.longest_guard_s = max(self.longest_guard_s, guard_s)

    def _won_by(self, event: ev.Event) -> int:
        match event:
            case ev.CampaignWon(_, epoch, _):
                return epoch
            case ev.CampaignLost(_, revision, holder, _) if holder == ME:
                return revision
        assert self.view is not None
        assert self.view.holder_server_id == ME
        return self.view.active_mod_revision


def memory_of(subject: el.Election) -> list[object]:
    return [getattr(subject, name) for name in el.Election.__slots__ if name != "_handlers"]


def run(builds: Sequence[tuple[float, Build]], *, exclusive: bool) -> Witness:
    """Let an election live through the events; those that cannot happen must bounce off."""
    subject = el.Election(
        el.ElectionSettings(
            server_id=ME, serve_guard_s=GUARD_S, margin_s=MARGIN_S, exclusive=exclusive, exclusive_attempts=3
        )
    )
    witness = Witness(exclusive)
    now = 10.0
    for step_s, build in builds:
        deadline = subject.next_deadline()
        now = max(now, deadline) if build[0] == "tick at deadline" and deadline is not None else now + step_s
        event = event_of(build, now)
        before = memory_of(subject)
        try:
            instructions = subject.handle(event)
        except el.IllegalEvent:
            assert memory_of(subject) == before
            continue
        ended = before[el.Election.__slots__.index("state")] is ev.State.ENDED
        assert not ended or memory_of(subject) == before
        witness.told(event)
        for instruction in instructions:
            witness.ordered(instruction, event, now)
        subject.check_invariants()
        after = subject.next_deadline()
        assert after is None or after > now or not isinstance(event, ev.Tick), (
            "a tick that changes nothing spins"
        )
        if (
            subject.state not in (ev.State.ACTIVE, ev.State.RESIGNING, ev.State.ENDED)
            and now < witness.wait_until
        ):
            assert subject.published_guard_s >= witness.longest_guard_s
    return witness


LIFE = st.lists(st.tuples(STEPS, EVENTS), max_size=40)


def quick(*names: str) -> list[tuple[float, Build]]:
    return [(0.1, (name, ())) for name in names]


FREE: tuple[float, Build] = (0.1, ("observed", (1, 0, 0, None, None)))
WON: tuple[float, Build] = (0.1, ("won", (2,)))


@given(life=LIFE, exclusive=st.booleans())
@example(life=[FREE, WON, *quick("activated", "stop", "drained", "resigned")], exclusive=False)
@settings(max_examples=300, deadline=None)
def test_no_order_of_events_breaks_a_promise(life: list[tuple[float, Build]], exclusive: bool) -> None:
    run(life, exclusive=exclusive)


@given(life=LIFE)
@settings(max_examples=200, deadline=None)
def test_nor_once_a_campaign_is_under_way(life: list[tuple[float, Build]]) -> None:
    run([(0.1, ("observed", (1, 0, 1, 6.0, None))), *life], exclusive=False)


@given(life=LIFE, guard_s=GUARDS)
@settings(max_examples=200, deadline=None)
def test_nor_in_a_term(life: list[tuple[float, Build]], guard_s: float | None) -> None:
    run([(0.1, ("observed", (1, 0, 1, guard_s, None))), WON, *life], exclusive=False)


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_witness_sees_a_whole_life(exclusive: bool) -> None:
    witness = run([FREE, WON, *quick("activated", "stop", "drained", "resigned")], exclusive=exclusive)

    assert witness.orders == [ev.Campaign, ev.BeginTerm, ev.Serve, ev.Drain, ev.Resign, ev.EndSession]
