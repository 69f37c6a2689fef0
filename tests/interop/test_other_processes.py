"""RootCoord's clients against Milvus' own proxy, DataCoord and QueryCoord."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coordd.clock import boottime
from coordd.etcd import EtcdClient
from coordd.etcd.settings import PlainSettings
from coordd.ha.tasks import TaskScope
from coordd.pb.common_pb2 import KeyValuePair, MsgBase, MsgType, StateCode, Status
from coordd.pb.milvus_pb2 import (
    ComponentInfo,
    ComponentStates,
    DescribeCollectionResponse,
    GetComponentStatesRequest,
    GetMetricsRequest,
    GetMetricsResponse,
    ListDatabasesResponse,
    ShowPartitionsResponse,
)
from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest, SetRatesRequest
from coordd.pb.query_coord_pb2 import GetShardLeadersResponse
from coordd.pb.root_coord_pb2 import AllocIDResponse, AllocTimestampResponse
from coordd.pb.schema_pb2 import CollectionSchema, DataType, FieldSchema
from coordd.rootcoord.peers import SYSTEM_INFO, Peers
from coordd.rootcoord.proxies import TimestampBar
from coordd.rootcoord.proxies.outbox import PolicyChange
from coordd.rootcoord.quota.measures import (
    DataSide,
    ProxyLoad,
    read_data_coord,
    read_proxy,
    read_query_coord,
)
from tests.interop.scenario import connect
from tests.lab.client import PymilvusClient
from tests.lab.cluster import MilvusLab
from tests.lab.proxy_calls import CALLS, ProxyCalls
from tests.support.etcd import eventually
from tests.support.peers import OPTIONS, Acting, Cluster, cluster_in, refusal
from tests.unit.rootcoord.quota.support import whole

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]


def stands_still(pid: int) -> bool:
    """Whether every thread has stopped."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all("(stopped)" in (thread / "status").read_text() for thread in threads)


def soon() -> float:
    return boottime() + 20


@asynccontextmanager
async def peers_of(lab: MilvusLab) -> AsyncIterator[tuple[Cluster, Peers, TimestampBar]]:
    """The clients of a RootCoord that lives in the test."""
    settings = PlainSettings(endpoints=(lab.etcd.endpoint,))
    async with EtcdClient(settings) as client, cluster_in(client, lab.config.root_path) as cluster:
        bar = TimestampBar()
        peers = Peers(cluster.sessions, OPTIONS, bar, 1)
        async with TaskScope() as scope:
            for name, task in peers.tasks().items():
                scope.create_task(task, name=name)
            yield cluster, peers, bar


async def test_milvus_own_processes_take_what_they_are_told(tmp_path: Path) -> None:
    with MilvusLab(tmp_path) as lab:
        lab.start_cluster(nodes=("proxy",))
        async with peers_of(lab) as (cluster, peers, bar):
            [proxy] = cluster.sessions.nodes("proxy")
            for request in (
                InvalidateCollMetaCacheRequest(db_name="default", collection_name="no_such"),
                InvalidateCollMetaCacheRequest(base=MsgBase(msg_type=MsgType.DropCollection), collectionID=5),
            ):
                await peers.proxies.invalidate_collection_meta_cache(request)
            assert bar.ids == set()

            peers.proxies.invalidate_credential("alice")
            peers.proxies.refresh_policies(PolicyChange.ADD_USER_TO_ROLE, "alice/reader")
            policy = {"PType": "p", "V0": "reader", "V1": "Collection-default.books", "V2": "PrivilegeQuery"}
            peers.proxies.refresh_policies(PolicyChange.GRANT, json.dumps(policy))
            peers.proxies.refresh_policies(PolicyChange.DELETE_USER, "alice")
            await eventually(lambda: not peers.proxies._links[proxy]._outbox.pending(), limit_s=20)

            how = GetComponentStatesRequest()
            states = await peers.proxies.ask(
                proxy, "GetComponentStates", how, ComponentStates, deadline=soon()
            )
            assert states.state.state_code == StateCode.Healthy
            metrics = GetMetricsRequest(request=SYSTEM_INFO)
            load = await peers.proxies.ask(
                proxy, "GetProxyMetrics", metrics, GetMetricsResponse, deadline=soon()
            )
            assert read_proxy(load.response) == ProxyLoad()
            await peers.proxies.ask(proxy, "SetRates", SetRatesRequest(), Status, deadline=soon())

            said = await peers.data_coord.metrics(deadline=soon())
            data = whole(read_data_coord(said, now() >> 18))
            assert data == DataSide(nodes=(), binlog_bytes=0, collection_binlog_bytes={})
            said = await peers.query_coord.metrics(deadline=soon())
            assert whole(read_query_coord(said, now() >> 18)) == ()
            assert await peers.data_coord.gc_confirm(5, deadline=soon())
            await peers.data_coord.drop_indexes(5, deadline=soon())
            await peers.data_coord.mark_segments_dropped([], deadline=soon())
            await peers.query_coord.release_collection(5, deadline=soon())
            await peers.query_coord.release_partitions(5, [6], deadline=soon())


async def test_a_real_proxy_that_was_stopped_is_told_when_it_goes_on(tmp_path: Path) -> None:
    with MilvusLab(tmp_path, session_ttl_s=30) as lab:
        lab.start_cluster(nodes=("proxy",))
        async with peers_of(lab) as (cluster, peers, bar):
            [proxy] = cluster.sessions.nodes("proxy")
            process = lab.component("proxy").process
            request = InvalidateCollMetaCacheRequest(db_name="default", collection_name="no_such")
            await peers.proxies.invalidate_collection_meta_cache(request)
            process.signal(signal.SIGSTOP)
            await eventually(lambda: stands_still(process.pid))
            await peers.proxies.invalidate_collection_meta_cache(request)
            assert bar.ids == {proxy}
            process.signal(signal.SIGCONT)
            await eventually(lambda: not bar.ids, limit_s=20)


async def test_the_clients_follow_a_failover_of_milvus_own_datacoord(tmp_path: Path) -> None:
    with MilvusLab(tmp_path, session_ttl_s=3) as lab:
        lab.start_cluster(nodes=())
        first = lab.component("datacoord")
        second = lab.start("datacoord", name="standby")
        second.wait_standby()
        async with peers_of(lab) as (_cluster, peers, _bar):
            assert await peers.data_coord.gc_confirm(5, deadline=soon())
            first.process.kill()
            assert await peers.data_coord.gc_confirm(5, deadline=boottime() + 60)


@asynccontextmanager
async def acted_coordinators(lab: MilvusLab) -> AsyncIterator[tuple[Cluster, dict[str, Acting]]]:
    """Coordinators that answer what a proxy needs for its start, and know the collection `books`."""
    settings = PlainSettings(endpoints=(lab.etcd.endpoint,))
    async with (
        EtcdClient(settings) as client,
        cluster_in(client, lab.config.root_path) as cluster,
        Acting("rootcoord", 1001) as root,
        Acting("datacoord", 1002) as data,
        Acting("querycoord", 1003) as query,
    ):
        root.replies |= {
            "AllocTimestamp": AllocTimestampResponse(timestamp=now(), count=1),
            "AllocID": AllocIDResponse(ID=now(), count=200_000),
            "ListDatabases": ListDatabasesResponse(db_names=["default"], created_timestamp=[1]),
            "DescribeCollection": described(),
            "ShowPartitions": ShowPartitionsResponse(
                partition_names=["_default"],
                partitionIDs=[78],
                created_timestamps=[1],
                created_utc_timestamps=[1],
            ),
        }
        query.replies["GetShardLeaders"] = GetShardLeadersResponse(status=refusal("not loaded"))
        for acting in (root, data, query):
            info = ComponentInfo(nodeID=acting.server_id, role=acting.role, state_code=StateCode.Healthy)
            acting.replies["GetComponentStates"] = ComponentStates(state=info)
            await cluster.active(acting)
        yield cluster, {"rootcoord": root, "datacoord": data, "querycoord": query}


def now() -> int:
    """As a hybrid timestamp."""
    return time.time_ns() // 1_000_000 << 18


def described() -> DescribeCollectionResponse:
    fields = [
        FieldSchema(fieldID=0, name="RowID", data_type=DataType.Int64),
        FieldSchema(fieldID=1, name="Timestamp", data_type=DataType.Int64),
        FieldSchema(fieldID=100, name="pk", data_type=DataType.Int64, is_primary_key=True),
        FieldSchema(
            fieldID=101,
            name="vec",
            data_type=DataType.FloatVector,
            type_params=[KeyValuePair(key="dim", value="2")],
        ),
    ]
    return DescribeCollectionResponse(
        schema=CollectionSchema(name="books", fields=fields),
        collectionID=77,
        collection_name="books",
        virtual_channel_names=["by-dev-rootcoord-dml_0_77v0"],
        physical_channel_names=["by-dev-rootcoord-dml_0"],
        shards_num=1,
        db_name="default",
        num_partitions=1,
    )


async def test_a_real_proxy_without_timestamps_does_nothing(tmp_path: Path) -> None:
    """Barring rests on it: on the ID under which a proxy asks for them, and on their need."""
    with MilvusLab(tmp_path) as lab:
        async with acted_coordinators(lab) as (cluster, acted):
            proxy = lab.start("proxy")
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, proxy.wait_state, "Healthy")
            await eventually(lambda: cluster.sessions.nodes("proxy"), limit_s=20)
            [server_id] = cluster.sessions.nodes("proxy")
            root = acted["rootcoord"]

            def effects() -> set[str]:
                """What was asked of any coordinator, but for look-ups."""
                harmless = {"AllocTimestamp", "AllocID", "UpdateChannelTimeTick", "GetComponentStates"}
                harmless |= {"DescribeCollection", "ShowPartitions", "ListDatabases", "ListPolicy"}
                return {call.method for acting in acted.values() for call in acting.asked} - harmless

            with ProxyCalls(lab.files, tmp_path, proxy.address) as calls:

                async def all_calls() -> dict[str, str]:
                    """What each call fails with; nothing of those that succeed."""
                    return {name: await loop.run_in_executor(None, calls.call, name) for name in CALLS}

                await all_calls()
                assert effects() >= {"GetShardLeaders", "AssignSegmentID", "DropCollection", "HasCollection"}
                root.replies["AllocTimestamp"] = AllocTimestampResponse(status=refusal("no timestamps"))
                for acting in acted.values():
                    acting.asked.clear()
                outcomes = await all_calls()
            assert all("no timestamps" in outcome for outcome in outcomes.values()), outcomes
            assert effects() == set()
            assert {request.base.sourceID for request in root.requests("AllocTimestamp")} == {server_id}


def test_a_stopped_proxy_holds_no_change_of_a_real_client_up(tmp_path: Path) -> None:
    """Two proxies on coordd: one is stopped while an alias is altered through the other."""
    with MilvusLab(tmp_path / "lab", session_ttl_s=60) as lab, PymilvusClient(lab.files, tmp_path) as client:
        milvus = lab.start("rootcoord")
        lab.start_cluster(rootcoord=milvus, nodes=("proxy",))
        second = lab.start("proxy", name="second-proxy")
        second.wait_state("Healthy")
        connect(lab, client)
        ids = {name: client.call("create_collection", name=name) for name in ("a", "b")}
        client.call("create_alias", name="a", alias="x")
        coordd = lab.start_coordd("rootcoord")
        coordd.wait_standby()
        milvus.process.signal(signal.SIGKILL)
        lab.end_session("rootcoord")
        coordd.wait_state("Healthy")

        def logged(text: str) -> bool:
            return text in coordd.process.log.read_text()

        second.process.signal(signal.SIGSTOP)
        second.process.wait_until(lambda: stands_still(second.process.pid), timeout_s=10, what="a stop")
        client.call("alter_alias", name="b", alias="x", timeout_s=30)  # the session lasts for 60
        assert client.call("describe_collection", name="x")["collection_id"] == ids["b"]
        assert logged("a proxy cannot be told that a collection has changed")
        assert not logged("a proxy has been told at last")
        second.process.signal(signal.SIGCONT)
        coordd.process.wait_until(
            lambda: logged("a proxy has been told at last"), timeout_s=30, what="word from the proxy"
        )
        with ProxyCalls(lab.files, tmp_path, second.address) as calls:
            assert calls.call("HasCollection") == ""
