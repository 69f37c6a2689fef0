"""The simulation can fail: each bug planted here is found within a bounded number of seeds.

A bug is a subclass of something the runs are made of. Where the way to a violation is long, `bias` leads the
seeds towards it; most are found without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from coordd.ha import election as el
from coordd.ha import election_events as ev
from coordd.ha.guard import ServeGuard

from .coordd_model import Compares, CoorddProcess, Session
from .etcd_model import ACTIVE, HEARTBEAT
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


class NoSecondCheck(Session):
    """The guard is checked before a handler starts, not again before it answers."""

    def may_answer(self) -> bool:
        return self.answering

    def may_start(self) -> bool:
        return self.accepting and self.guard.valid(self.process.clock())


class ServesAtOnce(el.Election):
    """The winner does not wait for the previous holder's guard to run out."""

    def _take_on_predecessor(self, view: ev.Observed, now: float) -> None:
        self.serve_after = now


class NoMargin(el.Election):
    """The winner waits for the guard as its own clock counts it, without a margin for the other clock."""

    def _take_on_predecessor(self, view: ev.Observed, now: float) -> None:
        super()._take_on_predecessor(view, now)
        self.serve_after = max(now, self.serve_after - self.settings.margin_s)


class WaitsForItsOwnGuard(el.Election):
    """The winner waits as long as its own guard would last, whatever the heartbeat says of its author's."""

    def _observed(self, event: ev.Observed) -> Sequence[ev.Instruction]:
        return super()._observed(replace(event, holder_guard_s=None))


class PublishesItsOwnGuard(el.Election):
    """A winner that is not settled yet publishes its own, shorter guard."""

    @property
    def published_guard_s(self) -> float:
        return self.settings.serve_guard_s


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

    def _campaign_if_free(self, now: float) -> Sequence[ev.Instruction]:
        assert self._view is not None
        self._campaign_at = None
        self.state = ev.State.CAMPAIGNING
        return (ev.Campaign(self._view.heartbeat_mod_revision),)


class CampaignsWithoutCompare(Session):
    """The campaign does not compare that the ACTIVE key is absent."""

    def campaign_compares(self, expected_heartbeat: int) -> Compares:
        return ((HEARTBEAT, expected_heartbeat),)


class CampaignsPastAHeartbeat(Session):
    """The campaign does not compare that the last heartbeat is the one that was observed."""

    def campaign_compares(self, expected_heartbeat: int) -> Compares:
        return ((ACTIVE, 0),)


class KnocksAgainAndAgain(el.Election):
    """A refused campaign is repeated from the same old view."""

    def _campaign_lost(self, event: ev.CampaignLost) -> Sequence[ev.Instruction]:
        self.state = ev.State.STANDBY
        self._campaign_at = event.now + self.settings.retry_s
        return ()


class Unfenced(Session):
    """Writes of a term do not compare the epoch."""

    def fence(self) -> Compares:
        return ()


class ResignsBeforeItsLastAnswer(Session):
    """Leadership is given up, and the heartbeat deleted, while requests are still being answered."""

    def drained(self) -> None:
        if not self.ended and self.beating and self.election.state is ev.State.RESIGNING:
            self.beating = False
            self.handle(ev.Drained())

    def drain(self) -> None:
        super().drain()
        self.drained()


class StopsOnlyAsLeader(el.Election):
    """SIGTERM is not heard in STANDBY, as in Milvus' coordinators."""

    def _stop_requested(self, event: ev.StopRequested) -> Sequence[ev.Instruction]:
        return () if self.state is ev.State.STANDBY else super()._stop_requested(event)


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

BUGS = {
    "GuardRunsFromTheAnswer": Planted(Parts(session=GuardRunsFromTheAnswer), "exclusive"),
    "GuardNeverPasses": Planted(Parts(guard=GuardNeverPasses), "exclusive"),
    "GuardClockStops": Planted(Parts(process=GuardClockStops), "exclusive"),
    "NoSecondCheck": Planted(Parts(session=NoSecondCheck), "exclusive"),
    "ServesAtOnce": Planted(Parts(election=ServesAtOnce), "exclusive"),
    "NoMargin": Planted(Parts(election=NoMargin), "exclusive"),
    "WaitsForItsOwnGuard": Planted(Parts(election=WaitsForItsOwnGuard), "exclusive"),
    "PublishesItsOwnGuard": Planted(Parts(election=PublishesItsOwnGuard), "exclusive", ROLLING_CHANGE),
    "ReleasesUnsettled": Planted(Parts(election=ReleasesUnsettled), "exclusive"),
    "ForgetsItsCampaign": Planted(Parts(election=ForgetsItsCampaign), "lively"),
    "CampaignsUnseen": Planted(Parts(election=CampaignsUnseen), "polite"),
    "CampaignsWithoutCompare": Planted(Parts(session=CampaignsWithoutCompare), "polite"),
    "CampaignsPastAHeartbeat": Planted(Parts(session=CampaignsPastAHeartbeat), "exclusive"),
    "KnocksAgainAndAgain": Planted(Parts(election=KnocksAgainAndAgain), "lively"),
    "Unfenced": Planted(Parts(session=Unfenced), "fenced"),
    "ResignsBeforeItsLastAnswer": Planted(
        Parts(session=ResignsBeforeItsLastAnswer), "exclusive",
        {"theme": "rolling", "work_s": 1.5, "client_interval_s": 0.1},
    ),
    "StopsOnlyAsLeader": Planted(Parts(election=StopsOnlyAsLeader), "lively"),
    "WindowFromZero": Planted(Parts(timestamps=WindowFromZero), "ordered"),
    "WindowForgotten": Planted(Parts(timestamps=WindowForgotten), "ordered"),
    "WindowPutBack": Planted(
        Parts(timestamps=WindowPutBack), "ordered",
        {"theme": "stragglers", "faults": 24, "request_timeout_s": 0.5, "client_interval_s": 0.1},
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


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_found(name: str) -> None:
    found = first_violation(BUGS[name])

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
    assert "-> Campaign(expected_heartbeat_revision=" in transcript
    assert transcript == transcript_of(seed, planted.parts)
