"""What RootCoord asks of DataCoord and QueryCoord, and how a term meets the other processes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from coordd.clock import boottime
from coordd.config import load_config
from coordd.etcd import EtcdClient
from coordd.ha.replica import Replica
from coordd.ha.tasks import TaskScope
from coordd.pb import common_pb2, data_coord_pb2, index_coord_pb2, milvus_pb2, proxy_pb2, query_coord_pb2
from coordd.pb.common_pb2 import ErrorCode, MsgBase, MsgType
from coordd.rootcoord import RootCoord
from coordd.rootcoord.oracle import TermOverError
from coordd.rootcoord.peers import Peers
from coordd.rootcoord.proxies import TimestampBar
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.forward import GrpcForwarder
from coordd.rpc.peer import PeerUnavailable
from coordd.rpc.status import MilvusError
from tests.support.etcd import EtcdCluster, eventually, unique_root
from tests.support.peers import OPTIONS, Acting, Cluster, cluster_in, refusal
from tests.support.replicas import SilentServer, quick_settings

pytestmark = pytest.mark.timeout(60)

OWN_ID = 4
ROOT_COORD = "/milvus.proto.rootcoord.RootCoord/"


@dataclass
class Scene:
    cluster: Cluster
    peers: Peers
    data: Acting
    query: Acting


@pytest.fixture
async def cluster(etcd_server: EtcdCluster) -> AsyncIterator[Cluster]:
    async with EtcdClient(etcd_server.settings()) as client, cluster_in(client, unique_root()) as made:
        yield made


@pytest.fixture
async def scene(cluster: Cluster) -> AsyncIterator[Scene]:
    async with Acting("datacoord", 12) as data, Acting("querycoord", 13) as query, TaskScope() as scope:
        await cluster.active(data)
        await cluster.active(query)
        peers = Peers(cluster.sessions, OPTIONS, TimestampBar(), OWN_ID)
        for name, task in peers.tasks().items():
            scope.create_task(task, name=name)
        yield Scene(cluster, peers, data, query)


def soon() -> float:
    return boottime() + 30


Ask = Callable[[Peers], Awaitable[Any]]
DATA_COORD_CALLS: list[tuple[str, Ask, Any]] = [
    (
        "WatchChannels",
        lambda peers: peers.data_coord.watch_channels(
            data_coord_pb2.WatchChannelsRequest(collectionID=1, channelNames=["c_1v0"]), deadline=soon()
        ),
        data_coord_pb2.WatchChannelsRequest(collectionID=1, channelNames=["c_1v0"]),
    ),
    (
        "GcConfirm",
        lambda peers: peers.data_coord.gc_confirm(1, deadline=soon()),
        data_coord_pb2.GcConfirmRequest(collection_id=1, partition_id=-1),
    ),
    (
        "DropIndex",
        lambda peers: peers.data_coord.drop_indexes(1, [2], deadline=soon()),
        index_coord_pb2.DropIndexRequest(collectionID=1, partitionIDs=[2], drop_all=True),
    ),
    (
        "BroadcastAlteredCollection",
        lambda peers: peers.data_coord.broadcast_altered_collection(
            data_coord_pb2.AlterCollectionRequest(collectionID=1), deadline=soon()
        ),
        data_coord_pb2.AlterCollectionRequest(collectionID=1),
    ),
    (
        "Flush",
        lambda peers: peers.data_coord.flush_imported(1, [2, 3], deadline=soon()),
        data_coord_pb2.FlushRequest(
            base=MsgBase(msg_type=MsgType.Flush), collectionID=1, segmentIDs=[2, 3], isImport=True
        ),
    ),
    (
        "UnsetIsImportingState",
        lambda peers: peers.data_coord.unset_is_importing([2, 3], deadline=soon()),
        data_coord_pb2.UnsetIsImportingStateRequest(segment_ids=[2, 3]),
    ),
    (
        "MarkSegmentsDropped",
        lambda peers: peers.data_coord.mark_segments_dropped([2, 3], deadline=soon()),
        data_coord_pb2.MarkSegmentsDroppedRequest(segment_ids=[2, 3]),
    ),
    (
        "GetSegmentStates",
        lambda peers: peers.data_coord.segment_states([2, 3], deadline=soon()),
        data_coord_pb2.GetSegmentStatesRequest(
            base=MsgBase(msg_type=MsgType.GetSegmentState), segmentIDs=[2, 3]
        ),
    ),
    (
        "GetMetrics",
        lambda peers: peers.data_coord.metrics(deadline=soon()),
        milvus_pb2.GetMetricsRequest(
            base=MsgBase(msg_type=MsgType.SystemInfo), request='{"metric_type":"system_info"}'
        ),
    ),
]
QUERY_COORD_CALLS: list[tuple[str, Ask, Any]] = [
    (
        "ReleaseCollection",
        lambda peers: peers.query_coord.release_collection(1, deadline=soon()),
        query_coord_pb2.ReleaseCollectionRequest(
            base=MsgBase(msg_type=MsgType.ReleaseCollection), collectionID=1, nodeID=OWN_ID
        ),
    ),
    (
        "ReleasePartitions",
        lambda peers: peers.query_coord.release_partitions(1, [2, 3], deadline=soon()),
        query_coord_pb2.ReleasePartitionsRequest(
            base=MsgBase(msg_type=MsgType.ReleasePartitions), collectionID=1, partitionIDs=[2, 3]
        ),
    ),
    (
        "SyncNewCreatedPartition",
        lambda peers: peers.query_coord.sync_new_created_partition(1, 2, deadline=soon()),
        query_coord_pb2.SyncNewCreatedPartitionRequest(
            base=MsgBase(msg_type=MsgType.ReleasePartitions), collectionID=1, partitionID=2
        ),
    ),
    (
        "GetMetrics",
        lambda peers: peers.query_coord.metrics(deadline=soon()),
        milvus_pb2.GetMetricsRequest(
            base=MsgBase(msg_type=MsgType.SystemInfo), request='{"metric_type":"system_info"}'
        ),
    ),
]
CALLS = [("datacoord", *one) for one in DATA_COORD_CALLS] + [
    ("querycoord", *one) for one in QUERY_COORD_CALLS
]
NAMES = [f"{role}-{method}" for role, method, _, _ in CALLS]
REFUSALS = {
    "WatchChannels": "failed to watch channels, code: UnexpectedError, reason: busy",
    "GcConfirm": "gc is not finished: busy",
    "ReleaseCollection": "failed to release collection, code: UnexpectedError, reason: busy",
    "ReleasePartitions": "release partition failed, reason: busy",
    "SyncNewCreatedPartition": "sync new partition failed, reason: busy",
}


@pytest.mark.parametrize(("role", "method", "ask", "expected"), CALLS, ids=NAMES)
async def test_a_request_has_the_fields_that_milvus_sets(
    scene: Scene, role: str, method: str, ask: Ask, expected: Any
) -> None:
    await ask(scene.peers)
    acting = scene.data if role == "datacoord" else scene.query
    [asked] = acting.asked
    assert (asked.method, asked.request) == (method, expected)
    assert asked.metadata["serverid"] == str(acting.server_id)


@pytest.mark.parametrize(("role", "method", "ask", "expected"), CALLS, ids=NAMES)
async def test_a_refusal_is_passed_on_in_milvus_words(
    scene: Scene, role: str, method: str, ask: Ask, expected: Any
) -> None:
    del expected
    acting = scene.data if role == "datacoord" else scene.query
    [kind] = {one.response_type for one in acting.table if one.name == method}
    status = refusal("busy")
    acting.replies[method] = status if kind is common_pb2.Status else kind(status=status)
    with pytest.raises(MilvusError) as caught:
        await ask(scene.peers)
    assert str(caught.value) == REFUSALS.get(method, "busy")
    assert len(acting.asked) == 1


async def test_answers_that_say_something(scene: Scene) -> None:
    scene.data.replies |= {
        "GcConfirm": data_coord_pb2.GcConfirmResponse(gc_finished=True),
        "GetMetrics": milvus_pb2.GetMetricsResponse(response='{"self":{}}'),
        "GetSegmentStates": data_coord_pb2.GetSegmentStatesResponse(
            states=[data_coord_pb2.SegmentStateInfo(segmentID=2)]
        ),
        "Flush": data_coord_pb2.FlushResponse(segmentIDs=[5]),
    }
    data_coord = scene.peers.data_coord
    assert await data_coord.gc_confirm(1, 2, deadline=soon())
    assert await data_coord.metrics(deadline=soon()) == '{"self":{}}'
    assert [state.segmentID for state in await data_coord.segment_states([2], deadline=soon())] == [2]
    assert (await data_coord.flush_imported(1, [5], deadline=soon())).segmentIDs == [5]


async def test_that_no_data_node_is_free_for_an_import_is_an_answer(scene: Scene) -> None:
    status = common_pb2.Status(
        error_code=ErrorCode.UnexpectedError, code=65535, reason="all data nodes are busy"
    )
    scene.data.replies["Import"] = data_coord_pb2.ImportTaskResponse(status=status)
    task = data_coord_pb2.ImportTask(task_id=5)
    answer = await scene.peers.data_coord.import_task(task, [8, 9], deadline=soon())
    assert answer.status == status
    assert scene.data.requests("Import") == [
        data_coord_pb2.ImportTaskRequest(import_task=task, working_nodes=[8, 9])
    ]


async def test_no_partitions_to_release_is_no_call(scene: Scene) -> None:
    await scene.peers.query_coord.release_partitions(1, [], deadline=soon())
    assert scene.query.asked == []


async def test_an_absent_coordinator_is_waited_for_and_then_named(scene: Scene) -> None:
    await scene.cluster.remove("querycoord")
    with pytest.raises(PeerUnavailable, match="there is no active querycoord") as caught:
        await scene.peers.query_coord.release_collection(1, deadline=boottime() + 0.1)
    assert caught.value.role == "querycoord"
    await scene.peers.data_coord.drop_indexes(1, deadline=soon())


# --- a term ---


@dataclass
class Running:
    """A whole replica of RootCoord, but for its gRPC port."""

    coordinator: RootCoord
    replica: Replica
    dispatcher: Dispatcher

    async def call(self, method: str, request: Any) -> bytes:
        path = f"{ROOT_COORD}{method}"
        return await self.dispatcher.dispatch(path, request.SerializeToString(), Call(path, {}, soon()))


@asynccontextmanager
async def running(cluster: Cluster) -> AsyncIterator[Running]:
    loaded = load_config(env={})
    coordinator = RootCoord(lambda: loaded, cluster.layout, cluster.client)
    settings = quick_settings(1, serve_guard_ms=2000)
    replica = Replica(settings, cluster.client, cluster.layout, coordinator, SilentServer, GrpcForwarder)
    table = DispatchTable()
    coordinator.add_services(table, replica)
    async with TaskScope() as scope:
        task = scope.create_task(replica.run(), name="replica")
        await eventually(replica.gate.serving, limit_s=10)
        yield Running(coordinator, replica, Dispatcher(table, replica.gate, cluster="by-dev"))
        replica.request_stop()
        async with asyncio.timeout(10):
            await task


async def test_a_term_has_the_proxies_read_their_policies_and_its_end_closes_all_connections(
    cluster: Cluster,
) -> None:
    async with Acting("proxy", 1007) as proxy:
        await cluster.proxy(proxy)
        async with running(cluster) as root:
            await eventually(lambda: proxy.requests("RefreshPolicyInfoCache"))
            [request] = proxy.requests("RefreshPolicyInfoCache")
            assert (request.opType, request.opKey) == (7, "")
            connection = root.coordinator.parts.services.peers.proxies._links[1007]._connection
        assert connection.closed
        with pytest.raises(TermOverError):
            _ = root.coordinator.parts.services.peers


async def test_invalidate_collection_meta_cache_reaches_the_proxies(cluster: Cluster) -> None:
    request = proxy_pb2.InvalidateCollMetaCacheRequest(db_name="default", collection_name="books")
    async with Acting("proxy", 1007) as proxy, running(cluster) as root:
        await cluster.proxy(proxy)
        revision = await cluster.client.revision()
        assert await root.replica.follower.follows(revision, 5.0)
        answer = await root.call("InvalidateCollectionMetaCache", request)
        assert common_pb2.Status.FromString(answer) == common_pb2.Status()
        assert proxy.requests("InvalidateCollectionMetaCache") == [request]
        proxy.replies["InvalidateCollectionMetaCache"] = refusal("out of order")
        status = common_pb2.Status.FromString(await root.call("InvalidateCollectionMetaCache", request))
        assert status.reason == "InvalidateCollectionMetaCache failed, proxyID = 1007, err = out of order"


async def test_without_a_term_it_is_said_elsewhere(cluster: Cluster) -> None:
    async with running(cluster) as root:
        pass
    with pytest.raises(RpcFailure) as caught:
        await root.call("InvalidateCollectionMetaCache", proxy_pb2.InvalidateCollMetaCacheRequest())
    assert caught.value.code is RpcCode.UNAVAILABLE
