"""A recorded Milvus 2.3.5 cluster: its etcd keys, and RootCoord's replies to a thousand requests."""

import base64
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.message import Message

from coordd.config import LoadedConfig, load_config
from coordd.etcd import EtcdClient
from coordd.ha.leadership import SessionTable
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.pb import milvus_pb2
from coordd.rootcoord.handlers import RootCoordHandlers
from coordd.rootcoord.oracle import Oracle
from coordd.rootcoord.proxies import ProxyAddress
from coordd.rootcoord.system_info import Component
from tests.support.rpc import FakeGate
from tests.unit.rootcoord.memory_etcd import MemoryEtcd

DATA = Path(__file__).parent / "data"
LAYOUT = MetaLayout("by-dev", "meta", "kv")


@cache
def etcd_values() -> dict[str, bytes]:
    """The recorded keys and values."""
    kept = json.loads((DATA / "etcd.json").read_text())
    return {key: base64.b64decode(value) for key, value in kept.items()}


@cache
def replies() -> dict[str, tuple[str, dict[str, Any], dict[str, Any]]]:
    """Probe name -> method, request, reply."""
    kept = json.loads((DATA / "replies.json").read_text())
    return {
        name: (method, request, kept["replies"][index])
        for name, (method, request, index) in kept["probes"].items()
    }


class AllHealthy:
    """Proxies that are as they should be."""

    async def component_states(self, proxy: ProxyAddress, timeout_s: float) -> milvus_pb2.ComponentStates:
        del timeout_s
        state = milvus_pb2.ComponentInfo(nodeID=proxy.server_id, role="proxy", state_code="Healthy")
        return milvus_pb2.ComponentStates(state=state)


@dataclass
class World:
    """Tables filled from etcd keys, and the handlers that answer from them."""

    etcd: MemoryEtcd
    tables: RootCoordTables
    fold: Fold
    sessions: SessionTable
    handlers: RootCoordHandlers
    gate: FakeGate
    oracle: Oracle | None = None

    @property
    def client(self) -> EtcdClient:
        return cast("EtcdClient", self.etcd)


def no_config() -> LoadedConfig:
    """Built-in defaults only."""
    return load_config(Path("/nonexistent-coordd-test"), env={})


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
    made: World

    def oracle() -> Oracle:
        assert made.oracle is not None
        return made.oracle

    handlers = RootCoordHandlers(
        tables=tables,
        layout=LAYOUT,
        client=cast("EtcdClient", etcd),
        oracle=oracle,
        gate=gate,
        sessions=sessions,
        proxies=proxies or AllHealthy(),
        config=lambda: loaded,
        component=lambda: Component("rootcoord", 4, "127.0.0.1:53100", "0.1.0", "2.3.5", 0, 1024),
    )
    made = World(etcd, tables, fold, sessions, handlers, gate)
    return made


def as_json(message: Message) -> dict[str, Any]:
    """A message in the form of the recorded replies."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)
