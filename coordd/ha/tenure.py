"""One term of one session: heartbeats, activation, serving, and passing leadership on.

Each step is ordered by the election and reports back to it. All that is written is under the fence.
"""

import asyncio
from dataclasses import dataclass, field

from coordd.clock import boottime, unix_ms
from coordd.errors import CoorddError
from coordd.etcd import Compare, Op
from coordd.etcd.errors import EtcdError, LeaseLost
from coordd.ha import election_events as ev
from coordd.ha.context import SessionContext
from coordd.ha.coordinator import Term
from coordd.ha.failures import is_permanent
from coordd.ha.gate import Forwarder
from coordd.ha.guard import ServeGuard
from coordd.ha.history import TermEnd, TermRecord, phases_ms, plan_begin, plan_end
from coordd.ha.leadership import HandoverResult, SessionEntry
from coordd.ha.pace import Pace
from coordd.ha.switchover import SwitchoverEntry, answer_done, answer_refused
from coordd.ha.trouble import Trouble
from coordd.log import get_logger
from coordd.meta.commit import CommitConflict, FencedCommitter, FenceLost

log = get_logger("coordd.ha.tenure")

HEARTBEAT_RETRY_S = 0.05
"""After a heartbeat that failed at once; short, so that service resumes with etcd's first commit."""
ACTIVATION_RETRY_S = 0.2
AFTERWARDS_S = 0.02
"""After service began: its first callers come before what nobody waits for."""
HANDOVER_RETRY_S = 0.02
ETCD_PARTING_TIMEOUT_S = 1.0
"""How long a stopping replica waits for etcd to take its leadership and its lease back."""
REVOKE_ATTEMPTS = 5
REVOKE_RETRY_S = 1.0


@dataclass(slots=True, eq=False, repr=False)
class Tenure:
    """A term that has been won. `predecessor` is who held the ACTIVE key before, if that was seen."""

    context: SessionContext
    guard: ServeGuard
    epoch: int
    cause: ev.TermCause
    predecessor: SessionEntry | None
    task_group: asyncio.TaskGroup
    forwarder: Forwarder | None = None
    """The way to the heir, from the moment at which leadership is about to be passed on."""
    record: TermRecord | None = None
    """What the history is told of this term; None before it serves."""
    _request: SwitchoverEntry | None = None
    _seen_request: int = 0
    _committer: FencedCommitter = field(init=False)
    _pace: Pace = field(init=False)
    _started_ms: int = field(default_factory=unix_ms)

    def __post_init__(self) -> None:
        around = self.context.around
        self._pace = Pace(around.settings.heartbeat_interval_ms / 1000, boottime())
        self._committer = FencedCommitter(
            around.client,
            self.context.leadership.fence(self.epoch),
            around.fold,
            lambda: self.context.handle(ev.FenceLost()),
        )

    @property
    def role(self) -> str:
        """Milvus' name of the role."""
        return self.context.role

    @property
    def hold(self) -> str:
        """Name under which the session holds the server."""
        return f"session {self.context.server_id}"

    def start(self) -> None:
        """Begin: heartbeats, and making the role ready."""
        self.context.around.gate.activating()
        self.context.start(self._beat(), "heartbeat")
        self.context.start(self._activate(), "activate")
        self.context.start(self._accept(), "accept")

    # --- becoming active ---

    async def _accept(self) -> None:
        """Let connections and calls in while the role is being made ready; the gate has them wait."""
        server = self.context.around.server
        try:
            # It listens already, unless this campaign was given up as unanswered and won all the same.
            await server.hold(self.hold)
        except CoorddError as error:
            self._activation_failed(error)
            return
        await server.start()

    async def _activate(self) -> None:
        around = self.context.around
        term = Term(
            role=self.role,
            server_id=self.context.server_id,
            epoch=self.epoch,
            fence=self.context.leadership.fence(self.epoch),
            committer=self._committer,
            started_at=boottime(),
            task_group=self.task_group,
        )
        trouble = Trouble()
        while True:
            try:
                await around.follower.catch_up(self.epoch)
                await around.coordinator.activate(term)
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
        self.context.phases.activated_at = boottime()
        self.context.handle(ev.Activated(boottime()))

    def _activation_failed(self, error: CoorddError) -> None:
        log.error("cannot become ACTIVE, giving leadership up", role=self.role, reason=str(error))
        self.context.handle(ev.ActivationFailed())

    async def serve(self) -> None:
        """Open the gate, then clear up after the predecessor and write the history; nobody waits for that."""
        if self.context.election.state is ev.State.ENDED:
            return  # in the same turn of the loop: the gate is closed and stays so
        around, phases = self.context.around, self.context.phases
        around.gate.open(self.epoch, self.guard)
        await around.server.start()
        phases.serving_at = boottime()
        self.context.say.serving(self.epoch, self.context.session.record.address, phases.durations_s())
        self.record = self._new_record()
        around.term_log.began(self.record)
        self.context.say.term_began(self.record)
        await asyncio.sleep(AFTERWARDS_S)
        if self.cause in (ev.TermCause.CRASH, ev.TermCause.SILENCE) and self.predecessor is not None:
            self.context.start(self._revoke_predecessor(self.predecessor), "predecessor")
        await self._write_history(self.record)

    def _new_record(self) -> TermRecord:
        record = self.context.session.record
        before = self.predecessor.record if self.predecessor else None
        known = any(
            entry.epoch < self.epoch for entry in self.context.around.tables.history.of_role(self.role)
        )
        first = self.cause is ev.TermCause.RELEASED and before is None and not known
        return TermRecord(
            role=self.role,
            epoch=self.epoch,
            server_id=record.server_id,
            address=record.address,
            host_name=record.host_name,
            cause=ev.TermCause.FIRST if first else self.cause,
            predecessor=before.server_id if before else 0,
            started_ms=self._started_ms,
            phases_ms=phases_ms(self.context.phases.durations_s()),
        )

    async def _write_history(self, record: TermRecord) -> None:
        try:
            await self._committer.commit(plan_begin(self.context.around.tables.history, record))
        except FenceLost:
            return
        except (EtcdError, CoorddError) as error:
            log.warning("the log of leadership lacks this term", role=self.role, reason=str(error))

    # --- heartbeats ---

    async def _beat(self) -> None:
        """Start a heartbeat each interval, whether or not the one before was answered.

        A slow etcd then costs no more than its own latency, and a request lost on a dead connection costs
        one interval instead of its time-out. Without answers the intervals are short, see `coordd.ha.pace`.
        A campaign that was answered was a heartbeat, so activation has etcd to itself at first.
        """
        if self.guard.valid(boottime()):
            await asyncio.sleep(self.context.around.settings.heartbeat_interval_ms / 1000)
        while True:
            started = boottime()
            after_s = self._pace.after_s(started)
            beat = self.context.start(self._one_beat(), "beat")
            await asyncio.wait({beat}, timeout=after_s)
            failed = beat.done() and not beat.cancelled() and not beat.result()
            await asyncio.sleep(HEARTBEAT_RETRY_S if failed else max(0.0, started + after_s - boottime()))

    async def _one_beat(self) -> bool:
        around, election = self.context.around, self.context.election
        sent_at = boottime()
        try:
            async with asyncio.timeout(around.settings.serve_guard_ms / 1000):
                revision = await self.context.leadership.heartbeat(self.epoch, election.promise(sent_at))
        except (EtcdError, TimeoutError) as error:
            log.debug("heartbeat not acknowledged", role=self.role, epoch=self.epoch, reason=str(error))
            return False
        if revision:
            self.guard.heartbeat_acked(sent_at)
            self._pace.acked(boottime())
            around.gate.guard_extended()
            around.follower.committed(revision)
        else:
            if election.state not in (ev.State.RESIGNING, ev.State.HANDING_OVER):  # given up, not lost
                log.warning("the epoch is lost: the ACTIVE key is not ours", role=self.role, epoch=self.epoch)
            self.context.handle(ev.FenceLost())
        return True

    async def _revoke_predecessor(self, holder: SessionEntry) -> None:
        """The lease of a replica that is gone keeps its other keys in view until it ends: end it now."""
        if not holder.lease or holder.lease == self.context.session.lease_id:
            return
        for _ in range(REVOKE_ATTEMPTS):
            try:
                await self.context.around.client.revoke(holder.lease)
            except EtcdError as error:
                log.debug("could not revoke the predecessor's lease", role=self.role, reason=str(error))
                await asyncio.sleep(REVOKE_RETRY_S)
            else:
                return

    # --- an operator's request ---

    def look_at_request(self) -> None:
        """Take a switchover request up that is meant for this term; each once."""
        entry = self.context.around.tables.switchovers.asked(self.role)
        if entry is None or entry.mod_revision == self._seen_request or entry.request is None:
            return
        self._seen_request = entry.mod_revision
        if entry.request.epoch != self.epoch:
            reason = f"leadership has passed on since: {self.context.server_id} is active now"
            self.context.start(self._answer(entry, reason), "refuse")
            return
        log.info("switchover asked for", role=self.role, by=entry.request.by, to=entry.request.to)
        if self.context.election.state is ev.State.ACTIVE:
            self._request = entry
            self.context.handle(ev.HandoverRequested(boottime(), entry.request.to))
        else:
            starting = self.context.election.state is ev.State.ACTIVATING
            why = ev.Refusal.NOT_SERVING if starting else ev.Refusal.BUSY
            self.context.start(self._answer(entry, why.value), "refuse")

    def refuse(self, reason: ev.Refusal) -> None:
        """There is no handover: tell who asked for it, if somebody did."""
        log.warning("no handover", role=self.role, reason=reason.value)
        entry, self._request = self._request, None
        if entry is not None:
            self.context.start(self._answer(entry, reason.value), "refuse")

    async def _answer(self, entry: SwitchoverEntry, reason: str) -> None:
        try:
            await self.context.leadership.write(
                self.epoch, [answer_refused(entry, reason)], [entry.unchanged]
            )
        except EtcdError as error:
            log.warning("could not answer a switchover request", role=self.role, reason=str(error))

    # --- passing leadership on ---

    async def make_offer(self, to: int) -> None:
        """Ask for an heir; the standbys' answers come by the watch."""
        try:
            await self.context.leadership.make_offer(self.epoch, to)
        except EtcdError as error:
            log.warning("could not offer leadership", role=self.role, reason=str(error))

    async def withdraw_offer(self) -> None:
        """Ask no more."""
        try:
            await self.context.leadership.withdraw_offer(self.epoch)
        except EtcdError as error:
            log.warning("could not withdraw the offer", role=self.role, reason=str(error))

    async def drain(self) -> None:
        """Hold new requests, let those under way end, then answer nothing."""
        gate = self.context.around.gate
        gate.hold()
        if self.context.election.state is ev.State.RESIGNING:
            gate.stopping()
        else:
            await self._connect_to(self.context.election.heir)
        complete = await gate.wait_idle(self.context.around.settings.drain_s())
        gate.silence()
        self.context.handle(ev.Drained(boottime(), complete))

    async def _connect_to(self, heir: int) -> None:
        """Have a connection to the heir by the time at which there is something to forward."""
        target = self.context.around.tables.sessions.get(f"{self.role}-{heir}")
        if target is not None and target.record is not None:
            await self.drop_forwarder()
            self.forwarder = self.context.around.make_forwarder(
                target.record.address, heir, self.context.server_id
            )

    async def drop_forwarder(self) -> None:
        """Leadership stays here, or is lost: nothing is forwarded."""
        forwarder, self.forwarder = self.forwarder, None
        if forwarder is not None:
            await forwarder.close()

    async def hand_over(self, heir: int, report_revision: int) -> None:
        """Pass the ACTIVE key on to the heir."""
        target = self.context.around.tables.sessions.get(f"{self.role}-{heir}")
        if target is None:
            self.context.handle(ev.HandoverRefused(boottime()))
            return
        self.context.say.handing_over(self.epoch, heir)
        ops, compares = self._end_ops(TermEnd.HANDED_OVER), []
        if self._request is not None and self._is_asked(self._request):
            ops.append(answer_done(self._request, heir))
            compares.append(self._request.unchanged)
        await self._try_hand_over(target, report_revision, ops, compares)

    async def _try_hand_over(
        self, target: SessionEntry, report_revision: int, ops: list[Op], compares: list[Compare]
    ) -> None:
        try:
            bequest = self.context.around.coordinator.bequest()
            result = await self.context.leadership.hand_over(
                self.epoch, target, report_revision, [*ops, *bequest], compares
            )
        except LeaseLost:
            self.context.handle(ev.HandoverRefused(boottime()))
        except EtcdError as error:
            log.warning("handover not confirmed", role=self.role, reason=str(error))
            await asyncio.sleep(HANDOVER_RETRY_S)
            self.context.handle(ev.HandoverUnknown(boottime()))
        else:
            match result:
                case HandoverResult.COMMITTED:
                    self.context.handle(ev.HandedOver())
                case HandoverResult.REFUSED:
                    self.context.handle(ev.HandoverRefused(boottime()))
                case HandoverResult.LOST:  # the watch is about to say to whom, and that ends the term
                    log.warning("leadership was lost before it could be handed over", role=self.role)

    def _is_asked(self, entry: SwitchoverEntry) -> bool:
        return self.context.around.tables.switchovers.asked(self.role) == entry

    async def resign(self) -> None:
        """Delete the leadership keys."""
        # Whoever sees the heartbeat gone serves at once, so nothing may leave from here on.
        self.guard.close()
        self.context.say.giving_up(self.epoch)
        try:
            async with asyncio.timeout(ETCD_PARTING_TIMEOUT_S):
                await self.context.leadership.resign(self.epoch, self._end_ops(TermEnd.RESIGNED))
        except (EtcdError, TimeoutError) as error:
            log.warning(
                "could not give leadership up, it ends with the lease",
                role=self.role,
                epoch=self.epoch,
                lease_ttl_s=self.context.session.ttl_s,
                reason=str(error) or "etcd did not answer",
            )
        self.context.handle(ev.Resigned())

    def _end_ops(self, end: TermEnd) -> list[Op]:
        if self.record is None:
            return []
        return [plan_end(self.context.around.tables.history, self.record, end, unix_ms())]

    # --- the end ---

    def ended(self, reason: ev.EndReason | None) -> None:
        """The term is over; without a reason it was broken off."""
        if self.record is not None:
            end = TermEnd.UNKNOWN if reason is None else _TERM_ENDS[reason]
            record = self.record.ended(end, unix_ms())
            self.context.around.term_log.ended(record)
            self.context.say.term_ended(record)


_TERM_ENDS = {
    ev.EndReason.STOPPED: TermEnd.RESIGNED,
    ev.EndReason.HANDED_OVER: TermEnd.HANDED_OVER,
    ev.EndReason.DEPOSED: TermEnd.DEPOSED,
    ev.EndReason.LEASE_LOST: TermEnd.LEASE_ENDED,
    ev.EndReason.ACTIVATION_FAILED: TermEnd.ACTIVATION_FAILED,
}
