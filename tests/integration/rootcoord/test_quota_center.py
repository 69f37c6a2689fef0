"""The quota centre among real servers: coordinators and proxies that answer, hang, refuse, come and go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from coordd.config.quota import QuotaAndLimitsSettings
from coordd.etcd import EtcdClient
from coordd.ha.tasks import TaskScope
from coordd.pb.internal_pb2 import RateType
from coordd.pb.milvus_pb2 import GetMetricsResponse
from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest, SetRatesRequest
from coordd.rootcoord.peers import Peers
from coordd.rootcoord.proxies import TimestampBar
from coordd.rootcoord.quota.center import TOLD_AT_ONCE, QuotaCenter, Surroundings
from coordd.rootcoord.quota.request import NO_LIMIT
from tests.support.etcd import EtcdCluster, eventually, unique_root
from tests.support.peers import OPTIONS, Acting, Cluster, cluster_in, refusal
from tests.unit.meta.samples import LAYOUT, loaded
from tests.unit.rootcoord.quota.support import (
    MIB,
    NOW_MS,
    data_coord_text,
    proxy_text,
    query_coord_text,
    quota_of_node,
    quota_of_query_node,
    settings,
)
from tests.unit.rootcoord.quota.test_properties import LIMITED, with_properties

pytestmark = pytest.mark.timeout(60)

INTERVAL_S = 0.02
LIMITS = {"dml": {"enabled": True, "insert": {"collection_max_mb_s": 6}}}
OWN = 51
"""A collection with a property."""


def answer(text: str) -> GetMetricsResponse:
    return GetMetricsResponse(response=text)


@dataclass
class Scene:
    """Data node 7 consumes what is written to the collections 50 and `OWN`, query node 9 serves 50."""

    cluster: Cluster
    data: Acting
    query: Acting
    peers: Peers
    sections: dict[str, Any] = field(default_factory=lambda: dict(LIMITS))
    may_send_s: float = 5.0
    looked: int = 0

    def __post_init__(self) -> None:
        self.data.replies["GetMetrics"] = answer(data_coord_text((7, quota_of_node([50, OWN], age_s=2))))
        self.query.replies["GetMetrics"] = answer(query_coord_text((9, quota_of_query_node([50]))))
        self._tables, _fold = loaded({LAYOUT.collection(1, OWN): with_properties(OWN, LIMITED)})

    def settings(self) -> QuotaAndLimitsSettings:
        self.looked += 1
        return settings(collect_interval_s=INTERVAL_S, **self.sections)

    def center(self, patience_s: float = 0.2) -> QuotaCenter:
        return QuotaCenter(
            Surroundings(
                peers=self.peers,
                collections=self._tables.collections,
                settings=self.settings,
                now_ms=lambda: NOW_MS,
                may_send_s=lambda: self.may_send_s,
                server_id=4,
            ),
            patience_s,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[QuotaCenter]:
        center = self.center()
        async with TaskScope() as scope:
            scope.create_task(center.run(), name="quota centre")
            yield center

    async def some_rounds(self) -> None:
        """Time for several of them."""
        wanted = self.looked + 12
        await eventually(lambda: self.looked >= wanted)


@pytest.fixture
async def scene(etcd_server: EtcdCluster) -> AsyncIterator[Scene]:
    async with (
        EtcdClient(etcd_server.settings()) as client,
        cluster_in(client, unique_root()) as cluster,
        Acting("datacoord", 2) as data,
        Acting("querycoord", 3) as query,
        TaskScope() as scope,
    ):
        await cluster.active(data)
        await cluster.active(query)
        peers = Peers(cluster.sessions, OPTIONS, TimestampBar(), 4)
        for name, task in peers.tasks().items():
            scope.create_task(task, name=name)
        yield Scene(cluster, data, query, peers)


@asynccontextmanager
async def proxy_in(scene: Scene, server_id: int) -> AsyncIterator[Acting]:
    async with Acting("proxy", server_id) as proxy:
        proxy.replies["GetProxyMetrics"] = answer(proxy_text(DQLSearch=100, DQLQuery=10))
        await scene.cluster.proxy(proxy)
        yield proxy


@pytest.fixture
async def proxy(scene: Scene) -> AsyncIterator[Acting]:
    async with proxy_in(scene, 11) as made:
        yield made


def told(proxy: Acting) -> dict[int, dict[str, float]]:
    """The rates that a proxy was told last: by collection, those that have a limit."""
    request: SetRatesRequest = proxy.requests("SetRates")[-1]
    return {
        one.collection: {RateType.Name(rate.rt): rate.r for rate in one.rates if rate.r < NO_LIMIT}
        for one in request.rates
    }


def times(proxy: Acting, number: int) -> Callable[[], bool]:
    """Whether a proxy was told so often."""
    return lambda: len(proxy.requests("SetRates")) >= number


async def again(proxy: Acting) -> None:
    """Until a proxy has been told anew, in a round that began later than now."""
    await eventually(times(proxy, len(proxy.requests("SetRates")) + 3))


# --- what is told ---


async def test_limits_follow_from_settings_properties_and_what_nodes_say(scene: Scene, proxy: Acting) -> None:
    async with scene.running():
        await eventually(times(proxy, 1))
        assert told(proxy) == {50: {"DMLInsert": 6 * MIB}, OWN: {"DMLInsert": 3 * MIB}}
        scene.sections["writing"] = {"ticks": {"enabled": True, "max_delay_s": 8}}
        await again(proxy)
        assert told(proxy)[50] == {"DMLInsert": pytest.approx(4.5 * MIB)}
        disk = {"TotalBinlogSize": 9, "CollectionBinlogSize": {"50": 2 * MIB}}
        full = data_coord_text((7, quota_of_node([50, OWN])), disk=disk)
        scene.data.replies["GetMetrics"] = answer(full)
        scene.sections["writing"] = {"disk": {"quota_per_collection_mb": 2}}
        await again(proxy)
        assert told(proxy)[50] == dict.fromkeys(("DMLInsert", "DMLUpsert", "DMLDelete", "DMLBulkLoad"), 0)
        assert told(proxy)[OWN] == {"DMLInsert": 3 * MIB}
    request = proxy.requests("SetRates")[-1]
    assert (request.base.sourceID, request.base.timestamp) == (4, NOW_MS << 18)


async def test_many_collections_are_told_of_in_one_message(scene: Scene, proxy: Acting) -> None:
    ids = list(range(100, 100 + 3 * TOLD_AT_ONCE + 1))
    scene.data.replies["GetMetrics"] = answer(data_coord_text((7, quota_of_node([*ids, OWN]))))
    async with scene.running():
        await eventually(times(proxy, 1))
        await again(proxy)
    rates = told(proxy)
    assert set(rates) == {50, OWN, *ids}
    assert rates.pop(OWN) != rates[50]
    assert all(one == rates[50] for one in rates.values())
    assert proxy.requests("SetRates")[-1].base.sourceID == 4


async def test_without_limits_proxies_are_told_that_there_are_none(scene: Scene, proxy: Acting) -> None:
    async with scene.running():
        await eventually(times(proxy, 1))
        scene.sections = {}
        await again(proxy)
        assert set(told(proxy)) == {OWN}


async def test_proxies_share_a_limit_and_the_load_of_all_is_added_up(scene: Scene, proxy: Acting) -> None:
    scene.sections["dql"] = {"enabled": True, "search": {"max_rate": 1000}}
    scene.sections["reading"] = {"queue": {"enabled": True, "nq": 0}}
    async with proxy_in(scene, 12) as other, scene.running():
        await eventually(times(other, 1))
        for one in (proxy, other):
            assert told(one)[50] == {"DMLInsert": 3 * MIB, "DQLSearch": pytest.approx(0.9 * 200 / 2)}
        await scene.cluster.remove("proxy-12")
        await again(proxy)
        assert told(proxy)[50] == {"DMLInsert": 6 * MIB, "DQLSearch": pytest.approx(0.9 * 100)}


async def test_the_state_is_there_for_metrics_and_denials_are_logged(scene: Scene, proxy: Acting) -> None:
    with capture_logs() as logs:
        async with scene.running() as center:
            assert center.state is None
            await eventually(times(proxy, 1))
            scene.sections["writing"] = {"force_deny": True}
            await again(proxy)
            assert center.state is not None
            assert center.state.tick_delays_s == {("datanode", 7): 2.0}
    [line] = [one for one in logs if "denies" in one["event"]]
    assert (line["because_of"], line["collections"]) == ("FORCE_DENY", 2)


# --- others that do not answer ---


async def test_a_proxy_that_hangs_holds_no_other_up(scene: Scene, proxy: Acting) -> None:
    async with proxy_in(scene, 12) as hung:
        hung.hang()
        async with scene.running():
            await eventually(times(proxy, 5))
            assert len(hung.requests("GetProxyMetrics")) == len(hung.requests("SetRates")) == 1
            hung.resume()
            await eventually(times(hung, 3))
    assert told(proxy)[50] == {"DMLInsert": 3 * MIB}


async def test_a_proxy_that_refuses_or_talks_nonsense_holds_no_other_up(scene: Scene, proxy: Acting) -> None:
    async with proxy_in(scene, 12) as other:
        other.replies |= {"GetProxyMetrics": answer("{"), "SetRates": refusal("not now")}
        with capture_logs() as logs:
            async with scene.running():
                await eventually(times(other, 4))
                await eventually(times(proxy, 4))
    about = [one["about"] for one in logs if "about" in one]
    assert sorted(about) == ["load of proxy 12", "rates of proxy 12"]  # once each, however often


async def test_pitfall_16_a_hanging_set_rates_does_not_hold_a_change_up(scene: Scene, proxy: Acting) -> None:
    released = asyncio.Event()

    async def slow() -> Any:
        await released.wait()
        return refusal("late")

    proxy.replies["SetRates"] = slow
    async with scene.running():
        await eventually(times(proxy, 1))
        request = InvalidateCollMetaCacheRequest(collection_name="a")
        await scene.peers.proxies.invalidate_collection_meta_cache(request)
        assert proxy.requests("InvalidateCollectionMetaCache") == [request]
        released.set()


async def test_a_coordinator_that_falls_silent_counts_with_what_it_said_last(
    scene: Scene, proxy: Acting
) -> None:
    async with scene.running():
        await eventually(times(proxy, 1))
        scene.data.hang()
        await again(proxy)
        assert told(proxy)[50] == {"DMLInsert": 6 * MIB}
        scene.query.replies["GetMetrics"] = answer(query_coord_text((9, quota_of_query_node([50, 60]))))
        await again(proxy)
        assert set(told(proxy)) == {50, OWN, 60}
        await scene.cluster.remove("datacoord")
        await again(proxy)
        assert set(told(proxy)) == {50, OWN, 60}


async def test_nothing_is_told_before_both_coordinators_have_answered(scene: Scene, proxy: Acting) -> None:
    await scene.cluster.remove("datacoord")
    async with scene.running():
        await eventually(lambda: len(proxy.requests("GetProxyMetrics")) >= 4)
        assert proxy.requests("SetRates") == []
        await scene.cluster.active(scene.data)
        await eventually(times(proxy, 1))
        assert set(told(proxy)) == {50, OWN}


async def test_a_coordinator_that_refuses_is_one_that_does_not_answer(scene: Scene, proxy: Acting) -> None:
    scene.query.replies["GetMetrics"] = GetMetricsResponse(status=refusal("no"))
    with capture_logs() as logs:
        async with scene.running():
            await eventually(lambda: len(scene.query.requests("GetMetrics")) >= 4)
            assert proxy.requests("SetRates") == []
    assert len([one for one in logs if one.get("about") == "querycoord's nodes"]) == 1


# --- when it works, and when not ---


async def test_nobody_is_asked_while_there_is_no_proxy_to_tell(scene: Scene) -> None:
    async with scene.running():
        await scene.some_rounds()
        assert scene.data.asked == scene.query.asked == []
        async with proxy_in(scene, 11) as proxy:
            await eventually(times(proxy, 1))


async def test_nobody_is_asked_or_told_while_this_replica_may_not_act(scene: Scene, proxy: Acting) -> None:
    scene.may_send_s = 0.0
    async with scene.running():
        await scene.some_rounds()
        assert scene.data.asked == scene.query.asked == proxy.requests("GetProxyMetrics") == []
        scene.may_send_s = 5.0
        await eventually(times(proxy, 1))


async def test_nobody_is_told_if_this_replica_may_not_act_any_more(scene: Scene, proxy: Acting) -> None:
    async def deposed() -> GetMetricsResponse:
        scene.may_send_s = 0.0
        return answer(query_coord_text((9, quota_of_query_node([50]))))

    scene.query.replies["GetMetrics"] = deposed
    async with scene.running() as center:
        await eventually(lambda: center.state is not None)
        await scene.some_rounds()
        assert proxy.requests("SetRates") == []


async def test_it_can_be_switched_off(scene: Scene, proxy: Acting) -> None:
    scene.sections["enabled"] = False
    async with scene.running():
        await scene.some_rounds()
        assert scene.data.asked == proxy.requests("GetProxyMetrics") == []
        scene.sections["enabled"] = True
        await eventually(times(proxy, 1))


@pytest.mark.parametrize("moment", ["before its first round", "while nobody answers"])
async def test_pitfall_5_it_ends_at_once(scene: Scene, proxy: Acting, moment: str) -> None:
    if moment == "before its first round":
        scene.sections["enabled"] = False
    for one in (proxy, scene.data, scene.query):
        one.hang()
    running = asyncio.get_running_loop().create_task(scene.center(patience_s=30).run())
    if moment == "before its first round":
        await asyncio.sleep(0)
    else:
        await eventually(lambda: scene.data.asked and scene.query.asked and proxy.requests("GetProxyMetrics"))
    running.cancel()
    done, _pending = await asyncio.wait([running], timeout=5)  # its calls may take TIMEOUT_S, which is more
    assert done == {running}
    assert running.cancelled()
