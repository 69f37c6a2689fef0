"""DataCoord and QueryCoord register, stand by, lead, and say "not yet" to the rest."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from coordd.datacoord import DataCoord
from coordd.etcd import EtcdClient
from coordd.ha.coordinator import Coordinator
from coordd.ha.replica import Replica
from coordd.pb import data_coord_pb2, index_coord_pb2, internal_pb2, milvus_pb2, query_coord_pb2
from coordd.pb.common_pb2 import StateCode
from coordd.querycoord import QueryCoord
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from tests.support.rpc import FakeGate
from tests.unit.rootcoord.memory_etcd import MemoryEtcd
from tests.unit.rootcoord.recorded import LAYOUT, no_config

DATA = "/milvus.proto.data.DataCoord/"
INDEX = "/milvus.proto.index.IndexCoord/"
QUERY = "/milvus.proto.query.QueryCoord/"


def make(kind: type[DataCoord] | type[QueryCoord]) -> tuple[DataCoord | QueryCoord, Dispatcher, FakeGate]:
    loaded = no_config()
    coordinator = kind(lambda: loaded, LAYOUT, cast("EtcdClient", MemoryEtcd()))
    gate = FakeGate()
    gate.role = coordinator.role
    table = DispatchTable()
    coordinator.add_services(table, cast("Replica", SimpleNamespace(gate=gate)))
    return coordinator, Dispatcher(table, gate, cluster="by-dev"), gate


async def ask(dispatcher: Dispatcher, path: str, request: Any) -> Any:
    method = dispatcher.table.get(path)
    assert method is not None
    raw = await dispatcher.dispatch(path, request.SerializeToString(), Call(method=path, metadata={}))
    return method.response_type.FromString(raw)


@pytest.mark.parametrize(
    ("kind", "role", "companions"),
    [(DataCoord, "datacoord", ("indexcoord",)), (QueryCoord, "querycoord", ())],
)
async def test_they_are_coordinators(kind: Any, role: str, companions: tuple[str, ...]) -> None:
    coordinator, _, _ = make(kind)
    as_seen_by_ha: Coordinator = coordinator
    assert (as_seen_by_ha.role, as_seen_by_ha.companions) == (role, companions)
    assert as_seen_by_ha.follow_from < LAYOUT.session_prefix
    assert not as_seen_by_ha.tables


@pytest.mark.parametrize(
    ("kind", "path", "role"),
    [
        (DataCoord, DATA, "datacoord"),
        (DataCoord, INDEX, "datacoord"),
        (QueryCoord, QUERY, ""),
    ],
)
async def test_states_are_told_in_every_state(kind: Any, path: str, role: str) -> None:
    _, dispatcher, gate = make(kind)
    for state in (StateCode.Initializing, StateCode.Healthy, StateCode.StandBy):
        gate.change(state_code=state)
        answer = await ask(dispatcher, f"{path}GetComponentStates", milvus_pb2.GetComponentStatesRequest())
        assert (answer.state.nodeID, answer.state.role, answer.state.state_code) == (4, role, state)
        assert answer.status.code == 0


async def test_channels_are_told_while_standing_by() -> None:
    _, data, gate = make(DataCoord)
    gate.change(state_code=StateCode.StandBy)
    tick = await ask(data, f"{DATA}GetTimeTickChannel", internal_pb2.GetTimeTickChannelRequest())
    info = await ask(data, f"{DATA}GetSegmentInfoChannel", data_coord_pb2.GetSegmentInfoChannelRequest())
    assert (tick.value, info.value) == ("by-dev-datacoord-timetick-channel", "by-dev-segment-info-channel")
    _, query, gate = make(QueryCoord)
    gate.change(state_code=StateCode.StandBy)
    tick = await ask(query, f"{QUERY}GetTimeTickChannel", internal_pb2.GetTimeTickChannelRequest())
    assert tick.value == "by-dev-queryTimeTick"


@pytest.mark.parametrize(
    ("kind", "path", "request_"),
    [
        (DataCoord, f"{DATA}AssignSegmentID", data_coord_pb2.AssignSegmentIDRequest()),
        (DataCoord, f"{INDEX}CreateIndex", index_coord_pb2.CreateIndexRequest()),
        (QueryCoord, f"{QUERY}LoadCollection", query_coord_pb2.LoadCollectionRequest()),
    ],
)
async def test_everything_else_is_not_there_yet(kind: Any, path: str, request_: Any) -> None:
    _, dispatcher, _ = make(kind)
    answer = await ask(dispatcher, path, request_)
    status = getattr(answer, "status", answer)
    assert status.code != 0
    assert "not implemented yet" in status.reason
