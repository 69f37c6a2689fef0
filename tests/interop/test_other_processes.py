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
from coordd.pb.common_pb2 import MsgBase, MsgType, StateCode
from coordd.pb.milvus_pb2 import ComponentInfo, ComponentStates, GetMetricsRequest
from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest, SetRatesRequest
from coordd.pb.root_coord_pb2 import AllocIDResponse, AllocTimestampResponse
from coordd.rootcoord.peers import Peers
from coordd.rootcoord.proxies import TimestampBar
from coordd.rootcoord.proxies.outbox import PolicyChange
from tests.lab.cluster import MilvusLab
from tests.support.etcd import eventually
from tests.support.peers import OPTIONS, Acting, Cluster, cluster_in

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]


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

            peers.proxies.update_credential("alice", "00ff")
            peers.proxies.invalidate_credential("alice")
            peers.proxies.refresh_policies(PolicyChange.ADD_USER_TO_ROLE, "alice/reader")
            policy = {"PType": "p", "V0": "reader", "V1": "Collection-default.books", "V2": "PrivilegeQuery"}
            peers.proxies.refresh_policies(PolicyChange.GRANT, json.dumps(policy))
            peers.proxies.refresh_policies(PolicyChange.DELETE_USER, "alice")
            await eventually(lambda: not peers.proxies._links[proxy]._outbox.pending(), limit_s=20)

            states = await peers.proxies.component_states(deadline=soon())
            assert states.answers[proxy].state.state_code == StateCode.Healthy
            metrics = GetMetricsRequest(request='{"metric_type":"system_info"}')
            answers = await peers.proxies.metrics(metrics, deadline=soon())
            assert "quota_metrics" in json.loads(answers.answers[proxy].response)
            rates = await peers.proxies.set_rates(lambda _count: SetRatesRequest(), deadline=soon())
            assert (list(rates.answers), rates.failures) == ([proxy], {})

            assert "cluster" in json.loads(await peers.data_coord.metrics(deadline=soon()))
            assert "cluster" in json.loads(await peers.query_coord.metrics(deadline=soon()))
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


async def test_a_real_proxy_asks_for_timestamps_under_its_server_id(tmp_path: Path) -> None:
    """Barring rests on it. The coordinators of this proxy are acted."""
    with MilvusLab(tmp_path) as lab:
        settings = PlainSettings(endpoints=(lab.etcd.endpoint,))
        async with (
            EtcdClient(settings) as client,
            cluster_in(client, lab.config.root_path) as cluster,
            Acting("rootcoord", 1001) as root,
            Acting("datacoord", 1002) as data,
            Acting("querycoord", 1003) as query,
        ):
            now = time.time_ns() // 1_000_000 << 18
            root.replies["AllocTimestamp"] = AllocTimestampResponse(timestamp=now, count=1)
            root.replies["AllocID"] = AllocIDResponse(ID=now, count=200_000)
            for acting in (root, data, query):
                info = ComponentInfo(nodeID=acting.server_id, role=acting.role, state_code=StateCode.Healthy)
                acting.replies["GetComponentStates"] = ComponentStates(state=info)
                await cluster.active(acting)
            proxy = lab.start("proxy")
            await asyncio.get_running_loop().run_in_executor(None, proxy.wait_state, "Healthy")
            await eventually(lambda: root.requests("AllocTimestamp"), limit_s=20)
            await eventually(lambda: cluster.sessions.nodes("proxy"), limit_s=20)
            [server_id] = cluster.sessions.nodes("proxy")
            assert {request.base.sourceID for request in root.requests("AllocTimestamp")} == {server_id}
