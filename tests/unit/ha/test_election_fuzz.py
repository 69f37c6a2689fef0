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
OFFERS = st.none() | st.builds(ev.Offer, REVISIONS, st.sampled_from([ME, 3]), st.sampled_from([0, ME, 7]))
STANDBYS = st.lists(
    st.builds(ev.Standby, st.sampled_from([2, 7, 9]), REVISIONS, REVISIONS),
    max_size=3,
    unique_by=lambda standby: standby.server_id,
).map(tuple)

Build = tuple[str, tuple[Any, ...]]
OBSERVED = st.tuples(
    REVISIONS, REVISIONS, REVISIONS, GUARDS, HOLDERS, st.booleans(), st.booleans(), OFFERS, STANDBYS
)
EVENTS: st.SearchStrategy[Build] = st.one_of(
    st.tuples(st.just("observed"), OBSERVED),
    st.tuples(st.just("lost"), st.tuples(REVISIONS, HOLDERS, REVISIONS)),
    st.tuples(st.sampled_from(["won", "gone"]), st.tuples(st.integers(1, 12))),
    st.tuples(
        st.sampled_from(
            [
                "unanswered", "activated", "activation failed", "fence refused", "lease lost", "stop",
                "probe committed", "probe failed", "asked", "drained", "drained in part", "handed over",
                "handover refused", "handover unknown", "resigned", "tick", "tick", "tick at deadline",
            ]
        ),
        st.just(()),
    ),
)  # fmt: skip


def event_of(build: Build, now: float) -> ev.Event:
    name, arguments = build
    match name:
        case "observed":
            return ev.Observed(now, *arguments)
        case "lost":
            revision, holder, heartbeat = arguments
            return ev.CampaignLost(now, revision, holder if revision else None, heartbeat)
        case "won":
            return ev.CampaignWon(now, arguments[0], now)
        case "gone":
            return ev.HolderGone(now, arguments[0])
    simple: dict[str, ev.Event] = {
        "unanswered": ev.CampaignFailed(now),
        "activated": ev.Activated(now),
        "activation failed": ev.ActivationFailed(),
        "fence refused": ev.FenceLost(),
        "lease lost": ev.LeaseLost(),
        "stop": ev.StopRequested(now),
        "probe committed": ev.ProbeCommitted(now),
        "probe failed": ev.ProbeFailed(now),
        "asked": ev.HandoverRequested(now),
        "drained": ev.Drained(now),
        "drained in part": ev.Drained(now, complete=False),
        "handed over": ev.HandedOver(),
        "handover refused": ev.HandoverRefused(now),
        "handover unknown": ev.HandoverUnknown(now),
        "resigned": ev.Resigned(),
    }
    return simple.get(name, ev.Tick(now))


@dataclass
class Witness:
    """Judges instructions by the events that came before."""

    exclusive: bool
    view: ev.Observed | None = None
    heartbeat_received_at: float = 0.0
    proof_at: float = 0.0
    gone: int = 0
    wait_until: float = 0.0
    longest_guard_s: float = GUARD_S
    drained: bool = False
    orders: list[type] = field(default_factory=list)
    seen: list[type] = field(default_factory=list)

    def told(self, event: ev.Event) -> None:
        """An event was taken."""
        self.seen.append(type(event))
        match event:
            case ev.Observed() if self.view is None or event.revision >= self.view.revision:
                if self.view is None or self.view.heartbeat_mod_revision != event.heartbeat_mod_revision:
                    self.heartbeat_received_at = event.now
                self.view = event
            case ev.ProbeCommitted(now):
                self.proof_at = now
            case ev.HolderGone(_, revision):
                self.gone = max(self.gone, revision)
            case ev.Drained():
                self.drained = True

    def ordered(self, instruction: ev.Instruction, event: ev.Event, now: float) -> None:
        """An instruction followed."""
        assert ev.EndSession not in self.orders, "an order after the end"
        match instruction:
            case ev.Campaign():
                assert ev.BeginTerm not in self.orders
                self._campaigns(instruction)
            case ev.Prepare(offer):
                assert self.view is not None
                assert self.view.offer is not None
                assert self.view.offer.mod_revision == offer
                assert self.view.offer.by == self.view.holder_server_id != ME
            case ev.BeginTerm(epoch):
                assert ev.BeginTerm not in self.orders
                assert epoch == self._won_by(event)
            case ev.Serve():
                assert self.orders.count(ev.BeginTerm) == 1
                assert ev.Serve not in self.orders
                assert ev.Drain not in self.orders
                assert ev.Activated in self.seen
                assert now >= self.wait_until, "within the previous holder's guard"
            case ev.MakeOffer():
                assert ev.Serve in self.orders
            case ev.Drain():
                assert ev.BeginTerm in self.orders
                self.drained = False
            case ev.HandOver():
                assert self.drained
                assert ev.Serve in self.orders
            case ev.Reopen():
                in_part = isinstance(event, ev.Drained) and not event.complete
                assert in_part or isinstance(event, ev.HandoverRefused), "leadership may be another's"
            case ev.Resign():
                assert self.drained
                assert now >= self.wait_until, "the heartbeat is deleted within the previous holder's guard"
        self.orders.append(type(instruction))

    def _campaigns(self, order: ev.Campaign) -> None:
        view = self.view
        assert view is not None
        assert order.expected_active_revision == (0 if self.exclusive else view.active_mod_revision)
        assert order.expected_heartbeat_revision == view.heartbeat_mod_revision
        guard_s = GUARD_S if view.holder_guard_s is None else view.holder_guard_s
        silent_at = self.heartbeat_received_at + guard_s + MARGIN_S
        crashed = order.cause is ev.TermCause.CRASH
        if order.expected_active_revision:
            assert view.holder_is_safe, "a Milvus coordinator is waited for"
            assert self.gone == view.active_mod_revision if crashed else self.proof_at >= silent_at
        if view.heartbeat_mod_revision and not (crashed and view.heartbeat_settled):
            self.wait_until = max(self.wait_until, silent_at)
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
        leading = ev.Serve in witness.orders or subject.state is ev.State.ENDED
        if not leading and now < witness.wait_until:
            promise = subject.promise(now)
            assert promise.serve_guard_s >= witness.longest_guard_s
            assert not promise.settled
    return witness


LIFE = st.lists(st.tuples(STEPS, EVENTS), max_size=40)


def quick(*names: str) -> list[tuple[float, Build]]:
    return [(0.1, (name, ())) for name in names]


def observed(
    revision: int,
    active: int = 0,
    heartbeat: int = 0,
    guard_s: float | None = None,
    holder: int | None = None,
    *,
    settled: bool = False,
    offer: ev.Offer | None = None,
    standbys: tuple[ev.Standby, ...] = (),
) -> tuple[float, Build]:
    arguments = (revision, active, heartbeat, guard_s, holder, True, settled, offer, standbys)
    return 0.1, ("observed", arguments)


FREE = observed(1)
WON: tuple[float, Build] = (0.1, ("won", (2,)))
HELD = observed(1, 1, 1, 0.5, 3, settled=True)
SERVING = [FREE, WON, *quick("activated"), observed(2, 2, 2, None, ME, standbys=(ev.Standby(7, 1),))]
READY = observed(4, 2, 2, None, ME, offer=ev.Offer(3, ME, 0), standbys=(ev.Standby(7, 4, 3),))


@given(life=LIFE, exclusive=st.booleans())
@example(life=[FREE, WON, *quick("activated", "stop", "drained", "resigned")], exclusive=False)
@settings(max_examples=300, deadline=None)
def test_no_order_of_events_breaks_a_promise(life: list[tuple[float, Build]], exclusive: bool) -> None:
    run(life, exclusive=exclusive)


@given(life=LIFE)
@settings(max_examples=200, deadline=None)
def test_nor_once_a_campaign_is_under_way(life: list[tuple[float, Build]]) -> None:
    run([observed(1, 0, 1, 6.0), *life], exclusive=False)


@given(life=LIFE, guard_s=GUARDS, settled=st.booleans())
@settings(max_examples=200, deadline=None)
def test_nor_when_a_holder_crashed(life: list[tuple[float, Build]], guard_s: float, settled: bool) -> None:
    run([observed(1, 1, 1, guard_s, 3, settled=settled), (0.1, ("gone", (1,))), *life], exclusive=False)


@given(life=LIFE, guard_s=GUARDS)
@settings(max_examples=200, deadline=None)
def test_nor_in_a_term(life: list[tuple[float, Build]], guard_s: float | None) -> None:
    run([observed(1, 0, 1, guard_s), WON, *life], exclusive=False)


@given(life=LIFE, drained=st.booleans())
@settings(max_examples=200, deadline=None)
def test_nor_while_leadership_is_passed_on(life: list[tuple[float, Build]], drained: bool) -> None:
    run([*SERVING, *quick("asked"), READY, *quick("drained")[: int(drained)], *life], exclusive=False)


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_witness_sees_a_whole_life(exclusive: bool) -> None:
    witness = run([FREE, WON, *quick("activated", "stop", "drained", "resigned")], exclusive=exclusive)

    assert witness.orders == [ev.Campaign, ev.BeginTerm, ev.Serve, ev.Drain, ev.Resign, ev.EndSession]


def test_the_witness_sees_a_steal_by_silence() -> None:
    silence = [*quick("probe committed")] * 12
    witness = run(
        [HELD, *silence, *quick("tick", "probe committed"), WON, *quick("activated")], exclusive=False
    )

    assert witness.orders[-3:] == [ev.Campaign, ev.BeginTerm, ev.Serve]


def test_the_witness_sees_a_handover() -> None:
    witness = run([*SERVING, *quick("asked"), READY, *quick("drained", "handed over")], exclusive=False)

    assert witness.orders[3:] == [ev.MakeOffer, ev.Drain, ev.HandOver, ev.EndSession]
