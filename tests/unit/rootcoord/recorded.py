"""A RootCoord over the etcd keys of a recorded Milvus 2.3.5 cluster, or over others."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from coordd import clock
from coordd.config import LoadedConfig, load_config
from coordd.errors import CoorddError
from coordd.etcd import EtcdClient
from coordd.ha.leadership import SessionTable
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.pb import milvus_pb2
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.handlers import RootCoordHandlers
from coordd.rootcoord.imports.driver import Imports
from coordd.rootcoord.kept_answers import KeptAnswers
from coordd.rootcoord.looks import Looks
from coordd.rootcoord.operations import Operations
from coordd.rootcoord.oracle import Oracle, TermOverError
from coordd.rootcoord.permission_caches import PolicyChange
from coordd.rootcoord.proxies import ProxyAddress, TimestampBar
from coordd.rootcoord.system_info import Component
from coordd.rootcoord.timetick import TimeTicker
from tests.lab.recording import Recording, load
from tests.support.rpc import FakeGate
from tests.unit.rootcoord.memory_etcd import MemoryEtcd

RECORDING = Path(__file__).parents[2] / "interop" / "recorded" / "milvus-2.3.5.json.xz"
LAYOUT = MetaLayout("by-dev", "meta", "kv")


@cache
def recording() -> Recording:
    """What Milvus answered, and the etcd keys it answered from. Do not modify."""
    return load(RECORDING)


def etcd_values() -> dict[str, bytes]:
    """A copy of the recorded keys and values."""
    return dict(recording().etcd)


class AllHealthy:
    """Proxies that are as they should be."""

    async def component_states(self, proxy: ProxyAddress, timeout_s: float) -> milvus_pb2.ComponentStates:
        del timeout_s
        state = milvus_pb2.ComponentInfo(nodeID=proxy.server_id, role="proxy", state_code="Healthy")
        return milvus_pb2.ComponentStates(state=state)


class ToldCaches:
    """The proxies' caches of permissions: keeps what it is told, and who waited. `slow`: nobody confirms.

    `withheld`: users whose passwords no proxy may work with that was not told, or why that is not certain.
    """

    def __init__(self) -> None:
        self.news: list[tuple[str, ...]] = []
        self.slow = False
        self.withheld: list[str] = []
        self.uncertain: CoorddError | None = None

    def invalidate_credential(self, username: str) -> None:
        self.news.append(("forget password", username))

    def refresh_policies(self, change: PolicyChange, key: str = "") -> None:
        self.news.append((change.name, key))

    async def told(self, *, deadline: float) -> bool:
        if self.slow:
            await asyncio.sleep(max(0.0, deadline - clock.boottime()))
        return not self.slow

    async def withhold(self, username: str, *, committed_at: int = 0) -> None:
        del committed_at
        if self.uncertain is not None:
            raise self.uncertain
        self.withheld.append(username)


@dataclass
class World:
    """Tables filled from etcd keys, and the handlers that answer from them."""

    etcd: MemoryEtcd
    tables: RootCoordTables
    fold: Fold
    sessions: SessionTable
    handlers: RootCoordHandlers
    gate: FakeGate
    bar: TimestampBar = field(default_factory=TimestampBar)
    looks: Looks = field(default_factory=Looks)
    peers: Any = None
    life: Any = None
    oracle: Oracle | None = None
    ddl: Ddl | None = None
    operations: Operations | None = None
    alteration_news: Any = None
    time_ticks: TimeTicker | None = None
    access: Ddl | None = None
    caches: ToldCaches = field(default_factory=ToldCaches)
    imports: Imports | None = None

    @property
    def client(self) -> EtcdClient:
        return cast("EtcdClient", self.etcd)


def no_config() -> LoadedConfig:
    """Built-in defaults only."""
    return load_config(env={}, cwd=RECORDING.parent)


async def world(
    values: dict[str, bytes] | None = None,
    *,
    config: LoadedConfig | None = None,
    proxies: Any = None,
) -> World:
    """A RootCoord over these keys (default: the recorded ones), without the oracle of a term."""
    etcd = MemoryEtcd.holding(etcd_values() if values is None else values)
    tables = RootCoordTables(LAYOUT)
    sessions = SessionTable(LAYOUT)
    fold = Fold([*tables.tables, sessions])
    fold.load(await etcd.range("", "\x7f"))
    gate = FakeGate()
    loaded = config or no_config()
    bar, looks, caches, kept = TimestampBar(), Looks(), ToldCaches(), KeptAnswers(tables)
    made: World

    def of_term(name: str) -> Callable[[], Any]:
        """What the world holds under this name, once a test has put it there."""

        def get() -> Any:
            part = getattr(made, name, None)
            if part is None:
                raise TermOverError("this rootcoord is not active")
            return part

        return get

    handlers = RootCoordHandlers(
        tables=tables,
        layout=LAYOUT,
        client=cast("EtcdClient", etcd),
        kept=lambda: kept,
        oracle=of_term("oracle"),
        ddl=of_term("ddl"),
        operations=of_term("operations"),
        access=of_term("access"),
        life=of_term("life"),
        imports=of_term("imports"),
        gate=gate,
        sessions=sessions,
        proxies=proxies or AllHealthy(),
        time_ticks=of_term("time_ticks"),
        peers=of_term("peers"),
        alteration_news=of_term("alteration_news"),
        bar=bar,
        looks=looks,
        caches=lambda: caches,
        config=lambda: loaded,
        component=lambda: Component("rootcoord", 4, "127.0.0.1:53100", "0.1.0", "2.3.5", 0, 1024),
    )
    made = World(etcd, tables, fold, sessions, handlers, gate, bar, looks=looks, caches=caches)
    return made
