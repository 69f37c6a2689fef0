"""All of RootCoord's handlers as one object for the dispatch table."""

from collections.abc import Callable

from coordd.config import LoadedConfig
from coordd.etcd import EtcdClient
from coordd.ha.leadership import SessionTable
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.pb import root_coord_pb2
from coordd.rootcoord.alteration_news import AlterationNews
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.handlers.access import AccessHandlers
from coordd.rootcoord.handlers.aliases import AliasHandlers
from coordd.rootcoord.handlers.allocation import AllocationHandlers
from coordd.rootcoord.handlers.alterations import AlterationHandlers
from coordd.rootcoord.handlers.caches import CacheHandlers
from coordd.rootcoord.handlers.collections import CollectionHandlers
from coordd.rootcoord.handlers.databases import DatabaseHandlers
from coordd.rootcoord.handlers.imports import ImportHandlers
from coordd.rootcoord.handlers.life import LifeHandlers
from coordd.rootcoord.handlers.physical_channels import PhysicalChannelHandlers
from coordd.rootcoord.handlers.privilege_groups import PrivilegeGroupHandlers
from coordd.rootcoord.handlers.roles import RoleHandlers
from coordd.rootcoord.handlers.system import SystemHandlers
from coordd.rootcoord.handlers.timeticks import TimeTickHandlers
from coordd.rootcoord.handlers.users import UserHandlers
from coordd.rootcoord.imports.driver import Imports
from coordd.rootcoord.kept_answers import KeptAnswers
from coordd.rootcoord.life import Life
from coordd.rootcoord.looks import Looks
from coordd.rootcoord.lookup import CollectionLookup
from coordd.rootcoord.operations import Operations
from coordd.rootcoord.oracle import Oracle
from coordd.rootcoord.past import PastLookup
from coordd.rootcoord.peers import Peers
from coordd.rootcoord.permission_caches import PermissionCaches
from coordd.rootcoord.proxies import ProxyClient, TimestampBar
from coordd.rootcoord.system_info import Component, SystemInfo
from coordd.rootcoord.timetick import TimeTicker
from coordd.rpc.gate import ServeGate
from coordd.rpc.table import DispatchTable


def serve(table: DispatchTable, handlers: "RootCoordHandlers") -> None:
    """Put all methods of the service into `table`."""
    table.add_service(root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"], handlers)


class RootCoordHandlers(
    AllocationHandlers,
    DatabaseHandlers,
    CollectionHandlers,
    AliasHandlers,
    AccessHandlers,
    TimeTickHandlers,
    AlterationHandlers,
    LifeHandlers,
    ImportHandlers,
    CacheHandlers,
    UserHandlers,
    RoleHandlers,
    PrivilegeGroupHandlers,
    PhysicalChannelHandlers,
    SystemHandlers,
):
    """One method for each RPC of the service."""

    def __init__(
        self,
        *,
        tables: RootCoordTables,
        layout: MetaLayout,
        client: EtcdClient,
        kept: Callable[[], KeptAnswers],
        oracle: Callable[[], Oracle],
        ddl: Callable[[], Ddl],
        operations: Callable[[], Operations],
        access: Callable[[], Ddl],
        life: Callable[[], Life],
        imports: Callable[[], Imports],
        gate: ServeGate,
        sessions: SessionTable,
        proxies: ProxyClient,
        time_ticks: Callable[[], TimeTicker],
        peers: Callable[[], Peers],
        alteration_news: Callable[[], AlterationNews],
        bar: TimestampBar,
        looks: Looks,
        caches: Callable[[], PermissionCaches],
        config: Callable[[], LoadedConfig],
        component: Callable[[], Component],
    ) -> None:
        self._tables = tables
        self._layout = layout
        self._lookup = CollectionLookup(tables, looks)
        self._past = PastLookup(client, layout, self._lookup)
        self._kept = kept
        self._oracle = oracle
        self._ddl = ddl
        self._operations = operations
        self._access = access
        self._life = life
        self._imports = imports
        self._gate = gate
        self._sessions = sessions
        self._proxies = proxies
        self._time_ticks = time_ticks
        self._peers = peers
        self._alteration_news = alteration_news
        self._bar = bar
        self._looks = looks
        self._caches = caches
        self._config = config
        self._component = component
        self._system_info = SystemInfo()
