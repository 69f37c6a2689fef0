"""What must hold whatever goes wrong. Checked after every event of every process, in true time.

* exclusive: from the moment a replica of epoch e may answer, none of an older epoch may, ever again. What
  counts is whether it *could*, a paused one if it woke now: an overlap shows even if no request hits it.
* fenced: no term writes after its ACTIVE key was replaced or deleted.
* polite: the ACTIVE key is replaced only if its holder is one of coordd, and gone, or silent for longer than
  it may answer; leadership is handed only to a standby that says that it is ready; nobody repeats a campaign
  that was lost from what it saw then.
* ordered: timestamps are unique, and a request that starts after another was answered gets a higher one.
* lively: when the faults end some replica serves within a bound, and whoever was told to stop has ended.

Some themes have one kind of fault and a network that works (`Scenario.quiet`); there more is promised:

* outages: an etcd that is down and comes back costs no change of roles.
* switchovers: the ACTIVE key is never absent, and no request that was held or forwarded fails.
* crashes, cutoffs: somebody serves within a bound (see `faults`), and nobody loses more than one campaign for
  each change of roles.

With the theme `fooled` live processes are taken for dead. Then only the fence is promised, and that no
timestamp is given twice. Of Milvus' own coordinator nothing is promised, so nothing is checked.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from coordd.ha import election_events as ev

from .gate_model import Request
from .process_model import Process

if TYPE_CHECKING:
    from .coordd_model import Session
    from .world import World

Views = tuple[int, int, int]


class Violation(AssertionError):
    """A promise was broken."""


class Invariants:
    """The checks of one run, and what they must remember."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_fooled = world.scenario.theme == "fooled"
        self._serving_epoch = 0
        self._answered_epoch = 0
        self._answered: set[int] = set()
        self._campaigns: dict[int, Views] = {}
        self._lost: dict[int, Views] = {}
        self.highest_answered = 0
        self.lost_campaigns = 0
        self.forwarded = 0
        """Requests that an heir answered for a former active."""
        self.handovers = 0
        self.steals = {ev.TermCause.CRASH: 0, ev.TermCause.SILENCE: 0}

    @property
    def answers(self) -> int:
        """Requests answered so far."""
        return len(self._answered)

    def after_event(self, process: Process) -> None:
        """Something happened in `process`."""
        session = process.session
        if session is None or not session.gate.answering or not session.gate.could_answer():
            return
        epoch = session.election.epoch
        if epoch == self._serving_epoch or self._is_fooled:
            return
        if epoch < self._serving_epoch:
            raise Violation(
                f"exclusive: server {session.server_id} may answer under epoch {epoch}, "
                f"but epoch {self._serving_epoch} serves"
            )
        for other in self._world.processes:
            rival = other.session
            if other is not process and not other.dead and rival is not None and rival.gate.could_answer():
                raise Violation(
                    f"exclusive: server {session.server_id} serves epoch {epoch} while server "
                    f"{rival.server_id} may answer under epoch {rival.election.epoch} for "
                    f"{rival.guard.remaining_s(other.clock()):.6f} s more"
                )
        self._serving_epoch = epoch

    # --- requests ---

    def answered(self, session: Session, request: Request) -> None:
        """A request was answered with its timestamp."""
        timestamp, epoch = request.timestamp, session.election.epoch
        self._world.note(session.process, f"answers {timestamp}")
        if timestamp in self._answered:
            raise Violation(f"ordered: timestamp {timestamp} was answered twice")
        self._answered.add(timestamp)
        self.forwarded += request.forwarded
        if self._is_fooled:
            return
        if epoch < self._answered_epoch:
            raise Violation(
                f"exclusive: an answer of epoch {epoch} after one of epoch {self._answered_epoch}"
            )
        if timestamp <= request.answered_before:
            raise Violation(
                f"ordered: timestamp {timestamp}, though {request.answered_before} was answered before"
            )
        self._answered_epoch = epoch
        self.highest_answered = max(self.highest_answered, timestamp)

    def failed(self, request: Request, why: str) -> None:
        """A request gets no answer."""
        if self._world.scenario.theme == "switchovers":
            kind = "forwarded" if request.forwarded else "held"
            raise Violation(f"switchovers: a request failed ({kind}): {why}")

    # --- how leadership passes ---

    def campaigning(self, session: Session, order: ev.Campaign) -> None:
        """A campaign is about to be sent."""
        view = session.process.view
        if view is None or view.active_mod_revision != order.expected_active_revision:
            raise Violation(f"polite: server {session.server_id} campaigns against what it sees")
        if order.expected_active_revision and not view.holder_is_safe:
            raise Violation(f"polite: server {session.server_id} would steal from Milvus")
        keys = (order.expected_active_revision, order.expected_heartbeat_revision)
        seen = (*keys, 0 if order.expected_active_revision else view.revision)
        if self._lost.get(session.server_id) == seen:
            raise Violation(f"polite: server {session.server_id} knocks again where it was turned away")
        self._campaigns[session.server_id] = seen

    def campaign_lost(self, session: Session) -> None:
        """A campaign was refused, and its sender has heard of it."""
        self.lost_campaigns += 1
        self._lost[session.server_id] = self._campaigns[session.server_id]

    def stealing(self, session: Session, order: ev.Campaign) -> None:
        """A campaign arrives at etcd; remember what would justify it."""
        etcd, world = self._world.etcd, self._world
        self._order, self._thief = order, session
        view = etcd.history[-1]
        guard_s = view.beat.guard_s if view.beat else session.process.guard_s
        since = etcd.heartbeat_at if view.beat else etcd.active_at
        self._silent_enough = world.queue.now - since >= guard_s + world.scenario.margin_s

    def campaigned(self) -> None:
        """The campaign that has just arrived was committed."""
        before, order, thief = self._world.etcd.history[-2], self._order, self._thief
        if not before.active_mod_revision:
            return
        who = f"polite: server {thief.server_id} replaced the ACTIVE key of server {before.holder}"
        if not before.holder_is_safe or not order.expected_active_revision:
            raise Violation(f"{who}, which it must leave alone")
        if order.cause is ev.TermCause.CRASH:
            if not self._is_fooled and before.holder not in self._world.gone:
                raise Violation(f"{who}, which is not gone")
        elif not self._silent_enough:
            raise Violation(f"{who}, which is not silent")
        self.steals[order.cause] += 1

    def handed_over(self, session: Session, heir: int, ready_for: int) -> None:
        """A handover was committed."""
        self.handovers += 1
        if not ready_for:
            raise Violation(f"polite: server {session.server_id} passed on to {heir}, which is not ready")

    def committed(self, session: Session, active_mod_revision: int) -> None:
        """A write of a term was committed while the ACTIVE key had that revision."""
        if session.election.epoch != active_mod_revision:
            raise Violation(
                f"fenced: server {session.server_id} wrote under epoch {session.election.epoch} "
                f"at ACTIVE revision {active_mod_revision}"
            )

    # --- the end ---

    def recovered(self) -> bool:
        """Whether some replica serves and everyone who was told to stop has ended."""
        return self._world.somebody_serves() and not any(
            process.condemned and not process.dead for process in self._world.processes
        )

    def served_again(self, what: str, within_s: float) -> None:
        """The time in which somebody must serve is over; nothing else went wrong meanwhile."""
        if not self._world.somebody_serves():
            raise Violation(f"lively: nobody serves {within_s:.3f} s after {what}")

    def at_end(self) -> None:
        """The run is over."""
        history, scenario = self._world.etcd.history, self._world.scenario
        changes = sum(
            before.active_mod_revision != after.active_mod_revision for before, after in pairwise(history)
        )
        if scenario.theme == "outages" and changes > 1:
            raise Violation(f"outages: {changes - 1} changes of roles though nothing but etcd was down")
        if scenario.theme == "switchovers":
            held = False
            for view in history:
                if held and not view.active_mod_revision:
                    raise Violation(f"switchovers: the ACTIVE key was absent at revision {view.revision}")
                held = held or view.active_mod_revision > 0
        if scenario.quiet and self.lost_campaigns > changes * len(self._world.machines):
            raise Violation(f"polite: {self.lost_campaigns} lost campaigns for {changes} changes of roles")
