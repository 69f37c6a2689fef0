"""The simulation can fail: each bug planted here is found within a bounded number of seeds.

A bug is a subclass of something the runs are made of. Where the way to a violation is long, `bias` leads the
seeds towards it; most are found without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from coordd.ha import election as el
from coordd.ha import election_events as ev
from coordd.ha.guard import ServeGuard
from tests.support.ahead import parameters

from .coordd_model import Compares, CoorddProcess, Session
from .etcd_model import HEARTBEAT
from .gate_model import Gate
from .invariants import Violation
from .process_model import Machine
from .timestamps_model import Timestamps
from .world import Parts, World, transcript_of

ENOUGH_SEEDS = 3000


class GuardRunsFromTheAnswer(Session):
    """The serve guard runs from the heartbeat's answer instead of from before it was sent."""

    def heartbeat_acked(self, sent_at: float) -> None:
        super().heartbeat_acked(max(sent_at, self.process.clock()))


class GuardNeverPasses(ServeGuard):
    """Answers leave as long as the term is believed to last."""

    def valid(self, now: float) -> bool:
        return not self._closed and now > 0


class GuardClockStops(CoorddProcess):
    """Time is read from a clock that stops while the process is (CLOCK_MONOTONIC in a suspended machine)."""

    def __init__(self, world: World, machine: Machine, guard_s: float) -> None:
        super().__init__(world, machine, guard_s)
        self._slept_s = 0.0
        self._asleep_since = 0.0

    def clock(self) -> float:
        return super().clock() - self._slept_s

    def pause(self) -> None:
        self._asleep_since = super().clock()
        super().pause()

    def resume(self) -> None:
        if self.paused:
            self._slept_s += super().clock() - self._asleep_since
        super().resume()


class NoSecondCheck(Gate):
    """The guard is checked before a handler starts, not again before it answers."""

    def may_answer(self) -> bool:
        return self.answering

    def may_start(self) -> bool:
        return self.accepting and self.session.guard.valid(self.session.process.clock())


# --- taking over ----------------------------------------------------------------------------------------


class ServesAtOnce(el.Election):
    """The winner does not wait for the previous holder's guard to run out."""

    def _take_on_predecessor(self, view: ev.Observed, now: float, *, crashed: bool) -> None:
        self.serve_after = now


class NoMargin(el.Election):
    """The winner waits for the guard as its own clock counts it, without a margin for the other clock."""

    def _take_on_predecessor(self, view: ev.Observed, now: float, *, crashed: bool) -> None:
        super()._take_on_predecessor(view, now, crashed=crashed)
        self.serve_after = max(now, self.serve_after - self.settings.margin_s)


class WaitsForItsOwnGuard(el.Election):
    """The winner waits as long as its own guard would last, whatever the heartbeat says of its author's."""

    def _observed(self, event: ev.Observed) -> Sequence[ev.Instruction]:
        return super()._observed(replace(event, holder_guard_s=None))


class PublishesItsOwnGuard(el.Election):
    """A winner that is not settled yet publishes its own, shorter guard."""

    def promise(self, now: float) -> el.Promise:
        return replace(super().promise(now), serve_guard_s=self.settings.serve_guard_s)


class ClaimsToBeSettled(el.Election):
    """A winner that still waits for the previous holder says that nobody need be waited for."""

    def promise(self, now: float) -> el.Promise:
        return replace(super().promise(now), settled=True)


class IgnoresSettled(el.Election):
    """Whoever takes a crashed holder's place serves at once, even if that one was still waiting itself."""

    def _take_on_predecessor(self, view: ev.Observed, now: float, *, crashed: bool) -> None:
        super()._take_on_predecessor(replace(view, heartbeat_settled=True), now, crashed=crashed)


class ReleasesUnsettled(el.Election):
    """A replica that stops within the previous holder's guard deletes the heartbeat all the same."""

    def _give_up(self, reason: ev.EndReason) -> Sequence[ev.Instruction]:
        self._settled = True
        return super()._give_up(reason)


class ForgetsItsCampaign(el.Election):
    """A campaign without an answer is taken for one that failed."""

    def _observed(self, event: ev.Observed) -> Sequence[ev.Instruction]:
        return super()._observed(replace(event, holder_server_id=None))


class CampaignsUnseen(el.Election):
    """Campaigns whether or not the ACTIVE key has been seen to be there."""

    def _find_opening(self, view: ev.Observed, now: float) -> ev.TermCause | None:
        return super()._find_opening(view, now) or ev.TermCause.LEASE_ENDED


class StealsFromMilvus(el.Election):
    """Takes every holder for one that honours fence and guard."""

    def _observed(self, event: ev.Observed) -> Sequence[ev.Instruction]:
        return super()._observed(replace(event, holder_is_safe=True))


class CampaignsWithoutCompare(Session):
    """The campaign does not compare the ACTIVE key."""

    def campaign_compares(self, order: ev.Campaign) -> Compares:
        return ((HEARTBEAT, order.expected_heartbeat_revision),)


class CampaignsPastAHeartbeat(Session):
    """A campaign for a vacant role does not compare that the last heartbeat is the one that was observed."""

    def campaign_compares(self, order: ev.Campaign) -> Compares:
        compares = super().campaign_compares(order)
        return compares if order.expected_active_revision else compares[:1]


class StealsPastAHeartbeat(Session):
    """A steal does not compare the heartbeat."""

    def campaign_compares(self, order: ev.Campaign) -> Compares:
        compares = super().campaign_compares(order)
        return compares[:1] if order.expected_active_revision else compares


class KnocksAgainAndAgain(el.Election):
    """A refused campaign is repeated from the same old view."""

    def _is_refused(self, view: ev.Observed) -> bool:
        return False


# --- silence --------------------------------------------------------------------------------------------


class TakesSilenceForProof(el.Election):
    """A holder that was not heard of is taken for silent, whether or not etcd would have told."""

    def _find_opening(self, view: ev.Observed, now: float) -> ev.TermCause | None:
        self._proof_at = now
        return super()._find_opening(view, now)


class MissesTheGap(el.Election):
    """The count of silence goes on though etcd committed nothing for a while."""

    def _probe_committed(self, event: ev.ProbeCommitted) -> Sequence[ev.Instruction]:
        self._proof_at = event.now
        return super()._probe_committed(event)


class CountsFromTheLastButOne(el.Election):
    """Silence, and the wait for the previous holder, count from the heartbeat before the last one."""

    def _observed(self, event: ev.Observed) -> Sequence[ev.Instruction]:
        received_at = self._heartbeat_received_at or event.now
        known = self._view.heartbeat_mod_revision if self._view else event.heartbeat_mod_revision
        orders = super()._observed(event)
        if known != event.heartbeat_mod_revision:
            self._heartbeat_received_at = self._quiet_since = received_at
        return orders


class ForgetsTheMarginOfSilence(el.Election):
    """A holder counts as silent as soon as its guard has run out on our own clock."""

    def _silent_at(self, view: ev.Observed) -> float:
        return super()._silent_at(view) - self.settings.margin_s


# --- passing leadership on ------------------------------------------------------------------------------


class HandsOverUndrained(Gate):
    """Leadership is handed over while requests are still being answered."""

    def drain(self) -> None:
        session = self.session
        if session.election.state is ev.State.HANDING_OVER:
            session.handle(ev.Drained(session.process.clock()))
        else:
            super().drain()


class ReopensInDoubt(el.Election):
    """A handover whose outcome is unknown is taken for one that failed."""

    def _handover_unknown(self, event: ev.HandoverUnknown) -> Sequence[ev.Instruction]:
        return self._handover_refused(ev.HandoverRefused(event.now))


class IgnoresTheReport(Session):
    """The handover does not compare the report in which the heir says that it is ready."""

    def handover_compares(self, order: ev.HandOver) -> Compares:
        return self.fence()


class HandsOverUnfenced(Session):
    """The handover does not compare the epoch."""

    def handover_compares(self, order: ev.HandOver) -> Compares:
        return super().handover_compares(order)[1:]


class ResignsBeforeHandingOver(el.Election):
    """A replica that is told to stop gives leadership up, though a standby could inherit it."""

    def _stop_requested(self, event: ev.StopRequested) -> Sequence[ev.Instruction]:
        if self.state is ev.State.ACTIVE:
            self._stopping = True
            return self._give_up(ev.EndReason.STOPPED)
        return super()._stop_requested(event)


class ResignsBeforeItsLastAnswer(Gate):
    """Leadership is given up, and the heartbeat deleted, while requests are still being answered."""

    def drain(self) -> None:
        session = self.session
        if session.election.state is ev.State.RESIGNING:
            session.beating = False
            session.handle(ev.Drained(session.process.clock()))
        else:
            super().drain()


class StopsOnlyAsLeader(el.Election):
    """SIGTERM is not heard in STANDBY, as in Milvus' coordinators."""

    def _stop_requested(self, event: ev.StopRequested) -> Sequence[ev.Instruction]:
        return () if self.state is ev.State.STANDBY else super()._stop_requested(event)


# --- writes ---------------------------------------------------------------------------------------------


class Unfenced(Session):
    """Writes of a term do not compare the epoch."""

    def fence(self) -> Compares:
        return ()


class WindowUnfenced(Timestamps):
    """One write of a term, that of the window of timestamps, does not compare the epoch."""

    def compares(self, revision: int) -> Compares:
        return super().compares(revision)[1:]


class WindowFromZero(Timestamps):
    """A window of timestamps that cannot be read is taken for none."""

    def unreadable(self) -> None:
        self.start(0, 0)


class WindowForgotten(Timestamps):
    """The window's end is not looked at: the clock will do."""

    def start(self, end_ms: int, revision: int) -> None:
        super().start(0, revision)


class WindowPutBack(Timestamps):
    """The window is written without comparing its revision: a late write puts an older end back."""

    def compares(self, revision: int) -> Compares:
        return self.session.fence()


@dataclass(frozen=True)
class Planted:
    """A bug, the promise it breaks, and where to look for it."""

    parts: Parts
    broken: str
    bias: Mapping[str, Any] = field(default_factory=dict)


ROLLING_CHANGE = {
    "theme": "operators",
    "guards_s": (2.0, 0.5, 0.5),
    "margin_s": 0.3,
    "activation_failures": 0.5,
}

PASSING_ON = {"theme": "passing on", "faults": 24, "milvus_replicas": 0}
LOST_MESSAGES = {
    "theme": "asked", "faults": 24, "milvus_replicas": 0, "loss": 0.08, "slow_share": 0.12,
    "slow_delay_s": 5.0, "work_s": 1.5, "drain_s": 1.0, "client_interval_s": 0.1, "activation_failures": 0.0,
}  # fmt: skip

BUGS = {
    "GuardRunsFromTheAnswer": Planted(Parts(session=GuardRunsFromTheAnswer), "exclusive"),
    "GuardNeverPasses": Planted(Parts(guard=GuardNeverPasses), "exclusive"),
    "GuardClockStops": Planted(Parts(process=GuardClockStops), "exclusive"),
    "NoSecondCheck": Planted(Parts(gate=NoSecondCheck), "exclusive"),
    "ServesAtOnce": Planted(Parts(election=ServesAtOnce), "exclusive"),
    "NoMargin": Planted(Parts(election=NoMargin), "exclusive"),
    "WaitsForItsOwnGuard": Planted(Parts(election=WaitsForItsOwnGuard), "exclusive", {"theme": "takeovers"}),
    "PublishesItsOwnGuard": Planted(Parts(election=PublishesItsOwnGuard), "exclusive", ROLLING_CHANGE),
    "ClaimsToBeSettled": Planted(Parts(election=ClaimsToBeSettled), "exclusive", ROLLING_CHANGE),
    "IgnoresSettled": Planted(Parts(election=IgnoresSettled), "exclusive", ROLLING_CHANGE),
    "ReleasesUnsettled": Planted(Parts(election=ReleasesUnsettled), "exclusive"),
    "ForgetsItsCampaign": Planted(Parts(election=ForgetsItsCampaign), "switchovers"),
    "CampaignsUnseen": Planted(Parts(election=CampaignsUnseen), "polite"),
    "StealsFromMilvus": Planted(Parts(election=StealsFromMilvus), "polite", {"milvus_replicas": 1}),
    "CampaignsWithoutCompare": Planted(Parts(session=CampaignsWithoutCompare), "polite"),
    "CampaignsPastAHeartbeat": Planted(
        Parts(session=CampaignsPastAHeartbeat), "exclusive", {"sees_gone": 0.0, "theme": "takeovers"}
    ),
    "StealsPastAHeartbeat": Planted(Parts(session=StealsPastAHeartbeat), "polite"),
    "KnocksAgainAndAgain": Planted(Parts(election=KnocksAgainAndAgain), "polite"),
    "TakesSilenceForProof": Planted(Parts(election=TakesSilenceForProof), "outages"),
    "MissesTheGap": Planted(Parts(election=MissesTheGap), "outages"),
    "CountsFromTheLastButOne": Planted(Parts(election=CountsFromTheLastButOne), "polite"),
    "ForgetsTheMarginOfSilence": Planted(Parts(election=ForgetsTheMarginOfSilence), "polite"),
    "HandsOverUndrained": Planted(Parts(gate=HandsOverUndrained), "exclusive", LOST_MESSAGES),
    "ReopensInDoubt": Planted(Parts(election=ReopensInDoubt), "exclusive", LOST_MESSAGES),
    "IgnoresTheReport": Planted(Parts(session=IgnoresTheReport), "polite", PASSING_ON),
    "HandsOverUnfenced": Planted(Parts(session=HandsOverUnfenced), "fenced", LOST_MESSAGES),
    "ResignsBeforeHandingOver": Planted(Parts(election=ResignsBeforeHandingOver), "switchovers"),
    "ResignsBeforeItsLastAnswer": Planted(
        Parts(gate=ResignsBeforeItsLastAnswer), "exclusive",
        {"theme": "rolling", "work_s": 1.5, "client_interval_s": 0.1},
    ),
    "StopsOnlyAsLeader": Planted(Parts(election=StopsOnlyAsLeader), "lively"),
    "Unfenced": Planted(Parts(session=Unfenced), "fenced"),
    "WindowUnfenced": Planted(Parts(timestamps=WindowUnfenced), "fenced"),
    "WindowFromZero": Planted(Parts(timestamps=WindowFromZero), "ordered"),
    "WindowForgotten": Planted(Parts(timestamps=WindowForgotten), "ordered"),
    "WindowPutBack": Planted(
        Parts(timestamps=WindowPutBack), "ordered",
        {"theme": "stragglers", "faults": 60, "faults_end_s": 20.0, "request_timeout_s": 0.5,
         "client_interval_s": 0.05, "work_s": 0.005},
    ),
}  # fmt: skip


def first_violation(planted: Planted) -> tuple[int, str] | None:
    """The first seed that breaks a promise, and which; None if none does."""
    for seed in range(ENOUGH_SEEDS):
        try:
            World(seed, planted.parts, bias=planted.bias).run()
        except Violation as violation:
            return seed, str(violation)
    return None


def look_for(name: str) -> tuple[int, str] | None:
    """`first_violation` of the bug of that name: a process can be told a name."""
    return first_violation(BUGS[name])


@pytest.fixture(scope="module")
def finds(
    request: pytest.FixtureRequest, pool: ProcessPoolExecutor
) -> dict[str, Future[tuple[int, str] | None]]:
    """What is found of each bug."""
    return {name: pool.submit(look_for, name) for name in parameters(request, "name")}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_found(name: str, finds: dict[str, Future[tuple[int, str] | None]]) -> None:
    found = finds[name].result()

    assert found is not None, f"{ENOUGH_SEEDS} seeds do not find it"
    assert found[1].startswith(BUGS[name].broken)


def test_a_failing_seed_fails_again_with_a_transcript() -> None:
    planted = BUGS["ServesAtOnce"]
    found = first_violation(planted)
    assert found is not None
    seed, violation = found

    transcript = transcript_of(seed, planted.parts)

    assert transcript.splitlines()[0].startswith(f"seed {seed}: Scenario(")
    assert transcript.splitlines()[-1].endswith(f"*** {violation}")
    assert "-> Campaign(expected_active_revision=" in transcript
    assert transcript == transcript_of(seed, planted.parts)
