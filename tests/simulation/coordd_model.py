"""A coordd process: session after session around the real election and serve guard.

A `Session` does what `coordd.ha.candidacy` and `coordd.ha.tenure` do, without their I/O: it carries
instructions out by messages and tells the election what came of them. What decides nothing is left out
(ports, companions, tables). The bugs that the tests plant are subclasses of what is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from coordd.ha import election as el
from coordd.ha import election_events as ev
from coordd.ha.pace import Pace

from .etcd_model import (
    ACTIVE,
    HEARTBEAT,
    LEASE_NOT_FOUND,
    OFFER,
    Answer,
    Beat,
    EtcdModel,
    Holder,
    Leadership,
    report_key,
    session_key,
)
from .gate_model import Request
from .process_model import Machine, Process
from .standby_model import StandingBy

if TYPE_CHECKING:
    from .network import Done
    from .world import World

PARTING_TIMEOUT_S = 1.0
REGISTRATION_RETRY_S = 1.0
SESSION_PAUSE_S = 0.1
ACTIVATION_PAUSE_S = 1.0
HEARTBEAT_RETRY_S = 0.05
HANDOVER_TIMEOUT_S = 1.0
HANDOVER_RETRY_S = 0.2
FORWARDING_S = 1.0
"""How long a former active passes on what still comes to it."""
TIMER_SLACK_S = 0.001
"""An event loop's timers fire a little late."""

Compares = tuple[tuple[str, int], ...]
Puts = tuple[tuple[str, object, int], ...]


class CoorddProcess(Process):
    """Registers, runs a session until it ends, registers again."""

    def __init__(self, world: World, machine: Machine, guard_s: float) -> None:
        super().__init__(world, machine)
        self.guard_s = guard_s
        self.synced = True
        """Whether the follower believes that its watch delivers."""
        self._heir = 0
        self._led_at = 0
        """Epoch of the term that was handed over."""
        self._forwards_until = 0.0

    def start(self) -> None:
        """Register: a server ID, a lease with the session's key on it, and the first range read."""
        if not self.stopping:
            world = self.world
            world.network.call(self, world.scenario.request_timeout_s, self._registered, self._register)

    def _register(self) -> tuple[int, int]:
        if self.view is None:
            self.follow()
        etcd, server_id = self.world.etcd, self.world.next_server_id()
        lease_id = etcd.grant(self.world.scenario.ttl_s)
        etcd.txn((), ((session_key(server_id), self.name, lease_id),))
        return server_id, lease_id

    def _registered(self, registered: tuple[int, int] | None, sent_at: float) -> None:
        if self.stopping:
            return
        if registered is None:
            self.after(REGISTRATION_RETRY_S, self.start)
            return
        self.session = self.world.parts.session(self, *registered, sent_at)
        self.world.owns(self.session.server_id, self)
        self.session.begin()

    def observe(self, view: Leadership) -> None:
        """Show the session what the follower sees."""
        if self.session is not None:
            self.session.observe(view)

    def watch_noticed(self) -> None:
        """The follower has found out whether its watch delivers."""
        if self.synced is self.blind:
            self.synced = not self.blind
            if self.session is not None:
                self.session.standing_by.readiness_changed()

    def switchover(self, to: int) -> None:
        """Hand it to the session."""
        if self.session is not None:
            self.session.switchover(to)

    def terminate(self) -> None:
        """SIGTERM: the session ends in good order, then the process."""
        self.stopping = True
        if self.session is None:
            self._exit_soon()
        else:
            self.session.handle(ev.StopRequested(self.clock()))

    def _exit_soon(self) -> None:
        """Once nothing comes any more that would have to be forwarded."""
        self.after(max(0.0, self._forwards_until - self.clock()), self.exit)

    def exit(self) -> None:
        """End; whoever watches this process can see it."""
        super().exit()
        if self.session is not None:
            self.world.server_gone(self.session.server_id, self.machine)

    def session_ended(self, session: Session, reason: ev.EndReason, held: list[Request]) -> None:
        """Go on with a new session, unless it was the last."""
        self.session = None
        if reason is ev.EndReason.HANDED_OVER:
            self._heir, self._led_at = session.election.heir, session.election.epoch
            self._forwards_until = self.clock() + FORWARDING_S
        listens_s = max(0.0, self._forwards_until - self.clock())
        self.after(listens_s, self.world.server_gone, session.server_id, self.machine)
        for request in held:
            self.forward(request)
        if self.stopping:
            self._exit_soon()
            return
        failed = reason is ev.EndReason.ACTIVATION_FAILED
        self.after(ACTIVATION_PAUSE_S if failed else SESSION_PAUSE_S, self.start)

    # --- requests ---

    def client_request(self) -> None:
        """Hand it to the session, or to the heir of the last one."""
        session = self.session
        if session is not None and session.election.epoch:
            session.gate.client_request()
        elif self.clock() < self._forwards_until and self.world.random() < 0.2:
            self.forward(Request(self.world.invariants.highest_answered))

    def forward(self, request: Request) -> None:
        """Pass a request on to the heir, or whoever has leadership by now, and answers it."""
        if self.clock() < self._forwards_until:
            request.forwarded = True
            self.world.forward(request, self._follow_active())
        else:
            self.world.invariants.failed(request, "there is no heir")

    def _follow_active(self) -> int:
        """Server ID of who leads: the heir, unless the watch has told that it passed leadership on."""
        view = self.view
        newer = view is not None and view.active_mod_revision > self._led_at
        if newer and view.holder is not None and view.holder_is_safe:
            self._heir = view.holder
        return self._heir

    def forwarded(self, request: Request, heir: int) -> None:
        """A former active passed a request on to us."""
        if self.session is not None and self.session.server_id == heir:
            self.session.gate.take(request)
        else:
            self.forward(request)


class Session:
    """One session: its election, its serve guard and, if it wins, its term."""

    def __init__(self, process: CoorddProcess, server_id: int, lease_id: int, granted_at: float) -> None:
        world = process.world
        self.process = process
        self.world = world
        self.etcd: EtcdModel = world.etcd
        self.lease_id = lease_id
        self.server_id = server_id
        self.election = world.parts.election(
            el.ElectionSettings(
                server_id=server_id,
                serve_guard_s=process.guard_s,
                margin_s=world.scenario.margin_s,
                heartbeat_interval_s=world.scenario.heartbeat_interval_s,
            )
        )
        self.guard = world.parts.guard(process.guard_s)
        self.guard.keepalive_acked(granted_at, world.scenario.ttl_s)
        self.timestamps = world.parts.timestamps(self)
        self.gate = world.parts.gate(self)
        self.standing_by = StandingBy(self)
        self.ended = False
        self.beating = True
        self.pace = Pace(world.scenario.heartbeat_interval_s, granted_at)
        self._beats = 0
        self._predecessors_lease = 0
        self._tick_at: float | None = None

    # --- the election ---

    def begin(self) -> None:
        """Stand by."""
        self._keep_alive()
        view = self.process.view
        if view is not None:
            self.observe(view)
        self.standing_by.report_regularly()

    def observe(self, view: Leadership) -> None:
        """The leadership keys have been observed."""
        if self.election.state is ev.State.STANDBY and view.holder not in (None, self.server_id):
            self._predecessors_lease = view.holder_lease
        guard_s, settled = view.beat or (None, False)
        self.handle(
            ev.Observed(
                self.process.clock(),
                view.revision,
                view.active_mod_revision,
                view.heartbeat_mod_revision,
                guard_s,
                view.holder,
                view.holder_is_safe,
                settled,
                view.offer,
                view.standbys,
            )
        )
        self.standing_by.look(view)

    def handle(self, event: ev.Event) -> None:
        """Let the election take an event, carry out what it orders."""
        if self.ended:
            return
        election = self.election
        instructions = election.handle(event)
        if self.world.tracing:
            self.world.trace_event(self, event, instructions)
        if instructions:
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
                self.world.invariants.campaigning(self, instruction)
                self.call(self._campaign_done, self._campaign, instruction, self.promise())
            case ev.Probe():
                self.standing_by.probe()
            case ev.Prepare(offer):
                self.standing_by.be_ready_for(offer)
            case ev.Unprepare():
                self.standing_by.be_ready_for(0)
            case ev.EndSession(reason):
                self._end(reason)
            case _:
                self._perform_in_term(instruction)
        self.world.faults.state_changed(self.process)

    def _perform_in_term(self, instruction: ev.Instruction) -> None:
        match instruction:
            case ev.BeginTerm(_, cause):
                self._begin_term(cause)
            case ev.Serve() | ev.Reopen():
                self.gate.open()
            case ev.MakeOffer(_, to):
                puts = ((OFFER, (self.server_id, to), 0),)
                self.call(ignore, self.fenced_txn, self.fence(), puts)
            case ev.WithdrawOffer():
                self.call(ignore, self.fenced_txn, self.fence(), (), (OFFER,))
            case ev.Refuse(reason):
                self.world.note(self.process, f"tells the operator: {reason.value}")
            case ev.Drain():
                self.gate.drain()
            case ev.HandOver():
                self._try_hand_over(instruction)
            case ev.Resign():
                self._resign()

    def _end(self, reason: ev.EndReason) -> None:
        self.ended = True
        held = self.gate.close()
        self.guard.close()
        self.world.network.call(self.process, PARTING_TIMEOUT_S, ignore, self.etcd.revoke, self.lease_id)
        self.process.session_ended(self, reason, held)

    def promise(self) -> Beat:
        """What a heartbeat that is sent now says."""
        promise = self.election.promise(self.process.clock())
        return Beat(promise.serve_guard_s, promise.settled)

    # --- campaigning ---

    def _campaign(self, order: ev.Campaign, promise: Beat) -> Answer:
        self.world.invariants.stealing(self, order)
        puts = ((ACTIVE, Holder(self.server_id, True), self.lease_id), (HEARTBEAT, promise, 0))
        deletes = (OFFER, report_key(self.server_id))
        answer = self.etcd.txn(self.campaign_compares(order), puts, deletes)
        if answer.succeeded:
            self.world.invariants.campaigned()
        return answer

    def campaign_compares(self, order: ev.Campaign) -> Compares:
        """The ACTIVE key and the last heartbeat are as they were observed."""
        return ((ACTIVE, order.expected_active_revision), (HEARTBEAT, order.expected_heartbeat_revision))

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
        self.world.invariants.campaign_lost(self)
        active, heartbeat = answer.keys.get(ACTIVE), answer.keys.get(HEARTBEAT)
        self.handle(
            ev.CampaignLost(
                now,
                active.mod_revision if active else 0,
                active.value.server_id if active else None,
                heartbeat.mod_revision if heartbeat else 0,
            )
        )

    # --- the term ---

    def _begin_term(self, cause: ev.TermCause) -> None:
        now, interval_s = self.process.clock(), self.world.scenario.heartbeat_interval_s
        self.pace.acked(now)
        self._beat_again_after(interval_s if self.guard.valid(now) else 0.0)
        self.timestamps.load()
        if cause in (ev.TermCause.CRASH, ev.TermCause.SILENCE) and self._predecessors_lease:
            self.call(ignore, self.etcd.revoke, self._predecessors_lease)

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

    def _beat_again_after(self, seconds: float) -> None:
        """Send the next heartbeat then, and not when it was due before."""
        self._beats += 1
        self.process.after(seconds, self._beat, self._beats)

    def _beat(self, number: int) -> None:
        if self.ended or not self.beating or number != self._beats:
            return
        self._beat_again_after(self.pace.after_s(self.process.clock()))
        following = self._beats

        def done(answer: Answer | None, sent_at: float) -> None:
            self._beaten(answer, sent_at, following)

        puts = ((HEARTBEAT, self.promise(), 0),)
        self.world.network.call(self.process, self.process.guard_s, done, self.fenced_txn, self.fence(), puts)

    def _beaten(self, answer: Answer | None, sent_at: float, following: int) -> None:
        if self.ended:
            return
        if answer is None:
            if following == self._beats:  # it failed at once: before the next one was due
                self._beat_again_after(HEARTBEAT_RETRY_S)
        elif answer.succeeded:
            self.heartbeat_acked(sent_at)
            self.pace.acked(self.process.clock())
            self.gate.flush()
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

    # --- passing leadership on ---

    def switchover(self, to: int) -> None:
        """An operator's request has been seen."""
        if self.election.epoch:
            self.handle(ev.HandoverRequested(self.process.clock(), to))

    def _try_hand_over(self, order: ev.HandOver) -> None:
        view = self.process.view
        if view is None or all(standby.server_id != order.heir for standby in view.standbys):
            self.handle(ev.HandoverRefused(self.process.clock()))
            return

        def done(answer: Answer | None, _sent_at: float) -> None:
            self._handover_done(order, answer)

        self.world.network.call(self.process, HANDOVER_TIMEOUT_S, done, self._hand_over, order)

    def _hand_over(self, order: ev.HandOver) -> Answer:
        heir = self.etcd.keys.get(session_key(order.heir))
        report = self.etcd.keys.get(report_key(order.heir))
        puts = ((ACTIVE, Holder(order.heir, True), heir.lease if heir else -1),)
        answer = self.fenced_txn(
            self.handover_compares(order), puts, (HEARTBEAT, OFFER, report_key(order.heir))
        )
        if answer.succeeded:
            self.world.invariants.handed_over(self, order.heir, report.value if report else 0)
        return answer

    def handover_compares(self, order: ev.HandOver) -> Compares:
        """The term still lasts, and the heir's report is the one in which it says that it is ready."""
        return (*self.fence(), (report_key(order.heir), order.report_revision))

    def _handover_done(self, order: ev.HandOver, answer: Answer | None) -> None:
        if self.ended:
            return
        if answer is None:
            self.process.after(HANDOVER_RETRY_S, self.handover_unknown)
        elif answer is LEASE_NOT_FOUND:
            self.handle(ev.HandoverRefused(self.process.clock()))
        elif answer.succeeded:
            self.handle(ev.HandedOver())
        else:
            active = answer.keys.get(ACTIVE)
            if active is not None and active.mod_revision == self.election.epoch:
                self.handle(ev.HandoverRefused(self.process.clock()))
            elif active is not None and active.value.server_id == order.heir:
                self.handle(ev.HandedOver())  # by an earlier copy, whose answer was lost
            # Else it is somebody else's, and the watch is about to say so.

    def handover_unknown(self) -> None:
        """The handover transaction was not answered."""
        self.handle(ev.HandoverUnknown(self.process.clock()))

    def _resign(self) -> None:
        keys = (ACTIVE, HEARTBEAT, OFFER)
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
