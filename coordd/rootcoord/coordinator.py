"""The root coordinator as the replica driver sees it: tables to follow, a term to begin and to end.

One instance lives as long as the process; what belongs to a term is made by `activate` and dropped by
`deactivate`.

Source of truth for the order of activation: Milvus 2.3.5 internal/rootcoord/root_coord.go (initInternal).
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import bcrypt

from coordd import clock
from coordd.config import LoadedConfig
from coordd.errors import CoorddError
from coordd.etcd import EtcdClient, Op, OpResult, TxnResult, prefix_end
from coordd.ha.coordinator import Claim, Term
from coordd.ha.follower import Follower
from coordd.ha.replica import Replica
from coordd.ha.session_watch import SessionWatch
from coordd.log import get_logger
from coordd.meta.fold import Fold, Table
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.mq.choice import queue_maker
from coordd.mq.lazy import LazyQueue
from coordd.mq.types import MessageQueue
from coordd.rootcoord import bootstrap
from coordd.rootcoord.channels import ChannelPool, pool_names
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.figures import Figures
from coordd.rootcoord.first_windows import FirstWindows, WindowTable
from coordd.rootcoord.handlers import RootCoordHandlers, serve
from coordd.rootcoord.kept_answers import KeptAnswers
from coordd.rootcoord.known import KnownInTables
from coordd.rootcoord.looks import Looks
from coordd.rootcoord.operations import Operations
from coordd.rootcoord.oracle import Oracle, TermOverError
from coordd.rootcoord.parts import TermParts
from coordd.rootcoord.proxies import Departures, GrpcProxyClient, TimestampBar
from coordd.rootcoord.serving import Serving
from coordd.rootcoord.snapshots import HOURLY, Pace, SnapshotCollector, SnapshotFigures
from coordd.rootcoord.system_info import Component
from coordd.rootcoord.timetick.sessions import ProxySessions
from coordd.rpc.table import DispatchTable
from coordd.version import coordd_version

log = get_logger("coordd.rootcoord")

ROLE = "rootcoord"
BCRYPT_COST = 4
"""Milvus' bcrypt.MinCost: a proxy checks passwords against it on every connection."""

BEQUEST_PATIENCE_S = 0.01
"""How long a new term waits for the watch to tell what was bequeathed, before it reads for itself."""
FIRST_TIMESTAMP_PATIENCE_S = 5.0


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
        self._parts: TermParts | None = None
        self._serving: Serving | None = None
        self._bar = TimestampBar()
        self._looks = Looks()
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
    def parts(self) -> TermParts:
        """What belongs to the present term.

        Raises:
            TermOverError: there is no term.
        """
        if self._parts is None:
            raise TermOverError("this rootcoord is not active")
        return self._parts

    def add_services(self, table: DispatchTable, replica: Replica) -> None:
        """Serve RootCoord's methods through `table`, for as long as the process lives."""
        watch = SessionWatch(replica.sessions, replica.follower)
        departures = Departures(ProxySessions(replica.sessions).entries, self._bar)
        watch.listen(departures.look)
        self._serving = Serving(
            config=self._config,
            layout=self._layout,
            tables=self.metadata,
            bar=self._bar,
            departures=departures,
            looks=self._looks,
            gate=replica.gate,
            sessions=replica.sessions,
            watch=watch,
        )

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
            kept=lambda: self.parts.kept,
            oracle=lambda: self.parts.oracle,
            ddl=lambda: self.parts.ddl,
            operations=lambda: self.parts.operations,
            access=lambda: self.parts.access,
            life=lambda: self.parts.life,
            imports=lambda: self.parts.services.imports,
            gate=replica.gate,
            sessions=replica.sessions,
            proxies=GrpcProxyClient(),
            time_ticks=lambda: self.parts.services.time_ticks,
            peers=lambda: self.parts.services.peers,
            alteration_news=lambda: self.parts.services.alteration_news,
            bar=self._bar,
            looks=self._looks,
            caches=lambda: self.parts.services.peers.proxies,
            config=self._config,
            component=component,
        )
        serve(table, handlers)

    def figures(self, replica: Replica) -> Figures:
        """Milvus' metrics of a root coordinator."""
        return Figures(self.metadata, replica.sessions, lambda: self._parts, self._snapshots)

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
        if self._parts is None or self._parts.epoch != term.epoch:
            self._begin(term, await self._start_oracle(term))
        await self._bootstrap(term, self.parts.oracle)

    def _begin(self, term: Term, oracle: Oracle) -> None:
        """All of it is in the tables: nothing is read for this."""
        self._looks.begin_term()
        queue, no_queue = self._message_queue(term)
        parts = TermParts(
            epoch=term.epoch,
            oracle=oracle,
            kept=KeptAnswers(self.metadata),
            ddl=Ddl(term.committer, oracle, self.metadata.ddl_mark),
            access=Ddl(term.committer, oracle, self.metadata.access_mark),
            operations=Operations(term.start_task),
            channels=self._channel_pool(),
            no_queue=no_queue,
            told_until=self._windows.long_ago(term.epoch),
        )
        if self._serving is not None:
            parts.served = self._serving.begin(term, parts, queue)
        self._parts = parts  # whole: a term that is begun is not begun again
        term.start_task(oracle.keep_timestamps(), "timestamp window")
        term.start_task(oracle.keep_ids(), "id window")
        term.start_task(self._snapshot_collector(term, oracle).run(), "old snapshots")

    def _message_queue(self, term: Term) -> tuple[MessageQueue | None, str | None]:
        """The queue of the term, opened with its first message, or why there is none though one is wanted."""
        if self._queue is not None:
            return self._queue, None
        try:
            make = queue_maker(self._config())
        except CoorddError as error:
            log.error("no message queue: collections cannot be made or dropped", reason=str(error))
            return None, str(error)
        if make is None:
            return None, None
        queue = LazyQueue(make)
        term.start_task(_close_at_the_end(queue), "message queue")
        return queue, None

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

    def _channel_pool(self) -> ChannelPool:
        settings, collections = self._config().settings, self.metadata.collections
        if settings.common.pre_created_topic.enabled:
            return ChannelPool(settings.common.pre_created_topic.names, collections)
        prefix = f"{settings.common.cluster}-{settings.common.root_coord_dml}"
        number = settings.root_coord.dml_channel_num
        return ChannelPool(pool_names(prefix, number, collections.channel_uses), collections)

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
        if self._parts is not None:
            self._parts.close()
            self._parts = None
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
