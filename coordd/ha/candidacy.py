"""One session of one replica: runs its election against etcd, from standing by to the end of its term.

The decisions are the election's (`coordd.ha.election`); this module carries its instructions out and tells it
what happened. Events are handled synchronously the moment they are known, so nothing can be answered
between the sign that a term is lost and the closing of the gate. Whatever was started for the session is
cancelled and awaited before its lease is revoked and a new session may begin.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.etcd import EtcdClient
from coordd.etcd.errors import EtcdError, LeaseLost
from coordd.ha import election as el
from coordd.ha import election_events as ev
from coordd.ha.announcements import Announcements
from coordd.ha.coordinator import Coordinator, RoleServer, ServerFactory, Term
from coordd.ha.failures import is_permanent
from coordd.ha.follower import Follower
from coordd.ha.gate import LeadershipGate
from coordd.ha.guard import ServeGuard
from coordd.ha.leadership import CampaignResult, HeartbeatTable, Leadership, SessionEntry, SessionTable
from coordd.ha.phases import Phases
from coordd.ha.registration import Session
from coordd.ha.settings import ReplicaSettings
from coordd.ha.tasks import TaskScope
from coordd.ha.trouble import Trouble
from coordd.log import get_logger
from coordd.meta.commit import CommitConflict, FencedCommitter, FenceLost
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout

log = get_logger("coordd.ha.candidacy")

STANDBY_LOG_INTERVAL_S = 10.0
HEARTBEAT_RETRY_S = 0.05
"""After a heartbeat that failed at once; short, so that service resumes with etcd's first commit."""
ACTIVATION_RETRY_S = 0.2
KEEPALIVE_RETRY_S = 0.5
ETCD_PARTING_TIMEOUT_S = 1.0
"""How long a stopping replica waits for etcd to take its leadership and its lease back."""
DEPOSED_LINGER_S = 0.3
"""How long a deposed replica goes on turning calls away before its server stops. A call that is cut off by
the stop itself ends as CANCELLED, on which Milvus' clients stay with their address; UNAVAILABLE makes them
look the coordinator up anew."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a replica owns for the life of the process, as its sessions use it."""

    settings: ReplicaSettings
    client: EtcdClient
    layout: MetaLayout
    coordinator: Coordinator
    server_factory: ServerFactory
    gate: LeadershipGate
    fold: Fold
    follower: Follower
    sessions: SessionTable
    heartbeats: HeartbeatTable


@dataclass(slots=True, eq=False)
class Candidacy:
    """See the module's docstring. `run` once, then throw away."""

    around: Surroundings
    session: Session
    phases: Phases = field(default_factory=Phases)
    election: el.Election = field(init=False)
    _leadership: Leadership = field(init=False)
    _say: Announcements = field(init=False)
    _guard: ServeGuard = field(init=False)
    _scope: TaskScope = field(init=False)
    _ended: asyncio.Future[ev.EndReason] = field(init=False)
    _campaign_trouble: Trouble = field(default_factory=Trouble)
    _holder: SessionEntry | None = None
    _server: RoleServer | None = None
    _tick: asyncio.TimerHandle | None = None
    _term_began: bool = False
    _served: bool = False

    def __post_init__(self) -> None:
        settings, record = self.around.settings, self.session.record
        self.election = el.Election(
            el.ElectionSettings(
                server_id=record.server_id,
                serve_guard_s=settings.serve_guard_ms / 1000,
                margin_s=settings.margin_ms / 1000,
                exclusive=not settings.active_standby,
                exclusive_attempts=settings.registration_attempts,
            )
        )
        self._leadership = Leadership(
            self.around.client,
            self.around.layout,
            record,
            self.around.coordinator.companions,
        )
        self._say = Announcements(
            self.role, settings.display_name, record.server_id, self._leadership.active_key
        )
        self._guard = ServeGuard(settings.serve_guard_ms / 1000)
        self._guard.keepalive_acked(self.session.granted_at, self.session.ttl_s)
        self._ended = asyncio.get_running_loop().create_future()

    @property
    def role(self) -> str:
        """Milvus' name of the role."""
        return self.session.record.server_name

    async def run(self) -> ev.EndReason:
        """Stand by, lead if elected, and return why it ended. Everything started is gone by then.

        Cancelling it closes the gate and ends the session likewise.
        """
        self.around.gate.new_session(self.session.record.server_id)
        self._say.state(self.election.state)
        try:
            async with TaskScope() as self._scope:
                self._start(self._keep_alive(), "keepalive")
                if self.around.settings.active_standby:
                    self._say.entered_standby()
                    self._start(self._announce_standby(), "standby")
                self.observe()
                try:
                    return await self._ended
                finally:
                    self.around.gate.close()  # before the tasks of the term are awaited
        finally:
            await self._leave()

    def observe(self) -> None:
        """The follower has moved on: show the election the leadership keys as they are now."""
        if self.around.follower.revision == 0:
            return
        active = self.around.sessions.get(self.role)
        heartbeat = self.around.heartbeats.get(self.role)
        if active is None and not self.phases.observed_free_at:
            self.phases.observed_free_at = boottime()
        elif active is not None and self.election.state is ev.State.STANDBY:
            self.phases.observed_free_at = 0.0
            self._note_holder(active)
        self.handle(
            ev.Observed(
                now=boottime(),
                revision=self.around.follower.revision,
                active_mod_revision=active.mod_revision if active else 0,
                heartbeat_mod_revision=heartbeat.mod_revision if heartbeat else 0,
                holder_guard_s=heartbeat.serve_guard_s if heartbeat else None,
                holder_server_id=active.record.server_id if active and active.record else None,
            )
        )

    def _note_holder(self, holder: SessionEntry | None) -> None:
        """Say who is active, once per term of another."""
        if holder is None or (self._holder is not None and holder.mod_revision == self._holder.mod_revision):
            return
        record = holder.record
        if record is None or record.server_id != self.session.record.server_id:
            self._holder = holder
            self._say.held(holder)

    def request_stop(self) -> None:
        """Give leadership up, if held, and end the session."""
        self.handle(ev.StopRequested())

    def handle(self, event: ev.Event) -> None:
        """Let the election take an event and carry out what it orders."""
        if self._ended.done():
            return
        before = self.election.state
        instructions = self.election.handle(event)
        if self.election.state is not before and not self._only_tries_again(before):
            self._say.state(self.election.state, before, why=type(event).__name__, epoch=self.election.epoch)
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
            case ev.Campaign(expected):
                self._start(self._campaign(expected), "campaign")
            case ev.BeginTerm(epoch):
                self._begin_term(epoch)
            case ev.Serve(epoch):
                self._start(self._serve(epoch), "serve")
            case ev.Drain():
                self._start(self._drain(), "drain")
            case ev.Resign(epoch):
                self._start(self._resign(epoch), "resign")
            case ev.EndSession(reason):
                self.around.gate.close()
                self._ended.set_result(reason)

    async def _campaign(self, expected_heartbeat: int) -> None:
        if not self._campaign_trouble.lasting:
            self._say.campaigning(self._holder)
        try:
            await self._listen()
            result = await self._leadership.campaign(expected_heartbeat, self.election.published_guard_s)
        except LeaseLost as error:
            self._lease_lost(error)
            return
        except CoorddError as error:
            await self._stop_server(0.0)
            if self._campaign_trouble.is_news(error):
                log.warning("could not campaign, trying again", role=self.role, reason=str(error))
            self.handle(ev.CampaignFailed(boottime()))
            return
        self._campaign_trouble.over()
        if result.epoch:
            self._guard.heartbeat_acked(result.sent_at)
            self.handle(ev.CampaignWon(boottime(), result.epoch, result.sent_at))
        else:
            await self._campaign_lost(result)

    async def _campaign_lost(self, result: CampaignResult) -> None:
        holder = result.holder
        record = holder.record if holder else None
        if record is None or record.server_id != self.session.record.server_id:
            self._note_holder(holder)
            await self._stop_server(0.0)
        if not self.around.settings.active_standby and holder is not None:
            try:
                await self._leadership.remove_predecessor(holder)
            except EtcdError as error:
                log.warning("could not remove the previous record", key=holder.key, reason=str(error))
        self.handle(
            ev.CampaignLost(
                boottime(),
                holder.mod_revision if holder else 0,
                record.server_id if record else None,
                result.heartbeat_mod_revision,
            )
        )

    def _begin_term(self, epoch: int) -> None:
        self._campaign_trouble.over()
        self.phases.won_at = boottime()
        self._say.won(epoch)
        self.around.gate.activating()
        self._term_began = True
        self._start(self._beat(epoch), "heartbeat")
        self._start(self._activate(epoch), "activate")

    async def _activate(self, epoch: int) -> None:
        fence = self._leadership.fence(epoch)
        term = Term(
            role=self.role,
            server_id=self.session.record.server_id,
            epoch=epoch,
            fence=fence,
            committer=FencedCommitter(
                self.around.client, fence, self.around.fold, lambda: self.handle(ev.FenceLost())
            ),
            started_at=boottime(),
            task_group=self._scope,
        )
        trouble = Trouble()
        while True:
            try:
                # It listens already, unless this campaign was given up as unanswered and won all the same.
                await self._listen()
                await self.around.follower.catch_up(epoch)
                await self.around.coordinator.activate(term)
                break
            except FenceLost:
                return  # the committer has told the election
            except (EtcdError, CommitConflict) as error:
                if isinstance(error, EtcdError) and is_permanent(error):
                    self._activation_failed(error)
                    return
                if trouble.is_news(error):
                    log.warning("activation failed, trying again", role=self.role, reason=str(error))
                await asyncio.sleep(ACTIVATION_RETRY_S)
            except CoorddError as error:
                self._activation_failed(error)
                return
        self.phases.activated_at = boottime()
        self.handle(ev.Activated(boottime()))

    def _activation_failed(self, error: CoorddError) -> None:
        log.error("cannot become ACTIVE, giving leadership up", role=self.role, reason=str(error))
        self.handle(ev.ActivationFailed())

    async def _serve(self, epoch: int) -> None:
        if self._ended.done():  # in the same turn of the loop: the gate is closed and stays so
            return
        self._served = True
        self.around.gate.open(epoch, self._guard)
        if self._server is not None:
            await self._server.start()
        self.phases.serving_at = boottime()
        self._say.serving(epoch, self.session.record.address, self.phases.durations_s())

    async def _drain(self) -> None:
        self.around.gate.stopping()
        await self._stop_server(self.around.settings.drain_s())
        self.handle(ev.Drained())

    async def _resign(self, epoch: int) -> None:
        # Whoever sees the heartbeat gone serves at once, so nothing may leave from here on.
        self._guard.close()
        log.info("giving leadership up", role=self.role, epoch=epoch)
        try:
            async with asyncio.timeout(ETCD_PARTING_TIMEOUT_S):
                await self._leadership.resign(epoch)
        except (EtcdError, TimeoutError) as error:
            log.warning(
                "could not give leadership up, it ends with the lease",
                role=self.role,
                epoch=epoch,
                lease_ttl_s=self.session.ttl_s,
                reason=str(error) or "etcd did not answer",
            )
        self.handle(ev.Resigned())

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
                self._lease_lost(error)
                return
            except EtcdError as error:
                if trouble.is_news(error):
                    log.warning("could not renew the lease, trying again", role=self.role, reason=str(error))
            await asyncio.sleep(KEEPALIVE_RETRY_S)

    def _lease_lost(self, error: LeaseLost) -> None:
        log.warning("the session's lease is gone", role=self.role, reason=str(error))
        self.handle(ev.LeaseLost())

    async def _announce_standby(self) -> None:
        while True:
            await asyncio.sleep(STANDBY_LOG_INTERVAL_S)
            if self.election.state not in (ev.State.STANDBY, ev.State.CAMPAIGNING):
                return
            self._say.in_standby()

    async def _beat(self, epoch: int) -> None:
        """Start a heartbeat each interval, whether or not the one before was answered.

        A slow etcd then costs no more than its own latency, and a request lost on a dead connection costs
        one interval instead of its time-out.
        """
        interval = self.around.settings.heartbeat_interval_ms / 1000
        while True:
            started = boottime()
            beat = self._scope.create_task(self._one_beat(epoch), name=f"{self.role}:{epoch}:beat")
            await asyncio.wait({beat}, timeout=interval)
            failed = beat.done() and not beat.cancelled() and not beat.result()
            await asyncio.sleep(HEARTBEAT_RETRY_S if failed else max(0.0, started + interval - boottime()))

    async def _one_beat(self, epoch: int) -> bool:
        sent_at = boottime()
        try:
            async with asyncio.timeout(self.around.settings.serve_guard_ms / 1000):
                held = await self._leadership.heartbeat(epoch, self.election.published_guard_s)
        except (EtcdError, TimeoutError) as error:
            log.debug("heartbeat not acknowledged", role=self.role, epoch=epoch, reason=str(error))
            return False
        if held:
            self._guard.heartbeat_acked(sent_at)
            self.around.gate.guard_extended()
        else:
            if self.election.state is not ev.State.RESIGNING:  # else it was given up, not lost
                log.warning("the epoch is lost: the ACTIVE key is not ours", role=self.role, epoch=epoch)
            self.handle(ev.FenceLost())
        return True

    # --- ending ---

    async def _leave(self) -> None:
        self.around.gate.close()
        if self._tick is not None:
            self._tick.cancel()
        try:
            if self._term_began:
                self._deactivate()
            if self._server is not None and self._served:
                await asyncio.sleep(DEPOSED_LINGER_S)
            await self._stop_server(0.0)
        finally:
            await self._revoke_lease()

    def _deactivate(self) -> None:
        try:
            self.around.coordinator.deactivate()
        except Exception:
            log.exception("the role could not drop what belongs to the term", role=self.role)

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

    async def _listen(self) -> None:
        """Be reachable, whether or not anything is accepted yet.

        Raises:
            CoorddError: the port is in use.
        """
        if self._server is None:
            self._server = self.around.server_factory()
            await self._server.listen()

    async def _stop_server(self, grace_s: float) -> None:
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None  # not before: if this is cancelled, `_leave` has to stop it

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

    def _start(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        self._scope.create_task(coroutine, name=f"{self.role}:{self.session.record.server_id}:{name}")
