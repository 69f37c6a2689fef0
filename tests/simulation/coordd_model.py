"""A coordd process: session after session around the real election and serve guard.

A `Session` does what `coordd.ha.candidacy` does, without its I/O: it carries instructions out by messages and
tells the election what came of them. What decides nothing is left out (ports, companions, tables). The bugs
that the tests plant are subclasses of what is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from coordd.ha import election as el
from coordd.ha import election_events as ev

from .etcd_model import ACTIVE, HEARTBEAT, LEASE_NOT_FOUND, Answer, EtcdModel, Leadership
from .process_model import Machine, Process

if TYPE_CHECKING:
    from .network import Done
    from .world import World

PARTING_TIMEOUT_S = 1.0
REGISTRATION_RETRY_S = 1.0
SESSION_PAUSE_S = 0.1
ACTIVATION_PAUSE_S = 1.0
TIMER_SLACK_S = 0.001
"""An event loop's timers fire a little late."""

Compares = tuple[tuple[str, int], ...]
Puts = tuple[tuple[str, object, int], ...]


class CoorddProcess(Process):
    """Registers, runs a session until it ends, registers again."""

    def __init__(self, world: World, machine: Machine, guard_s: float) -> None:
        super().__init__(world, machine)
        self.guard_s = guard_s

    def start(self) -> None:
        """Register: a lease, and the first range read."""
        if not self.stopping:
            world = self.world
            world.network.call(self, world.scenario.request_timeout_s, self._registered, self._register)

    def _register(self) -> int:
        if self.view is None:
            self.follow()
        return self.world.etcd.grant(self.world.scenario.ttl_s)

    def _registered(self, lease_id: int | None, sent_at: float) -> None:
        if self.stopping:
            return
        if lease_id is None:
            self.after(REGISTRATION_RETRY_S, self.start)
            return
        self.session = self.world.parts.session(self, lease_id, sent_at)
        self.session.begin()

    def observe(self, view: Leadership) -> None:
        """Show the session what the follower sees."""
        if self.session is not None:
            self.session.observe(view)

    def terminate(self) -> None:
        """SIGTERM: the session ends in good order, then the process."""
        self.stopping = True
        if self.session is None:
            self.exit()
        else:
            self.session.handle(ev.StopRequested())

    def session_ended(self, reason: ev.EndReason) -> None:
        """Go on with a new session, unless it was the last."""
        self.session = None
        if self.stopping:
            self.exit()
            return
        failed = reason is ev.EndReason.ACTIVATION_FAILED
        self.after(ACTIVATION_PAUSE_S if failed else SESSION_PAUSE_S, self.start)

    def client_request(self) -> None:
        """Hand it to the session."""
        if self.session is not None:
            self.session.client_request()


class Session:
    """One session: its election, its serve guard and, if it wins, its term."""

    def __init__(self, process: CoorddProcess, lease_id: int, granted_at: float) -> None:
        world = process.world
        self.process = process
        self.world = world
        self.etcd: EtcdModel = world.etcd
        self.lease_id = lease_id
        self.server_id = world.next_server_id()
        self.election = world.parts.election(
            el.ElectionSettings(
                server_id=self.server_id, serve_guard_s=process.guard_s, margin_s=world.scenario.margin_s
            )
        )
        self.guard = world.parts.guard(process.guard_s)
        self.guard.keepalive_acked(granted_at, world.scenario.ttl_s)
        self.timestamps = world.parts.timestamps(self)
        self.ended = False
        self.in_flight = 0
        self.accepting = False
        """Between `Serve` and `Drain`: requests may start."""
        self.answering = False
        """Between `Serve` and the moment of `Drained`: requests may be answered."""
        self.beating = True
        self._tick_at: float | None = None

    # --- the election ---

    def begin(self) -> None:
        """Stand by."""
        self._keep_alive()
        view = self.process.view
        if view is not None:
            self.observe(view)

    def observe(self, view: Leadership) -> None:
        """The leadership keys have been observed."""
        self.handle(
            ev.Observed(
                now=self.process.clock(),
                revision=view.revision,
                active_mod_revision=view.active_mod_revision,
                heartbeat_mod_revision=view.heartbeat_mod_revision,
                holder_guard_s=view.guard_s,
                holder_server_id=view.holder,
            )
        )

    def handle(self, event: ev.Event) -> None:
        """Let the election take an event, carry out what it orders."""
        if self.ended:
            return
        election = self.election
        instructions = election.handle(event)
        if self.world.tracing:
            self.world.trace_event(self, event, instructions)
        election.check_invariants()
        for instruction in instructions:
            self._perform(instruction)
        deadline = election.next_deadline()
        if deadline is not None and deadline != self._tick_at and not self.ended:
            self._tick_at = deadline
            delay_s = max(0.0, deadline - self.process.clock()) + TIMER_SLACK_S
            self.process.after(delay_s, self._tick, deadline)

    def _tick(self, deadline: float) -> None:
        if deadline == self._tick_at:
            self._tick_at = None
            self.handle(ev.Tick(self.process.clock()))

    def _perform(self, instruction: ev.Instruction) -> None:
        match instruction:
            case ev.Campaign():
                self.world.invariants.campaigning(self)
                self.call(self._campaign_done, self._campaign, instruction.expected_heartbeat_revision)
            case ev.BeginTerm():
                self._beat()
                self.timestamps.load()
            case ev.Serve():
                self.accepting = self.answering = True
            case ev.Drain():
                self.drain()
            case ev.Resign():
                self._resign()
            case ev.EndSession():
                self._end(instruction.reason)
        self.world.faults.state_changed(self.process)

    def _end(self, reason: ev.EndReason) -> None:
        self.ended = True
        self.accepting = self.answering = False
        self.guard.close()
        self.world.network.call(self.process, PARTING_TIMEOUT_S, ignore, self.etcd.revoke, self.lease_id)
        self.process.session_ended(reason)

    # --- campaigning ---

    def _campaign(self, expected_heartbeat: int) -> Answer:
        puts = ((ACTIVE, self.server_id, self.lease_id), (HEARTBEAT, self.election.published_guard_s, 0))
        answer = self.etcd.txn(self.campaign_compares(expected_heartbeat), puts)
        self.world.invariants.campaigned(self, answer)
        return answer

    def campaign_compares(self, expected_heartbeat: int) -> Compares:
        """Nobody holds the role, and the last heartbeat is the one that was observed."""
        return ((ACTIVE, 0), (HEARTBEAT, expected_heartbeat))

    def _campaign_done(self, answer: Answer | None, sent_at: float) -> None:
        if self.ended:
            return
        now = self.process.clock()
        if answer is None:
            self.handle(ev.CampaignFailed(now))
        elif answer is LEASE_NOT_FOUND:
            self.handle(ev.LeaseLost())
        elif answer.succeeded:
            self.guard.heartbeat_acked(sent_at)
            self.handle(ev.CampaignWon(now, answer.revision, sent_at))
        else:
            self._campaign_lost(answer, now)

    def _campaign_lost(self, answer: Answer, now: float) -> None:
        self.world.invariants.lost_campaigns += 1
        active, heartbeat = answer.keys.get(ACTIVE), answer.keys.get(HEARTBEAT)
        self.handle(
            ev.CampaignLost(
                now,
                active.mod_revision if active else 0,
                active.value if active else None,
                heartbeat.mod_revision if heartbeat else 0,
            )
        )

    # --- the term ---

    def fence(self) -> Compares:
        """The compare that every write of the term carries."""
        return ((ACTIVE, self.election.epoch),)

    def fenced_txn(self, compares: Compares, puts: Puts, deletes: tuple[str, ...] = ()) -> Answer:
        """A write of the term, as etcd carries it out."""
        held = self.etcd.mod_revision(ACTIVE)
        answer = self.etcd.txn(compares, puts, deletes)
        if answer.succeeded:
            self.world.invariants.committed(self, held)
        return answer

    def _beat(self) -> None:
        if self.ended or not self.beating:
            return
        puts = ((HEARTBEAT, self.election.published_guard_s, 0),)
        timeout_s = self.process.guard_s
        self.world.network.call(self.process, timeout_s, self._beaten, self.fenced_txn, self.fence(), puts)
        self.process.after(self.world.scenario.heartbeat_interval_s, self._beat)

    def _beaten(self, answer: Answer | None, sent_at: float) -> None:
        if self.ended or answer is None:
            return
        if answer.succeeded:
            self.heartbeat_acked(sent_at)
        else:
            self.handle(ev.FenceLost())

    def heartbeat_acked(self, sent_at: float) -> None:
        """A heartbeat was committed."""
        self.guard.heartbeat_acked(sent_at)

    def _keep_alive(self) -> None:
        if not self.ended:
            self.call(self._kept_alive, self.etcd.keep_alive, self.lease_id)
            self.process.after(self.world.scenario.ttl_s / 3, self._keep_alive)

    def _kept_alive(self, ttl_s: float | None, sent_at: float) -> None:
        if self.ended or ttl_s is None:
            return
        if ttl_s:
            self.guard.keepalive_acked(sent_at, ttl_s)
        else:
            self.handle(ev.LeaseLost())

    # --- requests ---

    def may_answer(self) -> bool:
        """The check that precedes every answer: the term serves, and the serve guard has not passed."""
        return self.answering and self.guard.valid(self.process.clock())

    def may_start(self) -> bool:
        """The check before a handler starts."""
        return self.accepting and self.may_answer()

    def client_request(self) -> None:
        """A handler starts if it may; its work takes a while."""
        if not self.may_start():
            return
        world = self.world
        self.in_flight += 1
        timestamp = self.timestamps.allocate() if world.random() < 0.5 else 0
        work_s = world.scenario.work_s * world.random()
        self.process.after(work_s, self._finish, timestamp, world.invariants.highest_answered)

    def _finish(self, timestamp: int, answered_before: int) -> None:
        if not timestamp:
            timestamp = self.timestamps.allocate()
        if timestamp and not self.ended and self.may_answer():
            self.world.invariants.answered(self, timestamp, answered_before)
        self.in_flight -= 1
        if not self.in_flight and not self.accepting:
            self.drained()

    # --- giving leadership up ---

    def drain(self) -> None:
        """Start nothing new, wait for what is in flight, but not for ever."""
        self.accepting = False
        wait_s = self.world.scenario.drain_s if self.in_flight and self.answering else 0.0
        self.process.after(wait_s, self.drained)

    def drained(self) -> None:
        """Nothing will be answered any more."""
        if not self.ended and self.beating and self.election.state is ev.State.RESIGNING:
            self.answering = self.beating = False
            self.handle(ev.Drained())

    def _resign(self) -> None:
        keys = (ACTIVE, HEARTBEAT)
        self.world.network.call(
            self.process, PARTING_TIMEOUT_S, self._resigned, self.fenced_txn, self.fence(), (), keys
        )

    def _resigned(self, _answer: Answer | None, _sent_at: float) -> None:
        self.handle(ev.Resigned())

    def call(self, done: Done, operation: Callable[..., Any], *arguments: Any) -> None:
        """Send etcd a request with the ordinary time-out."""
        timeout_s = self.world.scenario.request_timeout_s
        self.world.network.call(self.process, timeout_s, done, operation, *arguments)


def ignore(_answer: object, _sent_at: float) -> None:
    """For requests whose answer changes nothing."""
