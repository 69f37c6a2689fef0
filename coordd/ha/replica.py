"""A replica of one role for the life of a process: session after session, until it is asked to stop.

A session that ends (lease lost, deposed, activation failed) is followed by a new one with a new server ID in
the same process; the tables stay warm in between. etcd out of reach is waited out, not died of.
"""

import asyncio
from dataclasses import dataclass, field

from coordd.errors import CoorddError
from coordd.etcd import EtcdClient
from coordd.etcd.errors import EtcdError
from coordd.ha import election_events as ev
from coordd.ha.candidacy import DEPOSED_LINGER_S, Candidacy
from coordd.ha.context import Surroundings
from coordd.ha.coordinator import Coordinator, Detect, ForwarderFactory, ServerFactory
from coordd.ha.failures import is_permanent
from coordd.ha.follower import Follower
from coordd.ha.forwarding import Forwarding, hold_of
from coordd.ha.free_memory import give_back
from coordd.ha.gate import Forwarder, LeadershipGate
from coordd.ha.history import TermLog
from coordd.ha.leadership import SessionTable
from coordd.ha.phases import Phases
from coordd.ha.registration import ServerIdCounterCorrupt, Session, allocate_server_id, register
from coordd.ha.server_slot import ServerSlot
from coordd.ha.session import Safety, SessionRecord, host_name
from coordd.ha.settings import ReplicaSettings
from coordd.ha.tables import CoordinationTables
from coordd.ha.tasks import TaskScope, raise_if_cancelled
from coordd.ha.trouble import Trouble
from coordd.log import get_logger
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout

log = get_logger("coordd.ha.replica")

REGISTRATION_RETRY_S = 1.0
SESSION_PAUSE_S = 0.1
ACTIVATION_PAUSE_S = 1.0
"""After a failed activation: time for another replica to take the role."""


class RoleHeldExclusively(CoorddError):
    """Active-standby is off and another process holds the role."""


@dataclass(eq=False, repr=False)
class Replica:
    """See the module's docstring. `detect`: see `Surroundings`."""

    settings: ReplicaSettings
    client: EtcdClient
    layout: MetaLayout
    coordinator: Coordinator
    server_factory: ServerFactory
    make_forwarder: ForwarderFactory
    detect: Detect | None = None
    gate: LeadershipGate = field(init=False)
    tables: CoordinationTables = field(init=False)
    fold: Fold = field(init=False)
    follower: Follower = field(init=False)
    phases: Phases = field(default_factory=Phases)
    term_log: TermLog = field(default_factory=TermLog)
    _around: Surroundings = field(init=False)
    _candidacy: Candidacy | None = None
    _forwarding: asyncio.Task[None] | None = None
    _registered_once: bool = False
    _registering: asyncio.Timeout | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate = LeadershipGate(self.settings.role)
        self.tables = CoordinationTables(self.layout)
        self.fold = Fold(self.coordinator.tables, watched=self.tables.all)
        self.follower = Follower(
            self.client, self.fold, self.coordinator.follow_from, self.layout.session_end
        )
        self.follower.on_progress(self._observe)
        self._around = Surroundings(
            settings=self.settings,
            client=self.client,
            layout=self.layout,
            coordinator=self.coordinator,
            server=ServerSlot(self.server_factory),
            make_forwarder=self.make_forwarder,
            detect=self.detect,
            gate=self.gate,
            fold=self.fold,
            follower=self.follower,
            tables=self.tables,
            term_log=self.term_log,
        )

    @property
    def sessions(self) -> SessionTable:
        """All session keys."""
        return self.tables.sessions

    @property
    def state(self) -> str:
        """The election's state, or `registering` between sessions."""
        return self._candidacy.election.state.value if self._candidacy else "registering"

    @property
    def epoch(self) -> int:
        """Epoch of the term this replica leads; 0 if it does not."""
        return self._candidacy.election.epoch if self._candidacy else 0

    def request_stop(self) -> None:
        """Ask for a clean end: leadership is given up first, then the session ends and `run` returns."""
        self._stop.set()
        if self._registering is not None and not self._registering.expired():
            self._registering.reschedule(0.0)  # now
        if self._candidacy is not None:
            self._candidacy.request_stop()

    async def run(self) -> None:
        """Follow, stand by and lead until `request_stop`.

        Raises:
            RoleHeldExclusively: active-standby is off and another process kept holding the role.
            EtcdError: at the first registration, one that waiting cannot mend (authentication, permissions).
            ServerIdCounterCorrupt: at the first registration, no server ID can be allocated.

        At a later registration both are waited out too, since a person can mend them while we run.
        """
        async with TaskScope() as scope:
            scope.create_task(self.follower.run(), name=f"{self.settings.role}:follower")
            scope.create_task(self.coordinator.follow(), name=f"{self.settings.role}:more to follow")
            while not self._stop.is_set():
                session = await self._register()
                if session is None:
                    break
                reason, forwarder = await self._stand_for_election(session)
                if forwarder is not None:
                    self._forwarding = scope.create_task(
                        self._forward(forwarder), name=f"{self.settings.role}:forwarding"
                    )
                if reason is ev.EndReason.STOPPED or self._stop.is_set():
                    break
                if reason is ev.EndReason.EXCLUSIVE_HELD:
                    raise self._held_exclusively()
                log.warning("session ended, registering anew", role=self.settings.role, reason=reason.value)
                if forwarder is None:
                    give_back()
                await self._pause(
                    ACTIVATION_PAUSE_S if reason is ev.EndReason.ACTIVATION_FAILED else SESSION_PAUSE_S
                )
            if self._forwarding is not None:
                await self._forwarding

    async def _forward(self, forwarder: Forwarder) -> None:
        """Let the callers move."""
        forwarding = Forwarding(self._around, forwarder)
        try:
            if await forwarding.run():
                await asyncio.sleep(DEPOSED_LINGER_S)
        finally:
            await self._around.server.release(hold_of(forwarder))
            await forwarding.close()
        give_back()  # what the term has needed; nobody waits for an answer any more

    async def _stand_for_election(self, session: Session) -> tuple[ev.EndReason, Forwarder | None]:
        candidacy = Candidacy(self._around, session)
        self._candidacy = candidacy
        self.phases = candidacy.phases
        if self._stop.is_set():  # asked for in the moment in which the registration was confirmed
            candidacy.request_stop()
        try:
            return await candidacy.run()
        except Exception:
            # A bug in the role or in here. The session is closed; the process and its other roles live on.
            log.exception("session failed", role=self.settings.role)
            raise_if_cancelled()
            return ev.EndReason.ACTIVATION_FAILED, None
        finally:
            self._candidacy = None

    async def _register(self) -> Session | None:
        """A new session; None if a stop was requested meanwhile. Waits for etcd as long as it takes."""
        trouble = Trouble()
        while not self._stop.is_set():
            try:
                session = await self._new_session_unless_stopped()
            except (EtcdError, ServerIdCounterCorrupt) as error:
                passes = isinstance(error, EtcdError) and not is_permanent(error)
                if not passes and not self._registered_once:
                    raise
                if trouble.is_news(error):
                    log.warning("cannot register, trying again", role=self.settings.role, reason=str(error))
                await self._pause(REGISTRATION_RETRY_S)
            else:
                self._registered_once = session is not None
                return session
        return None

    async def _new_session_unless_stopped(self) -> Session | None:
        try:
            async with asyncio.timeout(None) as self._registering:
                return await self._new_session()
        except TimeoutError:
            if not self._stop.is_set():
                raise
            return None
        finally:
            self._registering = None

    async def _new_session(self) -> Session:
        settings = self.settings
        record = SessionRecord(
            server_id=await allocate_server_id(self.client, self.layout),
            server_name=settings.role,
            address=settings.address,
            version=settings.milvus_version,
            host_name=host_name(),
            safety=Safety.of_this_process(settings.serve_guard_ms),
        )
        return await register(
            self.client,
            self.layout,
            record,
            ttl_s=settings.ttl_s,
            own_key=settings.active_standby,
            companions=self.coordinator.companions,
        )

    async def _pause(self, seconds: float) -> None:
        """Sleep, but no longer than until a stop is requested."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return

    def _observe(self) -> None:
        if self._candidacy is not None:
            self._candidacy.observe()

    def _held_exclusively(self) -> RoleHeldExclusively:
        holder = self.sessions.get(self.settings.role)
        record = holder.record if holder else None
        who = f"server {record.server_id} at {record.address}" if record else "another process"
        return RoleHeldExclusively(
            f"{self.settings.role} is held by {who}: function CompareAndSwap error for compare is false for "
            f"key: {self.settings.role}",
            hint=f"stop it, or set {self.settings.switch_key} to true on both to run an active and a standby",
        )
