"""The root coordinator as the replica driver sees it: tables to follow, a term to begin and to end.

One instance lives as long as the process; what belongs to a term is made by `activate` and dropped by
`deactivate`.

Source of truth for the order of activation: Milvus 2.3.5 internal/rootcoord/root_coord.go (initInternal).
"""

from collections.abc import Callable, Sequence

import bcrypt

from coordd import clock
from coordd.config import LoadedConfig
from coordd.etcd import EtcdClient
from coordd.ha.coordinator import Term
from coordd.ha.replica import Replica
from coordd.log import get_logger
from coordd.meta.fold import Table
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.rootcoord import bootstrap
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.figures import Figures
from coordd.rootcoord.handlers import RootCoordHandlers, serve
from coordd.rootcoord.known import KnownInTables
from coordd.rootcoord.oracle import Oracle, TermOverError
from coordd.rootcoord.proxies import GrpcProxyClient
from coordd.rootcoord.system_info import Component
from coordd.rpc.table import DispatchTable
from coordd.version import coordd_version

log = get_logger("coordd.rootcoord")

ROLE = "rootcoord"
BCRYPT_COST = 4
"""Milvus' bcrypt.MinCost: a proxy checks passwords against it on every connection."""

FIRST_TIMESTAMP_PATIENCE_S = 5.0


class RootCoord:
    """Implements `coordd.ha.coordinator.Coordinator`."""

    companions: tuple[str, ...] = ()

    def __init__(self, config: Callable[[], LoadedConfig], layout: MetaLayout, client: EtcdClient) -> None:
        self.role = ROLE
        self.metadata = RootCoordTables(layout)
        self._config = config
        self._layout = layout
        self._client = client
        self._oracle: Oracle | None = None
        self._ddl: Ddl | None = None
        self._epoch = 0
        self._started_ns = clock.unix_ns()

    @property
    def follow_from(self) -> str:
        """First key of the followed range: RootCoord's own prefix."""
        return self._layout.root_coord_prefix

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

    def add_services(self, table: DispatchTable, replica: Replica) -> None:
        """Serve RootCoord's methods through `table`, for as long as the process lives."""

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
            gate=replica.gate,
            sessions=replica.sessions,
            proxies=GrpcProxyClient(),
            config=self._config,
            component=component,
        )
        serve(table, handlers)

    def figures(self, replica: Replica) -> Figures:
        """Milvus' metrics of a root coordinator."""
        return Figures(self.metadata, replica.sessions, lambda: self._oracle)

    async def activate(self, term: Term) -> None:
        """Load and persist the windows of timestamps and IDs, write what a new cluster lacks.

        Two round trips to etcd, three in a new cluster; no range is read. May be called again in the same
        term after it failed, and goes on where it was: two keepers of one window would chase each other.

        Raises:
            WindowCorruptError: a saved window is unreadable and nothing tells where to start.
            FenceLost: the term is over.
            CoorddError: etcd cannot be used.
        """
        if self._oracle is None or self._epoch != term.epoch:
            known = KnownInTables(self.metadata)
            oracle = await Oracle.start(self._client, self._layout, term.committer, known)
            self._oracle, self._epoch = oracle, term.epoch
            self._ddl = Ddl(term.committer, oracle, self.metadata.ddl_mark)
            term.start_task(oracle.keep_timestamps(), "timestamp window")
            term.start_task(oracle.keep_ids(), "id window")
        await self._bootstrap(term, self._oracle)

    def deactivate(self) -> None:
        """Hand out nothing any more; the tables go on being followed."""
        if self._oracle is not None:
            self._oracle.close()
            self._oracle = None
            self._ddl = None

    async def _bootstrap(self, term: Term, oracle: Oracle) -> None:
        security = self._config().settings.common.security
        missing = bootstrap.find_missing(self.metadata, public_grants=security.enable_public_privilege)
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
        await term.committer.commit(puts, expect=bootstrap.expected(missing, self._layout))


def encrypt(password: str) -> str:
    """A password as it is stored: bcrypt in the form that Go's library writes (`$2a$`)."""
    salt = bcrypt.gensalt(BCRYPT_COST, prefix=b"2a")
    return bcrypt.hashpw(password.encode(), salt).decode()
