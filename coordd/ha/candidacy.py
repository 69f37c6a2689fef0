"""One session of one replica: runs its election against etcd, from standing by to the end of its term.

The decisions are the election's (`coordd.ha.election`); this module carries its instructions out, by way of
`coordd.ha.standing_by` and `coordd.ha.tenure`, and tells it what happened. Events are handled synchronously
the moment they are known, so nothing can be answered between the sign that a term is lost and the closing of
the gate. Whatever was started for the session is cancelled and awaited before its lease is revoked and a new
session may begin. So are the handlers under way, with the server: where the ACTIVE key still hangs on the
lease (the session was broken off, or etcd did not answer when leadership was to be given up), a Milvus
standby acts as soon as it is gone. In all other cases leadership has passed on before, and nobody waits for
the lease.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.etcd.errors import EtcdError, LeaseLost
from coordd.ha import election as el
from coordd.ha import election_events as ev
from coordd.ha.announcements import Announcements
from coordd.ha.context import SessionContext, Surroundings
from coordd.ha.forwarding import hold_of
from coordd.ha.gate import Forwarder
from coordd.ha.guard import ServeGuard
from coordd.ha.leadership import CampaignResult, Leadership, SessionEntry
from coordd.ha.phases import Phases
from coordd.ha.registration import Session
from coordd.ha.standing_by import StandingBy
from coordd.ha.tasks import TaskScope
from coordd.ha.tenure import ETCD_PARTING_TIMEOUT_S, Tenure
from coordd.ha.trouble import Trouble
from coordd.log import get_logger

log = get_logger("coordd.ha.candidacy")

STANDBY_LOG_INTERVAL_S = 10.0
KEEPALIVE_RETRY_S = 0.05
"""Pause before the stream of keepalives is opened anew. Short: the lease runs on meanwhile."""
DEPOSED_LINGER_S = 0.3
"""How long a deposed replica goes on turning calls away before its server stops. A call that is cut off by
the stop itself ends as CANCELLED, on which Milvus' clients stay with their address; UNAVAILABLE makes them
look the coordinator up anew."""


@dataclass(slots=True, eq=False, repr=False)
class Candidacy:
    """See the module's docstring. `run` once, then throw away."""

    around: Surroundings
    session: Session
    phases: Phases = field(default_factory=Phases)
    election: el.Election = field(init=False)
    _context: SessionContext = field(init=False)
    _standing_by: StandingBy = field(init=False)
    _tenure: Tenure | None = None
    _guard: ServeGuard = field(init=False)
    _scope: TaskScope = field(init=False)
    _ended: asyncio.Future[ev.EndReason] = field(init=False)
    _campaign_trouble: Trouble = field(default_factory=Trouble)
    _holder: SessionEntry | None = None
    _forwarder: Forwarder | None = None
    _tick: asyncio.TimerHandle | None = None
    _accepted: bool = False

    def __post_init__(self) -> None:
        settings, record = self.around.settings, self.session.record
        self.election = el.Election(
            el.ElectionSettings(
                server_id=record.server_id,
                serve_guard_s=settings.serve_guard_ms / 1000,
                margin_s=settings.margin_ms / 1000,
                heartbeat_interval_s=settings.heartbeat_interval_ms / 1000,
                exclusive=not settings.active_standby,
                exclusive_attempts=settings.registration_attempts,
            )
        )
        leadership = Leadership(
            self.around.client, self.around.layout, record, self.around.coordinator.companions
        )
        self._context = SessionContext(
            around=self.around,
            session=self.session,
            election=self.election,
            leadership=leadership,
            say=Announcements(self.role, settings.display_name, record.server_id, leadership.active_key),
            phases=self.phases,
            handle=self.handle,
            start=self._start,
        )
        self._standing_by = StandingBy(self._context)
        self._guard = ServeGuard(settings.serve_guard_ms / 1000)
        self._guard.keepalive_acked(self.session.granted_at, self.session.ttl_s)
        self._ended = asyncio.get_running_loop().create_future()

    @property
    def role(self) -> str:
        """Milvus' name of the role."""
        return self.session.record.server_name

    @property
    def _hold(self) -> str:
        """Name under which the session holds the server."""
        return f"session {self.session.record.server_id}"

    async def run(self) -> tuple[ev.EndReason, Forwarder | None]:
        """Stand by, lead if elected, and return why it ended. Everything started is gone by then.

        If leadership was handed over, the way to the heir comes with it: the gate forwards by it, and the
        server goes on until the caller releases its hold (`hold_of`). Cancelling it closes the gate and ends
        the session likewise.
        """
        self.around.gate.new_session(self.session.record.server_id)
        self._context.say.state(self.election.state)
        try:
            async with TaskScope() as self._scope:
                self._start(self._keep_alive(), "keepalive")
                if self.around.settings.active_standby:
                    self._context.say.entered_standby()
                    self._start(self._announce_standby(), "standby")
                    self._start(self._standing_by.report_regularly(), "report")
                self.observe()
                try:
                    reason = await self._ended
                finally:
                    self._close_gate()  # before the tasks of the term are awaited
        finally:
            try:
                await self._leave()
            finally:
                self._context.say.flush()
        return reason, self._forwarder

    def observe(self) -> None:
        """The follower has moved on: show the election the leadership keys as they are now."""
        if self.around.follower.revision == 0 or self._ended.done():
            return
        active = self.around.tables.sessions.get(self.role)
        if active is None and not self.phases.evidence_at:
            self.phases.evidence_at = boottime()
        elif active is not None and self.election.state is ev.State.STANDBY:
            self.phases.evidence_at = 0.0
            self._note_holder(active)
            self._standing_by.watch(active)
        self.handle(self.around.tables.observed(self.role, boottime(), self.around.follower.revision))
        if self._tenure is not None:
            self._tenure.look_at_request()

    def _note_holder(self, holder: SessionEntry | None) -> None:
        """Say who is active, once per term of another."""
        if holder is None or (self._holder is not None and holder.mod_revision == self._holder.mod_revision):
            return
        record = holder.record
        if record is None or record.server_id != self.session.record.server_id:
            self._holder = holder
            self._context.say.held(holder)

    def request_stop(self) -> None:
        """Pass leadership on, if held, and end the session."""
        self.handle(ev.StopRequested(boottime()))

    def handle(self, event: ev.Event) -> None:
        """Let the election take an event and carry out what it orders."""
        if self._ended.done():
            return
        before = self.election.state
        instructions = self.election.handle(event)
        if self.election.state is not before and not self._only_tries_again(before):
            self._context.say.state(
                self.election.state, before, why=type(event).__name__, epoch=self.election.epoch
            )
        for instruction in instructions:
            self._perform(instruction)
        self._schedule_tick()

    def _only_tries_again(self, before: ev.State) -> bool:
        """A change of state that comes many times a second for as long as campaigns fail."""
        trying = (ev.State.STANDBY, ev.State.CAMPAIGNING)
        return self._campaign_trouble.lasting and before in trying and self.election.state in trying

    # --- carrying instructions out ---

    def _perform(self, instruction: ev.Instruction) -> None:
        match instruction:
            case ev.Campaign():
                self._start(self._campaign(instruction), "campaign")
            case ev.Probe():
                self._start(self._standing_by.probe(), "probe")
            case ev.Prepare(offer):
                self._standing_by.be_ready_for(offer)
            case ev.Unprepare():
                self._standing_by.be_ready_for(0)
            case ev.BeginTerm(epoch, cause):
                self._begin_term(epoch, cause)
            case ev.EndSession(reason):
                if reason is ev.EndReason.HANDED_OVER and self._tenure is not None:
                    self._forwarder, self._tenure.forwarder = self._tenure.forwarder, None
                self._close_gate()
                self._ended.set_result(reason)
            case _:
                self._perform_in_term(instruction)

    def _perform_in_term(self, instruction: ev.Instruction) -> None:
        tenure = self._tenure
        if tenure is None:
            raise el.IllegalEvent(f"{instruction} outside a term")
        match instruction:
            case ev.Serve():
                self._start(tenure.serve(), "serve")
            case ev.MakeOffer(_, to):
                self._start(tenure.make_offer(to), "offer")
            case ev.WithdrawOffer():
                self._start(tenure.withdraw_offer(), "withdraw offer")
            case ev.Refuse(reason):
                tenure.refuse(reason)
            case ev.Drain():
                self._start(tenure.drain(), "drain")
            case ev.HandOver(_, heir, report_revision):
                self._start(tenure.hand_over(heir, report_revision), "hand over")
            case ev.Reopen():
                self.around.gate.reopen()
            case ev.Resign():
                self._start(tenure.resign(), "resign")

    async def _campaign(self, order: ev.Campaign) -> None:
        if not self._campaign_trouble.lasting:
            self._context.say.campaigning(self._holder)
        if not self.phases.evidence_at:
            self.phases.evidence_at = boottime()
        if order.cause is not ev.TermCause.CRASH and self._holder is not None:
            self.phases.last_sign_at = min(self.election.last_sign_at, self.phases.evidence_at)
        try:
            await self.around.server.hold(self._hold)
            claim = self.around.coordinator.claim()
            result = await self._context.leadership.campaign(
                order.expected_active_revision,
                order.expected_heartbeat_revision,
                self.election.promise(boottime()),
                claim.ops if claim is not None else (),
            )
        except LeaseLost as error:
            self._context.lease_lost(error)
            return
        except CoorddError as error:
            await self.around.server.release(self._hold)
            if self._campaign_trouble.is_news(error):
                log.warning("could not campaign, trying again", role=self.role, reason=str(error))
            self.handle(ev.CampaignFailed(boottime()))
            return
        self._campaign_trouble.over()
        if result.epoch:
            if claim is not None:
                claim.granted(result.epoch, result.results)
            self._guard.heartbeat_acked(result.sent_at)
            self.handle(ev.CampaignWon(boottime(), result.epoch, result.sent_at))
        else:
            await self._campaign_lost(result)

    async def _campaign_lost(self, result: CampaignResult) -> None:
        holder = result.holder
        record = holder.record if holder else None
        if record is None or record.server_id != self.session.record.server_id:
            self._note_holder(holder)
            await self.around.server.release(self._hold)
        if not self.around.settings.active_standby and holder is not None:
            try:
                await self._context.leadership.remove_predecessor(holder)
            except EtcdError as error:
                log.warning("could not remove the previous record", key=holder.key, reason=str(error))
        self.phases.evidence_at = 0.0
        self.handle(
            ev.CampaignLost(
                boottime(),
                holder.mod_revision if holder else 0,
                record.server_id if record else None,
                result.heartbeat_mod_revision,
            )
        )

    def _begin_term(self, epoch: int, cause: ev.TermCause) -> None:
        self._campaign_trouble.over()
        self.phases.won_at = boottime()
        if cause is ev.TermCause.HANDOVER:
            self.phases.last_sign_at = self.phases.evidence_at = self.phases.won_at
        self._context.say.won(epoch)
        self._standing_by.watch(None)
        self._tenure = Tenure(self._context, self._guard, epoch, cause, self._holder, self._scope)
        self._tenure.start()
        self._accepted = True

    # --- tasks of the session ---

    async def _keep_alive(self) -> None:
        """Renew the lease until etcd says that it is gone; any other failure is no proof of that."""
        trouble = Trouble()
        while True:
            renewals = self.around.client.keep_alive(self.session.lease_id, self.session.ttl_s)
            try:
                async with aclosing(renewals):
                    async for ack in renewals:
                        trouble.over()
                        self._guard.keepalive_acked(ack.sent_at, ack.ttl_s)
                        self.around.gate.guard_extended()
            except LeaseLost as error:
                self._context.lease_lost(error)
                return
            except EtcdError as error:
                if trouble.is_news(error):
                    log.warning("could not renew the lease, trying again", role=self.role, reason=str(error))
            await asyncio.sleep(KEEPALIVE_RETRY_S)

    async def _announce_standby(self) -> None:
        while True:
            await asyncio.sleep(STANDBY_LOG_INTERVAL_S)
            if self.election.state not in (ev.State.STANDBY, ev.State.CAMPAIGNING):
                return
            self._context.say.in_standby()

    # --- ending ---

    def _close_gate(self) -> None:
        self.around.gate.close(self._forwarder)

    async def _leave(self) -> None:
        self._close_gate()
        if self._tick is not None:
            self._tick.cancel()
        try:
            if self._tenure is not None:
                await self._end_tenure(self._tenure)
            if self._forwarder is not None:
                await self.around.server.hold(hold_of(self._forwarder))
            elif self._accepted:
                await asyncio.sleep(DEPOSED_LINGER_S)
            await self.around.server.release(self._hold)
        finally:
            await self._revoke_lease()
            await self._standing_by.leave()

    async def _end_tenure(self, tenure: Tenure) -> None:
        known = self._ended.done() and not self._ended.cancelled()
        tenure.ended(self._ended.result() if known else None)
        try:
            self.around.coordinator.deactivate()
        except Exception:
            log.exception("the role could not drop what belongs to the term", role=self.role)
        await tenure.drop_forwarder()

    async def _revoke_lease(self) -> None:
        try:
            async with asyncio.timeout(ETCD_PARTING_TIMEOUT_S):
                await self.around.client.revoke(self.session.lease_id)
        except (EtcdError, TimeoutError) as error:
            log.warning(
                "could not revoke the lease, it ends by itself",
                role=self.role,
                lease=self.session.lease_id,
                reason=str(error) or "etcd did not answer",
            )

    def _schedule_tick(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        deadline = self.election.next_deadline()
        if deadline is not None and not self._ended.done():
            delay = max(0.0, deadline - boottime())
            self._tick = asyncio.get_running_loop().call_later(delay, self._tick_due)

    def _tick_due(self) -> None:
        self.handle(ev.Tick(boottime()))

    def _start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        return self._scope.create_task(coroutine, name=f"{self.role}:{self.session.record.server_id}:{name}")
