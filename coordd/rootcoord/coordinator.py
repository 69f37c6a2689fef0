"""The root coordinator as the replica driver sees it: tables to follow, a term to begin and to end.

One instance lives as long as the process; what belongs to a term is made by `activate` and dropped by
`deactivate`.

Source of truth for the order of activation: Milvus 2.3.5 internal/rootcoord/root_coord.go (initInternal).
"""

import asyncio
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import bcrypt

from coordd import clock
from coordd.config import LoadedConfig
from coordd.errors import CoorddError
from coordd.etcd import EtcdClient, Op, OpResult, TxnResult, prefix_end
from coordd.ha.coordinator import Claim, Term
from coordd.ha.follower import Follower
from coordd.ha.gate import LeadershipGate
from coordd.ha.leadership import SessionTable
from coordd.ha.replica import Replica
from coordd.ha.session_watch import SessionWatch
from coordd.log import get_logger
from coordd.meta.fold import Fold, Table
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.mq.choice import QueueType, choose, queue_maker
from coordd.mq.lazy import LazyQueue
from coordd.mq.types import MessageQueue
from coordd.rootcoord import bootstrap, inherited
from coordd.rootcoord.broadcast import Broadcaster
from coordd.rootcoord.channels import ChannelPool, pool_names
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.figures import Figures
from coordd.rootcoord.first_windows import FirstWindows, WindowTable
from coordd.rootcoord.handlers import RootCoordHandlers, serve
from coordd.rootcoord.imports.driver import Imports
from coordd.rootcoord.imports.records import ImportRecords
from coordd.rootcoord.known import KnownInTables
from coordd.rootcoord.life import Life, Means
from coordd.rootcoord.operations import Operations
from coordd.rootcoord.oracle import Oracle, TermOverError
from coordd.rootcoord.peers import Peers
from coordd.rootcoord.proxies import BarRecords, Departures, GrpcProxyClient, ProxyManager, TimestampBar
from coordd.rootcoord.quota.center import QuotaCenter, Surroundings
from coordd.rootcoord.snapshots import HOURLY, Pace, SnapshotCollector, SnapshotFigures
from coordd.rootcoord.system_info import Component
from coordd.rootcoord.timetick import TimeTicker
from coordd.rootcoord.timetick.assembly import begin_time_ticks
from coordd.rootcoord.timetick.sessions import ProxySessions
from coordd.rpc.connection import ClientOptions
from coordd.rpc.table import DispatchTable
from coordd.version import coordd_version

log = get_logger("coordd.rootcoord")

ROLE = "rootcoord"
BCRYPT_COST = 4
"""Milvus' bcrypt.MinCost: a proxy checks passwords against it on every connection."""

BEQUEST_PATIENCE_S = 0.01
"""How long a new term waits for the watch to tell what was bequeathed, before it reads for itself."""
FIRST_TIMESTAMP_PATIENCE_S = 5.0
CALLERS_FIRST_S = 0.02
LOOK_ANEW_S = 2.0
"""For which DataCoord is asked to look for the new RootCoord; later it has done so by itself."""


class RootCoord:
    """Implements `coordd.ha.coordinator.Coordinator`. `queue`: a message queue; None: the one configured.

    `pace`: of the deletion of old history.
    """

    companions: tuple[str, ...] = ()

    def __init__(
        self,
        config: Callable[[], LoadedConfig],
        layout: MetaLayout,
        client: EtcdClient,
        queue: MessageQueue | None = None,
        pace: Pace = HOURLY,
    ) -> None:
        self.role = ROLE
        self.metadata = RootCoordTables(layout)
        self._config = config
        self._layout = layout
        self._client = client
        self._queue = queue
        self._pace = pace
        self._windows = WindowTable(layout)
        self._window_follower = Follower(
            client, Fold([self._windows]), layout.window_prefix, prefix_end(layout.window_prefix)
        )
        self._claimed: tuple[int, FirstWindows] | None = None
        self._oracle: Oracle | None = None
        self._ddl: Ddl | None = None
        self._operations: Operations | None = None
        self._life: Life | None = None
        self._imports: Imports | None = None
        self._no_queue: CoorddError | None = None
        self._channels: ChannelPool | None = None
        self._time_ticks: TimeTicker | None = None
        self._gate: LeadershipGate | None = None
        self._sessions: SessionTable | None = None
        self._watch: SessionWatch | None = None
        self._bar = TimestampBar()
        self._peers: Peers | None = None
        self._quota: QuotaCenter | None = None
        self._access: Ddl | None = None
        self._epoch = 0
        self._snapshots = SnapshotFigures()
        with suppress(CoorddError):  # said when a term begins
            queue_maker(config())  # loads the client library now, not during a takeover
        self._started_ns = clock.unix_ns()

    @property
    def follow_from(self) -> str:
        """First key of the followed range: import tasks, keys of QueryCoord, RootCoord's own prefix."""
        return self._layout.import_task_prefix

    @property
    def tables(self) -> Sequence[Table]:
        """All of RootCoord's metadata."""
        return self.metadata.tables

    @property
    def oracle(self) -> Oracle:
        """Timestamps and IDs of the present term.

        Raises:
            TermOverError: there is no term.
        """
        if self._oracle is None:
            raise TermOverError("this rootcoord is not active")
        return self._oracle

    @property
    def ddl(self) -> Ddl:
        """Metadata changes of the present term.

        Raises:
            TermOverError: there is no term.
        """
        if self._ddl is None:
            raise TermOverError("this rootcoord is not active")
        return self._ddl

    @property
    def operations(self) -> Operations:
        """Changes of the present term that take several steps.

        Raises:
            TermOverError: there is no term.
        """
        if self._operations is None:
            raise TermOverError("this rootcoord is not active")
        return self._operations

    @property
    def life(self) -> Life:
        """Making and dropping collections and partitions in the present term.

        Raises:
            TermOverError: there is no term, or nothing is served in it.
            CoorddError: there is no message queue, though one is wanted; says why.
        """
        if self._no_queue is not None:
            raise self._no_queue
        if self._life is None:
            raise TermOverError("this rootcoord is not active")
        return self._life

    @property
    def imports(self) -> Imports:
        """Bulk inserts of the present term.

        Raises:
            TermOverError: there is no term, or nothing is served in it.
        """
        if self._imports is None:
            raise TermOverError("this rootcoord is not active")
        return self._imports

    @property
    def channels(self) -> ChannelPool:
        """The physical channels of the present term.

        Raises:
            TermOverError: there is no term.
        """
        if self._channels is None:
            raise TermOverError("this rootcoord is not active")
        return self._channels

    @property
    def time_ticks(self) -> TimeTicker:
        """The time ticks of the present term.

        Raises:
            TermOverError: there is no term, or nothing is served in it.
        """
        if self._time_ticks is None:
            raise TermOverError("this rootcoord is not active")
        return self._time_ticks

    @property
    def peers(self) -> Peers:
        """The other processes as the present term sees them.

        Raises:
            TermOverError: there is no term, or nothing is served in it.
        """
        if self._peers is None:
            raise TermOverError("this rootcoord is not active")
        return self._peers

    @property
    def access(self) -> Ddl:
        """Changes of users, roles and privileges of the present term.

        Raises:
            TermOverError: there is no term.
        """
        if self._access is None:
            raise TermOverError("this rootcoord is not active")
        return self._access

    def add_services(self, table: DispatchTable, replica: Replica) -> None:
        """Serve RootCoord's methods through `table`, for as long as the process lives."""
        self._gate, self._sessions = replica.gate, replica.sessions
        self._watch = SessionWatch(replica.sessions, replica.follower)
        self._watch.listen(Departures(ProxySessions(replica.sessions).registered, self._bar).look)

        def component() -> Component:
            return Component(
                role=ROLE,
                server_id=replica.gate.server_id,
                address=replica.settings.address,
                version=coordd_version(),
                milvus_version=replica.settings.milvus_version,
                started_ns=self._started_ns,
                min_segment_size_to_enable_index=(
                    self._config().settings.root_coord.min_segment_size_to_enable_index
                ),
            )

        handlers = RootCoordHandlers(
            tables=self.metadata,
            layout=self._layout,
            client=self._client,
            oracle=lambda: self.oracle,
            ddl=lambda: self.ddl,
            operations=lambda: self.operations,
            access=lambda: self.access,
            life=lambda: self.life,
            imports=lambda: self.imports,
            gate=replica.gate,
            sessions=replica.sessions,
            proxies=GrpcProxyClient(),
            time_ticks=lambda: self.time_ticks,
            peers=lambda: self.peers,
            bar=self._bar,
            caches=lambda: self.peers.proxies,
            config=self._config,
            component=component,
        )
        serve(table, handlers)

    def figures(self, replica: Replica) -> Figures:
        """Milvus' metrics of a root coordinator."""
        return Figures(
            self.metadata,
            replica.sessions,
            lambda: self._oracle,
            lambda: self._channels,
            lambda: self._time_ticks,
            lambda: self._quota,
            self._snapshots,
        )

    async def follow(self) -> None:
        """Follow the saved windows, which lie outside the metadata."""
        await self._window_follower.run()

    def claim(self) -> Claim | None:
        """The first windows of the term, if they can be told from those followed."""
        following = self._windows.next(clock.unix_ms())
        if following is None:
            return None
        first, op = following

        def granted(epoch: int, results: Sequence[OpResult]) -> None:
            saved = all(isinstance(result, TxnResult) and result.succeeded for result in results)
            self._claimed = (epoch, first) if saved else None

        return Claim([op], granted)

    def bequest(self) -> Sequence[Op]:
        """The first windows of the heir's term."""
        following = self._windows.next(clock.unix_ms())
        return () if following is None else (following[1],)

    async def activate(self, term: Term) -> None:
        """Have windows of timestamps and IDs persisted, write what a new cluster lacks.

        No round trip to etcd if the campaign or the handover saved the windows, else two; one more in a new
        cluster; no range is read. May be called again in the same term after it failed, and goes on where it
        was: two keepers of one window would chase each other.

        Raises:
            WindowCorruptError: a saved window is unreadable and nothing tells where to start.
            FenceLost: the term is over.
            CoorddError: etcd cannot be used.
        """
        if self._oracle is None or self._epoch != term.epoch:
            oracle = await self._start_oracle(term)
            self._oracle, self._epoch = oracle, term.epoch
            self._ddl = Ddl(term.committer, oracle, self.metadata.ddl_mark)
            self._operations = Operations(term.start_task)
            self._access = Ddl(term.committer, oracle, self.metadata.access_mark)
            term.start_task(oracle.keep_timestamps(), "timestamp window")
            term.start_task(oracle.keep_ids(), "id window")
            queue = self._message_queue(term)
            self._begin_time_ticks(term, oracle, queue)
            self._meet_peers(term)
            self._begin_quota(term, oracle)
            self._begin_life(term, oracle, self._ddl, self._operations, queue)
            self._begin_imports(term, oracle)
            term.start_task(self._snapshot_collector(term, oracle).run(), "old snapshots")
        await self._bootstrap(term, self._oracle)

    def _message_queue(self, term: Term) -> MessageQueue | None:
        """The queue of the term, opened with its first message; None: there is none."""
        self._no_queue = None
        if self._queue is not None:
            return self._queue
        try:
            if choose(self._config()) is QueueType.NONE:
                return None
            make = queue_maker(self._config())
        except CoorddError as error:
            log.error("no message queue: collections cannot be made or dropped", reason=str(error))
            self._no_queue = error
            return None
        queue = LazyQueue(make)
        term.start_task(_close_at_the_end(queue), "message queue")
        return queue

    def _begin_life(
        self, term: Term, oracle: Oracle, ddl: Ddl, operations: Operations, queue: MessageQueue | None
    ) -> None:
        if self._channels is None or self._time_ticks is None or self._peers is None:
            return  # nothing is served, so nothing is asked for
        broadcaster = None
        if queue is not None:
            broadcaster = Broadcaster(queue, self._time_ticks, oracle, self._may_send_s)
        means = Means(
            tables=self.metadata,
            layout=self._layout,
            config=self._config,
            ddl=ddl,
            oracle=oracle,
            pool=self._channels,
            peers=self._peers,
            operations=operations,
            broadcaster=broadcaster,
            server_id=term.server_id,
        )
        self._life = Life(means)
        term.start_task(self._go_on(self._life, oracle.ids.next_id), "unfinished changes")
        news = self._tell_proxies(self._peers.proxies, term.committer.recent_keys(), term.server_id)
        term.start_task(news, "news of earlier terms")

    def _snapshot_collector(self, term: Term, oracle: Oracle) -> SnapshotCollector:
        return SnapshotCollector(
            client=self._client,
            committer=term.committer,
            oracle=oracle,
            tables=self.metadata,
            layout=self._layout,
            config=self._config,
            figures=self._snapshots,
            pace=self._pace,
        )

    async def _go_on(self, life: Life, first_id: int) -> None:
        """When callers have been answered, and if there is a queue to tell others by."""
        await self._until_serving()
        if self._no_queue is None:
            await life.go_on(first_id)

    def _begin_imports(self, term: Term, oracle: Oracle) -> None:
        if self._peers is None:
            return  # nothing is served, so nothing is asked for
        ddl = Ddl(term.committer, oracle, self.metadata.import_mark)
        records = ImportRecords(self.metadata, self._layout, self._config, ddl)
        self._imports = Imports(records, self._peers.data_coord, self._data_nodes, self._may_send_s)
        term.start_task(self._drive(self._imports), "import tasks")

    async def _tell_data_coord(self, peers: Peers, watch: SessionWatch) -> None:
        """Early in a term, but after the first callers; whatever comes of it."""
        await self._until_serving()
        await asyncio.sleep(CALLERS_FIRST_S)
        if watch.active("datacoord") is not None:
            try:
                await peers.data_coord.look_anew(deadline=clock.boottime() + LOOK_ANEW_S)
            except CoorddError as error:
                log.debug("datacoord was not told to look for this rootcoord", reason=str(error))

    def _data_nodes(self) -> Collection[int] | None:
        """IDs of the data nodes that live; None: that is not known now."""
        watch = self._watch
        return watch.nodes("datanode") if watch is not None and watch.synced else None

    async def _drive(self, imports: Imports) -> None:
        await self._until_serving()
        await imports.run()

    async def _tell_proxies(self, proxies: ProxyManager, changed: Sequence[str], server_id: int) -> None:
        """When callers have been answered: this may take a while. `changed`: keys."""
        await self._until_serving()
        await inherited.tell(proxies, inherited.notices(self.metadata, self._layout, changed, server_id))

    async def _until_serving(self) -> None:
        while self._gate is not None and self._may_send_s() <= 0:
            await self._gate.wait_change(math.inf)

    def _may_send_s(self) -> float:
        """For how many seconds this replica may act outward, 0 for not now."""
        gate = self._gate
        return gate.guard_remaining_s() if gate is not None and gate.serving() else 0.0

    def _begin_time_ticks(self, term: Term, oracle: Oracle, queue: MessageQueue | None) -> None:
        """Who uses which channel is in the tables, so nothing is read for this."""
        self._channels = self._channel_pool()
        sessions = self._sessions
        if sessions is None:
            return  # nothing is served, so nobody reports
        self._time_ticks = begin_time_ticks(
            term,
            oracle=oracle,
            pool=self._channels,
            sessions=sessions,
            queue=queue,
            config=self._config,
            may_send_s=self._may_send_s,
            barred=lambda: self._bar.ids,
        )

    def _channel_pool(self) -> ChannelPool:
        settings, collections = self._config().settings, self.metadata.collections
        if settings.common.pre_created_topic.enabled:
            return ChannelPool(settings.common.pre_created_topic.names, collections)
        prefix = f"{settings.common.cluster}-{settings.common.root_coord_dml}"
        number = settings.root_coord.dml_channel_num
        return ChannelPool(pool_names(prefix, number, collections.channel_uses), collections)

    def _meet_peers(self, term: Term) -> None:
        if self._watch is None:
            return  # nothing is served, so nobody is called
        settings = self._config().settings
        options = ClientOptions(
            cluster=settings.common.cluster,
            max_receive_bytes=settings.root_coord.client_max_recv_size,
            max_send_bytes=settings.root_coord.client_max_send_size,
            keepalive_time_ms=settings.grpc.client_keep_alive_time_ms,
            keepalive_timeout_ms=settings.grpc.client_keep_alive_timeout_ms,
        )
        self._peers = Peers(
            self._watch,
            options,
            self._bar,
            term.server_id,
            BarRecords(term.committer, self._layout),
            users=self.metadata.users.known_names,
        )
        for name, task in self._peers.tasks().items():
            term.start_task(task, name)
        term.start_task(self._tell_data_coord(self._peers, self._watch), "datacoord looks anew")

    def _begin_quota(self, term: Term, oracle: Oracle) -> None:
        if self._peers is None:
            return  # nobody is called
        surroundings = Surroundings(
            peers=self._peers,
            collections=self.metadata.collections,
            settings=lambda: self._config().settings.quota_and_limits,
            now_ms=lambda: max(oracle.timestamps.physical_ms, clock.unix_ms()),
            may_send_s=self._may_send_s,
            server_id=term.server_id,
        )
        self._quota = QuotaCenter(surroundings)
        term.start_task(self._quota.run(), "quota centre")

    async def _start_oracle(self, term: Term) -> Oracle:
        first = await self._first_windows(term.epoch)
        if first is not None:
            return Oracle.begun(first, term.epoch, self._layout, term.committer)
        return await Oracle.start(self._client, self._layout, term.committer, KnownInTables(self.metadata))

    async def _first_windows(self, epoch: int) -> FirstWindows | None:
        """The windows that the transaction which made the term has saved, if it has."""
        claimed, self._claimed = self._claimed, None
        if claimed is not None and claimed[0] == epoch:
            return claimed[1]
        if not await self._window_follower.follows(epoch, BEQUEST_PATIENCE_S):
            return None
        return self._windows.bequeathed(epoch, clock.unix_ms())

    def deactivate(self) -> None:
        """Hand out nothing any more; the tables go on being followed."""
        if self._oracle is not None:
            self._oracle.close()
            self._oracle = None
            self._ddl = None
            self._access = None
        if self._operations is not None:
            self._operations.close()
            self._operations = None
        self._life = None
        self._imports = None
        self._time_ticks = self._channels = None
        self._peers = self._quota = None
        self._bar.end_term()

    async def _bootstrap(self, term: Term, oracle: Oracle) -> None:
        settings = self._config().settings
        security, builtin = settings.common.security, settings.builtin_roles.grants()
        for grant in bootstrap.unknown_grants(builtin):
            log.warning("a privilege in builtinRoles.roles is none, it is not granted", grant=grant)
        missing = bootstrap.find_missing(
            self.metadata, public_grants=security.enable_public_privilege, builtin=builtin
        )
        if not missing:
            return
        log.info(
            "writing what a new cluster lacks",
            database=missing.default_database,
            root_user=missing.root_user,
            roles=missing.roles,
            grants=len(missing.grants),
        )
        puts = bootstrap.plan(
            missing,
            self._layout,
            self.metadata,
            timestamp=await oracle.wait_timestamps(1, clock.boottime() + FIRST_TIMESTAMP_PATIENCE_S),
            now_ns=clock.unix_ns(),
            encrypted_root_password=encrypt(security.default_root_password.get_secret_value())
            if missing.root_user
            else "",
        )
        expect = bootstrap.expected(missing, self._layout)
        for batch in bootstrap.batches(puts):
            await term.committer.commit(batch, expect=expect)
            expect = {}


def encrypt(password: str) -> str:
    """A password as it is stored: bcrypt in the form that Go's library writes (`$2a$`)."""
    salt = bcrypt.gensalt(BCRYPT_COST, prefix=b"2a")
    return bcrypt.hashpw(password.encode(), salt).decode()


async def _close_at_the_end(queue: MessageQueue) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await queue.close()
